// SPDX-License-Identifier: Apache-2.0
//! Stage: the bytes of an image onto the ESP, beside the ones that are there.
//!
//! ```text
//! input ─► incoming.efi.part ─ headers, size, digest, release information ─► stele_VERSION.efi.staged
//!                 │
//!                 └─ anything wrong, input that ends early, SIGTERM: removed
//! ```
//!
//! * The boot loader sees neither name.
//! * What can be known to be wrong early is said early: the space before the first byte is written, the processor and
//!   the format after the first 64 KiB.
//! * The image is on the disk, file and directory, before its name says that it is complete.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use stele_layout::slot::{INCOMING, SlotFile, Stage};

use crate::stage::osrel::OsrelError;
use crate::stage::pe::{Image, PeError};

pub mod osrel;
pub mod pe;
pub mod report;

/// The largest file that FAT can hold.
const MAX_SIZE: u64 = u32::MAX as u64;

const BLOCK: usize = 256 * 1024;

/// What the caller says about the image.
#[derive(Clone, Debug)]
pub struct Announced {
    /// Its size in bytes.
    pub size: Option<u64>,
    /// Its SHA-256.
    pub sha256: Option<[u8; 32]>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// This many bytes are written.
    Receiving(u64),
    /// All are, and are being looked at.
    Verifying,
}

/// An image on the ESP, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// The name of its file.
    pub file: SlotFile,
    /// Its size in bytes.
    pub size: u64,
}

