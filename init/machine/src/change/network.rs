// SPDX-License-Identifier: Apache-2.0
//! What changes of the network.

use super::{Change, Fate, named};
use stele_config::{
    Dhcp6Start, Hosts, InterfaceName, Link, MachineConfig, Resolver, RoutingRule, VirtualLink,
};

pub(super) fn hostname(old: Option<&MachineConfig>, new: &MachineConfig) -> Option<Change> {
    let hostname = new.hostname();
    if old.and_then(MachineConfig::hostname) == hostname {
        return None;
    }
    let what = match hostname {
        Some(hostname) => format!("becomes {hostname}"),
        None => "from DHCP or the hardware address".to_owned(),
    };
    Some(Change::live("Hostname", what))
}

pub(super) fn links(old: Option<&MachineConfig>, new: &MachineConfig) -> Vec<Change> {
    let before = old.map(MachineConfig::links).unwrap_or_default();
    let mut changes: Vec<Change> = named(before, new.links(), Link::name)
        .into_iter()
        .map(|fate| {
            let (link, what) = match fate {
                Fate::Added(link) => (link, format!("configured, {}", summary(link))),
                Fate::Changed(to) => (to, summary(to)),
                Fate::Gone(link) => {
                    (link, "no longer configured, its addresses and routes go".to_owned())
                }
            };
            Change::live(format!("Link {}", link.name()), what)
        })
        .collect();
    if old.is_none_or(|old| !old.links().is_empty()) && new.links().is_empty() {
        changes.push(Change::live("Link", "none is configured, every Ethernet link uses DHCP"));
    }
    changes
}

pub(super) fn virtual_links(old: Option<&MachineConfig>, new: &MachineConfig) -> Vec<Change> {
    let before = old.map(MachineConfig::virtual_links).unwrap_or_default();
    named(before, new.virtual_links(), VirtualLink::name)
        .into_iter()
        .map(|fate| {
            let (link, what) = match fate {
                Fate::Added(link) => (link, format!("made, {}", form(link))),
                Fate::Changed(to) => (to, format!("changed or made again, {}", form(to))),
                Fate::Gone(link) => (link, "removed".to_owned()),
            };
            Change::live(format!("{} {}", link.kind(), link.name()), what)
        })
        .collect()
}

/// What a link is that the kernel makes.
fn form(link: &VirtualLink) -> String {
    match link {
        VirtualLink::Dummy(_) => "leads nowhere".to_owned(),
        VirtualLink::Veth(veth) => format!("a cable to {}", veth.peer()),
        VirtualLink::Vlan(vlan) => format!("network {} of {}", vlan.id(), vlan.link()),
        VirtualLink::Bridge(_) => format!("a switch {}", with(&link.members())),
        VirtualLink::Bond(bond) => format!("{} {}", bond.mode(), with(&link.members())),
        VirtualLink::WireGuard(tunnels) => match tunnels.peers().len() {
            1 => "a tunnel to 1 peer".to_owned(),
            count => format!("tunnels to {count} peers"),
        },
        VirtualLink::Vrf(vrf) => format!("table {} {}", vrf.table(), with(&link.members())),
    }
}

fn with(members: &[&InterfaceName]) -> String {
    let names: Vec<&str> = members.iter().map(|name| name.as_str()).collect();
    if names.is_empty() {
        "with no link in it".to_owned()
    } else {
        format!("with {}", names.join(", "))
    }
}

pub(super) fn routing_rules(old: Option<&MachineConfig>, new: &MachineConfig) -> Vec<Change> {
    let before = old.map(MachineConfig::routing_rules).unwrap_or_default();
    named(before, new.routing_rules(), RoutingRule::name)
        .into_iter()
        .map(|fate| {
            let (rule, what) = match fate {
                Fate::Added(rule) | Fate::Changed(rule) => (rule, packets(rule)),
                Fate::Gone(rule) => (rule, "removed".to_owned()),
            };
            Change::live(format!("RoutingRule {}", rule.name()), what)
        })
        .collect()
}

