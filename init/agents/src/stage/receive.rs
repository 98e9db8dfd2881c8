// SPDX-License-Identifier: Apache-2.0
//! The bytes of an image from outside into a file on the data volume, until they are what a trusted key has signed.
//!
//! The file stays when the input breaks off: whoever goes on says from which byte. What is complete and wrong is removed.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, OFlags};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use stele_signature::PublicKey;

use crate::stage::anatomy::{self, Anatomy, Damage};
use crate::stage::pe::{HEAD, Image, PeError};
use crate::stage::source::Source;
use crate::stage::{BLOCK, MAX_SIZE, Progress, Sha256Sum, StageError, failed, free, keys, signer};

const PLACE: &str = "the data volume";
/// After so many bytes they are put on the disk, so that a power cut leaves something to go on from.
const SYNC_EVERY: u64 = 16 * 1024 * 1024;

/// What is known of the image before it comes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The file that it comes into.
    pub part: PathBuf,
    /// How many bytes of it are there already.
    #[serde(default)]
    pub from: u64,
    /// Its size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Its SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256Sum>,
    /// What `FILE.sig` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// Who vouches for the SHA-256, by what `judge` has found; no other signature is asked for then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vouched: Option<String>,
    /// The keys that are trusted, in PEM.
    #[serde(default)]
    pub keys: Vec<String>,
}

/// An image that may be written to the ESP, as far as its bytes can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// What it says of itself, and what it consists of.
    pub anatomy: Anatomy,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: Sha256Sum,
    /// The id of the key that has signed it.
    pub key: String,
}

/// What shows that the image may be trusted.
enum Proof {
    Vouched { sum: Sha256Sum, key: String },
    Signature { der: Vec<u8>, keys: Vec<PublicKey> },
}

impl Proof {
    fn of(request: &Request) -> Result<Proof, StageError> {
        if let (Some(key), Some(sum)) = (&request.vouched, request.sha256) {
            return Ok(Proof::Vouched { sum, key: key.clone() });
        }
        let text = request.signature.as_deref().filter(|text| !text.trim().is_empty());
        let der = stele_signature::read(text.ok_or(StageError::Unsigned)?)
            .map_err(StageError::Signature)?;
        let proof = Proof::Signature { der, keys: keys(&request.keys) };
        // An announced digest that nobody has signed is not worth a byte.
        if let Some(sum) = request.sha256 {
            proof.judge(sum)?;
        }
        Ok(proof)
    }

    fn judge(&self, got: Sha256Sum) -> Result<String, StageError> {
        match self {
            Proof::Vouched { sum, key } if *sum == got => Ok(key.clone()),
            Proof::Vouched { sum, .. } => Err(StageError::Digest { expected: *sum, got }),
            Proof::Signature { der, keys } => signer(got, der, keys),
        }
    }
}

/// Receives an image.
///
/// # Errors
/// When it isn't an image for this machine, isn't what was announced or signed, has no room, or can't be read or
/// written. Only an interruption leaves the file.
pub fn receive(
    request: &Request,
    input: &mut impl Read,
    progress: impl FnMut(Progress),
) -> Result<Received, StageError> {
    let result = try_to(request, input, progress);
    if result.as_ref().is_err_and(|error| !error.is_interruption()) {
        // PID 1 removes what can't be removed here.
        drop(std::fs::remove_file(&request.part));
    }
    result
}

fn try_to(
    request: &Request,
    input: &mut impl Read,
    mut progress: impl FnMut(Progress),
) -> Result<Received, StageError> {
    if let Some(size) = request.size.filter(|size| *size == 0 || *size > MAX_SIZE) {
        return Err(StageError::Size { size });
    }
    let proof = Proof::of(request)?;
    let mut part = Part::open(request)?;
    part.take_over(request.from, &mut progress)?;
    part.receive(input, &mut progress)?;
    part.file.sync_all().map_err(failed("Syncing", &request.part))?;
    progress(Progress::Verifying);
    let got = Sha256Sum(part.digest.finalize().into());
    if let Some(expected) = request.sha256.filter(|expected| *expected != got) {
        return Err(StageError::Digest { expected, got });
    }
    let key = proof.judge(got)?;
    // Only now is anything in it worth looking at.
    let anatomy = anatomy::examine(&part.file)?;
    Ok(Received { anatomy, size: part.size, sha256: got, key })
}

/// The file that the image comes into.
struct Part<'a> {
    path: &'a Path,
    file: File,
    digest: Sha256,
    /// Bytes that are here.
    size: u64,
    /// How many there will be, once that is known.
    announced: Option<u64>,
    /// What the headers say, once they are here.
    image: Option<Image>,
    /// Bytes that were free at the start.
    free: u64,
}

