// SPDX-License-Identifier: Apache-2.0
//! The options of a message (RFC 8415, section 21), as bytes and in the few types they have. An option may hold more options.
//!
//! One of a wrong length for its type is as good as absent, and takes nothing with it; a list of options that runs over its end
//! is none.

use std::net::Ipv6Addr;

/// The codes of the options that are used.
pub mod code {
    #![allow(
        missing_docs,
        reason = "each is the name that RFC 8415 and its predecessors give the option"
    )]
    pub const CLIENT: u16 = 1;
    pub const SERVER: u16 = 2;
    pub const IA_NA: u16 = 3;
    pub const IA_ADDRESS: u16 = 5;
    pub const REQUESTED: u16 = 6;
    pub const ELAPSED: u16 = 8;
    pub const STATUS: u16 = 13;
    pub const RAPID_COMMIT: u16 = 14;
    pub const DNS_SERVERS: u16 = 23;
    pub const DOMAINS: u16 = 24;
    pub const IA_PD: u16 = 25;
    pub const IA_PREFIX: u16 = 26;
    pub const REFRESH: u16 = 32;
    pub const NTP: u16 = 56;
    pub const NTP_ADDRESS: u16 = 1;
}

/// The longest text that is taken: a name.
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: u8 = 63;

/// A list of options, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options<'a>(Vec<(u16, &'a [u8])>);

impl<'a> Options<'a> {
    /// Reads a list. None when it runs over its end.
    #[must_use]
    pub fn read(mut bytes: &'a [u8]) -> Option<Options<'a>> {
        let mut options = Vec::new();
        while !bytes.is_empty() {
            let ([a, b, c, d], rest) = bytes.split_first_chunk()?;
            let length = usize::from(u16::from_be_bytes([*c, *d]));
            let (value, rest) = rest.split_at_checked(length)?;
            options.push((u16::from_be_bytes([*a, *b]), value));
            bytes = rest;
        }
        Some(Options(options))
    }

    /// Every option of a code.
    pub fn all(&self, code: u16) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |(other, _)| *other == code).map(|(_, value)| *value)
    }

    /// The first option of a code.
    #[must_use]
    pub fn first(&self, code: u16) -> Option<&'a [u8]> {
        self.all(code).next()
    }

    /// An option that is a 32-bit number.
    #[must_use]
    pub fn long(&self, code: u16) -> Option<u32> {
        self.first(code)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// An option that is a list of addresses: the first `most` of them.
    #[must_use]
    pub fn addresses(&self, code: u16, most: usize) -> Vec<Ipv6Addr> {
        match self.first(code).unwrap_or_default().as_chunks::<16>() {
            (chunks, []) => chunks.iter().take(most).copied().map(Ipv6Addr::from).collect(),
            _ => Vec::new(),
        }
    }

    /// An option that is a list of names: the first `most` of them.
    #[must_use]
    pub fn names(&self, code: u16, most: usize) -> Vec<String> {
        let mut names = names(self.first(code).unwrap_or_default()).unwrap_or_default();
        names.truncate(most);
        names
    }
}

/// Names as RFC 1035 writes them, one after the other and never by reference (RFC 8415, section 10). None when the list runs
/// over its end. The root, and what a terminal could stumble over, is left out.
#[must_use]
pub fn names(mut bytes: &[u8]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut name = String::new();
    while let Some((length, rest)) = bytes.split_first() {
        if *length > LONGEST_LABEL {
            return None;
        }
        let (label, rest) = rest.split_at_checked(usize::from(*length))?;
        bytes = rest;
        if !label.is_empty() {
            if !name.is_empty() {
                name.push('.');
            }
            name.extend(label.iter().copied().map(char::from));
        } else {
            let name = std::mem::take(&mut name);
            let plain = name.bytes().all(|byte| matches!(byte, b'!'..=b'~'));
            if plain && (1..=LONGEST_NAME).contains(&name.len()) {
                names.push(name);
            }
        }
    }
    // The last one has to have an end.
    name.is_empty().then_some(names)
}

/// Adds an option to a list. No option that is written here is longer than the length can say; the rest would be cut off.
pub fn write(list: &mut Vec<u8>, code: u16, value: &[u8]) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    list.extend(code.to_be_bytes());
    list.extend(length.to_be_bytes());
    list.extend(value.iter().take(usize::from(length)));
}

#[cfg(test)]
mod tests {
    use super::{Options, code, names, write};

    #[test]
    fn a_list_that_runs_over_its_end_is_none() {
        assert_eq!(Options::read(&[0]), None);
        assert_eq!(Options::read(&[0, 1, 0]), None);
        assert_eq!(Options::read(&[0, 1, 0, 2, 9]), None);
        assert_eq!(Options::read(&[]), Some(Options(vec![])));
    }

    #[test]
    fn a_wrong_length_costs_that_option_alone() {
        let mut list = Vec::new();
        write(&mut list, code::DNS_SERVERS, &[1; 17]);
        write(&mut list, code::REFRESH, &[0, 0, 1]);
        write(&mut list, code::NTP_ADDRESS, &[2; 16]);
        let options = Options::read(&list).expect("a good list");
        assert!(options.addresses(code::DNS_SERVERS, 9).is_empty());
        assert_eq!(options.long(code::REFRESH), None);
        assert_eq!(options.addresses(code::NTP_ADDRESS, 9).len(), 1);
    }

    #[test]
    fn names_have_an_end_and_no_references() {
        assert_eq!(
            names(b"\x01a\x07example\x00\x01b\x00"),
            Some(vec!["a.example".to_owned(), "b".to_owned()])
        );
        for odd in [&b"\x01a"[..], b"\x02a", b"\x01a\xc0\x00", b"\x40a"] {
            assert_eq!(names(odd), None, "{odd:?}");
        }
        assert_eq!(names(b"\x00\x02a\n\x00\x03\x1b[2\x00\x01b\x00"), Some(vec!["b".to_owned()]));
        assert_eq!(names(&[&[3, b'a', b'b', b'c'].repeat(80)[..], &[0]].concat()), Some(vec![]));
    }
}
