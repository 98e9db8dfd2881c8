// SPDX-License-Identifier: Apache-2.0
//! Switches.

use crate::InterfaceName;
use crate::integer::Integer;
use crate::list::List;
use crate::node::Node;
use crate::record::{Check, record};
use crate::report::Report;
use crate::span::Span;
use crate::virtual_link::{VirtualLink, VlanRange, vlan_range};
use std::time::Duration;

record! {
    /// A switch, to which links of the machine belong as ports, and which is a link itself.
    ///
    /// The document makes the link; a `Link` of the same name gives it addresses, routes, DHCP and an MTU. Its ports have
    /// none of their own.
    pub struct Bridge as "Bridge" {
        /// The name of the link.
        name: InterfaceName,
        /// Its ports.
        ports: List<BridgePort, 0, 256>,
        /// Take part in the spanning tree protocol, which keeps several switches from being a circle.
        stp: bool,
        /// How long a port listens and learns, each, before it passes packets on; with `stp` alone.
        forward_delay as "forwardDelay": Span<2, 30> = "15s",
        /// How likely it is to be the root of the tree: the lower, the more.
        priority: Integer<0, 65535> = 32768,
        /// Look at the VLAN tags of packets, and pass each on to those ports alone that are in its VLAN. Without it, tags
        /// mean nothing to the bridge.
        vlan_filtering as "vlanFiltering": bool,
        /// The VLAN in which the machine itself sends and takes packets without a tag: those of the link of this name. 0 for
        /// none; without it, 1. With `vlanFiltering` alone.
        pvid: Option<Integer<0, 4094>>,
        /// The VLANs in which the machine itself sends and takes packets with a tag, as a `VLAN` on this link does: numbers,
        /// or ranges such as `20-29`. With `vlanFiltering` alone.
        vlans: List<VlanRange, 0, 64>,
    }
}

record! {
    /// A port of the bridge.
    pub struct BridgePort as "BridgePort" {
        /// The link: its name, or that of its `Link` document.
        link: InterfaceName,
        /// The VLAN of packets without a tag, both those that come in and those that go out. 0 for none: the port is for
        /// packets with a tag alone. Without it, 1. With `vlanFiltering` alone.
        pvid: Option<Integer<0, 4094>>,
        /// The VLANs of packets with a tag: numbers, or ranges such as `20-29`. With `vlanFiltering` alone.
        vlans: List<VlanRange, 0, 64>,
    }
}

impl Bridge {
    /// The name of the link.
    #[must_use]
    pub fn name(&self) -> &InterfaceName {
        &self.name
    }

    /// Its ports.
    #[must_use]
    pub fn ports(&self) -> &[BridgePort] {
        &self.ports
    }

    /// Whether it takes part in the spanning tree protocol.
    #[must_use]
    pub fn stp(&self) -> bool {
        self.stp
    }

    /// How long a port listens and learns, each, before it passes packets on.
    #[must_use]
    pub fn forward_delay(&self) -> Duration {
        self.forward_delay.duration()
    }

    /// How likely it is to be the root of the tree.
    #[must_use]
    pub fn priority(&self) -> u16 {
        u16::try_from(self.priority.value()).unwrap_or_default()
    }

    /// Whether it looks at VLAN tags.
    #[must_use]
    pub fn vlan_filtering(&self) -> bool {
        self.vlan_filtering
    }

    /// The VLAN in which the machine itself sends and takes packets without a tag.
    #[must_use]
    pub fn pvid(&self) -> Option<u16> {
        vlan_range::native(number(self.pvid))
    }

    /// The VLANs in which it does so with a tag.
    #[must_use]
    pub fn vlans(&self) -> &[VlanRange] {
        &self.vlans
    }
}

impl BridgePort {
    /// The link.
    #[must_use]
    pub fn link(&self) -> &InterfaceName {
        &self.link
    }

    /// The VLAN of packets without a tag.
    #[must_use]
    pub fn pvid(&self) -> Option<u16> {
        vlan_range::native(number(self.pvid))
    }

    /// The VLANs of packets with a tag.
    #[must_use]
    pub fn vlans(&self) -> &[VlanRange] {
        &self.vlans
    }
}

fn number(pvid: Option<Integer<0, 4094>>) -> Option<u16> {
    pvid.and_then(|pvid| u16::try_from(pvid.value()).ok())
}

impl Check for Bridge {
    fn check(&self, node: &Node, report: &mut Report) {
        VirtualLink::Bridge(self.clone()).check_alone(node, report);
        for (index, port) in self.ports.iter().enumerate() {
            if self.ports.iter().take(index).any(|other| other.link == port.link) {
                let message = format!("{} is a port already", port.link);
                report.find_item(node, ("ports", index), message, "each link once");
            }
            if !self.vlan_filtering && (port.pvid.is_some() || !port.vlans.is_empty()) {
                let message = "VLANs of a port mean nothing to a bridge that does not look at tags";
                report.find_item(node, ("ports", index), message, "vlanFiltering: true");
            }
        }
        let own = [("pvid", self.pvid.is_some()), ("vlans", !self.vlans.is_empty())];
        for (key, _) in own.into_iter().filter(|(_, there)| *there && !self.vlan_filtering) {
            let message = "VLANs mean nothing to a bridge that does not look at tags";
            report.find_at(node, key, message, "vlanFiltering: true");
        }
        vlan_range::check(number(self.pvid), &self.vlans, node, report);
    }
}

impl Check for BridgePort {
    fn check(&self, node: &Node, report: &mut Report) {
        vlan_range::check(number(self.pvid), &self.vlans, node, report);
    }
}
