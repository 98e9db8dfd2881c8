// SPDX-License-Identifier: Apache-2.0
//! Walks an initrd: cpio archives in the "newc" format, as the kernel's init/initramfs.c unpacks them.
//!
//! Only headers and names are read; every length is checked against the section that the initrd is in.

use std::io;

use crate::stage::pe::Extent;
use crate::stage::source::Source;

const HEADER: u64 = 110;
const MAX_NAME: u64 = 4096;
const MAX_ENTRIES: usize = 10_000;
const REGULAR: u32 = 0o100_000;
const KIND: u32 = 0o170_000;

/// Why an initrd could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum CpioError {
    /// Something else than an entry.
    #[error("the initrd is damaged: at its byte {at} there is no cpio entry")]
    NoEntry {
        /// From the start of the initrd.
        at: u64,
    },
    /// An entry that ends behind the end.
    #[error("the initrd breaks off: its entry {name} ends {missing} bytes behind the end")]
    BreaksOff {
        /// The file in it.
        name: String,
        /// How many bytes are not there.
        missing: u64,
    },
    /// No initrd has that many.
    #[error("the initrd has more than {MAX_ENTRIES} entries")]
    TooMany,
    /// The file could not be read.
    #[error("reading the initrd")]
    Read(#[source] io::Error),
}

/// A file in an initrd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name without the first slash.
    pub name: String,
    /// Whether it is a file, and not a folder or a device.
    pub regular: bool,
    /// Where its bytes are in the image.
    pub content: Extent,
}

/// All that is in the initrd.
///
/// # Errors
/// When the kernel would stumble over it.
pub fn entries(source: &impl Source, initrd: Extent) -> Result<Vec<Entry>, CpioError> {
    let mut entries = Vec::new();
    let mut at = 0;
    while let Some(start) = next(source, initrd, at)? {
        if entries.len() == MAX_ENTRIES {
            return Err(CpioError::TooMany);
        }
        let (entry, end) = entry(source, initrd, start)?;
        at = end;
        if entry.name != "TRAILER!!!" {
            entries.push(entry);
        }
    }
    Ok(entries)
}

/// Where the next entry starts, behind the zeros that may stand between archives.
fn next(source: &impl Source, initrd: Extent, at: u64) -> Result<Option<u64>, CpioError> {
    let mut at = at;
    let mut block = [0; 4096];
    while at < initrd.length {
        let length = (initrd.length - at).min(block.len() as u64);
        let part = block.get_mut(..usize::try_from(length).unwrap_or(0)).unwrap_or_default();
        source.fill(initrd.offset + at, part).map_err(CpioError::Read)?;
        match part.iter().position(|byte| *byte != 0) {
            // The kernel looks for the next archive at multiples of four.
            Some(zeros) => return Ok(Some((at + zeros as u64) / 4 * 4)),
            None => at += length,
        }
    }
    Ok(None)
}

fn entry(source: &impl Source, initrd: Extent, at: u64) -> Result<(Entry, u64), CpioError> {
    let damaged = CpioError::NoEntry { at };
    if initrd.length.saturating_sub(at) < HEADER {
        return Err(damaged);
    }
    let mut header = [0; HEADER as usize];
    source.fill(initrd.offset + at, &mut header).map_err(CpioError::Read)?;
    let (magic, fields) = header.split_at(6);
    if magic != b"070701" && magic != b"070702" {
        return Err(damaged);
    }
    let field = |index: usize| {
        let text = fields.chunks(8).nth(index).and_then(|digits| std::str::from_utf8(digits).ok());
        text.and_then(|digits| u32::from_str_radix(digits, 16).ok())
    };
    let (Some(mode), Some(size), Some(name_size)) = (field(1), field(6), field(11)) else {
        return Err(damaged);
    };
    let name_size = u64::from(name_size);
    if name_size == 0 || name_size > MAX_NAME || at + HEADER + name_size > initrd.length {
        return Err(damaged);
    }
    let mut name = vec![0; usize::try_from(name_size).unwrap_or(0)];
    source.fill(initrd.offset + at + HEADER, &mut name).map_err(CpioError::Read)?;
    let name = String::from_utf8_lossy(&name);
    let name = name.trim_end_matches('\0').trim_start_matches("./").trim_start_matches('/');
    let data = (at + HEADER + name_size).next_multiple_of(4);
    let end = data + u64::from(size);
    if end > initrd.length {
        let name = name.chars().filter(|c| !c.is_control()).take(80).collect();
        return Err(CpioError::BreaksOff { name, missing: end - initrd.length });
    }
    let entry = Entry {
        name: name.to_owned(),
        regular: mode & KIND == REGULAR,
        content: Extent { offset: initrd.offset + data, length: size.into() },
    };
    Ok((entry, end.next_multiple_of(4)))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An archive of these files.
    pub(crate) fn archive(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, mode, content) in files.iter().chain(&[("TRAILER!!!", 0, &b""[..])]) {
            let (length, name_size) = (content.len(), name.len() + 1);
            bytes.extend_from_slice(b"070701");
            for value in [1, *mode as usize, 0, 0, 1, 0, length, 0, 0, 0, 0, name_size, 0] {
                bytes.extend_from_slice(format!("{value:08x}").as_bytes());
            }
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(0);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    fn walk(bytes: &[u8]) -> Result<Vec<Entry>, String> {
        entries(&bytes, Extent { offset: 0, length: bytes.len() as u64 })
            .map_err(|error| error.to_string())
    }

    #[test]
    fn files_are_found_also_behind_a_second_archive() {
        let first = archive(&[("dev", 0o040_755, b""), ("init", 0o100_755, b"program")]);
        let second = archive(&[("./rootfs.sqsh", 0o100_444, b"hsqs")]);
        let both = [first.as_slice(), &[0; 512], &second, &[0; 700]].concat();
        let found = walk(&both).unwrap();
        let names: Vec<&str> = found.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["dev", "init", "rootfs.sqsh"]);
        let Extent { offset, length } = found[2].content;
        assert_eq!(&both[offset as usize..][..length as usize], b"hsqs");
        assert!(!found[0].regular && found[1].regular);
    }

    #[test]
    fn damage_has_its_place() {
        let good = archive(&[("init", 0o100_755, &[1; 100])]);
        assert_eq!(
            walk(&good[..180]).unwrap_err(),
            "the initrd breaks off: its entry init ends 36 bytes behind the end"
        );
        assert_eq!(
            walk(b"\x1f\x8b\x08 and so on").unwrap_err(),
            "the initrd is damaged: at its byte 0 there is no cpio entry"
        );
        let mut broken = good.clone();
        broken[220] = b'x';
        assert_eq!(
            walk(&broken).unwrap_err(),
            "the initrd is damaged: at its byte 216 there is no cpio entry"
        );
        assert_eq!(walk(&[0; 5000]).unwrap(), []);
    }

    proptest! {
        #[test]
        fn no_damage_panics(at in 0..260usize, byte in any::<u8>(), cut in 0..400usize) {
            let mut bytes = archive(&[("dev", 0o040_755, b""), ("init", 0o100_755, &[1; 100])]);
            let place = at % bytes.len();
            bytes[place] = byte;
            bytes.truncate(cut);
            let _ = walk(&bytes);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = walk(&[b"070701".as_slice(), &bytes].concat());
        }
    }
}