/// Which packets a rule sends where.
fn packets(rule: &RoutingRule) -> String {
    let mut words = vec!["packets".to_owned()];
    words.extend(rule.from().map(|from| format!("from {from}")));
    words.extend(rule.to().map(|to| format!("to {to}")));
    words.extend(rule.incoming().map(|link| format!("that came in by {link}")));
    words.extend(rule.mark().map(|mark| format!("with the mark {mark}")));
    words.push(format!("are routed by table {}", rule.table()));
    words.join(" ")
}

pub(super) fn firewall(old: Option<&MachineConfig>, new: &MachineConfig) -> Option<Change> {
    let firewall = new.firewall();
    if old.and_then(MachineConfig::firewall) == firewall {
        return None;
    }
    let what = match firewall {
        None => "everything is accepted".to_owned(),
        Some(firewall) => {
            let forward = match firewall.looks_at_forward() {
                true => format!(", forward {}", firewall.forward()),
                false => String::new(),
            };
            let (ingress, egress) = (firewall.ingress(), firewall.egress());
            let rules = firewall.rules().len();
            format!("ingress {ingress}, egress {egress}{forward}, rules: {rules}")
        }
    };
    Some(Change::live("Firewall", what))
}

pub(super) fn hosts(old: Option<&MachineConfig>, new: &MachineConfig) -> Vec<Change> {
    let before = old.map(MachineConfig::hosts).unwrap_or_default();
    named(before, new.hosts(), Hosts::name)
        .into_iter()
        .map(|fate| {
            let (hosts, what) = match fate {
                Fate::Added(hosts) | Fate::Changed(hosts) => (hosts, known(hosts)),
                Fate::Gone(hosts) => (hosts, "name servers are asked for them again".to_owned()),
            };
            Change::live(format!("Hosts {}", hosts.name()), what)
        })
        .collect()
}

/// Which machines are known by name.
fn known(hosts: &Hosts) -> String {
    let machines: Vec<String> = (hosts.hosts().iter())
        .filter_map(|host| Some(format!("{} is {}", host.names().first()?, host.address())))
        .collect();
    machines.join(", ")
}

pub(super) fn resolver(old: Option<&MachineConfig>, new: &MachineConfig) -> Option<Change> {
    let resolver = new.resolver();
    if old.and_then(MachineConfig::resolver) == resolver {
        return None;
    }
    let servers: Vec<String> = resolver
        .map(Resolver::servers)
        .unwrap_or_default()
        .iter()
        .map(|server| match server.name() {
            Some(_) => format!("{server} over TLS"),
            None => server.to_string(),
        })
        .collect();
    let mut what = match servers.as_slice() {
        [] => "the name servers are those of the network".to_owned(),
        servers => format!("the name servers are {}", servers.join(", ")),
    };
    if resolver.is_some_and(Resolver::stub) {
        what.push_str(&format!(", behind a stub at {}", Resolver::STUB));
    }
    Some(Change::live("Resolver", what))
}

fn summary(link: &Link) -> String {
    let mut parts = Vec::new();
    parts.extend(link.matched().map(|matched| format!("the interface with {matched}")));
    if link.dhcp4().is_some() {
        parts.push("DHCP".to_owned());
    }
    parts.extend(link.dhcp6().map(|dhcp6| {
        let words = match dhcp6.start() {
            Dhcp6Start::Always => "DHCPv6",
            Dhcp6Start::Advertised => "DHCPv6 if a router asks for it",
            Dhcp6Start::Never => "no DHCPv6",
        };
        words.to_owned()
    }));
    if link.ignores_routers() {
        parts.push("routers are not heeded".to_owned());
    }
    parts.extend(
        link.delegated().map(|it| format!("network {} of {}'s prefix", it.subnet, it.from)),
    );
    parts.extend(link.addresses().iter().map(ToString::to_string));
    parts.extend(link.mtu().map(|mtu| format!("MTU {mtu}")));
    if parts.is_empty() { "up without addresses".to_owned() } else { parts.join(", ") }
}

pub(super) fn metadata_service(old: Option<&MachineConfig>, new: &MachineConfig) -> Option<Change> {
    let open = |config: &MachineConfig| config.metadata_service().is_some_and(|it| it.open);
    if old.is_some_and(open) == open(new) {
        return None;
    }
    let what = if open(new) {
        "everyone reaches the platform's metadata service"
    } else {
        "nobody but the agent reaches the platform's metadata service"
    };
    Some(Change::live("MetadataService", what))
}
