// SPDX-License-Identifier: Apache-2.0
//! Disk: STATE and DATA on the disk that this machine was started from.
//!
//! ```text
//! the disk with this ESP ─► table: grown, STATE and DATA added ─► nodes ─► file systems: made, checked ─► report
//!         1                      2  (table.rs)                     3            4  (ext4.rs, tools.rs)
//!
//! after 4: what was made is marked as used, by writing the table again
//! ```
//!
//! * Nothing is formatted but a partition that was made here and that nobody has used since.
//! * What can't be used is named with the reason, and the machine comes up without it.
//! * Cut off anywhere and run again, it ends in the same place.

use std::error::Error;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use stele_layout::gpt::{DATA, ESP, Guid, Partition, STATE};

use crate::disk::devices::{Disk, KernelNodes, disks};
use crate::disk::ext4::{Content, Treatment, treat};
use crate::disk::table::{Place, Table, TableError};
use crate::disk::tools::ToolError;

pub mod devices;
pub mod ext4;
pub mod table;
pub mod tools;

const SCAN_PAUSE: Duration = Duration::from_millis(20);

/// What there is to use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The node of the ESP.
    pub esp: Option<PathBuf>,
    /// The node of STATE.
    pub state: Option<PathBuf>,
    /// The node of DATA.
    pub data: Option<PathBuf>,
    /// What was done, and what can't be used and why: a sentence each.
    pub notes: Vec<String>,
}

