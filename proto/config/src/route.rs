// SPDX-License-Identifier: Apache-2.0
//! A route of a link.

use crate::Cidr;
use crate::node::Node;
use crate::record::{Check, record};
use crate::report::Report;
use crate::table::Table;
use std::net::IpAddr;

record! {
    /// A route of a link.
    pub struct Route as "Route" {
        /// The network it leads to: an address and prefix length without host bits. `0.0.0.0/0` and `::/0` are the
        /// default routes.
        pub to: Cidr,
        /// The gateway, of the same address family. Without it, the network is on the link itself.
        pub via: Option<IpAddr>,
        /// The metric: of two routes to the same network the kernel takes the one with the lower.
        pub metric: Option<u32>,
        /// The routing table that it is in. Without it, that of the link's `VRF`, or else the main one, 254. Others are looked
        /// at when a `RoutingRule` says so.
        pub table: Option<Table>,
    }
}

impl Check for Route {
    fn check(&self, node: &Node, report: &mut Report) {
        let network = self.to.network();
        if network != self.to {
            let message = format!("{} has host bits", self.to);
            report.find_at(node, "to", message, network.to_string());
        }
        let Some(via) = self.via else { return };
        if via.is_ipv4() != self.to.address().is_ipv4() {
            let message = format!("{via} and {} are of different address families", self.to);
            let expected = if via.is_ipv4() { "an IPv6 address" } else { "an IPv4 address" };
            report.find_at(node, "via", message, expected);
        }
        if via.is_unspecified() || via.is_multicast() {
            let message = format!("{via} is no gateway");
            report.find_at(node, "via", message, "the address of a router");
        }
    }
}
