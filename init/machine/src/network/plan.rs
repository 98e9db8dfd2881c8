// SPDX-License-Identifier: Apache-2.0
//! The steps from what the links have to what they should have.
//!
//! The order is chosen for the connection that carries the change: what stays is not touched, what is new comes before what
//! is old goes. Only routes go first, because the kernel has room for one of each network and metric. The kernel must be told
//! to keep the other addresses of a network when its first one goes (`net.ipv4.conf.all.promote_secondaries`). While it is asked
//! whether a new IPv4 address is another machine's, what is old stays: see [`super::acd`].

use super::{
    Address, Observed, Route,
    desired::Desired,
    rules::{self, Rule},
    virtual_link::{self, Form},
    vlans::{self, Range},
};
use std::{collections::BTreeSet, fmt};
use stele_config::{Cidr, Table};

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make a link; what else it should have comes once it is there.
    MakeLink {
        /// Its name.
        name: String,
        /// What it is.
        form: Form,
        /// The link that it is on.
        parent: Option<u32>,
    },
    /// Change what a link of ours is, while it works.
    ChangeForm {
        /// The link.
        index: u32,
        /// What it should be.
        form: Form,
    },
    /// Remove a link that is ours.
    RemoveLink {
        /// The link.
        index: u32,
    },
    /// Set a link down, for as long as it takes to come into another one.
    SetDown {
        /// The link.
        index: u32,
    },
    /// Put a link into another one, or take it out of one of ours.
    SetMaster {
        /// The link.
        index: u32,
        /// What it should be in.
        master: Option<u32>,
    },
    /// Have a bond of ours use a link whenever it can, or any.
    SetPrimary {
        /// The bond.
        index: u32,
        /// The link.
        primary: Option<u32>,
    },
    /// Put a link into VLANs of the bridge that it is or is in, in one way, whatever it was before.
    AddVlans {
        /// The link.
        index: u32,
        /// Whether it is the bridge.
        bridge: bool,
        /// The VLANs.
        range: Range,
    },
    /// Take a link out of VLANs.
    DelVlans {
        /// The link.
        index: u32,
        /// Whether it is the bridge.
        bridge: bool,
        /// The VLANs; how it was in them does not matter.
        range: Range,
    },
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
    /// Add a routing rule that is ours.
    AddRule(Rule),
    /// Remove a routing rule that is ours.
    DelRule(Rule),
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
            if route.nowhere.is_some() {
                return f.write_str(", which leads nowhere");
            }
            write!(f, " on link {}", route.index)
        };
        match self {
            Self::MakeLink { name, form, .. } => write!(f, "make the {} {name}", form.kind()),
            Self::ChangeForm { index, form } => write!(f, "change the {} {index}", form.kind()),
            Self::RemoveLink { index } => write!(f, "remove link {index}"),
            Self::SetDown { index } => write!(f, "set link {index} down"),
            Self::SetMaster { index, master: Some(master) } => {
                write!(f, "put link {index} into link {master}")
            }
            Self::SetMaster { index, master: None } => write!(f, "take link {index} out"),
            Self::SetPrimary { index, primary: Some(primary) } => {
                write!(f, "prefer link {primary} in link {index}")
            }
            Self::SetPrimary { index, primary: None } => {
                write!(f, "prefer no link in link {index}")
            }
            Self::AddVlans { index, range, .. } => {
                let how = if range.membership.untagged { ", without a tag" } else { "" };
                write!(f, "put link {index} into VLAN {range}{how}")
            }
            Self::DelVlans { index, range, .. } => {
                write!(f, "take link {index} out of VLAN {range}")
            }
            Self::DelRoute(old) => route(f, "remove", old),
            Self::SetUp { index } => write!(f, "set link {index} up"),
            Self::SetMtu { index, mtu } => write!(f, "set the MTU of link {index} to {mtu}"),
            Self::AddAddress { index, cidr } => write!(f, "add {cidr} to link {index}"),
            Self::AddRoute(new) => route(f, "add", new),
            Self::AddRule(new) => {
                write!(f, "add the routing rule {} to table {}", new.priority, new.table)
            }
            Self::DelRule(old) => {
                write!(f, "remove the routing rule {} to table {}", old.priority, old.table)
            }
            Self::DelAddress { index, cidr } => write!(f, "remove {cidr} from link {index}"),
        }
    }
}

