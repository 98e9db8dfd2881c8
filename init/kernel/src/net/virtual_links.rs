// SPDX-License-Identifier: Apache-2.0
//! Links that the kernel makes: what they are, and how they are made, changed, joined and removed.
//!
//! What this module makes is in the link group [`GROUP`], so it can be told apart from what others made.

use super::{LinkChange, NetError, Netlink};
use netlink_bindings::{
    rt_link::{
        Ifinfomsg, IterableLinkinfoAttrs, LinkinfoDataMsg, PushArrayBinary, PushLinkAttrs,
        PushLinkinfoAttrs, PushLinkinfoBondAttrs, Request,
    },
    traits::Pusher,
    utils::{finalize_nested_header, push_nested_header},
};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The group of the links that are ours (`ip link show group`).
pub const GROUP: u32 = 0x5374_656c;

/// `ETH_P_8021Q` and `ETH_P_8021AD`.
const TAGS: [u16; 2] = [0x8100, 0x88a8];
/// `BOND_MODE_8023AD` of `linux/if_bonding.h`.
const BOND_LACP: u8 = 4;
/// `IFLA_INFO_DATA` of `linux/if_link.h`.
const INFO_DATA: u16 = 2;
/// `VETH_INFO_PEER` of `linux/veth.h`.
const VETH_PEER: u16 = 1;

/// A link that the kernel makes, with what of it can be chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkForm {
    /// It leads nowhere.
    Dummy,
    /// One end of a cable.
    Veth,
    /// One of the networks that share a link.
    Vlan {
        /// Its number.
        id: u16,
        /// Whether its tag is the outer one of two (802.1ad).
        service: bool,
    },
    /// A switch.
    Bridge(BridgeForm),
    /// Several links that act as one.
    Bond(BondForm),
    /// A routing table for some links.
    Vrf {
        /// The table.
        table: u32,
    },
    /// Tunnels to other machines.
    WireGuard,
}

/// What of a bridge can be chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeForm {
    /// Whether it takes part in the spanning tree protocol.
    pub stp: bool,
    /// How long a port listens and learns, each, in hundredths of a second.
    pub forward_delay: u32,
    /// How likely it is to be the root of the tree.
    pub priority: u16,
    /// Whether it looks at VLAN tags.
    pub vlan_filtering: bool,
}

/// What of a bond can be chosen, in the numbers of `linux/if_bonding.h`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BondForm {
    /// How its links share the work.
    pub mode: u8,
    /// How often to look whether each has a carrier, in milliseconds; 0 for never.
    pub miimon: u32,
    /// How long a link that has a carrier again is waited for, in milliseconds: a multiple of `miimon`.
    pub up_delay: u32,
    /// How long a link that has lost its carrier is still used.
    pub down_delay: u32,
    /// How often to ask others by ARP whether they are there, in milliseconds; 0 for never. Never with `miimon`.
    pub arp_interval: u32,
    /// Whom to ask.
    pub arp_targets: Vec<Ipv4Addr>,
    /// Whom to ask by neighbour solicitations, as often.
    pub nd_targets: Vec<Ipv6Addr>,
    /// Of which links only answers count.
    pub arp_validate: u8,
    /// Whether the other end is asked to speak every second.
    pub lacp_fast: bool,
    /// Which parts of a packet decide which link it takes.
    pub hash_policy: u8,
}

/// A link to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewLink<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is.
    pub form: &'a LinkForm,
    /// The link that a VLAN is on.
    pub parent: Option<u32>,
    /// The name of the other end of a cable.
    pub peer: Option<&'a str>,
}

