// SPDX-License-Identifier: Apache-2.0
//! What the machine is called, whom it asks for names, and where it is reached.

use super::{
    Link, Observed,
    desired::Desired,
    lease::{Dhcp, Lease},
    lease6::Lease6,
    wanted::Wanted,
};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr},
};
use stele_config::{
    Dhcp4, Domain, Hostname, HostnameError, Hosts, MachineConfig, NameServer, Resolver as Document,
};

/// The resolvers of C libraries look at no more (`MAXNS` of resolv.conf(5)).
const MOST_SERVERS: usize = 3;

/// More time servers are of no use.
const MOST_TIME_SERVERS: usize = 8;

/// Nor at more domains (`MAXDNSRCH`, before glibc 2.26).
const MOST_DOMAINS: usize = 6;

/// Who says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Origin {
    /// The configuration.
    Configuration,
    /// The platform, or the kernel command line.
    Platform,
    /// A lease.
    Lease,
    /// Nobody: it follows from the machine itself.
    #[default]
    Machine,
}

impl Origin {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Platform => "platform",
            Self::Lease => "lease",
            Self::Machine => "machine",
        }
    }
}

/// Whom to ask for names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolver {
    /// The name servers, in the order in which they are asked.
    pub servers: Vec<NameServer>,
    /// The domains in which a name without a dot is looked for.
    pub search: Vec<Domain>,
    /// Who says so.
    pub origin: Origin,
    /// Whether programs ask the machine's own stub, which asks these.
    pub stub: bool,
}

impl Resolver {
    /// Adds what a lease says, as far as there is room.
    fn add<'a>(
        &mut self,
        servers: impl IntoIterator<Item = &'a IpAddr>,
        domains: impl IntoIterator<Item = &'a Domain>,
    ) {
        self.origin = Origin::Lease;
        // The stub would ask itself.
        let others = servers.into_iter().filter(|server| **server != Document::STUB);
        for server in others.copied().map(NameServer::plain) {
            if self.servers.len() < MOST_SERVERS && !self.servers.contains(&server) {
                self.servers.push(server);
            }
        }
        for domain in domains {
            if self.search.len() < MOST_DOMAINS && !self.search.contains(domain) {
                self.search.push(domain.clone());
            }
        }
    }
}

/// Chooses the name servers: the configured ones, else those that others have given, else those of the leases whose links take
/// them, in the order of the links' names.
#[must_use]
pub fn resolver(wanted: Wanted<'_>, desired: &Desired, dhcp: &BTreeMap<String, Dhcp>) -> Resolver {
    let mut resolver = Resolver::default();
    for document in wanted.resolvers() {
        resolver.stub |= document.stub();
        if resolver.search.is_empty() {
            resolver.search = document.search().to_vec();
        }
        if !document.servers().is_empty() {
            resolver.servers = document.servers().to_vec();
            resolver.origin = Origin::Configuration;
            return resolver;
        }
    }
    let configured = std::mem::take(&mut resolver.search);
    for (link, dhcp) in dhcp {
        if let (Some(lease), Some(takes)) = (&dhcp.four.lease, desired.takes(link))
            && (takes.dns || takes.takes_search())
        {
            let servers = lease.dns_servers().iter().filter(|_| takes.dns);
            resolver.add(servers, lease.domains().iter().filter(|_| takes.takes_search()));
        }
        let takes = desired.takes6(link).is_some_and(|takes| takes.dns);
        if let Some(lease) = dhcp.six.lease.as_ref().filter(|_| takes) {
            resolver.add(lease.dns_servers(), lease.domains());
        }
        if desired.heeds_routers(link) && !dhcp.routers.is_empty() {
            resolver.add(&dhcp.routers.servers(), dhcp.routers.domains());
        }
    }
    if !configured.is_empty() {
        resolver.search = configured;
    }
    resolver
}

/// The time servers of the leases whose links take them, in the order of the links' names.
#[must_use]
pub fn time_servers(desired: &Desired, dhcp: &BTreeMap<String, Dhcp>) -> Vec<IpAddr> {
    let four = |link: &String| desired.takes(link).is_some_and(|takes| takes.time);
    let six = |link: &String| desired.takes6(link).is_some_and(|takes| takes.time);
    let named = dhcp.iter().flat_map(|(link, dhcp)| {
        let four_says = dhcp.four.lease.as_ref().filter(|_| four(link)).map(Lease::ntp_servers);
        let six_says = dhcp.six.lease.as_ref().filter(|_| six(link)).map(Lease6::ntp_servers);
        four_says.into_iter().chain(six_says).flatten()
    });
    let mut servers: Vec<IpAddr> = Vec::new();
    for server in named {
        if servers.len() < MOST_TIME_SERVERS && !servers.contains(server) {
            servers.push(*server);
        }
    }
    servers
}

