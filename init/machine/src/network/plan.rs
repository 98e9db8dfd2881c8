// SPDX-License-Identifier: Apache-2.0
//! The steps from what the links have to what they should have.
//!
//! The order is chosen for the connection that carries the change: what stays is not touched, what is new comes before what
//! is old goes. Only routes go first, because the kernel has room for one of each network and metric. The kernel must be told
//! to keep the other addresses of a network when its first one goes (`net.ipv4.conf.all.promote_secondaries`).

use super::{Observed, Route, desired::Desired};
use std::fmt;
use stele_config::Cidr;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Remove a route that is ours.
    DelRoute(Route),
    /// Set a link up.
    SetUp {
        /// The link.
        index: u32,
    },
    /// Set the MTU of a link.
    SetMtu {
        /// The link.
        index: u32,
        /// The largest packet.
        mtu: u32,
    },
    /// Add an address that is ours.
    AddAddress {
        /// The link.
        index: u32,
        /// The address.
        cidr: Cidr,
    },
    /// Add a route that is ours.
    AddRoute(Route),
    /// Remove an address that is ours.
    DelAddress {
        /// The link.
        index: u32,
        /// The address.
        cidr: Cidr,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let route = |f: &mut fmt::Formatter<'_>, verb, route: &Route| {
            write!(f, "{verb} the route to {}", route.to)?;
            route.via.map_or(Ok(()), |via| write!(f, " via {via}"))?;
            write!(f, " on link {}", route.index)
        };
        match self {
            Self::DelRoute(old) => route(f, "remove", old),
            Self::SetUp { index } => write!(f, "set link {index} up"),
            Self::SetMtu { index, mtu } => write!(f, "set the MTU of link {index} to {mtu}"),
            Self::AddAddress { index, cidr } => write!(f, "add {cidr} to link {index}"),
            Self::AddRoute(new) => route(f, "add", new),
            Self::DelAddress { index, cidr } => write!(f, "remove {cidr} from link {index}"),
        }
    }
}

/// Decides; touches nothing. Empty when everything is as it should be.
#[must_use]
pub fn plan(desired: &Desired, observed: &Observed) -> Vec<Action> {
    let mut up = Vec::new();
    let mut addresses: Vec<(u32, Cidr)> = Vec::new();
    let mut routes = Vec::new();
    for link in &observed.links {
        let Some(wanted) = desired.links.get(&link.name) else {
            // The loopback is wanted by everybody; it only has to be up.
            if link.name == "lo" && !link.up {
                up.push(Action::SetUp { index: link.index });
            }
            continue;
        };
        let mtu = wanted.mtu.unwrap_or(link.first_mtu);
        if mtu != link.mtu {
            up.push(Action::SetMtu { index: link.index, mtu });
        }
        if !link.up {
            up.push(Action::SetUp { index: link.index });
        }
        addresses.extend(wanted.addresses.iter().map(|cidr| (link.index, *cidr)));
        for route in &wanted.routes {
            let near = |via| wanted.addresses.iter().any(|cidr| cidr.contains(via));
            routes.push(Route {
                to: route.to,
                via: route.via,
                index: link.index,
                metric: route.metric,
                // Some clouds give an address of its own network, and a router outside it.
                onlink: route.via.is_some_and(|via| via.is_ipv4() && !near(via)),
                ours: true,
            });
        }
    }
    // Networks on the link come first: the routers of the others may be in them.
    routes.sort_by_key(|route| route.via.is_some());
    let old_routes = observed
        .routes
        .iter()
        .filter(|old| old.ours && !routes.iter().any(|new| new.same(old)))
        .map(|old| Action::DelRoute(old.clone()));
    let new_addresses = addresses
        .iter()
        .filter(|(index, cidr)| {
            !observed.addresses.iter().any(|old| (old.index, old.cidr) == (*index, *cidr))
        })
        .map(|(index, cidr)| Action::AddAddress { index: *index, cidr: *cidr });
    let new_routes = routes
        .iter()
        // A route that is somebody else's stays, whether it is the same or only takes the place.
        .filter(|new| {
            !observed.routes.iter().any(|old| new.same(old) || (!old.ours && new.rivals(old)))
        })
        .map(|new| Action::AddRoute(new.clone()));
    let old_addresses = observed
        .addresses
        .iter()
        .filter(|old| old.ours && !addresses.contains(&(old.index, old.cidr)))
        .map(|old| Action::DelAddress { index: old.index, cidr: old.cidr });
    old_routes.chain(up).chain(new_addresses).chain(new_routes).chain(old_addresses).collect()
}

#[cfg(test)]
mod tests;