impl<'a> Part<'a> {
    fn open(request: &'a Request) -> Result<Part<'a>, StageError> {
        let path = request.part.as_path();
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)
            .map_err(failed("Opening", path))?;
        let metadata = file.metadata().map_err(failed("Looking at", path))?;
        if metadata.len() != request.from {
            // Never longer: a hole would not be what came.
            file.set_len(request.from.min(metadata.len())).map_err(failed("Shortening", path))?;
        }
        let (free, _) = free(path.parent().unwrap_or(Path::new("/")))?;
        let part = Part {
            path,
            file,
            digest: Sha256::new(),
            size: 0,
            announced: request.size,
            image: None,
            free,
        };
        if let Some(size) = request.size {
            part.reserve(size)?;
        }
        Ok(part)
    }

    /// Makes sure that all of it fits.
    fn reserve(&self, size: u64) -> Result<(), StageError> {
        let metadata = self.file.metadata().map_err(failed("Looking at", self.path))?;
        let needed = size.saturating_sub(metadata.blocks().saturating_mul(512));
        let no_room = StageError::NoRoom { place: PLACE, needed, free: self.free };
        if needed > self.free {
            return Err(no_room);
        }
        match rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, size) {
            Err(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) => Err(no_room),
            // A file system that can't promise room may still have it.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Counts what came before.
    fn take_over(
        &mut self,
        from: u64,
        progress: &mut impl FnMut(Progress),
    ) -> Result<(), StageError> {
        let mut block = vec![0; BLOCK];
        while self.size < from {
            let length = usize::try_from(from - self.size).unwrap_or(BLOCK).min(BLOCK);
            let bytes = block.get_mut(..length).unwrap_or_default();
            match self.file.read(bytes) {
                Ok(0) => break,
                Ok(length) => {
                    self.digest.update(bytes.get(..length).unwrap_or_default());
                    self.size += length as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed("Reading", self.path)(error)),
            }
        }
        if self.size > 0 {
            self.look()?;
            progress(Progress::Receiving(self.size, self.announced.unwrap_or(0)));
        }
        Ok(())
    }

    fn receive(
        &mut self,
        input: &mut impl Read,
        progress: &mut impl FnMut(Progress),
    ) -> Result<(), StageError> {
        let mut block = vec![0; BLOCK];
        let mut synced = self.size;
        loop {
            let length = match input.read(&mut block) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return self.stop(StageError::Input(error)),
            };
            if length == 0 {
                return self.end();
            }
            self.size += length as u64;
            if let Some(expected) = self.announced.filter(|expected| self.size > *expected) {
                return Err(StageError::TooLong { expected });
            }
            if self.size > MAX_SIZE {
                return Err(StageError::Size { size: self.size });
            }
            let bytes = block.get(..length).unwrap_or_default();
            self.digest.update(bytes);
            self.file.write_all(bytes).map_err(|source| match source.kind() {
                io::ErrorKind::StorageFull => StageError::Full { place: PLACE, free: self.free },
                _ => failed("Writing", self.path)(source),
            })?;
            if self.image.is_none() && self.size >= HEAD as u64 {
                self.look()?;
            }
            if self.size - synced >= SYNC_EVERY {
                self.file.sync_data().map_err(failed("Syncing", self.path))?;
                synced = self.size;
            }
            let total = self.announced.or(self.image.as_ref().map(|image| image.size));
            progress(Progress::Receiving(self.size, total.unwrap_or(0)));
        }
    }

    /// Reads the headers, if they are here.
    fn look(&mut self) -> Result<(), StageError> {
        let length = self.size.min(HEAD as u64);
        let mut head = vec![0; usize::try_from(length).unwrap_or(0)];
        self.file.fill(0, &mut head).map_err(failed("Reading", self.path))?;
        match Image::parse(&head) {
            Ok(image) => {
                if self.announced.is_none() {
                    self.reserve(image.size)?;
                }
                self.image = Some(image);
                Ok(())
            }
            Err(PeError::Short { .. }) if length < HEAD as u64 => Ok(()),
            Err(error) => Err(Damage::Pe(error).into()),
        }
    }

    /// No more comes.
    fn end(&mut self) -> Result<(), StageError> {
        let expected = self.announced.or(self.image.as_ref().map(|image| image.size));
        match expected {
            Some(expected) if self.size < expected => {
                self.stop(StageError::CutOff { expected, got: self.size })
            }
            _ => Ok(()),
        }
    }

    /// Leaves what came for the next attempt.
    fn stop(&self, why: StageError) -> Result<(), StageError> {
        self.file.sync_all().map_err(failed("Syncing", self.path))?;
        Err(why)
    }
}
