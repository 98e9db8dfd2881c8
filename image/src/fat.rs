// SPDX-License-Identifier: Apache-2.0
//! Writes a FAT32 file system whose whole content is known beforehand: every file in one piece, the rest left as a hole.
//!
//! By hand, because `fatfs` gives each folder's `.` and `..` a long name, which fsck.fat and the specification (Microsoft's
//! "FAT32 File System Specification", 1.03) refuse. What is written here, `fsck.fat -n` finds nothing to say about.
//!
//! ```text
//! boot sector, FSInfo, their copies │ FAT │ FAT │ clusters: root, folders, files
//! ```

use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Seek, SeekFrom, Write};

const SECTOR: u64 = 512;
const SECTORS_PER_CLUSTER: u64 = 8;
const CLUSTER: u64 = SECTOR * SECTORS_PER_CLUSTER;
const RESERVED: u64 = 32;
const ROOT: u32 = 2;
const END: u32 = 0x0fff_ffff;
const FOLDER: u8 = 0x10;
const ARCHIVE: u8 = 0x20;
const LABEL: u8 = 0x08;
const LONG: u8 = 0x0f;

/// A file system to be written.
#[derive(Debug)]
pub struct Fat<'a> {
    /// Its size in bytes.
    pub size: u64,
    /// Where on the disk it starts, in sectors.
    pub start: u64,
    /// Its label, at most 11 capital letters.
    pub label: &'a str,
    /// Its serial number.
    pub serial: u32,
    /// The time of every file, in seconds since the epoch.
    pub epoch: u64,
    /// Paths and contents; folders follow from the paths.
    pub files: &'a [(String, &'a [u8])],
}

/// A folder, or a file, on its way to a place.
struct Entry<'a> {
    parent: &'a str,
    name: &'a str,
    content: Option<&'a [u8]>,
    first: u32,
    clusters: u32,
}

