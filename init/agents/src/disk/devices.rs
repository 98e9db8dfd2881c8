// SPDX-License-Identifier: Apache-2.0
//! The disks of this machine, and their partitions as device nodes.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::disk::table::Place;
use crate::disk::{Nodes, VolumeError};

const SYSFS: &str = "/sys/class/block";
const DEV: &str = "/dev";

/// How long the kernel may take to make a node.
const NODE_DEADLINE: Duration = Duration::from_secs(5);
const NODE_PAUSE: Duration = Duration::from_millis(2);

/// Block devices that are never a disk of ours.
const OTHERS: [&str; 6] = ["loop", "ram", "zram", "sr", "fd", "nbd"];

/// A whole disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The kernel's name for it.
    pub name: String,
    /// Its node.
    pub path: PathBuf,
    /// How many bytes it has.
    pub size: u64,
    /// How many bytes a sector has.
    pub sector: u64,
}

/// The disks there are now, by name. One that goes away while it is looked at is not among them.
///
/// # Errors
/// When sysfs isn't there.
pub fn disks() -> io::Result<Vec<Disk>> {
    let mut disks: Vec<Disk> = fs::read_dir(SYSFS)?
        .filter_map(|entry| disk(&entry.ok()?.file_name().into_string().ok()?))
        .collect();
    disks.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(disks)
}

fn disk(name: &str) -> Option<Disk> {
    let sysfs = Path::new(SYSFS).join(name);
    if OTHERS.iter().any(|other| name.starts_with(other)) || sysfs.join("partition").exists() {
        return None;
    }
    // The kernel counts in 512 bytes here, whatever the disk does.
    let size = number(&sysfs.join("size"))?.checked_mul(512).filter(|size| *size > 0)?;
    let sector = number(&sysfs.join("queue/logical_block_size"))
        .filter(|sector| matches!(sector, 512 | 1024 | 2048 | 4096))?;
    // Names with a slash in them (cciss/c0d0) have an exclamation mark in sysfs.
    Some(Disk {
        name: name.to_owned(),
        path: Path::new(DEV).join(name.replace('!', "/")),
        size,
        sector,
    })
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The nodes of a disk's partitions.
#[derive(Debug)]
pub struct KernelNodes<'a> {
    /// The disk.
    pub disk: &'a Disk,
    /// The same, open.
    pub file: &'a File,
}

impl Nodes for KernelNodes<'_> {
    fn node(&self, place: &Place) -> Result<PathBuf, VolumeError> {
        let add = |source| VolumeError::Add {
            number: place.number,
            disk: self.disk.path.clone(),
            source,
        };
        let name = match self.known(place)? {
            Some(name) => name,
            None => {
                stele_kernel::block::add_partition(
                    self.file,
                    place.number,
                    place.start,
                    place.length,
                )
                .map_err(add)?;
                self.known(place)?.ok_or_else(|| add(io::ErrorKind::NotFound.into()))?
            }
        };
        let path = Path::new(DEV).join(name.replace('!', "/"));
        let deadline = Instant::now() + NODE_DEADLINE;
        while !path.exists() {
            if Instant::now() > deadline {
                return Err(VolumeError::NoNode { path, deadline: NODE_DEADLINE });
            }
            thread::sleep(NODE_PAUSE);
        }
        Ok(path)
    }
}

impl KernelNodes<'_> {
    /// The kernel's name for a partition, if it knows it.
    fn known(&self, place: &Place) -> Result<Option<String>, VolumeError> {
        let sysfs = Path::new(SYSFS).join(&self.disk.name);
        let entries = fs::read_dir(&sysfs)
            .map_err(|source| VolumeError::Read { path: sysfs.clone(), source })?;
        let found = entries
            .flatten()
            .find(|entry| number(&entry.path().join("partition")) == Some(place.number.into()));
        let Some(entry) = found else { return Ok(None) };
        let bytes =
            |file| number(&entry.path().join(file)).and_then(|sectors| sectors.checked_mul(512));
        if bytes("start") != Some(place.start) || bytes("size") != Some(place.length) {
            return Err(VolumeError::OtherPlace {
                number: place.number,
                disk: self.disk.path.clone(),
            });
        }
        Ok(entry.file_name().into_string().ok())
    }
}
