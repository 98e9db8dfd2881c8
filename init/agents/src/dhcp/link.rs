// SPDX-License-Identifier: Apache-2.0
//! What the kernel says of the link, in `/sys/class/net/NAME`. The files stay open, so that the agent needs none later.

use super::Mac;
use std::{fs, fs::File, io, os::unix::fs::FileExt as _, path::PathBuf};

/// Why nothing is known of a link.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A file could not be read.
    #[error("reading {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{} holds {text:?}, which is not {expected}", file.display())]
    Odd {
        /// The file.
        file: PathBuf,
        /// What it holds.
        text: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// It is no name of a link.
    #[error("{0:?} is no name of a link")]
    Name(String),
}

/// The state of the carrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carrier {
    /// Whether frames can be carried.
    pub on: bool,
    /// How often that has changed, to tell a cable that was in another socket meanwhile.
    pub changes: u64,
}

/// A link.
#[derive(Debug)]
pub struct Link {
    /// The kernel's number for it.
    pub index: u32,
    /// Its hardware address.
    pub mac: Mac,
    carrier: File,
    changes: File,
    folder: PathBuf,
}

impl Link {
    /// Looks a link up by name.
    ///
    /// # Errors
    /// When there is no such link, or it is not an Ethernet one.
    pub fn open(name: &str) -> Result<Self, LinkError> {
        if name.is_empty() || name.starts_with('.') || name.contains('/') {
            return Err(LinkError::Name(name.to_owned()));
        }
        let folder = PathBuf::from("/sys/class/net").join(name);
        let (file, text) = read(folder.join("ifindex"))?;
        let index =
            text.parse().map_err(|_| LinkError::Odd { file, text, expected: "a number" })?;
        let (file, text) = read(folder.join("address"))?;
        let mac =
            parse(&text).ok_or(LinkError::Odd { file, text, expected: "an Ethernet address" })?;
        let open = |name: &str| {
            let file = folder.join(name);
            File::open(&file).map_err(|source| LinkError::Read { file, source })
        };
        Ok(Self {
            index,
            mac,
            carrier: open("carrier")?,
            changes: open("carrier_changes")?,
            folder,
        })
    }

    /// The carrier now. A link that is down has none.
    ///
    /// # Errors
    /// When the link has gone.
    pub fn carrier(&self) -> Result<Carrier, LinkError> {
        let number = |file: &File, name: &str| {
            let mut text = [0; 24];
            let path = || self.folder.join(name);
            let length = file
                .read_at(&mut text, 0)
                .map_err(|source| LinkError::Read { file: path(), source })?;
            let text =
                String::from_utf8_lossy(text.get(..length).unwrap_or_default()).trim().to_owned();
            text.parse::<u64>().map_err(|_| LinkError::Odd {
                file: path(),
                text,
                expected: "a number",
            })
        };
        let on = match number(&self.carrier, "carrier") {
            Ok(carrier) => carrier != 0,
            // What the kernel answers for a link that is down.
            Err(LinkError::Read { source, .. }) if source.kind() == io::ErrorKind::InvalidInput => {
                false
            }
            Err(error) => return Err(error),
        };
        Ok(Carrier { on, changes: number(&self.changes, "carrier_changes")? })
    }
}

fn read(file: PathBuf) -> Result<(PathBuf, String), LinkError> {
    match fs::read_to_string(&file) {
        Ok(text) => Ok((file, text.trim().to_owned())),
        Err(source) => Err(LinkError::Read { file, source }),
    }
}

fn parse(text: &str) -> Option<Mac> {
    let bytes: Vec<u8> =
        text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>().ok()?;
    bytes.try_into().ok().map(Mac)
}

#[cfg(test)]
mod tests {
    use super::{Link, LinkError, parse};
    use crate::dhcp::Mac;

    #[test]
    fn an_ethernet_address_is_read() {
        assert_eq!(parse("52:54:00:12:34:5f"), Some(Mac([0x52, 0x54, 0, 0x12, 0x34, 0x5f])));
        for odd in ["", "52:54", "52:54:00:12:34:5g", "52:54:00:12:34:56:78"] {
            assert_eq!(parse(odd), None);
        }
    }

    #[test]
    fn a_name_that_is_a_path_is_no_name() {
        for name in ["", "..", "../lo", "a/b"] {
            assert!(matches!(Link::open(name), Err(LinkError::Name(_))));
        }
        assert!(matches!(Link::open("no-such-link"), Err(LinkError::Read { .. })));
    }
}