/// Why an image was not staged.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// Larger than FAT can hold, or nothing at all.
    #[error("an image has between 1 and {max} bytes, this one has {size}", max = MAX_SIZE)]
    Size {
        /// Bytes announced.
        size: u64,
    },
    /// It would not fit.
    #[error("the image has {size} bytes, and the boot partition has {free} bytes free")]
    NoRoom {
        /// Bytes announced.
        size: u64,
        /// Bytes free.
        free: u64,
    },
    /// It did not fit.
    #[error(
        "the boot partition is full: it had {free} bytes free, and the image is larger than that"
    )]
    Full {
        /// Bytes that were free at the start.
        free: u64,
    },
    /// The input ended before the image did.
    #[error("the image was cut off: {expected} bytes were to come, {got} bytes came")]
    CutOff {
        /// Bytes that were to come.
        expected: u64,
        /// Bytes that came.
        got: u64,
    },
    /// The input did not end where the image did.
    #[error("{expected} bytes were announced, and more came")]
    TooLong {
        /// Bytes announced.
        expected: u64,
    },
    /// Another image than the one that was announced.
    #[error("the image arrived damaged: its SHA-256 is {got}, announced was {expected}")]
    Digest {
        /// The digest announced.
        expected: String,
        /// The digest of what came.
        got: String,
    },
    /// Not an image for this machine.
    #[error(transparent)]
    Pe(#[from] PeError),
    /// Not an image of ours.
    #[error(transparent)]
    Osrel(#[from] OsrelError),
    /// The input could not be read.
    #[error("reading the image")]
    Input(#[source] io::Error),
    /// The ESP could not be written.
    #[error("{verb} {path}")]
    File {
        /// What was tried.
        verb: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// Reads an image and leaves it in `directory`, or leaves nothing there.
///
/// # Errors
/// When it isn't an image for this machine, isn't what was announced, has no room, or can't be read or written.
pub fn stage(
    directory: &Path,
    announced: &Announced,
    input: &mut impl Read,
    mut progress: impl FnMut(Progress),
) -> Result<Staged, StageError> {
    if let Some(size) = announced.size.filter(|size| *size == 0 || *size > MAX_SIZE) {
        return Err(StageError::Size { size });
    }
    let mut part = Part::create(directory)?;
    let free = free(directory)?;
    if let Some(size) = announced.size.filter(|size| *size > free) {
        return Err(StageError::NoRoom { size, free });
    }
    let received = receive(&mut part, announced, free, input, &mut progress)?;
    progress(Progress::Verifying);
    if let (Some(expected), got) = (announced.sha256, received.sha256)
        && expected != got
    {
        return Err(StageError::Digest { expected: hex(&expected), got: hex(&got) });
    }
    let version = osrel::version(
        &part.read(received.image.osrel.offset, received.image.osrel.length.min(osrel::MAX))?,
    )?;
    let file = SlotFile::new(version, Stage::Staged);
    part.keep(&file.to_string())?;
    Ok(Staged { file, size: received.size })
}

struct Received {
    size: u64,
    sha256: [u8; 32],
    image: Image,
}

fn receive(
    part: &mut Part,
    announced: &Announced,
    free: u64,
    input: &mut impl Read,
    progress: &mut impl FnMut(Progress),
) -> Result<Received, StageError> {
    let mut digest = Sha256::new();
    let mut block = vec![0; BLOCK];
    let mut head = Vec::new();
    let mut image = None;
    let mut size: u64 = 0;
    loop {
        let length = match input.read(&mut block) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(StageError::Input(error)),
        };
        let bytes = block.get(..length).unwrap_or_default();
        if image.is_none() {
            head.extend_from_slice(bytes);
            if head.len() >= pe::HEAD || (length == 0 && size > 0) {
                let parsed = Image::parse(head.get(..pe::HEAD).unwrap_or(&head));
                // Whoever loses the connection within the first bytes wants to hear of that, not of the format.
                let cut_off = announced.size.filter(|expected| length == 0 && *expected > size);
                match (parsed, cut_off) {
                    (Err(PeError::Short { .. }), Some(expected)) => {
                        return Err(StageError::CutOff { expected, got: size });
                    }
                    (parsed, _) => image = Some(parsed?),
                }
            }
        }
        if length == 0 {
            break;
        }
        size += length as u64;
        if let Some(expected) = announced.size.filter(|expected| size > *expected) {
            return Err(StageError::TooLong { expected });
        }
        if size > MAX_SIZE {
            return Err(StageError::Size { size });
        }
        digest.update(bytes);
        part.write(bytes, free)?;
        progress(Progress::Receiving(size));
    }
    let expected = announced.size.unwrap_or_else(|| image.map_or(0, |image| image.size));
    match image {
        None if expected == 0 => Err(StageError::Size { size }),
        Some(image) if size >= expected.max(image.size) => {
            Ok(Received { size, sha256: digest.finalize().into(), image })
        }
        Some(image) => Err(StageError::CutOff { expected: expected.max(image.size), got: size }),
        None => Err(StageError::CutOff { expected, got: size }),
    }
}

/// Bytes that a file in this directory can have.
fn free(directory: &Path) -> Result<u64, StageError> {
    let statistics = rustix::fs::statvfs(directory).map_err(|source| StageError::File {
        verb: "Asking for the free space of",
        path: directory.to_owned(),
        source: source.into(),
    })?;
    Ok(statistics.f_bavail.saturating_mul(statistics.f_frsize))
}

/// The file that the image arrives in; gone when this is, unless it is kept.
struct Part<'a> {
    directory: &'a Path,
    path: PathBuf,
    file: File,
    kept: bool,
}

impl<'a> Part<'a> {
    fn create(directory: &'a Path) -> Result<Part<'a>, StageError> {
        let path = directory.join(INCOMING);
        // What an earlier attempt that was killed left behind takes up room.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("Removing", &path)(error));
            }
            _ => {}
        }
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(failed("Creating", &path))?;
        Ok(Part { directory, path, file, kept: false })
    }

    fn write(&mut self, bytes: &[u8], free: u64) -> Result<(), StageError> {
        self.file.write_all(bytes).map_err(|source| match source.kind() {
            io::ErrorKind::StorageFull => StageError::Full { free },
            _ => failed("Writing", &self.path)(source),
        })
    }

    fn read(&self, offset: u64, length: u64) -> Result<Vec<u8>, StageError> {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, offset).map_err(failed("Reading back", &self.path))?;
        Ok(bytes)
    }

    /// Gives it its name. The file is on the disk before, the name is when this returns.
    fn keep(mut self, name: &str) -> Result<(), StageError> {
        self.file.sync_all().map_err(failed("Syncing", &self.path))?;
        let target = self.directory.join(name);
        std::fs::rename(&self.path, &target).map_err(failed("Renaming", &self.path))?;
        self.kept = true;
        let sync = File::open(self.directory).and_then(|directory| directory.sync_all());
        sync.map_err(failed("Syncing", self.directory))
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // Nothing is left to do if this fails; PID 1 removes what is left at the next start.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StageError {
    let path = path.to_owned();
    move |source| StageError::File { verb, path, source }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