/// Decides; touches nothing. Empty when everything is as it should be.
///
/// Links of ours that nobody wants go first and alone: what was in them is looked at again without them.
#[must_use]
pub fn plan(desired: &Desired, observed: &Observed) -> Vec<Action> {
    let removed = virtual_link::remove(desired, observed);
    if !removed.is_empty() {
        return removed;
    }
    let made = virtual_link::make(desired, observed);
    let joined = virtual_link::join(desired, observed);
    let set_up = set_up(desired, observed, &joined);
    let (addresses, routes) = wanted(desired, observed);

    let wanted_routes: BTreeSet<_> = routes.iter().map(Route::key).collect();
    let there: BTreeSet<_> = observed.routes.iter().map(Route::key).collect();
    // A route that is somebody else's stays, whether it is the same or only takes the place.
    let taken: BTreeSet<_> =
        observed.routes.iter().filter(|old| !old.ours).map(Route::place).collect();
    // A link of which it is undecided what it may have keeps what it had, as far as there is room for it.
    let undecided = |index: u32| {
        let link = observed.links.iter().find(|link| link.index == index);
        link.and_then(|link| desired.links.get(&link.name)).filter(|link| link.is_undecided())
    };
    let places: BTreeSet<_> = routes.iter().map(Route::place).collect();
    let kept = |old: &Route| {
        let four = old.to.address().is_ipv4();
        four && !places.contains(&old.place()) && undecided(old.index).is_some()
    };
    let old_routes = observed
        .routes
        .iter()
        .filter(|old| old.ours && !wanted_routes.contains(&old.key()) && !kept(old))
        .map(|old| Action::DelRoute(old.clone()));
    let new_routes = routes
        .iter()
        .filter(|new| !there.contains(&new.key()) && !taken.contains(&new.place()))
        .map(|new| Action::AddRoute(new.clone()));

    let wanted_addresses: BTreeSet<_> = addresses.iter().collect();
    let there: BTreeSet<_> = observed.addresses.iter().map(|old| (old.index, old.cidr)).collect();
    let new_addresses = addresses
        .iter()
        .filter(|new| !there.contains(new))
        .map(|(index, cidr)| Action::AddAddress { index: *index, cidr: *cidr });
    let kept = |old: &Address| {
        let four = old.cidr.address().is_ipv4();
        four && undecided(old.index).is_some_and(|link| !link.withholds(&old.cidr))
    };
    let old_addresses = observed
        .addresses
        .iter()
        .filter(|old| old.ours && !wanted_addresses.contains(&(old.index, old.cidr)) && !kept(old))
        .map(|old| Action::DelAddress { index: old.index, cidr: old.cidr });
    made.into_iter()
        .chain(joined.iter().cloned())
        .chain(virtual_link::prefer(desired, observed))
        .chain(vlans::plan(desired, observed))
        .chain(old_routes)
        .chain(set_up)
        .chain(new_addresses)
        .chain(new_routes)
        .chain(rules::plan(desired, observed))
        .chain(old_addresses)
        .collect()
}

/// Which links get another MTU, and which are set up.
fn set_up(desired: &Desired, observed: &Observed, joined: &[Action]) -> Vec<Action> {
    let mut actions = Vec::new();
    for link in &observed.links {
        let index = link.index;
        let Some(wanted) = desired.links.get(&link.name) else {
            // The loopback is wanted by everybody; it only has to be up.
            if link.name == "lo" && !link.up {
                actions.push(Action::SetUp { index });
            }
            continue;
        };
        let whole = wanted.master.as_ref().and_then(|name| desired.made.get(name));
        let form = desired.made.get(&link.name);
        // In and below other links the kernel may choose it.
        let follows =
            form.is_some_and(Form::follows_mtu) || matches!(whole, Some(Form::Bond { .. }));
        let mtu = wanted.mtu.unwrap_or(if follows { link.mtu } else { link.first_mtu });
        if mtu != link.mtu {
            actions.push(Action::SetMtu { index, mtu });
        }
        let below = match form {
            Some(Form::Vlan { link, .. }) => observed.link(link).is_some_and(|below| below.up),
            Some(_) | None => true,
        };
        // A bond sets what comes into it up by itself.
        let bonded = matches!(whole, Some(Form::Bond { .. }))
            && joined.iter().any(
                |join| matches!(join, Action::SetMaster { index: other, .. } if *other == index),
            );
        if !link.up && below && !bonded {
            actions.push(Action::SetUp { index });
        }
    }
    actions
}

/// The addresses and routes of the links that are there. Networks on the link come first: the routers of the others may be in
/// them.
fn wanted(desired: &Desired, observed: &Observed) -> (Vec<(u32, Cidr)>, Vec<Route>) {
    let mut addresses = Vec::new();
    let mut routes = Vec::new();
    let nowhere = observed.link("lo").map(|lo| lo.index);
    for link in &observed.links {
        let Some(wanted) = desired.links.get(&link.name) else { continue };
        let kept = wanted.addresses.iter().filter(|cidr| !wanted.withholds(cidr));
        addresses.extend(kept.map(|cidr| (link.index, *cidr)));
        for route in &wanted.routes {
            let index = if route.nowhere.is_some() { nowhere } else { Some(link.index) };
            let Some(index) = index.filter(|_| route.has_source(observed)) else { continue };
            let near = |via| wanted.addresses.iter().any(|cidr| cidr.contains(via));
            routes.push(Route {
                to: route.to,
                via: route.via,
                index,
                metric: route.metric,
                // Some clouds give an address of its own network, and a router outside it.
                onlink: route.via.is_some_and(|via| via.is_ipv4() && !near(via)),
                table: route.table.unwrap_or(Table::MAIN.number()),
                source: route.source,
                nowhere: route.nowhere,
                ours: true,
            });
        }
    }
    routes.sort_by_key(|route| route.via.is_some());
    (addresses, routes)
}

#[cfg(test)]
mod tests;
