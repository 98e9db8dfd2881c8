// SPDX-License-Identifier: Apache-2.0
//! The disks, out of /sys/block; see the kernel's Documentation/ABI/stable/sysfs-block.

use super::{DiagnoseError, number, plain, text};
use std::{ffi::OsString, fs, path::Path};
use stele_proto::v1::{Disk, Partition};

/// What the kernel counts in, whatever the disk's own sectors are.
const SECTOR: u64 = 512;

/// All disks, by name. What has no room, such as a loop device without a file, is none.
pub(super) fn all(block: &Path) -> Result<Vec<Disk>, DiagnoseError> {
    let names =
        names(block).map_err(|source| DiagnoseError::Read { file: block.to_owned(), source })?;
    let disks = names.iter().map(|name| one(&block.join(name), &name.to_string_lossy()));
    Ok(disks.filter(|disk| disk.size > 0).collect())
}

fn names(folder: &Path) -> std::io::Result<Vec<OsString>> {
    let mut names: Vec<_> =
        fs::read_dir(folder)?.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    Ok(names)
}

fn one(folder: &Path, name: &str) -> Disk {
    let first = |files: [&str; 2]| {
        let mut texts = files.into_iter().map(|file| text(folder.join(file)));
        plain(texts.find(|text| !text.is_empty()).unwrap_or_default().trim())
    };
    let counts = text(folder.join("stat"));
    let counts: Vec<u64> =
        counts.split_whitespace().filter_map(|count| count.parse().ok()).collect();
    let count = |at: usize| counts.get(at).copied().unwrap_or(0);
    // One that has gone since has no partitions.
    let partitions = names(folder).unwrap_or_default();
    let partitions = partitions.iter().filter(|name| folder.join(name).join("partition").exists());
    Disk {
        name: plain(name),
        size: number(folder.join("size")).saturating_mul(SECTOR),
        model: first(["device/model", "device/name"]),
        serial: first(["serial", "device/serial"]),
        read_only: number(folder.join("ro")) != 0,
        removable: number(folder.join("removable")) != 0,
        rotational: number(folder.join("queue/rotational")) != 0,
        partitions: partitions.map(|name| partition(folder, name)).collect(),
        reads: count(0),
        read_bytes: count(2).saturating_mul(SECTOR),
        writes: count(4),
        written_bytes: count(6).saturating_mul(SECTOR),
        in_flight: count(8),
        busy_us: count(9).saturating_mul(1000),
    }
}

fn partition(disk: &Path, name: &OsString) -> Partition {
    let folder = disk.join(name);
    Partition {
        name: plain(&name.to_string_lossy()),
        start: number(folder.join("start")).saturating_mul(SECTOR),
        size: number(folder.join("size")).saturating_mul(SECTOR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_and_its_partitions() {
        let block = std::env::temp_dir().join(format!("stele-disks-{}", std::process::id()));
        fs::create_dir_all(block.join("vda/vda1")).unwrap();
        fs::create_dir_all(block.join("loop0")).unwrap();
        for (file, text) in [
            ("loop0/size", "0\n"),
            ("vda/size", "2048\n"),
            ("vda/serial", " STELE-1 \n"),
            ("vda/ro", "1\n"),
            ("vda/stat", "5 0 16 7 3 0 8 2 1 1500 9\n"),
            ("vda/vda1/partition", "1\n"),
            ("vda/vda1/start", "8\n"),
            ("vda/vda1/size", "16\n"),
        ] {
            fs::write(block.join(file), text).unwrap();
        }
        let disks = all(&block).unwrap();
        fs::remove_dir_all(&block).unwrap();
        let disk = Disk {
            name: "vda".into(),
            size: 1024 * 1024,
            serial: "STELE-1".into(),
            read_only: true,
            reads: 5,
            read_bytes: 8192,
            writes: 3,
            written_bytes: 4096,
            in_flight: 1,
            busy_us: 1_500_000,
            partitions: vec![Partition { name: "vda1".into(), start: 4096, size: 8192 }],
            ..Disk::default()
        };
        assert_eq!(disks, [disk]);
    }
}
