// SPDX-License-Identifier: Apache-2.0
//! Reads an ESP as firmware and boot loader do, without mounting it: FAT32, and which image would be started.
//!
//! By hand, because what is to be known is which sectors a file stands in, and because a file system that is broken must
//! be told of, not repaired.

use crate::writes::SECTOR;
use anyhow::{Context as _, Result, bail, ensure};
use std::{cmp::Ordering, ops::Range};
use stele_layout::slot::{SlotFile, Stage};

const FOLDER: u8 = 0x10;
const LABEL: u8 = 0x08;
const LONG: u8 = 0x0f;
const END: u32 = 0x0fff_fff8;

/// Where sectors come from: the first, and how many.
pub type Source<'a> = dyn Fn(usize, usize) -> Result<Vec<u8>> + 'a;

/// An ESP whose tables were read.
#[derive(Debug)]
pub struct Esp {
    /// Its first sector on the drive.
    start: usize,
    per_cluster: usize,
    data: usize,
    root: u32,
    fat: Vec<u32>,
    /// The sectors that hold its tables.
    pub tables: Range<usize>,
}

/// A file or folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its long name, if it has one.
    pub name: String,
    /// Whether it is a folder.
    pub folder: bool,
    /// Its size in bytes.
    pub size: usize,
    first: u32,
}

impl Esp {
    /// Where the tables of the ESP that starts at this sector are.
    pub fn tables(start: usize, read: &Source<'_>) -> Result<Range<usize>> {
        let boot = read(start, 1)?;
        ensure!(boot[510..] == [0x55, 0xaa] && &boot[82..87] == b"FAT32", "the ESP is no FAT32");
        let fats = usize::from(boot[16]) * usize::try_from(u32_at(&boot, 36))?;
        Ok(start..start + usize::from(u16_at(&boot, 14)) + fats)
    }

    /// Reads the tables of the ESP that starts at this sector.
    pub fn read(start: usize, read: &Source<'_>) -> Result<Self> {
        let tables = Self::tables(start, read)?;
        let boot = read(start, 1)?;
        ensure!(u16_at(&boot, 11) == 512, "the ESP has sectors of another size");
        let fat_sectors = usize::try_from(u32_at(&boot, 36))?;
        let reserved = usize::from(u16_at(&boot, 14));
        let fat = read(start + reserved, fat_sectors)?;
        let fat = fat.chunks(4).map(|entry| u32_at(entry, 0) & 0x0fff_ffff).collect();
        let (per_cluster, root) = (usize::from(boot[13]), u32_at(&boot, 44));
        ensure!(per_cluster.is_power_of_two(), "the ESP has clusters of {per_cluster} sectors");
        Ok(Self { start, per_cluster, data: tables.end, root, fat, tables })
    }

    /// The first sector.
    #[must_use]
    pub fn start(&self) -> usize {
        self.start
    }

    /// The pieces of a file, in sectors of the drive; as many as its size needs.
    pub fn pieces(&self, entry: &Entry) -> Result<Vec<Range<usize>>> {
        let wanted = entry.size.div_ceil(self.per_cluster * SECTOR);
        let chain = if wanted == 0 { Vec::new() } else { self.chain(entry.first)? };
        ensure!(
            chain.len() >= wanted,
            "{} has {} bytes and only {} clusters",
            entry.name,
            entry.size,
            chain.len()
        );
        Ok(self.sectors(&chain[..wanted]))
    }

    fn sectors(&self, chain: &[u32]) -> Vec<Range<usize>> {
        let mut pieces: Vec<Range<usize>> = Vec::new();
        for cluster in chain {
            let first = self.data + (*cluster as usize - 2) * self.per_cluster;
            match pieces.last_mut() {
                Some(last) if last.end == first => last.end += self.per_cluster,
                _ => pieces.push(first..first + self.per_cluster),
            }
        }
        pieces
    }

