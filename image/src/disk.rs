// SPDX-License-Identifier: Apache-2.0
//! Writes a disk image: a GPT with the ESP, and on the ESP the boot loader and the images.
//!
//! Needs no privilege: the file system is written through `fatfs` into a sparse file. Identifiers and times come from the
//! inputs, so the same inputs make the same bytes.

use anyhow::{Context, Result, ensure};
use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions, TimeProvider};
use gptman::{GPT, GPTPartitionEntry};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use stele_layout::gpt::{ALIGNMENT_SECTORS, ESP, Guid, SECTOR};

/// What the boot loader is told. `default` is not among it: naming an entry defeats boot counting.
pub const LOADER_CONF: &str =
    "timeout 0\nconsole-mode keep\neditor no\nauto-entries no\nauto-firmware no\nbeep no\n";

/// Where images are, on the ESP.
pub const SLOTS: &str = "EFI/Linux";

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
            self.write_esp(&mut Window::new(&file, start * SECTOR, sectors * SECTOR)?)
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

    fn write_esp(&self, esp: &mut Window<'_>) -> Result<()> {
        let size = esp.len;
        let volume = u32::from_le_bytes(<[u8; 4]>::try_from(&self.guid("volume")[..4])?);
        let options = FormatVolumeOptions::new()
            .fat_type(FatType::Fat32)
            .bytes_per_cluster(4096)
            .total_sectors(u32::try_from(size / SECTOR)?)
            .volume_id(volume)
            .volume_label(*b"ESP        ");
        fatfs::format_volume(&mut *esp, options)?;
        // fatfs wants the clock for ever; one per disk image is little to keep.
        let clock: &'static Clock = Box::leak(Box::new(Clock(self.epoch)));
        let fs = FileSystem::new(
            esp,
            FsOptions::new().update_accessed_date(false).time_provider(clock),
        )?;
        {
            let root = fs.root_dir();
            for folder in ["EFI", "EFI/BOOT", SLOTS, "loader"] {
                root.create_dir(folder)?;
            }
            let put = |path: &str, data: &[u8]| -> Result<()> {
                let mut file =
                    root.create_file(path).with_context(|| format!("Making {path} on the ESP"))?;
                file.write_all(data).with_context(|| {
                    format!("Writing {} bytes to {path} on the ESP", data.len())
                })?;
                file.flush()?;
                Ok(())
            };
            put("EFI/BOOT/BOOTX64.EFI", self.loader)?;
            put("loader/loader.conf", LOADER_CONF.as_bytes())?;
            for (name, data) in self.slots {
                ensure!(!name.contains('/'), "{name} is no file name");
                put(&format!("{SLOTS}/{name}"), data)?;
            }
        }
        fs.unmount()?;
        Ok(())
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

/// A part of a file, for a file system that believes it has a device of its own.
struct Window<'a> {
    file: &'a File,
    start: u64,
    len: u64,
    at: u64,
}

impl<'a> Window<'a> {
    fn new(file: &'a File, start: u64, len: u64) -> io::Result<Self> {
        let mut window = Self { file, start, len, at: 0 };
        window.seek(SeekFrom::Start(0))?;
        Ok(window)
    }

    fn clip(&self, len: usize) -> usize {
        usize::try_from(self.len - self.at).map_or(len, |left| left.min(len))
    }
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.clip(buffer.len());
        let read = self.file.read(&mut buffer[..len])?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Write for Window<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let buffer = &buffer[..self.clip(buffer.len())];
        let written = self.file.write(buffer)?;
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Window<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        let target = target.filter(|at| *at <= self.len);
        self.at = target.ok_or_else(|| io::Error::other("Seeking outside of the partition"))?;
        self.file.seek(SeekFrom::Start(self.start + self.at))?;
        Ok(self.at)
    }
}

/// The time that new files get.
#[derive(Debug)]
struct Clock(u64);

impl TimeProvider for Clock {
    fn get_current_date(&self) -> fatfs::Date {
        self.get_current_date_time().date
    }

    fn get_current_date_time(&self) -> fatfs::DateTime {
        let at = i64::try_from(self.0)
            .ok()
            .and_then(|epoch| time::OffsetDateTime::from_unix_timestamp(epoch).ok());
        let at = at
            .unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
            .max(time::macros::datetime!(1980-01-01 0:00 UTC));
        fatfs::DateTime {
            date: fatfs::Date {
                year: u16::try_from(at.year()).unwrap_or(1980),
                month: u8::from(at.month()).into(),
                day: at.day().into(),
            },
            time: fatfs::Time {
                hour: at.hour().into(),
                min: at.minute().into(),
                sec: at.second().into(),
                millis: 0,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

        let window =
            Window::new(&file, esp.starting_lba * SECTOR, esp.size().unwrap() * SECTOR).unwrap();
        let fs = FileSystem::new(window, FsOptions::new()).unwrap();
        assert_eq!((fs.fat_type(), fs.volume_label().as_str()), (FatType::Fat32, "ESP"));
        let mut data = Vec::new();
        fs.root_dir()
            .open_file("EFI/Linux/stele_1.2.3.efi")
            .unwrap()
            .read_to_end(&mut data)
            .unwrap();
        assert_eq!(data, vec![3; 100_000]);
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
