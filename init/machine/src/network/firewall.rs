// SPDX-License-Identifier: Apache-2.0
//! The firewall: what a document says and what is always accepted, as rules in order; and whether the API can be reached.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};
use stele_config::{
    Cidr, Direction, Firewall, FirewallAction, FirewallDefault, FirewallProtocol, FirewallRule,
    InterfaceName, Ports,
};

/// The types of ICMPv6 that IPv6 can't do without: routers and neighbours (RFC 4861).
const NEIGHBOURS: (u8, u8) = (133, 136);
/// Where a DHCPv6 server answers to (RFC 8415).
const DHCPV6_CLIENT: u16 = 546;
/// Where it is asked.
const DHCPV6_SERVER: u16 = 547;

/// All that the kernel is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// Whether packets to the machine that no rule is for are dropped.
    pub drops_ingress: bool,
    /// Whether packets from the machine that no rule is for are dropped.
    pub drops_egress: bool,
    /// Whether packets that are passed on and that no rule is for are dropped; none where they are not looked at.
    pub drops_forward: Option<bool>,
    /// The rules, in order.
    pub rules: Vec<Rule>,
}

/// A rule. Ranges hold their ends, are in order, and do not meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Which packets it is for.
    pub direction: Direction,
    /// The family it is for; none for both.
    pub ipv6: Option<bool>,
    /// Where packets come from; empty for anywhere.
    pub from: Vec<(IpAddr, IpAddr)>,
    /// Where they go to.
    pub to: Vec<(IpAddr, IpAddr)>,
    /// The links that they come in by; empty for any.
    pub incoming: Vec<String>,
    /// The links that they go out by.
    pub outgoing: Vec<String>,
    /// Their protocol.
    pub protocol: Option<FirewallProtocol>,
    /// The ports that they go to.
    pub ports: Vec<(u16, u16)>,
    /// The ports that they come from.
    pub source_ports: Vec<(u16, u16)>,
    /// The types of ICMP that they are of, in the numbers of the family.
    pub icmp_types: Vec<(u8, u8)>,
    /// Only so many, in so many seconds.
    pub rate: Option<(u32, u32)>,
    /// Only packets of connections that are known.
    pub established: bool,
    /// What becomes of them.
    pub action: FirewallAction,
}

/// The rules of a document, with what is always accepted before them, and the links that they are `named` for. What a rule says of
/// a link that is not there it says once that has come.
#[must_use]
pub fn derive(document: &Firewall, named: impl Fn(&str) -> Option<String>) -> Ruleset {
    let mut rules = Vec::new();
    for direction in [Direction::Ingress, Direction::Egress] {
        let neighbours = Rule {
            ipv6: Some(true),
            protocol: Some(FirewallProtocol::Icmp),
            icmp_types: vec![NEIGHBOURS],
            ..accepted(direction)
        };
        let own = || vec!["lo".to_owned()];
        let (port, incoming, outgoing) = if direction == Direction::Egress {
            (DHCPV6_SERVER, vec![], own())
        } else {
            (DHCPV6_CLIENT, own(), vec![])
        };
        let dhcp = Rule {
            ipv6: Some(true),
            protocol: Some(FirewallProtocol::UDP),
            ports: vec![(port, port)],
            ..accepted(direction)
        };
        rules.extend([
            Rule { incoming, outgoing, ..accepted(direction) },
            Rule { established: true, ..accepted(direction) },
            neighbours,
            dhcp,
        ]);
    }
    if document.looks_at_forward() {
        rules.push(Rule { established: true, ..accepted(Direction::Forward) });
    }
    rules.extend(document.rules().iter().flat_map(|rule| of_document(rule, &named)));
    Ruleset {
        drops_ingress: document.ingress() == FirewallDefault::Drop,
        drops_egress: document.egress() == FirewallDefault::Drop,
        drops_forward: (document.looks_at_forward())
            .then(|| document.forward() == FirewallDefault::Drop),
        rules,
    }
}

/// Whether a new connection to this TCP port of the machine is accepted, whatever link it comes in by: one from this address, or
/// from somewhere if it is not known from where.
#[must_use]
pub fn admits(document: &Firewall, port: u16, source: Option<IpAddr>) -> bool {
    // Who is on the machine itself passes on what somebody says, from anywhere.
    let source = source.filter(|source| !source.is_loopback());
    let decides = |rule: &&FirewallRule| {
        let ports = rule.ports();
        rule.direction() == Direction::Ingress
            && matches!(rule.protocol(), None | Some(FirewallProtocol::TCP))
            && (ports.is_empty()
                || ports.iter().any(|ports| (ports.first()..=ports.last()).contains(&port)))
            && is_for(rule, source)
            // A client's own port is any: some that are let in say nothing of this one, nor do some that are not.
            && rule.source_ports().is_empty()
    };
    match document.rules().iter().find(decides) {
        Some(rule) => rule.action() == FirewallAction::Accept,
        None => document.ingress() == FirewallDefault::Accept,
    }
}

