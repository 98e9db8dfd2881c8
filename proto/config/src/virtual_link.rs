// SPDX-License-Identifier: Apache-2.0
//! Links that the kernel makes, in contrast to those that have a device: one kind for each form of them.
//!
//! Such a document makes the link and names what it is made of. Addresses, routes, DHCP and MTU are the `Link` document's of
//! the same name, as with any other link.

mod bond;
mod bridge;
mod dummy;
mod veth;
mod vlan;
mod vlan_range;
mod vrf;
mod wireguard;

pub use bond::{ArpValidate, Bond, BondMode, HashPolicy, LacpRate};
pub use bridge::{Bridge, BridgePort};
pub use dummy::Dummy;
pub use veth::Veth;
pub use vlan::{Vlan, VlanProtocol};
pub use vlan_range::VlanRange;
pub use vrf::Vrf;
pub use wireguard::{WireGuard, WireGuardPeer};

use crate::document::Document;
use crate::node::Node;
use crate::report::Report;
use crate::{InterfaceName, Link};
use std::collections::BTreeMap;

/// A link that the kernel makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VirtualLink {
    /// One that leads nowhere.
    Dummy(Dummy),
    /// Two links with a cable between them.
    Veth(Veth),
    /// One of the networks that share a link.
    Vlan(Vlan),
    /// A switch.
    Bridge(Bridge),
    /// Several links that act as one.
    Bond(Bond),
    /// A routing table of its own for some links.
    Vrf(Vrf),
    /// Tunnels to other machines.
    WireGuard(WireGuard),
}

impl VirtualLink {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            VirtualLink::Dummy(_) => "Dummy",
            VirtualLink::Veth(_) => "Veth",
            VirtualLink::Vlan(_) => "VLAN",
            VirtualLink::Bridge(_) => "Bridge",
            VirtualLink::Bond(_) => "Bond",
            VirtualLink::Vrf(_) => "VRF",
            VirtualLink::WireGuard(_) => "WireGuard",
        }
    }

    /// The name of the link.
    #[must_use]
    pub fn name(&self) -> &InterfaceName {
        match self {
            VirtualLink::Dummy(dummy) => dummy.name(),
            VirtualLink::Veth(veth) => veth.name(),
            VirtualLink::Vlan(vlan) => vlan.name(),
            VirtualLink::Bridge(bridge) => bridge.name(),
            VirtualLink::Bond(bond) => bond.name(),
            VirtualLink::Vrf(vrf) => vrf.name(),
            VirtualLink::WireGuard(tunnels) => tunnels.name(),
        }
    }

    /// The links that come with it: its own, and the other end of a cable.
    pub fn makes(&self) -> impl Iterator<Item = &InterfaceName> {
        let peer = match self {
            VirtualLink::Veth(veth) => Some(veth.peer()),
            VirtualLink::Dummy(_)
            | VirtualLink::Vlan(_)
            | VirtualLink::Bridge(_)
            | VirtualLink::Bond(_)
            | VirtualLink::Vrf(_)
            | VirtualLink::WireGuard(_) => None,
        };
        std::iter::once(self.name()).chain(peer)
    }

    /// The links that are in it. Each link is in one such link at most.
    #[must_use]
    pub fn members(&self) -> Vec<&InterfaceName> {
        match self {
            VirtualLink::Bridge(bridge) => bridge.ports().iter().map(BridgePort::link).collect(),
            VirtualLink::Bond(bond) => bond.links().iter().collect(),
            VirtualLink::Vrf(vrf) => vrf.links().iter().collect(),
            VirtualLink::Dummy(_)
            | VirtualLink::Veth(_)
            | VirtualLink::Vlan(_)
            | VirtualLink::WireGuard(_) => Vec::new(),
        }
    }

    /// The link that it is on.
    #[must_use]
    pub fn parent(&self) -> Option<&InterfaceName> {
        match self {
            VirtualLink::Vlan(vlan) => Some(vlan.link()),
            VirtualLink::Dummy(_)
            | VirtualLink::Veth(_)
            | VirtualLink::Bridge(_)
            | VirtualLink::Bond(_)
            | VirtualLink::Vrf(_)
            | VirtualLink::WireGuard(_) => None,
        }
    }

    /// Its document.
    pub(crate) fn document(&self) -> Document {
        match self.clone() {
            VirtualLink::Dummy(dummy) => Document::Dummy(dummy),
            VirtualLink::Veth(veth) => Document::Veth(veth),
            VirtualLink::Vlan(vlan) => Document::VLAN(vlan),
            VirtualLink::Bridge(bridge) => Document::Bridge(bridge),
            VirtualLink::Bond(bond) => Document::Bond(bond),
            VirtualLink::Vrf(vrf) => Document::VRF(vrf),
            VirtualLink::WireGuard(tunnels) => Document::WireGuard(tunnels),
        }
    }

    /// The key under which its members are, or what it is on.
    #[must_use]
    pub fn below_key(&self) -> &'static str {
        match self {
            VirtualLink::Bridge(_) => "ports",
            VirtualLink::Bond(_) | VirtualLink::Vrf(_) => "links",
            VirtualLink::Dummy(_)
            | VirtualLink::Veth(_)
            | VirtualLink::Vlan(_)
            | VirtualLink::WireGuard(_) => "link",
        }
    }

    /// Says that it makes a link that is there already, or takes one that is in another.
    pub(crate) fn check_alone(&self, node: &Node, report: &mut Report) {
        let made: Vec<_> = self.makes().collect();
        for (index, member) in self.members().into_iter().enumerate() {
            if made.contains(&member) || member.as_str() == "lo" {
                let message = format!("{member} can't be in {} {}", self.kind(), self.name());
                report.find_item(node, (self.below_key(), index), message, "another link");
            }
        }
        let wrong = |name: &InterfaceName| name.as_str() == "lo";
        if made.iter().any(|name| wrong(name)) {
            report.find_at(node, "name", "lo is there on every machine", "another name");
        }
        if self.parent().is_some_and(|parent| made.contains(&parent)) {
            report.find_at(node, "link", "it can't be on itself", "another link");
        }
    }

    /// Says what it and another one can't both have.
    pub(crate) fn check_beside(&self, other: &VirtualLink, node: &Node, report: &mut Report) {
        let theirs = format!("{} {}", other.kind(), other.name());
        for (index, name) in self.makes().enumerate() {
            if other.makes().any(|another| another == name) {
                let key = if index == 0 { "name" } else { "peer" };
                report.find_at(node, key, format!("{theirs} makes {name}"), "each link once");
            }
        }
        let members = other.members();
        for (index, member) in self.members().into_iter().enumerate() {
            if members.contains(&member) {
                let message = format!("{member} is in {theirs}");
                let place = (self.below_key(), index);
                report.find_item(node, place, message, "each link in one at most");
            }
        }
        if let (VirtualLink::Vlan(ours), VirtualLink::Vlan(others)) = (self, other)
            && ours.same_network(others)
        {
            report.find_at(node, "id", format!("{theirs} is the same network"), "each once");
        }
        if let (VirtualLink::Vrf(ours), VirtualLink::Vrf(others)) = (self, other)
            && ours.table() == others.table()
        {
            report.find_at(node, "table", format!("{theirs} has it"), "a table for each");
        }
    }
}