    fn chain(&self, first: u32) -> Result<Vec<u32>> {
        let mut chain = Vec::new();
        let mut cluster = first;
        loop {
            let next = self.fat.get(cluster as usize).filter(|_| cluster >= 2);
            let Some(next) = next else { bail!("a chain leads to cluster {cluster}") };
            ensure!(*next != 0, "a chain leads to cluster {cluster}, which is free");
            chain.push(cluster);
            ensure!(chain.len() <= self.fat.len(), "a chain of clusters is a circle");
            if *next >= END {
                return Ok(chain);
            }
            cluster = *next;
        }
    }

    /// What is in a folder, named by its path; the root's is empty.
    pub fn list(&self, path: &str, read: &Source<'_>) -> Result<Vec<Entry>> {
        self.entries(self.folder(path, read)?, read)
    }

    /// The pieces of a folder, in sectors of the drive.
    pub fn folder_pieces(&self, path: &str, read: &Source<'_>) -> Result<Vec<Range<usize>>> {
        Ok(self.sectors(&self.chain(self.folder(path, read)?)?))
    }

    fn folder(&self, path: &str, read: &Source<'_>) -> Result<u32> {
        let mut first = self.root;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let found = self.entries(first, read)?.into_iter();
            let mut found =
                found.filter(|entry| entry.folder && entry.name.eq_ignore_ascii_case(part));
            first = found.next().with_context(|| format!("there is no folder {part}"))?.first;
        }
        Ok(first)
    }

    fn entries(&self, first: u32, read: &Source<'_>) -> Result<Vec<Entry>> {
        let mut bytes = Vec::new();
        for piece in self.sectors(&self.chain(first)?) {
            bytes.extend(read(piece.start, piece.len())?);
        }
        let mut found = Vec::new();
        let mut long: Vec<(u8, u8, Vec<u16>)> = Vec::new();
        for raw in bytes.chunks_exact(32) {
            let attribute = raw[11];
            match raw[0] {
                0 => break,
                0xe5 => long.clear(),
                _ if attribute & 0x3f == LONG => long.push((raw[0] & 0x3f, raw[13], units(raw))),
                _ if attribute & LABEL != 0 => long.clear(),
                _ => {
                    let name = long_name(&mut long, raw).unwrap_or_else(|| short_name(raw));
                    if name != "." && name != ".." {
                        found.push(Entry {
                            name,
                            folder: attribute & FOLDER != 0,
                            size: usize::try_from(u32_at(raw, 28))?,
                            first: u32::from(u16_at(raw, 20)) << 16 | u32::from(u16_at(raw, 26)),
                        });
                    }
                }
            }
        }
        Ok(found)
    }
}

/// The images among the entries of `EFI/Linux`, the one that systemd-boot starts first: those with tries left before
/// those without, and of these the newest.
#[must_use]
pub fn in_order(entries: &[Entry]) -> Vec<(SlotFile, Entry)> {
    let mut images: Vec<(SlotFile, Entry)> = entries
        .iter()
        .filter(|entry| !entry.folder)
        .filter_map(|entry| Some((SlotFile::parse(&entry.name)?, entry.clone())))
        .filter(|(file, _)| matches!(file.stage, Stage::Plain | Stage::Counted { .. }))
        .collect();
    images.sort_by(|(a, _), (b, _)| {
        let out_of_tries = |file: &SlotFile| matches!(file.stage, Stage::Counted { left: 0, .. });
        match out_of_tries(a).cmp(&out_of_tries(b)) {
            Ordering::Equal => b.version.compare(&a.version),
            order => order,
        }
    });
    images
}

/// The sixteen-bit units of one piece of a long name.
fn units(raw: &[u8]) -> Vec<u16> {
    [1..11, 14..26, 28..32]
        .into_iter()
        .flat_map(|range| {
            raw[range].chunks_exact(2).map(|unit| u16_at(unit, 0)).collect::<Vec<_>>()
        })
        .take_while(|unit| *unit != 0 && *unit != 0xffff)
        .collect()
}

