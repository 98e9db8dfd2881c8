// SPDX-License-Identifier: Apache-2.0
//! The options of a message (RFC 2132), as bytes and in the few types they have.
//!
//! An option that is split over several (RFC 3396) is joined; one of a wrong length for its type is as good as absent, and takes
//! nothing with it; a list of options that runs over its end makes the whole message bad.

use std::{collections::BTreeMap, net::Ipv4Addr};

/// The longest of the parts of a name, and the longest name (RFC 1035, section 2.3.4).
const LONGEST_LABEL: u8 = 63;
const LONGEST_NAME: usize = 253;
/// The bits that tell a reference from a length (RFC 1035, section 4.1.4).
const REFERENCE: u8 = 0xc0;

/// The codes of the options that are used.
pub mod code {
    #![allow(
        missing_docs,
        reason = "each is the name that RFC 2132 and its successors give the option"
    )]
    pub const PAD: u8 = 0;
    pub const SUBNET_MASK: u8 = 1;
    pub const ROUTERS: u8 = 3;
    pub const DNS_SERVERS: u8 = 6;
    pub const HOSTNAME: u8 = 12;
    pub const DOMAIN: u8 = 15;
    pub const MTU: u8 = 26;
    pub const NTP_SERVERS: u8 = 42;
    pub const REQUESTED_ADDRESS: u8 = 50;
    pub const LEASE_SECONDS: u8 = 51;
    pub const OVERLOAD: u8 = 52;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER: u8 = 54;
    pub const PARAMETERS: u8 = 55;
    pub const MESSAGE: u8 = 56;
    pub const LARGEST: u8 = 57;
    pub const RENEWAL: u8 = 58;
    pub const REBINDING: u8 = 59;
    pub const CLIENT: u8 = 61;
    pub const RAPID_COMMIT: u8 = 80;
    pub const SEARCH: u8 = 119;
    pub const CLASSLESS_ROUTES: u8 = 121;
    pub const END: u8 = 255;
}

/// The options of a message, by code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options(BTreeMap<u8, Vec<u8>>);

impl Options {
    /// Reads a list of options, and adds it to those already read. None when it runs over its end.
    pub fn read(&mut self, mut bytes: &[u8]) -> Option<()> {
        while let Some((code, rest)) = bytes.split_first() {
            match *code {
                code::END => break,
                code::PAD => bytes = rest,
                code => {
                    let (length, rest) = rest.split_first()?;
                    let (value, rest) = rest.split_at_checked(usize::from(*length))?;
                    self.0.entry(code).or_default().extend(value);
                    bytes = rest;
                }
            }
        }
        Some(())
    }

    /// Whether the option is there, whatever it says.
    #[must_use]
    pub fn has(&self, code: u8) -> bool {
        self.0.contains_key(&code)
    }

    /// The bytes of an option; none of an absent one.
    #[must_use]
    pub fn bytes(&self, code: u8) -> &[u8] {
        self.0.get(&code).map(Vec::as_slice).unwrap_or_default()
    }

    /// An option that is one byte.
    #[must_use]
    pub fn byte(&self, code: u8) -> Option<u8> {
        self.exactly::<1>(code).map(u8::from_be_bytes)
    }

    /// An option that is a 16-bit number.
    #[must_use]
    pub fn short(&self, code: u8) -> Option<u16> {
        self.exactly::<2>(code).map(u16::from_be_bytes)
    }

    /// An option that is a 32-bit number.
    #[must_use]
    pub fn long(&self, code: u8) -> Option<u32> {
        self.exactly::<4>(code).map(u32::from_be_bytes)
    }

    /// An option that is one address.
    #[must_use]
    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        self.exactly::<4>(code).map(Ipv4Addr::from)
    }

    /// An option that is a list of addresses: the first `most` of them.
    #[must_use]
    pub fn addresses(&self, code: u8, most: usize) -> Vec<Ipv4Addr> {
        match self.bytes(code).as_chunks::<4>() {
            (chunks, []) => chunks.iter().take(most).copied().map(Ipv4Addr::from).collect(),
            _ => Vec::new(),
        }
    }

    /// An option that is a text, without the zeros that some servers end it with: its printable ASCII, at most `most` of it.
    #[must_use]
    pub fn text(&self, code: u8, most: usize) -> String {
        let printable = |byte: &&u8| matches!(byte, b' '..=b'~');
        self.bytes(code).iter().filter(printable).take(most).copied().map(char::from).collect()
    }

    /// An option that is a list of names: the first `most` of them.
    #[must_use]
    pub fn names(&self, code: u8, most: usize) -> Vec<String> {
        names(self.bytes(code), most).unwrap_or_default()
    }

    fn exactly<const N: usize>(&self, code: u8) -> Option<[u8; N]> {
        self.bytes(code).try_into().ok()
    }
}

/// Names as RFC 1035 writes them, one after the other, whose ends may be those of earlier ones (RFC 3397): the first `most`. None
/// when one runs over the end of the list, or refers to what is not before it. The root, and what a terminal could stumble over,
/// is left out.
fn names(list: &[u8], most: usize) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut at = 0;
    while at < list.len() && names.len() < most {
        let (name, after) = name(list, at)?;
        let plain = name.bytes().all(|byte| matches!(byte, b'!'..=b'~'));
        names.extend(Some(name).filter(|name| plain && !name.is_empty()));
        at = after;
    }
    Some(names)
}