/// Whether a rule decides of connections from an address, or from somewhere. One that accepts does so for some; one that drops, for
/// all of them.
fn is_for(rule: &FirewallRule, source: Option<IpAddr>) -> bool {
    let accepts = rule.action() == FirewallAction::Accept;
    let from = match source {
        Some(source) => {
            let from = rule.from();
            let family = |network: &Cidr| network.address().is_ipv4() == source.is_ipv4();
            (from.is_empty() || from.iter().any(|network| network.contains(source)))
                && (rule.to().is_empty() || rule.to().iter().any(family))
        }
        None => accepts || rule.from().is_empty(),
    };
    // By which link this one comes is not known: what single ones let in does not count, and what they drop does.
    let by_any = source.is_none() || !accepts || rule.incoming().is_empty();
    from && by_any && (accepts || (rule.to().is_empty() && rule.rate().is_none()))
}

fn accepted(direction: Direction) -> Rule {
    Rule {
        direction,
        ipv6: None,
        from: Vec::new(),
        to: Vec::new(),
        incoming: Vec::new(),
        outgoing: Vec::new(),
        protocol: None,
        ports: Vec::new(),
        source_ports: Vec::new(),
        icmp_types: Vec::new(),
        rate: None,
        established: false,
        action: FirewallAction::Accept,
    }
}

/// One rule for each family, where it says something of addresses or of a protocol that has another form in each.
fn of_document(document: &FirewallRule, named: impl Fn(&str) -> Option<String>) -> Vec<Rule> {
    // One for links none of which is there is for none: without names it would be for all of them.
    let names = |links: &[InterfaceName]| {
        let names: BTreeSet<_> = links.iter().filter_map(|link| named(link.as_str())).collect();
        (names.is_empty() == links.is_empty()).then(|| names.into_iter().collect())
    };
    let (Some(incoming), Some(outgoing)) = (names(document.incoming()), names(document.outgoing()))
    else {
        return Vec::new();
    };
    let rule = Rule {
        incoming,
        outgoing,
        protocol: document.protocol(),
        ports: ports(document.ports()),
        source_ports: ports(document.source_ports()),
        rate: document.rate().map(|rate| (rate.count(), rate.seconds())),
        action: document.action(),
        ..accepted(document.direction())
    };
    let (from, to) = (document.from(), document.to());
    if from.is_empty() && to.is_empty() && rule.protocol != Some(FirewallProtocol::Icmp) {
        return vec![rule];
    }
    let of_family = |ipv6: bool| {
        let ranges = |networks: &[Cidr]| {
            let networks = networks.iter().filter(|one| one.address().is_ipv6() == ipv6);
            merged(networks.map(range).collect(), next)
        };
        let (ours, theirs) = (ranges(from), ranges(to));
        let types = document.icmp_types().iter().filter_map(|kind| kind.number(ipv6));
        let icmp_types =
            merged(types.map(|kind| (kind, kind)).collect(), |kind: u8| kind.checked_add(1));
        // Who is named in the other family alone is not here; no more is a type that the other one has.
        let here = ours.is_empty() == from.is_empty()
            && theirs.is_empty() == to.is_empty()
            && icmp_types.is_empty() == document.icmp_types().is_empty();
        let rule = Rule { from: ours, to: theirs, icmp_types, ..rule.clone() };
        here.then_some(Rule { ipv6: Some(ipv6), ..rule })
    };
    [false, true].into_iter().filter_map(of_family).collect()
}

fn ports(ports: &[Ports]) -> Vec<(u16, u16)> {
    let ranges = ports.iter().map(|ports| (ports.first(), ports.last()));
    merged(ranges.collect(), |port| port.checked_add(1))
}

/// The first and the last address of a network.
fn range(network: &Cidr) -> (IpAddr, IpAddr) {
    let prefix = u32::from(network.prefix());
    match network.network().address() {
        IpAddr::V4(first) => {
            let hosts = u32::MAX.checked_shr(prefix).unwrap_or_default();
            (first.into(), Ipv4Addr::from_bits(first.to_bits() | hosts).into())
        }
        IpAddr::V6(first) => {
            let hosts = u128::MAX.checked_shr(prefix).unwrap_or_default();
            (first.into(), Ipv6Addr::from_bits(first.to_bits() | hosts).into())
        }
    }
}

fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => {
            address.to_bits().checked_add(1).map(|bits| Ipv4Addr::from_bits(bits).into())
        }
        IpAddr::V6(address) => {
            address.to_bits().checked_add(1).map(|bits| Ipv6Addr::from_bits(bits).into())
        }
    }
}

/// The same ranges in order, with those that overlap or meet as one.
fn merged<T: Ord + Copy>(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if next(*end).is_none_or(|after| first <= after) => {
                *end = last.max(*end);
            }
            Some(_) | None => merged.push((first, last)),
        }
    }
    merged
}

#[cfg(test)]
mod tests;
