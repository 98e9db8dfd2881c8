// SPDX-License-Identifier: Apache-2.0
//! What Hyper-V's host sets for the machine: pairs of a key and a value, which the kernel passes on at `/dev/vmbus/hv_kvp`.
//!
//! ```text
//! agent: here I am ─► kernel: registered ─► host: set, set, … each answered ─► quiet for a while: that was all
//! ```
//!
//! A host sets everything anew whenever somebody registers, and never says that it is done. What counts:
//!
//! * in the pool for guests, `stele.config`: the user-data; or `stele.config.0`, `stele.config.1`…, its pieces, as a value has at
//!   most 1,023 characters;
//! * in the pool of the host's own, `VirtualMachineId` and `VirtualMachineName`.
//!
//! Everything else is answered as if it had been kept. Layout and numbers are those of the kernel's `include/uapi/linux/hyperv.h`.

use crate::metadata::Said;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    os::fd::AsFd,
    time::{Duration, Instant},
};
use stele_config::MAX_BYTES;
use stele_platform::Attribute;

/// The size of each message, `struct hv_kvp_msg`.
pub const SIZE: usize = 7430;
/// The key of the user-data, or the beginning of the keys of its pieces.
const CONFIG: &str = "stele.config";
/// The most pieces: more than can be read.
const MOST_PIECES: usize = MAX_BYTES / 512;

const SET: u8 = 1;
const DELETE: u8 = 2;
const GET_ADDRESSES: u8 = 4;
const SET_ADDRESSES: u8 = 5;
/// Who registers so answers with a code in place of the head.
const REGISTER: u8 = 100;

/// The pool of what a host's administrator sets for a guest.
const FOR_GUESTS: u8 = 0;
/// The pool of what a host says of itself.
const OF_THE_HOST: u8 = 3;

const DONE: u32 = 0;
/// There is no such thing, or none any more.
const NO_MORE: u32 = 0x8007_0103;
const FAILED: u32 = 0x8000_4005;

/// For how long the host is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the first value.
    pub first: Duration,
    /// For one more.
    pub quiet: Duration,
    /// In all.
    pub all: Duration,
}

/// Of a host that has just been told that somebody is there.
pub const PATIENCE: Patience = Patience {
    first: Duration::from_secs(20),
    quiet: Duration::from_secs(3),
    all: Duration::from_secs(40),
};

/// Why nothing was heard.
#[derive(Debug, thiserror::Error)]
pub enum KvpError {
    /// The device.
    #[error("opening {device}")]
    Open {
        /// Which.
        device: String,
        /// Why not.
        source: io::Error,
    },
    /// No message comes, or none goes.
    #[error("talking to the kernel's driver")]
    Talk(#[source] io::Error),
    /// A message of another size.
    #[error("the kernel's driver sent {0} bytes, and a message has {SIZE}")]
    Size(usize),
    /// It does not take who registers.
    #[error("the kernel's driver does not answer")]
    Silent,
    /// A piece that never came.
    #[error("the host has set {CONFIG}.{last}, and no {CONFIG}.{missing}")]
    Missing {
        /// Which.
        missing: usize,
        /// The last that came.
        last: usize,
    },
    /// Nobody takes what was heard.
    #[error("passing it on")]
    Output(#[source] io::Error),
}

/// What a host has set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    whole: Option<String>,
    pieces: BTreeMap<usize, String>,
    attributes: BTreeMap<&'static str, String>,
}

/// Registers, and hears what the host sets until it is quiet.
///
/// # Errors
/// When the kernel's driver does not do its part.
pub fn collect(
    device: &mut (impl Read + Write + AsFd),
    patience: Patience,
) -> Result<Values, KvpError> {
    let mut message = [0; SIZE];
    message[0] = REGISTER;
    device.write_all(&message).map_err(KvpError::Talk)?;
    let mut values = Values::default();
    let mut registered = false;
    let end = Instant::now() + patience.all;
    let mut until = Instant::now() + patience.first;
    while Instant::now() < end && is_readable(device, until.min(end))? {
        match device.read(&mut message).map_err(KvpError::Talk)? {
            SIZE => {}
            size => return Err(KvpError::Size(size)),
        }
        if message[0] == REGISTER {
            registered = true;
            continue;
        }
        if message[0] == SET {
            until = Instant::now() + patience.quiet;
        }
        let code = values.hear(&message);
        let (head, _) = message.split_at_mut(4);
        head.copy_from_slice(&code.to_le_bytes());
        device.write_all(&message).map_err(KvpError::Talk)?;
    }
    if registered { Ok(values) } else { Err(KvpError::Silent) }
}

/// Waits until there is something to read; false when there is nothing at that time.
fn is_readable(device: &impl AsFd, until: Instant) -> Result<bool, KvpError> {
    let left = until.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).map_err(|_| KvpError::Silent)?;
    let mut fds = [PollFd::new(device, PollFlags::IN)];
    poll(&mut fds, Some(&left)).map(|ready| ready > 0).map_err(|error| KvpError::Talk(error.into()))
}

