// SPDX-License-Identifier: Apache-2.0
//! The log of a drive's writes and flushes, as QEMU's `blklogwrites` writes it down (the format of Linux's dm-log-writes,
//! Documentation/admin-guide/device-mapper/log-writes.rst).
//!
//! ```text
//! sector 0: magic, version, entries, sector size │ entry │ its data │ entry │ its data │ …
//! ```

use anyhow::{Context as _, Result, ensure};
use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
};

/// The size of a sector, of the log and of the drive.
pub const SECTOR: usize = 512;

const MAGIC: u64 = 0x6a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Sectors are written.
    Write {
        /// The first of them.
        sector: u64,
        /// How many.
        sectors: u64,
        /// Where in the log the data is, in sectors.
        data: u64,
        /// Whether it was durable before the guest was told that it was written.
        durable: bool,
    },
    /// Sectors are given up: they are zeros from here on.
    Discard {
        /// The first of them.
        sector: u64,
        /// How many.
        sectors: u64,
    },
    /// What was written before is durable.
    Flush,
}

/// Makes an empty log, unless there is one.
pub fn create(path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let mut head = vec![0; SECTOR];
    let fields = [MAGIC.to_le_bytes(), 1_u64.to_le_bytes(), 0_u64.to_le_bytes()].concat();
    head.splice(..24, fields);
    head.splice(24..28, 512_u32.to_le_bytes());
    fs::write(path, head).with_context(|| format!("Writing {}", path.display()))
}

/// Reads a log.
pub fn read(path: &Path) -> Result<Vec<Entry>> {
    let read = || -> Result<Vec<Entry>> {
        let file = File::open(path)?;
        let length = file.metadata()?.len() / SECTOR as u64;
        let mut head = [0; SECTOR];
        file.read_exact_at(&mut head, 0)?;
        ensure!(number(&head, 0) == MAGIC, "it is no log of writes");
        let entries = number(&head, 2);
        let mut found = Vec::new();
        let mut at = 1;
        while found.len() as u64 != entries && at < length {
            file.read_exact_at(&mut head, at * SECTOR as u64)?;
            let (sector, sectors, flags) = (number(&head, 0), number(&head, 1), number(&head, 2));
            at += 1;
            if flags & DISCARD != 0 {
                found.push(Entry::Discard { sector, sectors });
            } else if sectors > 0 {
                found.push(Entry::Write { sector, sectors, data: at, durable: flags & FUA != 0 });
                at += sectors;
            } else if flags & FLUSH != 0 {
                found.push(Entry::Flush);
            }
        }
        ensure!(found.len() as u64 >= entries, "it breaks off: {} of {entries}", found.len());
        Ok(found)
    };
    read().with_context(|| format!("Reading {}", path.display()))
}

fn number(bytes: &[u8], index: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[index * 8..index * 8 + 8]);
    u64::from_le_bytes(number)
}

/// Writes a log, as QEMU would.
#[cfg(test)]
pub(crate) fn write(path: &Path, entries: &[(u64, Vec<u8>, u64)]) -> Result<()> {
    create(path)?;
    let mut log = fs::read(path)?;
    log.splice(16..24, (entries.len() as u64).to_le_bytes());
    for (sector, data, flags) in entries {
        let sectors = (data.len() / SECTOR) as u64;
        let mut head: Vec<u8> =
            [*sector, sectors, *flags, 0].iter().flat_map(|value| value.to_le_bytes()).collect();
        head.resize(SECTOR, 0);
        log.extend(head);
        if flags & DISCARD == 0 {
            log.extend(data);
        }
    }
    Ok(fs::write(path, log)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_down_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        create(&path).unwrap();
        assert_eq!(read(&path).unwrap(), []);
        write(
            &path,
            &[
                (7, vec![1; 1024], 0),
                (0, vec![], FLUSH),
                (9, vec![2; 512], FUA),
                (3, vec![0; 2048], DISCARD),
                (1, vec![3; 512], 0),
            ],
        )
        .unwrap();
        assert_eq!(
            read(&path).unwrap(),
            [
                Entry::Write { sector: 7, sectors: 2, data: 2, durable: false },
                Entry::Flush,
                Entry::Write { sector: 9, sectors: 1, data: 6, durable: true },
                Entry::Discard { sector: 3, sectors: 4 },
                Entry::Write { sector: 1, sectors: 1, data: 9, durable: false },
            ]
        );
    }
}
