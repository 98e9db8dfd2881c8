// SPDX-License-Identifier: Apache-2.0
//! An image that was received and found good onto the ESP, beside the ones that are there, each byte once.
//!
//! The boot loader sees neither name that it has here. It is on the disk, file and directory, before its name says that
//! it is complete, and its digest is taken from the bytes that are written.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use stele_layout::slot::{INCOMING, SlotFile, Stage};
use stele_layout::version::Version;

use crate::stage::{BLOCK, Progress, Sha256Sum, StageError, Staged, failed, free};

const PLACE: &str = "the boot partition";

/// What to write, and where.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The file with the image.
    pub part: PathBuf,
    /// The directory of images on the ESP.
    pub directory: PathBuf,
    /// The image's version.
    pub version: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: Sha256Sum,
}

/// Copies an image, or leaves nothing of it.
///
/// # Errors
/// When it has no room, can't be read or written, or is not what was received.
pub fn write(request: &Request, mut progress: impl FnMut(Progress)) -> Result<Staged, StageError> {
    let version = Version::parse(&request.version)
        .map_err(|error| failed("Naming a file in", &request.directory)(io::Error::other(error)))?;
    let file = SlotFile::new(version, Stage::Staged);
    let mut input = File::open(&request.part).map_err(failed("Opening", &request.part))?;
    let mut incoming = Incoming::create(&request.directory)?;
    let (free, cluster) = free(&request.directory)?;
    let needed = request.size.next_multiple_of(cluster);
    if needed > free {
        return Err(StageError::NoRoom { place: PLACE, needed, free });
    }
    let mut digest = Sha256::new();
    let mut block = vec![0; BLOCK];
    let mut done = 0;
    loop {
        let length = match input.read(&mut block) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed("Reading", &request.part)(error)),
        };
        let bytes = block.get(..length).unwrap_or_default();
        done += length as u64;
        if done > request.size {
            return Err(StageError::TooLong { expected: request.size });
        }
        digest.update(bytes);
        incoming.write(bytes, free)?;
        progress(Progress::Writing(done, request.size));
    }
    let got = Sha256Sum(digest.finalize().into());
    if got != request.sha256 {
        return Err(StageError::Digest { expected: request.sha256, got });
    }
    incoming.keep(&file.to_string())?;
    Ok(Staged { file, size: done })
}

/// The file that the image is written to; gone when this is, unless it is kept.
struct Incoming<'a> {
    directory: &'a Path,
    path: PathBuf,
    file: File,
    kept: bool,
}

impl<'a> Incoming<'a> {
    fn create(directory: &'a Path) -> Result<Incoming<'a>, StageError> {
        let path = directory.join(INCOMING);
        // What an earlier attempt that was killed left behind takes up room.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("Removing", &path)(error));
            }
            _ => {}
        }
        let file = File::options()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(failed("Creating", &path))?;
        Ok(Incoming { directory, path, file, kept: false })
    }

    fn write(&mut self, bytes: &[u8], free: u64) -> Result<(), StageError> {
        self.file.write_all(bytes).map_err(|source| match source.kind() {
            io::ErrorKind::StorageFull => StageError::Full { place: PLACE, free },
            _ => failed("Writing", &self.path)(source),
        })
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

impl Drop for Incoming<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // Nothing is left to do if this fails; PID 1 removes what is left.
            drop(std::fs::remove_file(&self.path));
        }
    }
}
