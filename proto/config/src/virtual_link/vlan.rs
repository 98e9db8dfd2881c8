// SPDX-License-Identifier: Apache-2.0
//! One of the networks that share a link.

use crate::InterfaceName;
use crate::choice::choice;
use crate::integer::Integer;
use crate::node::Node;
use crate::record::{Check, record};
use crate::report::Report;
use crate::virtual_link::VirtualLink;

record! {
    /// One of the networks that share a link, told apart by a tag in each packet.
    ///
    /// The document makes the link; a `Link` of the same name gives it addresses, routes, DHCP and an MTU.
    pub struct Vlan as "VLAN" {
        /// The name of the link.
        name: InterfaceName,
        /// The link that the packets with a tag are on: its name, or that of its `Link` document.
        link: InterfaceName,
        /// The number of the network.
        id: Integer<1, 4094>,
        /// The tag: `802.1ad` is the outer one of two.
        protocol: VlanProtocol = "802.1q",
    }
}

choice! {
    /// The form of a tag.
    pub enum VlanProtocol {
        /// The usual one.
        Customer = "802.1q",
        /// The outer one of two.
        Service = "802.1ad",
    }
}

impl Vlan {
    /// The name of the link.
    #[must_use]
    pub fn name(&self) -> &InterfaceName {
        &self.name
    }

    /// The link that the packets with a tag are on.
    #[must_use]
    pub fn link(&self) -> &InterfaceName {
        &self.link
    }

    /// The number of the network.
    #[must_use]
    pub fn id(&self) -> u16 {
        u16::try_from(self.id.value()).unwrap_or_default()
    }

    /// The form of the tag.
    #[must_use]
    pub fn protocol(&self) -> VlanProtocol {
        self.protocol
    }

    /// Whether another one is the same network of the same link.
    pub(crate) fn same_network(&self, other: &Vlan) -> bool {
        (&self.link, self.id, self.protocol) == (&other.link, other.id, other.protocol)
    }
}

impl Check for Vlan {
    fn check(&self, node: &Node, report: &mut Report) {
        VirtualLink::Vlan(self.clone()).check_alone(node, report);
    }
}
