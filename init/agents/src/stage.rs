// SPDX-License-Identifier: Apache-2.0
//! Stage: the bytes of an image, from where they come to the ESP, and what there is to say about them.
//!
//! ```text
//! input ─► receive: NAME.part on the data volume ─ digest, signature, anatomy ─► write: incoming.efi.part ─► stele_VERSION.efi.staged
//!             │                                     └─ anything wrong: removed     └─ anything wrong: removed
//!             └─ input that ends early, SIGTERM: kept, to go on from
//! ```
//!
//! * [`receive`]: bytes from outside, until they are an image that a trusted key has signed.
//! * [`write`]: such an image onto the ESP, in one go.
//! * [`examine`](anatomy::examine): whether an image could start at all, and if not, why.
//! * [`judge`]: whether the documents of a registry vouch for an artifact, and for which.
//!
//! What can be known to be wrong early is said early: the signature of an announced digest and the space before the
//! first byte is written, the processor and the format after the first 64 KiB.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stele_layout::slot::SlotFile;
use stele_signature::{PublicKey, SignatureError};

use crate::stage::anatomy::Damage;

pub mod anatomy;
pub mod cpio;
pub mod judge;
pub mod osrel;
pub mod pe;
pub mod receive;
pub mod report;
pub mod source;
pub mod write;

/// The largest file that FAT can hold.
const MAX_SIZE: u64 = u32::MAX as u64;

const BLOCK: usize = 256 * 1024;

/// A SHA-256, in hex where people and other programs see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256Sum(pub [u8; 32]);

impl TryFrom<String> for Sha256Sum {
    type Error = String;

    fn try_from(hex: String) -> Result<Sha256Sum, String> {
        let mut sum = [0; 32];
        if hex.len() != 2 * sum.len() || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err("a SHA-256 has 64 hex digits".to_owned());
        }
        for (byte, pair) in sum.iter_mut().zip(hex.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(pair).map_err(|error| error.to_string())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|error| error.to_string())?;
        }
        Ok(Sha256Sum(sum))
    }
}

impl From<Sha256Sum> for String {
    fn from(sum: Sha256Sum) -> String {
        sum.to_string()
    }
}

impl std::fmt::Display for Sha256Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes are here, of so many; 0 while nobody knows.
    Receiving(u64, u64),
    /// All are, and are being looked at.
    Verifying,
    /// So many bytes are on the ESP, of so many.
    Writing(u64, u64),
}

/// An image on the ESP, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// The name of its file.
    pub file: SlotFile,
    /// Its size in bytes.
    pub size: u64,
}

/// Why an image was not received or not written.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// Larger than FAT can hold, or nothing at all.
    #[error("an image has between 1 and {max} bytes, this one has {size}", max = MAX_SIZE)]
    Size {
        /// Bytes announced.
        size: u64,
    },
    /// It would not fit.
    #[error("the image needs {needed} bytes more on {place}, which has {free} bytes free")]
    NoRoom {
        /// Where.
        place: &'static str,
        /// Bytes that are missing.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// It did not fit.
    #[error("{place} is full: it had {free} bytes free, and the image is larger than that")]
    Full {
        /// Where.
        place: &'static str,
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
        expected: Sha256Sum,
        /// The digest of what came.
        got: Sha256Sum,
    },
    /// Nobody has signed it.
    #[error("the image is not signed, and this machine takes signed images only")]
    Unsigned,
    /// What should be a signature is none.
    #[error("the image's signature can't be used")]
    Signature(#[source] SignatureError),
    /// Somebody else has signed it, or it was altered.
    #[error(
        "the image is not signed by a key that this machine trusts, or was altered after it was signed; trusted: {}",
        list(trusted)
    )]
    Untrusted {
        /// The ids of the keys that would have done.
        trusted: Vec<String>,
    },
    /// Not an image that could start here.
    #[error(transparent)]
    Damage(#[from] Damage),
    /// The documents of a registry vouch for nothing.
    #[error("{0}")]
    Registry(String),
    /// The input could not be read.
    #[error("reading the image")]
    Input(#[source] io::Error),
    /// A file could not be read or written.
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

impl StageError {
    /// Whether what has come so far is worth keeping, to go on from when the rest comes.
    #[must_use]
    pub fn is_interruption(&self) -> bool {
        matches!(self, StageError::CutOff { .. } | StageError::Input(_))
    }
}

fn list(ids: &[String]) -> String {
    if ids.is_empty() { "no key at all".to_owned() } else { ids.join(", ") }
}

/// The keys among these texts. One that can't be read can't be trusted, and is no reason to trust none.
fn keys(pems: &[String]) -> Vec<PublicKey> {
    pems.iter().filter_map(|pem| PublicKey::from_pem(pem).ok()).collect()
}

/// The key that has signed what has this digest.
fn signer(sum: Sha256Sum, der: &[u8], keys: &[PublicKey]) -> Result<String, StageError> {
    keys.iter()
        .find(|key| key.verify(&sum.0, der))
        .map(PublicKey::id)
        .ok_or_else(|| StageError::Untrusted { trusted: keys.iter().map(PublicKey::id).collect() })
}

/// Bytes that a file in this directory can still have, and the size of the pieces that they come in.
fn free(directory: &Path) -> Result<(u64, u64), StageError> {
    let statistics = rustix::fs::statvfs(directory)
        .map_err(|errno| failed("Asking for the free space of", directory)(errno.into()))?;
    Ok((statistics.f_bavail.saturating_mul(statistics.f_frsize), statistics.f_frsize.max(1)))
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StageError {
    let path = path.to_owned();
    move |source| StageError::File { verb, path, source }
}

#[cfg(test)]
mod tests;
