// SPDX-License-Identifier: Apache-2.0
//! The messages in which the kernel passes options on: a netlink header, `struct nduseroptmsg` of `linux/rtnetlink.h`, and
//! the option as the router sent it (RFC 8106, section 5).

use crate::dhcp6::options::names;
use std::net::Ipv6Addr;

/// `RTM_NEWNDUSEROPT`.
const NEW_OPTION: u16 = 68;
/// The netlink header.
const NETLINK: usize = 16;
/// The kernel's header.
const HEADER: usize = 16;
/// The type of router advertisements.
const ADVERTISEMENT: u8 = 134;
/// Recursive name servers.
const SERVERS: u8 = 25;
/// Search domains.
const DOMAINS: u8 = 31;
/// Most entries that are taken of a list.
const MOST: usize = 16;

/// What a router advertises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised {
    /// The link.
    pub link: u32,
    /// Name servers.
    pub servers: Vec<Ipv6Addr>,
    /// Search domains.
    pub domains: Vec<String>,
    /// How long it may be used; 0 when it may not any more, `u32::MAX` for ever.
    pub seconds: u32,
}

/// Reads a message, if it is of name servers or search domains.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Advertised> {
    let (netlink, bytes) = bytes.split_first_chunk::<NETLINK>()?;
    let [_, _, _, _, kind_a, kind_b, ..] = *netlink;
    let (header, bytes) = bytes.split_first_chunk::<HEADER>()?;
    let [_, _, length_a, length_b, link_a, link_b, link_c, link_d, icmp, ..] = *header;
    if u16::from_ne_bytes([kind_a, kind_b]) != NEW_OPTION || icmp != ADVERTISEMENT {
        return None;
    }
    let link = u32::from_ne_bytes([link_a, link_b, link_c, link_d]);
    let option = bytes.get(..usize::from(u16::from_ne_bytes([length_a, length_b])))?;
    let ([kind, eights, _, _, a, b, c, d], value) = option.split_first_chunk()?;
    if usize::from(*eights).checked_mul(8) != Some(option.len()) {
        return None;
    }
    let seconds = u32::from_be_bytes([*a, *b, *c, *d]);
    let advertised = Advertised { link, servers: Vec::new(), domains: Vec::new(), seconds };
    match *kind {
        SERVERS => {
            let (servers, []) = value.as_chunks::<16>() else { return None };
            let servers = servers.iter().take(MOST).copied().map(Ipv6Addr::from).collect();
            Some(Advertised { servers, ..advertised })
        }
        DOMAINS => {
            let mut domains = names(value)?;
            domains.truncate(MOST);
            Some(Advertised { domains, ..advertised })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{ADVERTISEMENT, Advertised, DOMAINS, SERVERS, parse};
    use proptest::prelude::*;
    use std::net::Ipv6Addr;

    const SERVER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x53);

    /// A message of the kernel with this option, which says so of its length.
    fn message(option: &[u8]) -> Vec<u8> {
        let mut bytes = [[0; 4].as_slice(), &68_u16.to_ne_bytes(), &[0; 10]].concat();
        bytes.extend([10, 0]);
        bytes.extend(u16::try_from(option.len()).expect("a short one").to_ne_bytes());
        bytes.extend(7_u32.to_ne_bytes());
        bytes.extend([ADVERTISEMENT, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(option);
        // Who sent it.
        bytes.extend([20, 0, 1, 0]);
        bytes.extend([0xfe; 16]);
        bytes
    }

    fn option(kind: u8, value: &[u8]) -> Vec<u8> {
        let eights = u8::try_from((value.len() + 8) / 8).expect("a short one");
        [&[kind, eights, 0, 0, 0, 0, 2, 88], value].concat()
    }

    #[test]
    fn name_servers_and_domains_are_read() {
        let expected = Advertised { link: 7, servers: vec![SERVER], domains: vec![], seconds: 600 };
        assert_eq!(parse(&message(&option(SERVERS, &SERVER.octets()))), Some(expected.clone()));
        let domains = b"\x03lab\x07example\x00\x00\x00\x00";
        let expected =
            Advertised { servers: vec![], domains: vec!["lab.example".to_owned()], ..expected };
        assert_eq!(parse(&message(&option(DOMAINS, domains))), Some(expected));
    }

    #[test]
    fn what_has_a_wrong_length_is_nothing() {
        let good = option(SERVERS, &SERVER.octets());
        for end in 0..good.len() {
            assert_eq!(parse(&message(&good[..end])), None, "{end}");
        }
        assert_eq!(parse(&message(&option(SERVERS, &[1; 24]))), None);
        assert_eq!(parse(&message(&option(DOMAINS, &[9; 8]))), None);
        assert_eq!(parse(&message(&option(DOMAINS + 1, &[0; 8]))), None);
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..300), whole in any::<bool>()) {
            let message = if whole { message(&bytes) } else { bytes };
            let _ = parse(&message);
        }
    }
}