/// The text of `/etc/resolv.conf`.
#[must_use]
pub fn resolv_conf(resolver: &Resolver) -> String {
    let mut text = String::new();
    if resolver.stub {
        let _ = writeln!(text, "nameserver {}", Document::STUB);
    }
    for server in resolver.servers.iter().filter(|_| !resolver.stub) {
        let _ = writeln!(text, "nameserver {}", server.address());
    }
    if !resolver.search.is_empty() {
        let names: Vec<_> = resolver.search.iter().map(Domain::as_str).collect();
        let _ = writeln!(text, "search {}", names.join(" "));
    }
    text
}

/// The text of `/etc/hosts`. The machine finds itself by name even without a network.
#[must_use]
pub fn hosts(hostname: &str, addresses: &[IpAddr], others: &[Hosts]) -> String {
    let names = match hostname.split_once('.') {
        Some((short, _)) => format!("{hostname} {short}"),
        None => hostname.to_owned(),
    };
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
    let nowhere = [IpAddr::V4(Ipv4Addr::new(127, 0, 1, 1))];
    for address in if addresses.is_empty() { &nowhere } else { addresses } {
        let _ = writeln!(text, "{address} {names}");
    }
    for host in others.iter().flat_map(Hosts::hosts) {
        let names: Vec<_> = host.names().iter().map(Domain::as_str).collect();
        let _ = writeln!(text, "{} {}", host.address(), names.join(" "));
    }
    text
}

/// What of a name that a platform has for the machine can be the machine's own: all of it, or else as much of its first label as
/// fits.
///
/// # Errors
/// When that is no host name either, or says nothing.
pub fn called(text: &str) -> Result<Hostname, HostnameError> {
    let name = text.trim().trim_end_matches('.');
    name.parse().or_else(|why| match why {
        HostnameError::Address => Err(why),
        HostnameError::Long(_) | HostnameError::Label(_) => {
            let label = name.split('.').next().unwrap_or_default();
            let cut: String = label.chars().take(Hostname::MAX).collect();
            cut.trim_end_matches('-').parse()
        }
    })
}

/// Chooses the name of the machine: the configured one, else that by which the platform calls it, else that of the first lease
/// with one, else one made of the hardware address of the first physical link.
#[must_use]
pub fn hostname(
    config: Option<&MachineConfig>,
    called: Option<&Hostname>,
    dhcp: &BTreeMap<String, Dhcp>,
    links: &[Link],
) -> (String, Origin) {
    if let Some(name) = config.and_then(MachineConfig::hostname) {
        return (name.as_str().to_owned(), Origin::Configuration);
    }
    if let Some(name) = called {
        return (name.as_str().to_owned(), Origin::Platform);
    }
    if let Some(name) = dhcp.values().find_map(|dhcp| dhcp.four.lease.as_ref()?.hostname()) {
        return (name.as_str().to_owned(), Origin::Lease);
    }
    (made(links), Origin::Machine)
}

/// A name of the hardware address of the first physical link.
fn made(links: &[Link]) -> String {
    match links.iter().filter(|link| link.physical).find_map(|link| link.device.mac) {
        Some(mac) => {
            let [_, _, _, a, b, c] = mac.bytes();
            format!("stele-{a:02x}{b:02x}{c:02x}")
        }
        None => "stele".to_owned(),
    }
}

/// What a DHCP server is told that the machine is called, if anything: never what one has said before, which could go round in
/// circles.
#[must_use]
pub fn told(takes: &Dhcp4, config: Option<&MachineConfig>, links: &[Link]) -> Option<String> {
    let sends = takes.send_hostname;
    let written = takes.hostname.as_ref().or_else(|| config.and_then(MachineConfig::hostname));
    match written {
        _ if sends == Some(false) => None,
        Some(name) => Some(name.to_string()),
        None => (sends == Some(true)).then(|| made(links)),
    }
}

/// The addresses at which the node is reached from elsewhere: IPv4 first, then by link.
#[must_use]
pub fn addresses(observed: &Observed) -> Vec<IpAddr> {
    let mut found: Vec<(bool, u32, IpAddr)> = observed
        .addresses
        .iter()
        .filter(|address| address.is_usable())
        .map(|address| (address.cidr.address().is_ipv6(), address.index, address.cidr.address()))
        .filter(|(_, _, address)| elsewhere(*address))
        .collect();
    found.sort_unstable();
    found.dedup_by_key(|(_, _, address)| *address);
    found.into_iter().map(|(_, _, address)| address).collect()
}

/// Whether the node has an IPv6 address by which it reaches those on its links.
#[must_use]
pub fn has_link_local(observed: &Observed) -> bool {
    observed.addresses.iter().filter(|address| address.is_usable()).any(
        |address| matches!(address.cidr.address(), IpAddr::V6(ip) if ip.is_unicast_link_local()),
    )
}

fn elsewhere(address: IpAddr) -> bool {
    let near = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        // fec0::/10 was for a site, until RFC 3879; virtual networks still give it out beside what works.
        IpAddr::V6(address) => {
            let [first, ..] = address.segments();
            address.is_unicast_link_local() || first & 0xffc0 == 0xfec0
        }
    };
    !near && !address.is_loopback() && !address.is_multicast() && !address.is_unspecified()
}

#[cfg(test)]
mod tests;