/// The name that begins there, and where the next one does.
fn name(list: &[u8], start: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    // Each reference leads further back than the one before, so that they end.
    let (mut at, mut before, mut after) = (start, start, None);
    loop {
        let length = *list.get(at)?;
        let next = at.checked_add(1)?;
        match length {
            0 => return Some((name, after.unwrap_or(next))),
            1..=LONGEST_LABEL => {
                let end = next.checked_add(usize::from(length))?;
                let label = list.get(next..end)?;
                if !name.is_empty() {
                    name.push('.');
                }
                name.extend(label.iter().copied().map(char::from));
                if name.chars().count() > LONGEST_NAME {
                    return None;
                }
                at = end;
            }
            REFERENCE.. => {
                let to = usize::from(u16::from_be_bytes([length & !REFERENCE, *list.get(next)?]));
                if to >= before {
                    return None;
                }
                after = after.or(next.checked_add(1));
                (at, before) = (to, to);
            }
            _ => return None,
        }
    }
}

/// Adds an option to a list. No option that is written here is longer than 255 bytes; the rest would be cut off.
pub fn write(list: &mut Vec<u8>, code: u8, value: &[u8]) {
    let length = u8::try_from(value.len()).unwrap_or(u8::MAX);
    list.extend([code, length]);
    list.extend(value.iter().take(usize::from(length)));
}

#[cfg(test)]
mod tests {
    use super::{Options, code, names, write};
    use std::net::Ipv4Addr;

    fn read(bytes: &[u8]) -> Option<Options> {
        let mut options = Options::default();
        options.read(bytes).map(|()| options)
    }

    #[test]
    fn a_list_that_runs_over_its_end_is_bad() {
        assert_eq!(read(&[code::LEASE_SECONDS]), None);
        assert_eq!(read(&[code::LEASE_SECONDS, 4, 0, 0, 0]), None);
        assert!(read(&[code::PAD, code::PAD]).is_some());
        assert!(read(&[code::END, code::LEASE_SECONDS, 200]).is_some());
    }

    #[test]
    fn a_wrong_length_costs_that_option_alone() {
        let options = read(&[code::LEASE_SECONDS, 3, 0, 0, 9, code::SERVER, 4, 10, 0, 2, 2])
            .expect("a good list");
        assert_eq!(options.long(code::LEASE_SECONDS), None);
        assert_eq!(options.address(code::SERVER), Some(Ipv4Addr::new(10, 0, 2, 2)));
        let options = read(&[code::ROUTERS, 5, 10, 0, 2, 2, 9]).expect("a good list");
        assert_eq!(options.addresses(code::ROUTERS, 9), [] as [Ipv4Addr; 0]);
    }

    #[test]
    fn a_split_option_is_joined() {
        let options = read(&[code::ROUTERS, 3, 10, 0, 2, code::PAD, code::ROUTERS, 1, 2])
            .expect("a good list");
        assert_eq!(options.addresses(code::ROUTERS, 9), [Ipv4Addr::new(10, 0, 2, 2)]);
    }

    #[test]
    fn names_end_in_those_before_them() {
        let lab = b"\x03lab\x07example\x00";
        assert_eq!(names(lab, 9), Some(vec!["lab.example".to_owned()]));
        // The example of RFC 3397, with an end of another one's end.
        let list = [&lab[..], b"\x04deep\xc0\x00", b"\x01a\xc0\x0d", b"\xc0\x04"].concat();
        let all = ["lab.example", "deep.lab.example", "a.deep.lab.example", "example"];
        assert_eq!(names(&list, 9), Some(all.map(str::to_owned).to_vec()));
        assert_eq!(names(&list, 2), Some(all[..2].iter().map(|&name| name.to_owned()).collect()));
        // No name at all, and one that a terminal would obey.
        assert_eq!(names(b"\x00\x03\x1b[2\x00\x01a\x00", 9), Some(vec!["a".to_owned()]));
        // Cut off, in a circle, forward, to itself, and with bits that mean nothing.
        for bad in [
            &b"\x03lab"[..],
            b"\x03la",
            b"\x01a\xc0",
            b"\x01a\xc0\x00",
            b"\xc0\x02\x01a\x00",
            b"\xc0\x00",
            b"\x41a\x00",
            b"\x80\x00",
        ] {
            assert_eq!(names(bad, 9), None, "{bad:?}");
        }
        let long = [[&[63][..], &[b'a'; 63]].concat().repeat(4), vec![0]].concat();
        assert_eq!(names(&long, 9), None);
        assert!(names(&[&long[64..192], &[61], &[b'a'; 61], &[0]].concat(), 9).is_some());
    }

    #[test]
    fn a_text_holds_nothing_that_a_terminal_would_obey() {
        let mut list = Vec::new();
        write(&mut list, code::MESSAGE, b"no\x1b[2J\0\n\xff lease");
        assert_eq!(read(&list).expect("a good list").text(code::MESSAGE, 9), "no[2J lea");
    }
}