impl Fat<'_> {
    /// Writes it into a file that is all zeros from `start` on.
    pub fn write<W: Write + Seek>(&self, out: &mut W) -> Result<()> {
        let sectors = self.size / SECTOR;
        // Each FAT has an entry of four bytes for each cluster and two more; both FATs and the clusters share what is left.
        let clusters = (sectors - RESERVED) / SECTORS_PER_CLUSTER;
        let fat_sectors =
            ((clusters + 2) * 4).div_ceil(SECTOR).next_multiple_of(SECTORS_PER_CLUSTER);
        let data = RESERVED + 2 * fat_sectors;
        let clusters = u32::try_from((sectors - data) / SECTORS_PER_CLUSTER)?;
        ensure!(
            (65_525..0x0fff_fff5).contains(&clusters),
            "{} bytes are no size for FAT32 with clusters of {CLUSTER}",
            self.size
        );

        let entries = self.place()?;
        let next = entries
            .iter()
            .map(|entry| entry.first + entry.clusters)
            .max()
            .unwrap_or(ROOT + 1)
            .max(ROOT + 1);
        ensure!(
            next - 2 <= clusters,
            "The files need {} bytes, and the file system has {}",
            u64::from(next - 2) * CLUSTER,
            u64::from(clusters) * CLUSTER
        );

        let put = |out: &mut W, sector: u64, bytes: &[u8]| -> Result<()> {
            out.seek(SeekFrom::Start((self.start + sector) * SECTOR))?;
            out.write_all(bytes)?;
            Ok(())
        };
        let boot = self.boot_sector(u32::try_from(sectors)?, u32::try_from(fat_sectors)?)?;
        let info = info_sector(clusters - (next - 2), next);
        for copy in [0, 6] {
            put(out, copy, &boot)?;
            put(out, copy + 1, &info)?;
        }
        let mut fat = Vec::new();
        for entry in [0x0fff_fff8, END] {
            fat.extend_from_slice(&u32::to_le_bytes(entry));
        }
        chain(&mut fat, ROOT, 1);
        for entry in &entries {
            chain(&mut fat, entry.first, entry.clusters);
        }
        for copy in [RESERVED, RESERVED + fat_sectors] {
            put(out, copy, &fat)?;
        }

        let sector_of = |cluster: u32| data + u64::from(cluster - 2) * SECTORS_PER_CLUSTER;
        put(out, sector_of(ROOT), &self.folder("", ROOT, ROOT, &entries)?)?;
        for entry in &entries {
            match entry.content {
                Some([]) => {}
                Some(content) => put(out, sector_of(entry.first), content)?,
                None => {
                    let path = join(entry.parent, entry.name);
                    let parent = entries.iter().find(|other| {
                        other.content.is_none() && join(other.parent, other.name) == entry.parent
                    });
                    let parent = parent.map_or(ROOT, |parent| parent.first);
                    put(
                        out,
                        sector_of(entry.first),
                        &self.folder(&path, entry.first, parent, &entries)?,
                    )?;
                }
            }
        }
        Ok(())
    }

    /// Folders first, each of one cluster, then the files.
    fn place(&self) -> Result<Vec<Entry<'_>>> {
        let mut folders = BTreeSet::new();
        for (path, _) in self.files {
            for (slash, _) in path.match_indices('/') {
                folders.insert(&path[..slash]);
            }
        }
        let mut next = ROOT + 1;
        let mut entries = Vec::new();
        let nodes = folders
            .iter()
            .map(|path| (*path, None))
            .chain(self.files.iter().map(|(path, data)| (path.as_str(), Some(*data))));
        for (path, content) in nodes {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            let clusters = content
                .map_or(Ok(1), |data| u32::try_from((data.len() as u64).div_ceil(CLUSTER)))?;
            let first = if clusters == 0 { 0 } else { next };
            ensure!(
                content.is_none_or(|data| u32::try_from(data.len()).is_ok()),
                "{path} is larger than FAT32 can hold"
            );
            entries.push(Entry { parent, name, content, first, clusters });
            next += clusters;
        }
        Ok(entries)
    }

    fn boot_sector(&self, sectors: u32, fat_sectors: u32) -> Result<[u8; 512]> {
        let mut boot = [0; 512];
        let fields: [(usize, &[u8]); 17] = [
            (0, &[0xeb, 0x58, 0x90]),
            (3, b"STELE   "),
            (11, &512u16.to_le_bytes()),
            (13, &[u8::try_from(SECTORS_PER_CLUSTER)?]),
            (14, &u16::try_from(RESERVED)?.to_le_bytes()),
            (16, &[2]),
            (21, &[0xf8]),
            // A geometry that no firmware of today asks for.
            (24, &[63, 0, 255, 0]),
            (28, &u32::try_from(self.start)?.to_le_bytes()),
            (32, &sectors.to_le_bytes()),
            (36, &fat_sectors.to_le_bytes()),
            (44, &ROOT.to_le_bytes()),
            (48, &[1, 0, 6, 0]),
            (64, &[0x80, 0, 0x29]),
            (67, &self.serial.to_le_bytes()),
            (71, &self.padded_label()?),
            (82, b"FAT32   "),
        ];
        for (at, bytes) in fields {
            boot[at..at + bytes.len()].copy_from_slice(bytes);
        }
        boot[510..].copy_from_slice(&[0x55, 0xaa]);
        Ok(boot)
    }

    fn padded_label(&self) -> Result<[u8; 11]> {
        let mut label = [b' '; 11];
        label
            .get_mut(..self.label.len())
            .context("A label has at most 11 letters")?
            .copy_from_slice(self.label.as_bytes());
        Ok(label)
    }

    /// The content of a folder.
    fn folder(&self, path: &str, own: u32, parent: u32, entries: &[Entry<'_>]) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        if path.is_empty() {
            out.extend_from_slice(&self.short_entry(self.padded_label()?, LABEL, 0, 0)?);
        } else {
            // The root is called 0 here, whatever its cluster is.
            let parent = if parent == ROOT { 0 } else { parent };
            out.extend_from_slice(&self.short_entry(*b".          ", FOLDER, own, 0)?);
            out.extend_from_slice(&self.short_entry(*b"..         ", FOLDER, parent, 0)?);
        }
        let mut taken = BTreeMap::new();
        for entry in entries.iter().filter(|entry| entry.parent == path) {
            let short = short_name(entry.name, &mut taken)?;
            if plain(short) != entry.name {
                out.extend(long_entries(entry.name, checksum(short))?);
            }
            let (attribute, size) = match entry.content {
                Some(content) => (ARCHIVE, u32::try_from(content.len())?),
                None => (FOLDER, 0),
            };
            out.extend_from_slice(&self.short_entry(short, attribute, entry.first, size)?);
        }
        ensure!(
            out.len() as u64 <= CLUSTER,
            "The folder {path:?} has more entries than a cluster holds"
        );
        out.resize(usize::try_from(CLUSTER)?, 0);
        Ok(out)
    }

    fn short_entry(
        &self,
        name: [u8; 11],
        attribute: u8,
        cluster: u32,
        size: u32,
    ) -> Result<[u8; 32]> {
        let (date, time) = self.date_and_time()?;
        let mut entry = [0; 32];
        let fields: [(usize, &[u8]); 10] = [
            (0, &name),
            (11, &[attribute]),
            (14, &time.to_le_bytes()),
            (16, &date.to_le_bytes()),
            (18, &date.to_le_bytes()),
            (20, &cluster.to_le_bytes()[2..]),
            (22, &time.to_le_bytes()),
            (24, &date.to_le_bytes()),
            (26, &cluster.to_le_bytes()[..2]),
            (28, &size.to_le_bytes()),
        ];
        for (at, bytes) in fields {
            entry[at..at + bytes.len()].copy_from_slice(bytes);
        }
        Ok(entry)
    }

    /// FAT counts from 1980, in steps of two seconds.
    fn date_and_time(&self) -> Result<(u16, u16)> {
        let at = time::OffsetDateTime::from_unix_timestamp(i64::try_from(self.epoch)?)?;
        let years = u16::try_from(at.year() - 1980).unwrap_or(0).min(127);
        let date = years << 9 | u16::from(u8::from(at.month())) << 5 | u16::from(at.day());
        let time =
            u16::from(at.hour()) << 11 | u16::from(at.minute()) << 5 | u16::from(at.second() / 2);
        Ok((date, time))
    }
}

