// SPDX-License-Identifier: Apache-2.0
//! Drives with a configuration on them, as the tools of platforms make them: known by the label of their file system.

use super::{SourceError, read};
use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};
use stele_kernel::mount::{self, Forbid};

const MOUNT: &str = "/run/stele/seed";
/// Labels, in any case, and where the user-data is on such a drive: the first of these files that there is.
const KNOWN: [(&str, &[&str]); 2] = [
    // NoCloud, as cloud-init has it.
    ("cidata", &["user-data"]),
    // The config drive of OpenStack and of those who took it over, CloudStack's among them.
    ("config-2", &["openstack/latest/user_data", "cloudstack/userdata/user_data.txt"]),
];

/// What was found on the first drive with a label.
#[derive(Debug)]
pub(super) struct Drive {
    pub(super) label: &'static str,
    /// Nothing if there is no such drive.
    pub(super) user_data: Option<Result<Vec<u8>, SourceError>>,
}

/// A drive for each label.
pub(super) fn read_all() -> Vec<Drive> {
    let labels = labels();
    let find =
        |wanted: &str| labels.iter().find(|(_, _, label)| label.eq_ignore_ascii_case(wanted));
    let drives = KNOWN.iter().map(|(label, files)| {
        let found = find(label);
        let read = found.map(|(device, fstype, _)| read_drive(Path::new(device), fstype, files));
        Drive { label, user_data: read }
    });
    drives.collect()
}

/// Block devices with a file system of a kind that such drives have: device, kind, label.
fn labels() -> Vec<(String, &'static str, String)> {
    let Ok(folder) = fs::read_dir("/sys/class/block") else { return Vec::new() };
    let mut devices: Vec<String> =
        folder.flatten().map(|entry| format!("/dev/{}", entry.file_name().display())).collect();
    devices.sort();
    let labelled = devices.into_iter().filter_map(|device| {
        let (fstype, label) = label(Path::new(&device))?;
        Some((device, fstype, label))
    });
    labelled.collect()
}

fn read_drive(device: &Path, fstype: &str, files: &[&str]) -> Result<Vec<u8>, SourceError> {
    let failed = |source| SourceError::Mount { device: device.to_owned(), source };
    fs::create_dir_all(MOUNT).map_err(failed)?;
    mount::mount(&device.to_string_lossy(), Path::new(MOUNT), fstype, Forbid::READ_ONLY, "")
        .map_err(failed)?;
    let mut found =
        Err(SourceError::NoFile { device: device.to_owned(), files: files.join(" or ") });
    for file in files {
        match read(&Path::new(MOUNT).join(file)) {
            Err(SourceError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            other => {
                found = other;
                break;
            }
        }
    }
    if let Err(error) = mount::unmount(Path::new(MOUNT), true) {
        tracing::warn!(error = %error, "unmounting a drive with a configuration failed");
    }
    found
}

/// The file system on a device, and its label.
fn label(device: &Path) -> Option<(&'static str, String)> {
    let mut file = File::open(device).ok()?;
    // ISO 9660: the volume identifier of the primary descriptor (ECMA-119, 8.4). FAT32 and FAT16: BS_VolLab, checked
    // by BS_FilSysType behind it.
    for (at, length, fstype, magic_at, magic) in [
        (0x8028, 32, "iso9660", 0x8001, &b"CD001"[..]),
        (0x47, 11, "vfat", 0x52, b"FAT32"),
        (0x2b, 11, "vfat", 0x36, b"FAT1"),
    ] {
        if read_at(&mut file, magic_at, magic.len()).is_some_and(|found| found == magic) {
            let label = read_at(&mut file, at, length)?;
            return Some((fstype, String::from_utf8_lossy(&label).trim().to_owned()));
        }
    }
    None
}

fn read_at(file: &mut File, at: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.seek(SeekFrom::Start(at)).ok()?;
    file.read_exact(&mut bytes).ok()?;
    Some(bytes)
}
