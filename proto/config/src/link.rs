// SPDX-License-Identifier: Apache-2.0
//! A network link: how one interface is set up.

use crate::integer::Integer;
use crate::list::List;
use crate::node::Node;
use crate::record::{Check, record};
use crate::report::Report;
use crate::{Cidr, InterfaceName, Route};

record! {
    /// How one network interface is set up: by DHCP, with fixed addresses, or both.
    ///
    /// A configuration has one document for each interface that it wants up. Interfaces that no document names stay
    /// down. A configuration without any `Link` document has DHCP on every physical Ethernet interface.
    pub struct Link as "Link" {
        /// The name of the interface. Each has at most one document.
        name: InterfaceName,
        /// The largest packet in bytes. Without it, what DHCP says, or else what the driver has. 1280 is the least that
        /// IPv6 works with.
        mtu: Option<Integer<1280, 9216>>,
        /// Get an IPv4 address, routes and name servers by DHCP.
        dhcp4: bool,
        /// Fixed addresses, IPv4 or IPv6, each with the prefix length of its network.
        addresses: List<Cidr, 0, 64>,
        /// Fixed routes.
        routes: List<Route, 0, 256>,
    }
}

impl Link {
    /// The name of the interface.
    #[must_use]
    pub fn name(&self) -> &InterfaceName {
        &self.name
    }

    /// The largest packet in bytes, where it is set.
    #[must_use]
    pub fn mtu(&self) -> Option<u32> {
        self.mtu.map(Integer::value)
    }

    /// True if it gets an IPv4 address by DHCP.
    #[must_use]
    pub fn dhcp4(&self) -> bool {
        self.dhcp4
    }

    /// Its fixed addresses.
    #[must_use]
    pub fn addresses(&self) -> &[Cidr] {
        &self.addresses
    }

    /// Its fixed routes.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }
}

impl Check for Link {
    fn check(&self, node: &Node, report: &mut Report) {
        for (index, address) in self.addresses.iter().map(Cidr::address).enumerate() {
            if address.is_unspecified() || address.is_multicast() {
                let message = format!("no interface can have {address}");
                report.find_item(node, ("addresses", index), message, "a unicast address");
            }
        }
    }
}
