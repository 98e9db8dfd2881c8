// SPDX-License-Identifier: Apache-2.0
//! Links that the kernel makes: what they should be, and the steps from what they are.

use super::{Link, Observed, desired::Desired, plan::Action};
use std::net::{Ipv4Addr, Ipv6Addr};
use stele_config::{Bond, Bridge, HashPolicy, LacpRate, VirtualLink, VlanProtocol};

/// What a link is, by the names of other links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// It leads nowhere.
    Dummy,
    /// One end of a cable.
    Veth {
        /// The other end; empty when that is not on this machine.
        peer: String,
    },
    /// One of the networks that share a link.
    Vlan {
        /// The link that they share.
        link: String,
        /// Its number.
        id: u16,
        /// Whether its tag is the outer one of two.
        service: bool,
    },
    /// A switch.
    Bridge {
        /// Whether it takes part in the spanning tree protocol.
        stp: bool,
        /// How long a port listens and learns, each, in hundredths of a second.
        forward_delay: u32,
        /// How likely it is to be the root of the tree.
        priority: u16,
        /// Whether it looks at VLAN tags.
        vlan_filtering: bool,
    },
    /// Several links that act as one, in the numbers of `linux/if_bonding.h`.
    Bond {
        /// How they share the work.
        mode: u8,
        /// How often to look whether each has a carrier, in milliseconds; 0 for never.
        miimon: u32,
        /// How long a link that has a carrier again is waited for, in milliseconds.
        up_delay: u32,
        /// How long a link that has lost its carrier is still used.
        down_delay: u32,
        /// How often to ask others by ARP whether they are there, in milliseconds; 0 for never.
        arp_interval: u32,
        /// Whom to ask.
        arp_targets: Vec<Ipv4Addr>,
        /// Whom to ask by neighbour solicitations, as often.
        nd_targets: Vec<Ipv6Addr>,
        /// Of which links only answers count.
        arp_validate: u8,
        /// Whether the other end is asked to speak every second.
        lacp_fast: bool,
        /// Which parts of a packet decide which link it takes.
        hash_policy: u8,
    },
    /// A routing table for some links.
    Vrf {
        /// The table.
        table: u32,
    },
    /// Tunnels to other machines.
    WireGuard,
}

impl Form {
    /// The kind of document that makes such links.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Form::Dummy => "Dummy",
            Form::Veth { .. } => "Veth",
            Form::Vlan { .. } => "VLAN",
            Form::Bridge { .. } => "Bridge",
            Form::Bond { .. } => "Bond",
            Form::Vrf { .. } => "VRF",
            Form::WireGuard => "WireGuard",
        }
    }

    /// The kernel module that makes such links, and its parameters. Two of them make links of their own if they may.
    #[must_use]
    pub fn module(&self) -> (&'static str, &'static str) {
        match self {
            Form::Dummy => ("dummy", "numdummies=0"),
            Form::Veth { .. } => ("veth", ""),
            Form::Vlan { .. } => ("8021q", ""),
            Form::Bridge { .. } => ("bridge", ""),
            Form::Bond { .. } => ("bonding", "max_bonds=0"),
            Form::Vrf { .. } => ("vrf", ""),
            Form::WireGuard => ("wireguard", ""),
        }
    }

    /// Whether the kernel decides the MTU, by what is in the link or below it.
    pub(super) fn follows_mtu(&self) -> bool {
        matches!(self, Form::Vlan { .. } | Form::Bridge { .. } | Form::Bond { .. })
    }

    /// Whether a link of this form can become one of another while it works.
    fn becomes(&self, other: &Form) -> bool {
        match (self, other) {
            (Form::Bridge { .. }, Form::Bridge { .. }) => true,
            (
                Form::Bond { mode, lacp_fast, .. },
                Form::Bond { mode: other_mode, lacp_fast: other_fast, .. },
            ) => (mode, lacp_fast) == (other_mode, other_fast),
            _ => false,
        }
    }
}

/// The links that a document makes, each with its form. `actual` is the name of the link that a document is for.
pub(super) fn made(document: &VirtualLink, actual: impl Fn(&str) -> String) -> Vec<(String, Form)> {
    let name = document.name().to_string();
    match document {
        VirtualLink::Dummy(_) => vec![(name, Form::Dummy)],
        VirtualLink::Veth(veth) => {
            let peer = veth.peer().to_string();
            vec![
                (name.clone(), Form::Veth { peer: peer.clone() }),
                (peer, Form::Veth { peer: name }),
            ]
        }
        VirtualLink::Vlan(vlan) => {
            let link = actual(vlan.link().as_str());
            let service = vlan.protocol() == VlanProtocol::Service;
            vec![(name, Form::Vlan { link, id: vlan.id(), service })]
        }
        VirtualLink::Bridge(bridge) => vec![(name, bridge_form(bridge))],
        VirtualLink::Bond(bond) => vec![(name, bond_form(bond))],
        VirtualLink::WireGuard(_) => vec![(name, Form::WireGuard)],
        VirtualLink::Vrf(vrf) => vec![(name, Form::Vrf { table: vrf.table() })],
    }
}