/// Why there is nothing to use.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The disks could not be listed.
    #[error("listing the disks")]
    List(#[source] io::Error),
    /// None of them is it.
    #[error("no disk holds {wanted}; looked at {seen} for {} s", waited.as_secs())]
    NotFound {
        /// What was looked for.
        wanted: String,
        /// The disks there were.
        seen: String,
        /// For how long.
        waited: Duration,
    },
    /// It could not be opened.
    #[error("opening {path}")]
    Open {
        /// The disk.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no randomness for new identities.
    #[error("making identities for partitions")]
    Random(#[source] io::Error),
}

/// Why a part of the disk can't be used.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The table is not as it should be, and can't be made so.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A partition or the table could not be read.
    #[error("reading {path}")]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The table could not be written.
    #[error("writing the partition table")]
    Write(#[source] io::Error),
    /// The kernel refused the partition.
    #[error("telling the kernel of partition {number} of {disk}")]
    Add {
        /// Its number.
        number: u32,
        /// Its disk.
        disk: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel has it elsewhere.
    #[error(
        "the kernel has partition {number} of {disk} in another place than the table; a restart helps"
    )]
    OtherPlace {
        /// Its number.
        number: u32,
        /// Its disk.
        disk: PathBuf,
    },
    /// The node never came.
    #[error("{path} did not appear within {} s", deadline.as_secs())]
    NoNode {
        /// Which one.
        path: PathBuf,
        /// How long it had.
        deadline: Duration,
    },
    /// Its file system can't be made or repaired.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// It holds something else.
    #[error("{0}")]
    Rejected(String),
}

/// Partitions as files that can be opened.
pub trait Nodes {
    /// The node of a partition, once there is one.
    ///
    /// # Errors
    /// When the kernel won't have the partition, or makes no node.
    fn node(&self, place: &Place) -> Result<PathBuf, VolumeError>;
}

/// Makes or finds STATE and DATA on the disk that holds the ESP with this identity, which may take `wait` to appear.
///
/// # Errors
/// When no disk does, or the disk can't be opened.
pub fn prepare(esp: &Guid, wait: Duration) -> Result<Report, DiskError> {
    let wanted = format!("the partition {}", stele_layout::gpt::format(esp));
    let (disk, table) = search(&wanted, wait, |table| table.with_guid(esp))?;
    let open = File::options().read(true).write(true).open(&disk.path);
    let mut file = open.map_err(|source| DiskError::Open { path: disk.path.clone(), source })?;
    let guids = [random_guid()?, random_guid()?];
    // Told apart from the file that is written: the kernel's partitions are added through a descriptor of their own.
    let kernel =
        file.try_clone().map_err(|source| DiskError::Open { path: disk.path.clone(), source })?;
    let nodes = KernelNodes { disk: &disk, file: &kernel };
    Ok(prepare_on(&mut file, &table, esp, guids, &nodes))
}

/// Finds STATE, and DATA and an ESP beside it, on the first disk that has it. Changes nothing.
///
/// # Errors
/// When no disk does.
pub fn find(wait: Duration) -> Result<Report, DiskError> {
    let (disk, table) = search("a partition STATE of ours", wait, |table| table.ours(&STATE))?;
    let file = File::open(&disk.path)
        .map_err(|source| DiskError::Open { path: disk.path.clone(), source })?;
    let nodes = KernelNodes { disk: &disk, file: &file };
    let mut report = Report::default();
    let esp = table.ours(&ESP).map(|place| nodes.node(&place));
    report.esp = esp.transpose().unwrap_or_else(|error| report.cannot("ESP", &error));
    report.state =
        look(&table, &STATE, &nodes).unwrap_or_else(|error| report.cannot("STATE", &error));
    report.data = look(&table, &DATA, &nodes).unwrap_or_else(|error| report.cannot("DATA", &error));
    Ok(report)
}

impl Report {
    /// Says why something can't be used.
    fn cannot(&mut self, what: &str, error: &VolumeError) -> Option<PathBuf> {
        let mut sentence = format!("{what} can't be used: {error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            sentence.push_str(": ");
            sentence.push_str(&error.to_string());
            cause = error.source();
        }
        self.notes.push(sentence);
        None
    }
}

/// The first disk whose table has what is wanted.
fn search(
    wanted: &str,
    wait: Duration,
    has: impl Fn(&Table) -> Option<Place>,
) -> Result<(Disk, Table), DiskError> {
    let deadline = Instant::now() + wait;
    loop {
        let disks = disks().map_err(DiskError::List)?;
        for disk in &disks {
            // A disk that can't be read, or has no table, is not the one.
            let table = File::open(&disk.path)
                .ok()
                .and_then(|mut file| Table::read(&mut file, disk.size, disk.sector).ok());
            if let Some(table) = table.filter(|table| has(table).is_some()) {
                return Ok((disk.clone(), table));
            }
        }
        if Instant::now() >= deadline {
            let names: Vec<&str> = disks.iter().map(|disk| disk.name.as_str()).collect();
            let seen =
                if names.is_empty() { "no disk at all".to_owned() } else { names.join(", ") };
            return Err(DiskError::NotFound { wanted: wanted.to_owned(), seen, waited: wait });
        }
        thread::sleep(SCAN_PAUSE);
    }
}

/// All of [`prepare`] but the search.
fn prepare_on(
    disk: &mut File,
    table: &Table,
    esp: &Guid,
    guids: [Guid; 2],
    nodes: &impl Nodes,
) -> Report {
    let mut report = Report::default();
    let complete = table.complete(guids).map_err(VolumeError::Table).and_then(|complete| {
        write(disk, &complete)?;
        Ok(complete)
    });
    let mut table = match complete {
        Ok(complete) => complete,
        Err(error) => {
            report.cannot("the rest of the disk", &error);
            table.clone()
        }
    };
    let node = table.with_guid(esp).map(|place| nodes.node(&place));
    report.esp = node.transpose().unwrap_or_else(|error| report.cannot("ESP", &error));
    for (partition, of) in
        [(&STATE, Report::state as fn(&mut Report) -> &mut Option<PathBuf>), (&DATA, Report::data)]
    {
        let Some(place) = table.ours(partition) else { continue };
        match volume(disk, &mut table, partition, &place, nodes, &mut report.notes) {
            Ok(path) => *of(&mut report) = Some(path),
            Err(error) => drop(report.cannot(partition.label, &error)),
        }
    }
    report
}

impl Report {
    const fn state(&mut self) -> &mut Option<PathBuf> {
        &mut self.state
    }

    const fn data(&mut self) -> &mut Option<PathBuf> {
        &mut self.data
    }
}

/// Makes a partition usable.
fn volume(
    disk: &mut File,
    table: &mut Table,
    partition: &Partition,
    place: &Place,
    nodes: &impl Nodes,
    notes: &mut Vec<String>,
) -> Result<PathBuf, VolumeError> {
    let node = nodes.node(place)?;
    let label = partition.label;
    match treat(label, place.unused, &content(&node)?) {
        Treatment::Use => {}
        Treatment::Reject(reason) => return Err(VolumeError::Rejected(reason)),
        Treatment::Check => {
            tools::check(&node)?;
            notes.push(format!("{label} was not left in order: checked"));
        }
        Treatment::Format => {
            tools::make(&node, label)?;
            let used = table.used(place);
            write(disk, &used)?;
            *table = used;
            notes.push(format!("{label} made: {} MiB", place.length / stele_layout::gpt::MIB));
        }
    }
    Ok(node)
}

/// Looks at a partition without changing it.
fn look(
    table: &Table,
    partition: &Partition,
    nodes: &impl Nodes,
) -> Result<Option<PathBuf>, VolumeError> {
    let Some(place) = table.ours(partition) else { return Ok(None) };
    let node = nodes.node(&place)?;
    match treat(partition.label, place.unused, &content(&node)?) {
        Treatment::Use | Treatment::Check => Ok(Some(node)),
        Treatment::Reject(reason) => Err(VolumeError::Rejected(reason)),
        Treatment::Format => Err(VolumeError::Rejected("it has no file system yet".to_owned())),
    }
}

fn content(node: &Path) -> Result<Content, VolumeError> {
    let mut superblock = [0; ext4::SIZE];
    let read = File::open(node).and_then(|file| file.read_exact_at(&mut superblock, ext4::OFFSET));
    read.map_err(|source| VolumeError::Read { path: node.to_owned(), source })?;
    Ok(ext4::parse(&superblock))
}

/// Puts a table on the disk: each write is there before the next one is begun.
fn write(disk: &mut File, table: &Table) -> Result<(), VolumeError> {
    for write in table.writes(disk)? {
        disk.write_all_at(&write.bytes, write.offset)
            .and_then(|()| disk.sync_all())
            .map_err(VolumeError::Write)?;
    }
    Ok(())
}

/// A random identity, as RFC 9562 has it (version 4), in the order of bytes of a partition table.
fn random_guid() -> Result<Guid, DiskError> {
    let mut guid = [0; 16];
    let filled = rustix::rand::getrandom(&mut guid, rustix::rand::GetRandomFlags::empty());
    filled.map_err(|source| DiskError::Random(source.into()))?;
    let [_, _, _, _, _, _, _, version, variant, ..] = &mut guid;
    *version = (*version & 0x0f) | 0x40;
    *variant = (*variant & 0x3f) | 0x80;
    Ok(guid)
}

#[cfg(test)]
mod tests;
