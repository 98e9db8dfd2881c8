// SPDX-License-Identifier: Apache-2.0
//! Switches.

use crate::InterfaceName;
use crate::integer::Integer;
use crate::list::List;
use crate::node::Node;
use crate::record::{Check, record};
use crate::report::Report;
use crate::span::Span;
use crate::virtual_link::VirtualLink;
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
    }
}

record! {
    /// A port of the bridge.
    pub struct BridgePort as "BridgePort" {
        /// The link: its name, or that of its `Link` document.
        link: InterfaceName,
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
}

impl BridgePort {
    /// The link.
    #[must_use]
    pub fn link(&self) -> &InterfaceName {
        &self.link
    }
}

impl Check for Bridge {
    fn check(&self, node: &Node, report: &mut Report) {
        VirtualLink::Bridge(self.clone()).check_alone(node, report);
        for (index, port) in self.ports.iter().enumerate() {
            if self.ports.iter().take(index).any(|other| other.link == port.link) {
                let message = format!("{} is a port already", port.link);
                report.find_item(node, ("ports", index), message, "each link once");
            }
        }
    }
}

impl Check for BridgePort {}
