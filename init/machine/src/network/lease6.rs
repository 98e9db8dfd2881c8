// SPDX-License-Identifier: Apache-2.0
//! A DHCPv6 lease. The agent that got it reads the bytes of strangers, so what it says is checked before it is believed.

use super::lease::Lasts;
use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};
use stele_config::{Cidr, Domain};

/// Most entries that are taken of each list of a lease.
const MOST: usize = 32;
/// The longest identifier of a server that is shown.
const LONGEST_SERVER: usize = 260;

/// What an agent says that a server gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claim6 {
    /// Addresses.
    pub addresses: Vec<Ipv6Addr>,
    /// Networks for others, each with its prefix length.
    pub prefixes: Vec<(Ipv6Addr, u32)>,
    /// Name servers.
    pub dns_servers: Vec<Ipv6Addr>,
    /// Domains in which names without a dot are looked for.
    pub domains: Vec<String>,
    /// Time servers.
    pub ntp_servers: Vec<Ipv6Addr>,
    /// The identifier of the server, in hex.
    pub server: String,
    /// How long the last of it holds, from when this was said.
    pub seconds: u32,
}

/// A lease that can be applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lease6 {
    addresses: Vec<Cidr>,
    prefixes: Vec<Cidr>,
    dns_servers: Vec<IpAddr>,
    domains: Vec<Domain>,
    ntp_servers: Vec<IpAddr>,
    server: String,
    seconds: u32,
}

impl From<Claim6> for Lease6 {
    /// Whatever is wrong is left out.
    fn from(claim: Claim6) -> Lease6 {
        let host = |address: &Ipv6Addr| Cidr::new(IpAddr::V6(*address), 128);
        let network = |(address, length): &(Ipv6Addr, u32)| {
            let length = u8::try_from(*length).ok().filter(|length| (1..=64).contains(length))?;
            Some(Cidr::new(IpAddr::V6(*address), length)?.network())
        };
        let server = claim.server.chars().filter(char::is_ascii_hexdigit);
        Lease6 {
            addresses: each_once(
                claim.addresses.iter().filter(|it| is_elsewhere(it)).filter_map(host),
            ),
            prefixes: each_once(
                claim.prefixes.iter().filter(|(it, _)| is_elsewhere(it)).filter_map(network),
            ),
            dns_servers: servers(&claim.dns_servers),
            domains: each_once(claim.domains.iter().filter_map(|domain| domain.parse().ok())),
            ntp_servers: servers(&claim.ntp_servers),
            server: server.take(LONGEST_SERVER).collect(),
            seconds: claim.seconds,
        }
    }
}

impl Lease6 {
    /// The addresses: each is a network of its own, since a server does not say what else is on the link.
    #[must_use]
    pub fn addresses(&self) -> &[Cidr] {
        &self.addresses
    }

    /// Networks that the machine may give to others.
    #[must_use]
    pub fn prefixes(&self) -> &[Cidr] {
        &self.prefixes
    }

    /// Name servers.
    #[must_use]
    pub fn dns_servers(&self) -> &[IpAddr] {
        &self.dns_servers
    }

    /// Domains in which names without a dot are looked for.
    #[must_use]
    pub fn domains(&self) -> &[Domain] {
        &self.domains
    }

    /// Time servers.
    #[must_use]
    pub fn ntp_servers(&self) -> &[IpAddr] {
        &self.ntp_servers
    }

    /// The identifier of the server, in hex.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }
}

impl Lasts for Lease6 {
    fn duration(&self) -> Option<Duration> {
        (self.seconds != u32::MAX).then(|| Duration::from_secs(self.seconds.into()))
    }

    fn renews(&self, before: &Lease6) -> bool {
        Lease6 { seconds: before.seconds, ..self.clone() } == *before
    }
}

/// One that a single machine can have, and that other links than its own don't have as well.
pub(super) fn is_elsewhere(address: &Ipv6Addr) -> bool {
    !address.is_unspecified()
        && !address.is_multicast()
        && !address.is_loopback()
        && !address.is_unicast_link_local()
}

fn servers(claimed: &[Ipv6Addr]) -> Vec<IpAddr> {
    each_once(claimed.iter().filter(|server| is_elsewhere(server)).copied().map(IpAddr::V6))
}

fn each_once<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut all = Vec::new();
    for item in items {
        if all.len() < MOST && !all.contains(&item) {
            all.push(item);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::{Claim6, Lease6};
    use crate::network::lease::{Held, Report};
    use std::{net::Ipv6Addr, time::Duration};

    const GOOD: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);

    #[test]
    fn what_is_wrong_is_left_out() {
        let odd = [Ipv6Addr::UNSPECIFIED, Ipv6Addr::LOCALHOST, "ff02::1".parse().expect("one")];
        let near: Ipv6Addr = "fe80::1".parse().expect("an address");
        let all = [&odd[..], &[near, GOOD, GOOD]].concat();
        let lease = Lease6::from(Claim6 {
            addresses: all.clone(),
            prefixes: vec![(GOOD, 56), (GOOD, 0), (GOOD, 65), (GOOD, 312), (near, 64)],
            dns_servers: all.clone(),
            domains: vec!["a.example\nnameserver 6.6.6.6".to_owned(), "A.example".to_owned()],
            ntp_servers: all,
            server: "0003\u{1b}[2J".to_owned(),
            seconds: 60,
        });
        let text: Vec<_> =
            lease.addresses().iter().chain(lease.prefixes()).map(ToString::to_string).collect();
        assert_eq!(text, ["2001:db8::7/128", "2001:db8::/56"]);
        assert_eq!(lease.dns_servers(), [GOOD]);
        assert_eq!(lease.ntp_servers(), [GOOD]);
        assert_eq!(
            lease.domains().iter().map(|one| one.as_str()).collect::<Vec<_>>(),
            ["a.example"]
        );
        assert_eq!(lease.server(), "00032");
    }

    #[test]
    fn a_lease_that_is_renewed_is_the_one_that_it_was() {
        let at = Duration::from_secs;
        let lease = |seconds| {
            Report::Leased(Lease6::from(Claim6 {
                addresses: vec![GOOD],
                seconds,
                ..Claim6::default()
            }))
        };
        let mut held = Held::<Lease6>::default();
        held.hear(lease(100), at(1));
        held.hear(lease(99), at(50));
        assert_eq!((held.since, held.until), (at(1), Some(at(149))));
        assert!(!held.expire(at(148)) && held.expire(at(149)));
    }
}