/// The long name that the pieces before an entry make, if they belong to it.
fn long_name(pieces: &mut Vec<(u8, u8, Vec<u16>)>, raw: &[u8]) -> Option<String> {
    let pieces = std::mem::take(pieces);
    let sum = raw[..11].iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    let whole = pieces
        .iter()
        .rev()
        .enumerate()
        .all(|(at, (number, own, _))| usize::from(*number) == at + 1 && *own == sum);
    if pieces.is_empty() || !whole {
        return None;
    }
    let units: Vec<u16> = pieces.into_iter().rev().flat_map(|(_, _, units)| units).collect();
    String::from_utf16(&units).ok()
}

fn short_name(raw: &[u8]) -> String {
    let text = |bytes: &[u8], lower: bool| {
        let text = String::from_utf8_lossy(bytes).trim_end().to_owned();
        if lower { text.to_ascii_lowercase() } else { text }
    };
    // Windows and Linux keep a name that is all in lower case by a bit for each half.
    let stem = text(&raw[..8], raw[12] & 0x08 != 0);
    let extension = text(&raw[8..11], raw[12] & 0x10 != 0);
    if extension.is_empty() { stem } else { format!("{stem}.{extension}") }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// An ESP as the image builder writes it, a sector into a drive.
    fn drive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let files: Vec<(String, &[u8])> =
            files.iter().map(|(name, data)| ((*name).to_owned(), *data)).collect();
        let mut drive = Cursor::new(vec![0; 300 << 20]);
        let fat = image::fat::Fat {
            size: 290 << 20,
            start: 1,
            label: "ESP",
            serial: 1,
            epoch: 1_700_000_000,
            files: &files,
        };
        fat.write(&mut drive).unwrap();
        drive.into_inner()
    }

    fn entry(name: &str) -> Entry {
        Entry { name: name.into(), folder: false, size: 1, first: 9 }
    }

    #[test]
    fn files_are_found_where_they_stand() {
        let content = [7; 10_000];
        let drive = drive(&[
            ("EFI/Linux/stele_1.2.0+3.efi", &content),
            ("loader/loader.conf", b"timeout 0"),
        ]);
        let read = |first: usize, sectors: usize| {
            Ok(drive[first * SECTOR..(first + sectors) * SECTOR].to_vec())
        };
        let esp = Esp::read(1, &read).unwrap();
        let listed = esp.list("EFI/Linux", &read).unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].name.as_str(), listed[0].size), ("stele_1.2.0+3.efi", 10_000));
        let pieces = esp.pieces(&listed[0]).unwrap();
        assert_eq!(pieces.iter().map(Range::len).sum::<usize>(), 24);
        assert_eq!(drive[pieces[0].start * SECTOR..][..10_000], content);
        assert!(esp.list("EFI/None", &read).is_err());
        assert_eq!(esp.list("", &read).unwrap().len(), 2);

        let mut cut = listed[0].clone();
        cut.size = 1 << 20;
        assert!(esp.pieces(&cut).unwrap_err().to_string().contains("only 3 clusters"));
        cut.first = 70_000;
        assert!(esp.pieces(&cut).unwrap_err().to_string().contains("free"));
    }

    #[test]
    fn the_loaders_order_is_ours() {
        let names = [
            "stele_1.9.0.efi",
            "stele_2.0.0+0-3.efi",
            "stele_1.10.0+1-2.efi",
            "stele_3.0.0.efi.staged",
            "other.efi",
        ];
        let images = in_order(&names.map(entry));
        let order: Vec<&str> = images.iter().map(|(_, entry)| entry.name.as_str()).collect();
        assert_eq!(order, ["stele_1.10.0+1-2.efi", "stele_1.9.0.efi", "stele_2.0.0+0-3.efi"]);
    }
}