impl LinkForm {
    /// What the kernel says of a link; none for what has a device, and for forms that we make none of.
    pub(super) fn observe(info: &IterableLinkinfoAttrs<'_>) -> Option<LinkForm> {
        let kind = info.get_kind().ok()?;
        match kind.to_bytes() {
            b"dummy" => return Some(LinkForm::Dummy),
            b"veth" => return Some(LinkForm::Veth),
            b"wireguard" => return Some(LinkForm::WireGuard),
            _ => {}
        }
        match info.get_data().ok()? {
            LinkinfoDataMsg::Vlan(vlan) => Some(LinkForm::Vlan {
                id: vlan.get_id().ok()?,
                service: vlan.get_protocol().is_ok_and(|tag| TAGS.last() == Some(&tag)),
            }),
            LinkinfoDataMsg::Bridge(bridge) => Some(LinkForm::Bridge(BridgeForm {
                stp: bridge.get_stp_state().is_ok_and(|state| state != 0),
                forward_delay: bridge.get_forward_delay().unwrap_or_default(),
                priority: bridge.get_priority().unwrap_or_default(),
                vlan_filtering: bridge.get_vlan_filtering().is_ok_and(|on| on != 0),
            })),
            LinkinfoDataMsg::Bond(bond) => Some(LinkForm::Bond(BondForm {
                mode: bond.get_mode().ok()?,
                miimon: bond.get_miimon().unwrap_or_default(),
                up_delay: bond.get_updelay().unwrap_or_default(),
                down_delay: bond.get_downdelay().unwrap_or_default(),
                arp_interval: bond.get_arp_interval().unwrap_or_default(),
                arp_targets: bond.get_arp_ip_target().into_iter().flatten().collect(),
                nd_targets: (bond.get_ns_ip6_target().into_iter().flatten())
                    .filter_map(|target| <[u8; 16]>::try_from(target).ok())
                    .map(Ipv6Addr::from)
                    .collect(),
                arp_validate: bond.get_arp_validate().unwrap_or_default() as u8,
                lacp_fast: bond.get_ad_lacp_rate().is_ok_and(|rate| rate != 0),
                hash_policy: bond.get_xmit_hash_policy().unwrap_or_default(),
            })),
            LinkinfoDataMsg::Vrf(vrf) => Some(LinkForm::Vrf { table: vrf.get_table().ok()? }),
            _ => None,
        }
    }

    /// Says it in a message that makes such a link.
    fn push(&self, info: PushLinkinfoAttrs<PushLinkAttrs<&mut Vec<u8>>>, peer: Option<&str>) {
        match self {
            LinkForm::Dummy => {
                info.push_kind(c"dummy").end_nested();
            }
            LinkForm::WireGuard => {
                info.push_kind(c"wireguard").end_nested();
            }
            LinkForm::Veth => push_veth(info.push_kind(c"veth"), peer),
            LinkForm::Vlan { id, service } => {
                let [customer, outer] = TAGS;
                let tag = if *service { outer } else { customer };
                info.nested_data_vlan().push_id(*id).push_protocol(tag).end_nested();
            }
            LinkForm::Bridge(bridge) => push_bridge(info, bridge),
            LinkForm::Bond(bond) => {
                // The mode comes first: what else is allowed depends on it.
                let data = info.nested_data_bond().push_mode(bond.mode);
                let data = push_bond(data, bond);
                if bond.mode == BOND_LACP {
                    data.push_ad_lacp_rate(bond.lacp_fast.into()).end_nested();
                } else {
                    data.end_nested();
                }
            }
            LinkForm::Vrf { table } => {
                info.nested_data_vrf().push_table(*table).end_nested();
            }
        }
    }

    /// Says what can be changed while the link works.
    fn push_settings(&self, info: PushLinkinfoAttrs<PushLinkAttrs<&mut Vec<u8>>>) {
        match self {
            LinkForm::Bridge(bridge) => push_bridge(info, bridge),
            LinkForm::Bond(bond) => {
                push_bond(info.nested_data_bond(), bond).end_nested();
            }
            LinkForm::Dummy
            | LinkForm::Veth
            | LinkForm::Vlan { .. }
            | LinkForm::Vrf { .. }
            | LinkForm::WireGuard => {}
        }
    }
}

/// The link that a bond uses whenever it can, of those that are in it.
pub(super) fn primary(info: &IterableLinkinfoAttrs<'_>) -> Option<u32> {
    match info.get_data().ok()? {
        LinkinfoDataMsg::Bond(bond) => bond.get_primary().ok(),
        _ => None,
    }
}

fn push_bridge(info: PushLinkinfoAttrs<PushLinkAttrs<&mut Vec<u8>>>, bridge: &BridgeForm) {
    let data = info
        .nested_data_bridge()
        .push_forward_delay(bridge.forward_delay)
        .push_stp_state(bridge.stp.into())
        .push_priority(bridge.priority)
        .push_vlan_filtering(bridge.vlan_filtering.into());
    if bridge.vlan_filtering {
        // A link that comes in is in no VLAN before it is put into its own: not for a moment with links that it must not meet.
        data.push_vlan_default_pvid(0).end_nested();
    } else {
        data.end_nested();
    }
}

