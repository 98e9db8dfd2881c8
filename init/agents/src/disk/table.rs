// SPDX-License-Identifier: Apache-2.0
//! The partition table: where STATE and DATA are or go, and the bytes to write for that.
//!
//! Guarantees, wherever the power is cut (see the tests):
//!
//! * one of the two copies on the disk is whole, and it has the ESP as it was;
//! * the copy at the end is written first, so a copy that is older than the other one is never the one at the end;
//! * doing it all again ends in the same table.
//!
//! A partition that is made here carries [`UNUSED`] until its file system is made. That bit is the only leave there is to
//! format anything: a partition without it has been in use, whatever it looks like now.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

use gptman::{GPT, GPTHeader, GPTPartitionEntry};
use stele_layout::gpt::{ALIGNMENT_SECTORS, DATA, Guid, MIB, Partition, SECTOR, STATE};

/// The attribute of a partition that nobody has used yet; of the sixteen that the UEFI specification leaves to each type.
pub const UNUSED: u64 = 1 << 48;

/// The least room that makes sense for DATA, in bytes.
pub const SMALLEST_DATA: u64 = 64 * MIB;

const ENTRIES: u32 = 128;
const ENTRY_SIZE: u32 = 128;
/// No disk has that many sectors: what is told beyond is nonsense, and not to be reckoned with.
const FARTHEST: u64 = 1 << 48;

/// Why a disk can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The disk could not be read.
    #[error("reading the partition table")]
    Read(#[source] io::Error),
    /// Neither copy is a table.
    #[error("there is no partition table on it")]
    NoTable(#[source] gptman::Error),
    /// A table of an uncommon form.
    #[error(
        "its partition table has {entries} entries of {size} bytes, and only {ENTRIES} of {ENTRY_SIZE} are understood"
    )]
    Form {
        /// How many entries.
        entries: u32,
        /// How large they are.
        size: u32,
    },
    /// A table whose checksums are right, and nothing else.
    #[error("its partition table names places that no disk has")]
    Nonsense,
    /// The table is of a larger disk.
    #[error("the disk has {have} bytes, and its partitions need {need}")]
    Truncated {
        /// Bytes the disk has.
        have: u64,
        /// Bytes up to the end of the last partition and the copy of the table.
        need: u64,
    },
    /// Not enough room.
    #[error(
        "{what} need {need} bytes in one piece; the disk has {disk} bytes, and its largest free piece has {free}"
    )]
    NoRoom {
        /// What needs it.
        what: &'static str,
        /// Bytes needed.
        need: u64,
        /// Bytes in the largest free piece.
        free: u64,
        /// Bytes on the disk.
        disk: u64,
    },
    /// All entries are in use.
    #[error("its partition table is full")]
    NoEntry,
    /// The table would be no table.
    #[error("making the partition table")]
    Make(#[source] gptman::Error),
}

/// A partition table, as it was read or as it should be.
#[derive(Clone, PartialEq, Eq)]
pub struct Table {
    gpt: GPT,
    sectors: u64,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = self.gpt.iter().filter(|(_, entry)| entry.is_used());
        f.debug_struct("Table")
            .field("header", &self.gpt.header)
            .field("used", &used.collect::<Vec<_>>())
            .finish()
    }
}

/// Bytes for one place on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Where they go.
    pub offset: u64,
    /// What goes there.
    pub bytes: Vec<u8>,
}

/// Where a partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its number, from 1.
    pub number: u32,
    /// Its first byte.
    pub start: u64,
    /// How many bytes it has.
    pub length: u64,
    /// True if nobody has used it yet.
    pub unused: bool,
}

impl Table {
    /// Reads the table of a disk with `size` bytes in sectors of `sector` bytes.
    ///
    /// # Errors
    /// When it can't be read, or there is none that is understood.
    pub fn read(
        disk: &mut (impl Read + Seek),
        size: u64,
        sector: u64,
    ) -> Result<Table, TableError> {
        let sectors = size / sector;
        // Before anything is allocated for them: a table may claim billions of entries.
        for lba in [1, sectors.saturating_sub(1)] {
            disk.seek(SeekFrom::Start(lba * sector)).map_err(TableError::Read)?;
            match GPTHeader::read_from(disk) {
                Ok(header)
                    if header.number_of_partition_entries != ENTRIES
                        || header.size_of_partition_entry != ENTRY_SIZE =>
                {
                    let (entries, size) =
                        (header.number_of_partition_entries, header.size_of_partition_entry);
                    return Err(TableError::Form { entries, size });
                }
                Ok(header) if !is_sensible(&header) => return Err(TableError::Nonsense),
                Ok(header) => {
                    // This copy is the one that counts, if it is whole.
                    let Ok(entries) = header.read_partitions(disk, sector) else { continue };
                    if entries.iter().any(|entry| entry.is_used() && !is_piece(entry)) {
                        return Err(TableError::Nonsense);
                    }
                    break;
                }
                Err(_) => {}
            }
        }
        let mut gpt = GPT::read_from(disk, sector).map_err(TableError::NoTable)?;
        if !gpt.header.is_primary() {
            gpt.header.backup_lba = gpt.header.primary_lba;
            gpt.header.primary_lba = 1;
            gpt.header.partition_entry_lba = 2;
        }
        Ok(Table { gpt, sectors }.sealed())
    }