/// Says what can't be of all of them together with the links that are set up.
pub(crate) fn check_together(
    all: &[(VirtualLink, u32)],
    links: &[(Link, u32)],
    report: &mut Report,
) {
    report.enter(0);
    let below: BTreeMap<&InterfaceName, Vec<&InterfaceName>> = (all.iter())
        .map(|(link, _)| (link.name(), link.members().into_iter().chain(link.parent()).collect()))
        .collect();
    for (link, line) in all {
        if reaches(&below, link.name(), link.name()) {
            let message = format!("{} {} is in or on itself", link.kind(), link.name());
            report.find(*line, message, "links that are in or on others, and not in a circle");
        }
        let forwards = matches!(link, VirtualLink::Bond(_) | VirtualLink::Bridge(_));
        for (member, line) in links.iter().filter(|(member, _)| {
            forwards && link.members().contains(&member.name()) && !member.is_bare()
        }) {
            let (name, kind, whole) = (member.name(), link.kind(), link.name());
            let message = format!("Link {name} has addresses or DHCP, and is in {kind} {whole}");
            report.find(*line, message, format!("them in the document Link {whole}"));
        }
    }
}

/// In canonical order: kind by kind, and each in the order of their names.
pub(crate) fn sorted(links: Vec<(VirtualLink, u32)>) -> Vec<VirtualLink> {
    let mut links: Vec<_> = links.into_iter().map(|(link, _)| link).collect();
    let place = |link: &VirtualLink| match link {
        VirtualLink::Dummy(_) => 0,
        VirtualLink::Veth(_) => 1,
        VirtualLink::Vlan(_) => 2,
        VirtualLink::Bridge(_) => 3,
        VirtualLink::Bond(_) => 4,
        VirtualLink::Vrf(_) => 5,
        VirtualLink::WireGuard(_) => 6,
    };
    links.sort_by(|a, b| (place(a), a.name()).cmp(&(place(b), b.name())));
    links
}

/// Whether a link is below one, at any depth.
fn reaches(
    below: &BTreeMap<&InterfaceName, Vec<&InterfaceName>>,
    from: &InterfaceName,
    to: &InterfaceName,
) -> bool {
    let mut seen = Vec::new();
    let mut pending = vec![from];
    while let Some(next) = pending.pop() {
        for lower in below.get(next).into_iter().flatten() {
            if *lower == to {
                return true;
            }
            if !seen.contains(lower) {
                seen.push(lower);
                pending.push(lower);
            }
        }
    }
    false
}