/// What of a bond can be changed while it works. The kernel takes no delays without `miimon`, and no word of ARP in the modes
/// that don't use it.
fn push_bond<P: Pusher>(
    data: PushLinkinfoBondAttrs<P>,
    bond: &BondForm,
) -> PushLinkinfoBondAttrs<P> {
    let mut data = data.push_miimon(bond.miimon).push_xmit_hash_policy(bond.hash_policy);
    if bond.miimon > 0 {
        data = data.push_updelay(bond.up_delay).push_downdelay(bond.down_delay);
    }
    if bond.mode >= BOND_LACP {
        return data;
    }
    let targets = data.push_arp_interval(bond.arp_interval).array_arp_ip_target();
    let targets = bond.arp_targets.iter().fold(targets, |targets, target| targets.entry(*target));
    let targets = targets.end_array().array_ns_ip6_target();
    let ask = |targets: PushArrayBinary<_>, target: &Ipv6Addr| targets.entry(&target.octets());
    let data = bond.nd_targets.iter().fold(targets, ask).end_array();
    data.push_arp_validate(bond.arp_validate.into())
}

/// The other end of a cable has a header and attributes of its own, which the bindings do not know.
fn push_veth(mut info: PushLinkinfoAttrs<PushLinkAttrs<&mut Vec<u8>>>, peer: Option<&str>) {
    let buffer = info.as_vec_mut();
    let data = push_nested_header(buffer, INFO_DATA);
    let end = push_nested_header(buffer, VETH_PEER);
    buffer.extend(Ifinfomsg::default().as_slice());
    let attributes = PushLinkAttrs::new(&mut *buffer).push_group(GROUP);
    match peer {
        Some(peer) => attributes.push_ifname_bytes(peer.as_bytes()).end_nested(),
        None => attributes.end_nested(),
    };
    finalize_nested_header(buffer, end);
    finalize_nested_header(buffer, data);
}

impl Netlink {
    /// Makes a link, in the group [`GROUP`].
    ///
    /// # Errors
    /// When the kernel refuses: for one when there is a link of this name, or no module for its form.
    pub fn make_link(&mut self, new: NewLink<'_>) -> Result<(), NetError> {
        let mut request =
            Request::new().set_create().set_excl().op_newlink_do(&Ifinfomsg::default());
        let mut attributes =
            request.encode().push_ifname_bytes(new.name.as_bytes()).push_group(GROUP);
        if let Some(parent) = new.parent {
            attributes = attributes.push_link(parent);
        }
        new.form.push(attributes.nested_linkinfo(), new.peer);
        self.change(&request)
            .map_err(|source| NetError::MakeLink { name: new.name.to_owned(), source })
    }

    /// Changes what of a link can be changed while it works.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn change_form(&mut self, index: u32, form: &LinkForm) -> Result<(), NetError> {
        let header = Ifinfomsg { ifi_index: index as i32, ..Ifinfomsg::default() };
        let mut request = Request::new().op_newlink_do(&header);
        form.push_settings(request.encode().nested_linkinfo());
        let change = LinkChange::Form;
        self.change(&request).map_err(|source| NetError::Link { index, change, source })
    }

    /// Removes a link; it is no error when it is gone already.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove_link(&mut self, index: u32) -> Result<(), NetError> {
        let header = Ifinfomsg { ifi_index: index as i32, ..Ifinfomsg::default() };
        let request = Request::new().op_dellink_do(&header);
        self.remove(&request).map_err(|source| NetError::RemoveLink { index, source })
    }

    /// Says which of its links a bond uses whenever it can; none for any.
    ///
    /// # Errors
    /// When the kernel refuses: for one when the mode of the bond knows no such link.
    pub fn set_primary(&mut self, index: u32, primary: Option<u32>) -> Result<(), NetError> {
        let header = Ifinfomsg { ifi_index: index as i32, ..Ifinfomsg::default() };
        let mut request = Request::new().op_newlink_do(&header);
        let bond = request.encode().nested_linkinfo().nested_data_bond();
        // No link has the index 0.
        bond.push_primary(primary.unwrap_or_default()).end_nested();
        let change = LinkChange::Form;
        self.change(&request).map_err(|source| NetError::Link { index, change, source })
    }

    /// Puts a link into another one, or takes it out of the one that it is in.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_master(&mut self, index: u32, master: Option<u32>) -> Result<(), NetError> {
        self.set_link(index, LinkChange::Master(master))
    }
}