impl Values {
    /// Takes what a message of the host's sets. Returns the code that it is answered with.
    pub fn hear(&mut self, message: &[u8; SIZE]) -> u32 {
        let [operation, pool, ..] = *message;
        match operation {
            SET => {
                // The kind of a value comes first; by now the kernel has made text of each.
                let key = text(message, 8, 16, 512);
                let value = text(message, 12, 528, 2048);
                let (Some(key), Some(value)) = (key, value) else { return FAILED };
                self.set(pool, &key, value);
                DONE
            }
            DELETE => {
                let Some(key) = text(message, 4, 8, 512) else { return FAILED };
                self.delete(pool, &key);
                DONE
            }
            // Addresses are for the configuration to say.
            GET_ADDRESSES | SET_ADDRESSES => FAILED,
            // Nothing is kept to be asked for.
            _ => NO_MORE,
        }
    }

    fn set(&mut self, pool: u8, key: &str, value: String) {
        match (pool, key) {
            (FOR_GUESTS, CONFIG) => self.whole = Some(value),
            (FOR_GUESTS, key) => {
                if let Some(piece) = piece(key) {
                    self.pieces.insert(piece, value);
                }
            }
            (OF_THE_HOST, "VirtualMachineId") => self.know(Attribute::InstanceId, &value),
            (OF_THE_HOST, "VirtualMachineName") => self.know(Attribute::Hostname, &value),
            _ => {}
        }
    }

    fn know(&mut self, attribute: Attribute, value: &str) {
        let shown: String = value.trim().chars().filter(|char| !char.is_control()).collect();
        if !shown.is_empty() {
            self.attributes.insert(attribute.key(), shown);
        }
    }

    fn delete(&mut self, pool: u8, key: &str) {
        match piece(key) {
            _ if pool != FOR_GUESTS => {}
            Some(piece) => drop(self.pieces.remove(&piece)),
            None if key == CONFIG => self.whole = None,
            None => {}
        }
    }

    /// What that comes to.
    ///
    /// # Errors
    /// When a piece is missing.
    pub fn said(self) -> Result<Said, KvpError> {
        let last = self.pieces.keys().next_back().copied();
        let missing = (0..last.unwrap_or_default()).find(|piece| !self.pieces.contains_key(piece));
        let text = match (self.whole, last, missing) {
            (Some(whole), ..) => Some(whole),
            (None, Some(last), Some(missing)) => return Err(KvpError::Missing { missing, last }),
            (None, Some(_), None) => Some(self.pieces.into_values().collect()),
            (None, None, _) => None,
        };
        let user_data = text.map(String::into_bytes).filter(|bytes| !bytes.is_empty());
        Ok(Said { user_data, attributes: self.attributes, network: Vec::new() })
    }
}

/// Which piece of the user-data a key stands for.
fn piece(key: &str) -> Option<usize> {
    let number = key.strip_prefix(CONFIG)?.strip_prefix('.')?;
    let canonical = number == "0" || !number.starts_with(['0', '+']);
    number.parse().ok().filter(|piece| canonical && *piece < MOST_PIECES)
}

/// The text at a place, of at most so many bytes; how many it has, the zero at its end among them, is at another.
fn text(message: &[u8], size_at: usize, at: usize, most: usize) -> Option<String> {
    let size = u32::from_le_bytes(*message.get(size_at..)?.first_chunk()?);
    let size = usize::try_from(size).ok().filter(|size| *size <= most)?;
    let bytes = message.get(at..)?.get(..size)?;
    let text = bytes.split(|byte| *byte == 0).next()?;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests;