    /// The partition with this identity.
    #[must_use]
    pub fn with_guid(&self, guid: &Guid) -> Option<Place> {
        self.find(|entry| entry.unique_partition_guid == *guid)
    }

    /// The partition that is one of ours: of its type, and with its name.
    #[must_use]
    pub fn ours(&self, partition: &Partition) -> Option<Place> {
        self.find(|entry| {
            entry.partition_type_guid == partition.kind
                && entry.partition_name.as_str() == partition.label
        })
    }

    fn find(&self, wanted: impl Fn(&GPTPartitionEntry) -> bool) -> Option<Place> {
        let sector = self.gpt.sector_size;
        self.gpt.iter().find(|(_, entry)| entry.is_used() && wanted(entry)).map(
            |(number, entry)| Place {
                number,
                start: entry.starting_lba * sector,
                length: entry
                    .ending_lba
                    .saturating_sub(entry.starting_lba)
                    .saturating_add(1)
                    .saturating_mul(sector),
                unused: entry.attribute_bits & UNUSED != 0,
            },
        )
    }

    /// The same table, moved to the ends of the disk it is on, with STATE and DATA in it. `guids` become the identities of
    /// the partitions that are missing.
    ///
    /// # Errors
    /// When the disk is too small for what is on it, or for what is to come.
    pub fn complete(&self, guids: [Guid; 2]) -> Result<Table, TableError> {
        let mut table = self.clone();
        table.grow()?;
        let missing: Vec<(&Partition, Guid)> = [&STATE, &DATA]
            .into_iter()
            .zip(guids)
            .filter(|(partition, _)| self.ours(partition).is_none())
            .collect();
        let needs = |partition: &Partition| partition.size.unwrap_or(SMALLEST_DATA);
        let need: u64 = missing.iter().map(|(partition, _)| needs(partition)).sum();
        if missing.is_empty() {
            return Ok(table.sealed());
        }
        let sector = self.gpt.sector_size;
        let (mut first, end) = table.largest_free();
        let free = (end - first) * sector;
        if free < need {
            let what = match missing.as_slice() {
                [(only, _)] => only.label,
                _ => "STATE and DATA",
            };
            return Err(TableError::NoRoom { what, need, free, disk: self.sectors * sector });
        }
        for (partition, guid) in missing {
            let last = partition.size.map_or(end, |size| first + size / sector) - 1;
            let entry = table
                .gpt
                .iter_mut()
                .map(|(_, entry)| entry)
                .find(|entry| entry.is_unused())
                .ok_or(TableError::NoEntry)?;
            *entry = GPTPartitionEntry {
                partition_type_guid: partition.kind,
                unique_partition_guid: guid,
                starting_lba: first,
                ending_lba: last,
                attribute_bits: UNUSED,
                partition_name: partition.label.into(),
            };
            first = last + 1;
        }
        Ok(table.sealed())
    }

    /// The same table, in which this partition is in use.
    #[must_use]
    pub fn used(&self, place: &Place) -> Table {
        let mut table = self.clone();
        for (_, entry) in table.gpt.iter_mut().filter(|(number, _)| *number == place.number) {
            entry.attribute_bits &= !UNUSED;
        }
        table.sealed()
    }

    /// With the checksums that belong to it.
    fn sealed(mut self) -> Table {
        let entries: Vec<GPTPartitionEntry> =
            self.gpt.iter().map(|(_, entry)| entry.clone()).collect();
        self.gpt.header.update_partition_entry_array_crc32(&entries);
        self.gpt.header.update_crc32_checksum();
        self
    }

    /// What to write, in order, each on the disk before the next one is begun: the copy at the end, the one at the start,
    /// the size in the protective MBR. Empty when `disk` has it all.
    ///
    /// # Errors
    /// When `disk` can't be read, or the table is none.
    pub fn writes(&self, disk: &mut (impl Read + Seek)) -> Result<Vec<Write>, TableError> {
        let mut regions =
            Regions { sector: self.gpt.sector_size, sectors: self.sectors, ..Regions::default() };
        self.gpt.clone().write_into(&mut regions).map_err(TableError::Make)?;
        let mut writes = Vec::new();
        for write in regions.in_order() {
            let mut there = vec![0; write.bytes.len()];
            disk.seek(SeekFrom::Start(write.offset)).map_err(TableError::Read)?;
            disk.read_exact(&mut there).map_err(TableError::Read)?;
            if there != write.bytes {
                writes.push(write);
            }
        }
        writes.extend(self.protective_size(disk)?);
        Ok(writes)
    }