fn info_sector(free: u32, next: u32) -> [u8; 512] {
    let mut info = [0; 512];
    info[..4].copy_from_slice(b"RRaA");
    info[484..488].copy_from_slice(b"rrAa");
    info[488..492].copy_from_slice(&free.to_le_bytes());
    info[492..496].copy_from_slice(&next.to_le_bytes());
    info[510..].copy_from_slice(&[0x55, 0xaa]);
    info
}

/// Appends the entries of one piece. Pieces come in order and leave no gaps, so the FAT only grows.
fn chain(fat: &mut Vec<u8>, first: u32, clusters: u32) {
    for cluster in first..first + clusters {
        let next = if cluster + 1 == first + clusters { END } else { cluster + 1 };
        fat.extend_from_slice(&next.to_le_bytes());
    }
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") }
}

/// A name of eight letters and three, unlike those that are taken in its folder.
fn short_name(name: &str, taken: &mut BTreeMap<[u8; 11], ()>) -> Result<[u8; 11]> {
    ensure!(
        !name.is_empty()
            && name.len() <= 255
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-+~^".contains(&byte)),
        "{name:?} is no name for a file on the ESP"
    );
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let clean = |part: &str| -> String {
        part.chars()
            .filter(|letter| *letter != '.')
            .map(|letter| if letter == '+' { '_' } else { letter.to_ascii_uppercase() })
            .collect()
    };
    let (stem, extension) = (clean(stem), clean(extension));
    let whole = stem.len() <= 8
        && extension.len() <= 3
        && !name.contains('+')
        && name.matches('.').count() <= 1;
    for number in 0..1000 {
        let stem = match number {
            0 if whole => stem.clone(),
            0 => continue,
            _ => {
                let tail = format!("~{number}");
                format!("{}{tail}", &stem[..stem.len().min(8 - tail.len())])
            }
        };
        let mut short = [b' '; 11];
        short[..stem.len()].copy_from_slice(stem.as_bytes());
        let extension = &extension.as_bytes()[..extension.len().min(3)];
        short[8..8 + extension.len()].copy_from_slice(extension);
        if taken.insert(short, ()).is_none() {
            return Ok(short);
        }
    }
    anyhow::bail!("The folder of {name} has a thousand files with the same short name")
}

/// The name that a short name stands for by itself.
fn plain(short: [u8; 11]) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let (stem, extension) = (text(&short[..8]), text(&short[8..]));
    if extension.is_empty() { stem } else { format!("{stem}.{extension}") }
}

fn checksum(short: [u8; 11]) -> u8 {
    short.iter().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
}

/// The entries of a long name, last piece first, thirteen UTF-16 units in each.
fn long_entries(name: &str, checksum: u8) -> Result<Vec<u8>> {
    let mut units: Vec<u16> = name.encode_utf16().collect();
    if !units.len().is_multiple_of(13) {
        units.push(0);
    }
    units.resize(units.len().next_multiple_of(13), 0xffff);
    let count = units.len() / 13;
    let mut out = Vec::new();
    for (index, piece) in units.chunks(13).enumerate().rev() {
        let bytes: Vec<u8> = piece.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let mut entry = [0; 32];
        entry[0] = u8::try_from(index + 1)? | if index + 1 == count { 0x40 } else { 0 };
        entry[11] = LONG;
        entry[13] = checksum;
        entry[1..11].copy_from_slice(&bytes[..10]);
        entry[14..26].copy_from_slice(&bytes[10..22]);
        entry[28..32].copy_from_slice(&bytes[22..]);
        out.extend_from_slice(&entry);
    }
    Ok(out)
}

#[cfg(test)]
#[path = "fat/tests.rs"]
mod tests;
