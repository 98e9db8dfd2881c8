// SPDX-License-Identifier: Apache-2.0
//! Which addresses the kernel has on the link, and which of them another machine has: `/proc/self/net/if_inet6`, as
//! `if6_seq_show` of the kernel's `net/ipv6/addrconf.c` writes it.

use std::{fs, io, net::Ipv6Addr};

/// Where the kernel says so; there is no such file without IPv6.
pub const FILE: &str = "/proc/self/net/if_inet6";

/// `IPV6_ADDR_LINKLOCAL` of the kernel's `net/ipv6.h`, which is also what the column holds.
const LINK_LOCAL: u32 = 0x20;
/// `IFA_F_DADFAILED` of `linux/if_addr.h`: another machine has it.
const DUPLICATE: u32 = 0x08;
/// `IFA_F_TENTATIVE`: whether another machine has it is not known yet.
const TENTATIVE: u32 = 0x40;

/// The IPv6 addresses of a link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The link's own, with which it speaks to others on it, once it can be used.
    pub link_local: Option<Ipv6Addr>,
    /// Those that another machine has.
    pub duplicates: Vec<Ipv6Addr>,
}

/// Those of the link with this number.
///
/// # Errors
/// When the kernel has no IPv6.
pub fn read(index: u32) -> io::Result<Addresses> {
    Ok(parse(&fs::read_to_string(FILE)?, index))
}

fn parse(text: &str, index: u32) -> Addresses {
    let mut addresses = Addresses::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(address) = words.next().and_then(|word| u128::from_str_radix(word, 16).ok())
        else {
            continue;
        };
        let mut numbers = words.map(|word| u32::from_str_radix(word, 16));
        let mut number = || numbers.next()?.ok();
        let (Some(link), Some(_prefix), Some(scope), Some(flags)) =
            (number(), number(), number(), number())
        else {
            continue;
        };
        if link != index {
            continue;
        }
        let address = Ipv6Addr::from_bits(address);
        if flags & DUPLICATE != 0 {
            addresses.duplicates.push(address);
        } else if scope == LINK_LOCAL && flags & TENTATIVE == 0 {
            addresses.link_local.get_or_insert(address);
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::{Addresses, parse};

    #[test]
    fn only_what_can_be_used_is_the_links_own() {
        let text = "\
00000000000000000000000000000001 01 80 10 80       lo
fe800000000000000000000000000001 02 40 20 c0     eth0
fe800000000000000000000000000002 02 40 20 80     eth0
fe800000000000000000000000000003 03 40 20 80     eth1
20010db8000000000000000000000007 02 80 00 c8     eth0
cut 02
";
        let address = |text: &str| text.parse().expect("an address");
        let expected = Addresses {
            link_local: Some(address("fe80::2")),
            duplicates: vec![address("2001:db8::7")],
        };
        assert_eq!(parse(text, 2), expected);
        assert_eq!(parse(text, 10).link_local, None);
    }
}