    /// The size in the protective MBR, if it is another than this disk's: nothing boots by it, but tools complain.
    fn protective_size(&self, disk: &mut (impl Read + Seek)) -> Result<Option<Write>, TableError> {
        let mut mbr = [0; 512];
        disk.seek(SeekFrom::Start(0)).map_err(TableError::Read)?;
        disk.read_exact(&mut mbr).map_err(TableError::Read)?;
        // The first of its partitions: its type is the fifth byte, its size the last four (UEFI specification, 5.2.3).
        let Some(&[_, _, _, _, kind, .., a, b, c, d]) = mbr.get(446..462) else { return Ok(None) };
        let size = u32::try_from(self.sectors - 1).unwrap_or(u32::MAX).to_le_bytes();
        let differs = kind == 0xee && mbr.ends_with(&[0x55, 0xaa]) && [a, b, c, d] != size;
        Ok(differs.then(|| Write { offset: 458, bytes: size.to_vec() }))
    }

    /// Moves the copy at the end to where the disk ends now.
    fn grow(&mut self) -> Result<(), TableError> {
        let sector = self.gpt.sector_size;
        let array = array_sectors(sector);
        let end = self
            .gpt
            .iter()
            .filter(|(_, entry)| entry.is_used())
            .map(|(_, entry)| entry.ending_lba)
            .max()
            .unwrap_or(0);
        // The copy of the table comes behind the last partition: its entries and its header.
        let need = end.saturating_add(array + 2);
        if need > self.sectors {
            return Err(TableError::Truncated {
                have: self.sectors.saturating_mul(sector),
                need: need.saturating_mul(sector),
            });
        }
        self.gpt.header.backup_lba = self.sectors - 1;
        self.gpt.header.last_usable_lba = self.sectors - array - 2;
        Ok(())
    }

    /// The largest piece that no partition has, aligned: its first sector, and the one behind its last.
    fn largest_free(&self) -> (u64, u64) {
        let align = ALIGNMENT_SECTORS * SECTOR / self.gpt.sector_size;
        let mut taken: Vec<(u64, u64)> = self
            .gpt
            .iter()
            .filter(|(_, entry)| entry.is_used())
            .map(|(_, entry)| (entry.starting_lba, entry.ending_lba))
            .collect();
        taken.push((self.gpt.header.last_usable_lba + 1, u64::MAX - align));
        taken.sort_unstable();
        let mut free = self.gpt.header.first_usable_lba;
        let mut largest = (0, 0);
        for (first, last) in taken {
            let piece = (free.next_multiple_of(align), first / align * align);
            if piece.1.saturating_sub(piece.0) > largest.1 - largest.0 {
                largest = piece;
            }
            free = free.max(last.saturating_add(1));
        }
        largest
    }
}

const fn array_sectors(sector: u64) -> u64 {
    (ENTRIES as u64 * ENTRY_SIZE as u64).div_ceil(sector)
}

/// Takes what gptman writes all over the disk, and makes two pieces of it.
#[derive(Default)]
struct Regions {
    sector: u64,
    sectors: u64,
    at: u64,
    pieces: Vec<Write>,
}

impl Regions {
    /// The copy at the end, then the one at the start: header and entries of each are one write.
    fn in_order(self) -> [Write; 2] {
        let array = array_sectors(self.sector);
        let length = usize::try_from((array + 1) * self.sector).unwrap_or(0);
        let mut start = Write { offset: self.sector, bytes: vec![0; length] };
        let mut end =
            Write { offset: (self.sectors - array - 1) * self.sector, bytes: vec![0; length] };
        for piece in &self.pieces {
            for region in [&mut start, &mut end] {
                let inside =
                    piece.offset.checked_sub(region.offset).and_then(|at| usize::try_from(at).ok());
                if let Some(target) =
                    inside.and_then(|at| region.bytes.get_mut(at..at + piece.bytes.len()))
                {
                    target.copy_from_slice(&piece.bytes);
                }
            }
        }
        [end, start]
    }
}

impl io::Write for Regions {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pieces.push(Write { offset: self.at, bytes: bytes.to_vec() });
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Regions {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(offset) => (self.sectors * self.sector).saturating_add_signed(offset),
            SeekFrom::Current(offset) => self.at.saturating_add_signed(offset),
        };
        Ok(self.at)
    }
}

/// Whether an entry is of a piece of a disk: none begins where the protective MBR is.
fn is_piece(entry: &GPTPartitionEntry) -> bool {
    let (first, last) = (entry.starting_lba, entry.ending_lba);
    0 < first && first <= last && last < FARTHEST
}

/// Whether every place that a header names is one that can be reckoned with.
fn is_sensible(header: &GPTHeader) -> bool {
    [
        header.primary_lba,
        header.backup_lba,
        header.first_usable_lba,
        header.last_usable_lba,
        header.partition_entry_lba,
    ]
    .iter()
    .all(|lba| *lba < FARTHEST)
}

#[cfg(test)]
mod tests;
