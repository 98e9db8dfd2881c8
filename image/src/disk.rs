// SPDX-License-Identifier: Apache-2.0
//! Writes a disk image: a GPT with the ESP, and on the ESP the boot loader and the images.
//!
//! Needs no privilege: the file system is written straight into a sparse file. Identifiers and times come from the inputs, so
//! the same inputs make the same bytes.

use crate::fat::Fat;
use anyhow::{Context, Result};
use gptman::{GPT, GPTPartitionEntry};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::path::Path;
use stele_layout::gpt::{ALIGNMENT_SECTORS, ESP, Guid, SECTOR};
use stele_layout::slot::DIRECTORY;

/// What the boot loader is told. `default` is not among it: naming an entry defeats boot counting.
pub const LOADER_CONF: &str =
    "timeout 0\nconsole-mode keep\neditor no\nauto-entries no\nauto-firmware no\nbeep no\n";

/// A disk that holds an ESP.
#[derive(Debug)]
pub struct Disk<'a> {
    /// systemd's `systemd-bootx64.efi`.
    pub loader: &'a [u8],
    /// File names in `EFI/Linux`, with their content.
    pub slots: &'a [(String, &'a [u8])],
    /// The time of every file, in seconds since the epoch.
    pub epoch: u64,
}

impl Disk<'_> {
    /// Writes the image to a file, as sparse as its content allows.
    pub fn write(&self, path: &Path) -> Result<()> {
        let write = || -> Result<()> {
            let file =
                OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path)?;
            let sectors = ESP.sectors().context("The ESP has a size")?;
            let start = ALIGNMENT_SECTORS;
            let end = start + sectors;
            file.set_len((end + ALIGNMENT_SECTORS) * SECTOR)?;
            self.write_table(&file, start, end - 1)?;
            self.write_esp(&file, start, sectors)
        };
        write().with_context(|| format!("Writing the disk image {}", path.display()))
    }

    fn write_table(&self, mut file: &File, first: u64, last: u64) -> Result<()> {
        let mut table = GPT::new_from(&mut file, SECTOR, self.guid("disk"))?;
        table[1] = GPTPartitionEntry {
            partition_type_guid: ESP.kind,
            unique_partition_guid: self.guid("esp"),
            starting_lba: first,
            ending_lba: last,
            attribute_bits: 0,
            partition_name: ESP.label.into(),
        };
        GPT::write_protective_mbr_into(&mut file, SECTOR)?;
        table.write_into(&mut file)?;
        Ok(())
    }

    fn write_esp(&self, file: &File, start: u64, sectors: u64) -> Result<()> {
        let mut files = vec![
            ("EFI/BOOT/BOOTX64.EFI".to_owned(), self.loader),
            ("loader/loader.conf".to_owned(), LOADER_CONF.as_bytes()),
        ];
        files.extend(self.slots.iter().map(|(name, data)| (format!("{DIRECTORY}/{name}"), *data)));
        let fat = Fat {
            size: sectors * SECTOR,
            start,
            label: ESP.label,
            serial: u32::from_le_bytes(<[u8; 4]>::try_from(&self.guid("volume")[..4])?),
            epoch: self.epoch,
            files: &files,
        };
        fat.write(&mut &*file).context("Writing the ESP")
    }

    /// An identifier of its own for each purpose and each content (a UUID of version 8, RFC 9562).
    fn guid(&self, purpose: &str) -> Guid {
        let mut hash = Sha256::new();
        hash.update(b"stele ");
        hash.update(purpose);
        for (name, data) in self.slots {
            hash.update(name);
            hash.update(Sha256::digest(data));
        }
        let mut guid: Guid = [0; 16];
        guid.copy_from_slice(&hash.finalize()[..16]);
        // The version is in the high half of a little-endian group.
        guid[7] = (guid[7] & 0x0f) | 0x80;
        guid[8] = (guid[8] & 0x3f) | 0x80;
        guid
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    fn disk(path: &Path) {
        let uki = vec![3; 100_000];
        let slots = [("stele_1.2.3.efi".to_owned(), &uki[..])];
        Disk { loader: b"loader", slots: &slots, epoch: 1_700_000_000 }.write(path).unwrap();
    }

    #[test]
    fn table_and_files_are_where_they_should_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        disk(&path);
        let mut file = File::open(&path).unwrap();
        let table = GPT::read_from(&mut file, SECTOR).unwrap();
        let esp = &table[1];
        assert_eq!((esp.partition_type_guid, esp.partition_name.as_str()), (ESP.kind, "ESP"));
        assert_eq!(
            (esp.starting_lba, Some(esp.size().unwrap())),
            (ALIGNMENT_SECTORS, ESP.sectors())
        );

        let mut boot = [0; 512];
        file.read_exact_at(&mut boot, esp.starting_lba * SECTOR).unwrap();
        assert_eq!((&boot[82..90], &boot[28..32]), (&b"FAT32   "[..], &2048u32.to_le_bytes()[..]));
        assert!(!LOADER_CONF.contains("default"));
    }

    #[test]
    fn the_same_inputs_make_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        disk(&a);
        disk(&b);
        assert!(std::fs::read(a).unwrap() == std::fs::read(b).unwrap());
    }
}
