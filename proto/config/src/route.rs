// SPDX-License-Identifier: Apache-2.0
//! A route of a link.

use crate::Cidr;
use crate::choice::choice;
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
        /// The address that the machine's own packets have that take this route, one that it has itself: the route is there while
        /// that is. Without it, the kernel chooses.
        pub source: Option<IpAddr>,
        /// Have the network lead nowhere. Without it, it leads to the gateway or the link.
        pub leads as "type": Option<RouteType>,
    }
}

choice! {
    /// How a network leads nowhere.
    pub enum RouteType {
        /// Packets to it are gone.
        Blackhole = "blackhole",
        /// Whoever sends one is told that nobody is there.
        Unreachable = "unreachable",
        /// Whoever sends one is told that he may not.
        Prohibit = "prohibit",
    }
}

impl Check for Route {
    fn check(&self, node: &Node, report: &mut Report) {
        let network = self.to.network();
        if network != self.to {
            let message = format!("{} has host bits", self.to);
            report.find_at(node, "to", message, network.to_string());
        }
        if let (Some(kind), true) = (self.leads, self.via.is_some() || self.source.is_some()) {
            let message =
                format!("a route of type {kind} leads nowhere, and has no via and no source");
            report.find_at(node, "type", message, "a route without them, or without type");
        }
        if let Some(source) = self.source {
            if source.is_ipv4() != self.to.address().is_ipv4() {
                let message = format!("{source} and {} are of different address families", self.to);
                report.find_at(node, "source", message, family(self.to));
            }
            if source.is_unspecified() || source.is_multicast() {
                let message = format!("no machine can have {source}");
                report.find_at(node, "source", message, "an address of this machine");
            }
        }
        let Some(via) = self.via else { return };
        if via.is_ipv4() != self.to.address().is_ipv4() {
            let message = format!("{via} and {} are of different address families", self.to);
            report.find_at(node, "via", message, family(self.to));
        }
        if via.is_unspecified() || via.is_multicast() {
            let message = format!("{via} is no gateway");
            report.find_at(node, "via", message, "the address of a router");
        }
    }
}

/// What an address for this network would be.
fn family(to: Cidr) -> &'static str {
    if to.address().is_ipv4() { "an IPv4 address" } else { "an IPv6 address" }
}