fn bridge_form(bridge: &Bridge) -> Form {
    let hundredths = bridge.forward_delay().as_millis().checked_div(10).unwrap_or_default();
    Form::Bridge {
        stp: bridge.stp(),
        forward_delay: u32::try_from(hundredths).unwrap_or(u32::MAX),
        priority: bridge.priority(),
        vlan_filtering: bridge.vlan_filtering(),
    }
}

fn bond_form(bond: &Bond) -> Form {
    Form::Bond {
        mode: bond.mode().number(),
        miimon: bond.miimon(),
        up_delay: bond.up_delay(),
        down_delay: bond.down_delay(),
        arp_interval: bond.arp_interval(),
        arp_targets: bond.arp_targets().collect(),
        nd_targets: bond.nd_targets().collect(),
        arp_validate: bond.arp_validate().number(),
        lacp_fast: bond.lacp_rate() == LacpRate::Fast,
        hash_policy: match bond.hash_policy() {
            HashPolicy::Layer2 => 0,
            HashPolicy::Layer34 => 1,
            HashPolicy::Layer23 => 2,
            HashPolicy::Encap23 => 3,
            HashPolicy::Encap34 => 4,
            HashPolicy::VlanSource => 5,
        },
    }
}

/// Which links of ours are to go: those that nobody wants, and those that can't become what they should be.
pub(super) fn remove(desired: &Desired, observed: &Observed) -> Vec<Action> {
    let stays = |link: &Link| match (desired.made.get(&link.name), &link.form) {
        (Some(wanted), Some(form)) => wanted == form || form.becomes(wanted),
        (Some(_) | None, _) => false,
    };
    // Both ends of a cable go with one.
    let gone = |link: &&Link| link.ours && !stays(link) && !is_second_end(link, observed);
    let gone = observed.links.iter().filter(gone);
    gone.map(|link| Action::RemoveLink { index: link.index }).collect()
}

/// Which links are to be made and changed. What is on another link is made once that is there.
pub(super) fn make(desired: &Desired, observed: &Observed) -> Vec<Action> {
    let mut actions = Vec::new();
    for (name, wanted) in &desired.made {
        let parent = match (observed.link(name), wanted) {
            (Some(link), _) => {
                if link.ours && link.form.as_ref() != Some(wanted) {
                    let form = wanted.clone();
                    actions.push(Action::ChangeForm { index: link.index, form });
                }
                continue;
            }
            // One of the two makes both.
            (None, Form::Veth { peer }) if name > peer || observed.link(peer).is_some() => continue,
            (None, Form::Vlan { link, .. }) => match observed.link(link) {
                Some(parent) => Some(parent.index),
                None => continue,
            },
            (None, _) => None,
        };
        actions.push(Action::MakeLink { name: name.clone(), form: wanted.clone(), parent });
    }
    actions
}

/// Which bonds are to prefer another link, of those that are in them.
pub(super) fn prefer(desired: &Desired, observed: &Observed) -> Vec<Action> {
    let prefer = |link: &Link| {
        let wanted = desired.links.get(&link.name)?;
        let primary = wanted.primary.as_ref().and_then(|name| observed.link(name));
        let primary = primary.filter(|primary| primary.master == Some(link.index));
        let primary = primary.map(|primary| primary.index);
        let (index, other) = (link.index, link.primary != primary);
        (link.ours && other).then_some(Action::SetPrimary { index, primary })
    };
    observed.links.iter().filter_map(prefer).collect()
}

/// Whether the other end of this cable comes first, and will be removed with it.
fn is_second_end(link: &Link, observed: &Observed) -> bool {
    let Some(Form::Veth { peer }) = &link.form else { return false };
    observed.link(peer).is_some_and(|other| other.ours && other.index < link.index)
}

/// Which links come into others and out of them.
pub(super) fn join(desired: &Desired, observed: &Observed) -> Vec<Action> {
    let mut actions = Vec::new();
    for link in &observed.links {
        let index = link.index;
        let inside = desired.links.get(&link.name).and_then(|wanted| wanted.master.as_ref());
        let whole = inside.and_then(|name| observed.link(name));
        match (inside, whole) {
            (Some(_), Some(whole)) if link.master == Some(whole.index) => {}
            (Some(name), Some(whole))
                if whole.ours && desired.made.get(name) == whole.form.as_ref() =>
            {
                // Bonds take no link that is up, and set it up again.
                if matches!(whole.form, Some(Form::Bond { .. })) && link.up {
                    actions.push(Action::SetDown { index });
                }
                actions.push(Action::SetMaster { index, master: Some(whole.index) });
            }
            // It is not there yet.
            (Some(_), _) => {}
            (None, _) => {
                let left = |master| observed.links.iter().find(|link| Some(link.index) == master);
                if left(link.master).is_some_and(|whole| whole.ours) {
                    actions.push(Action::SetMaster { index, master: None });
                }
            }
        }
    }
    actions
}
