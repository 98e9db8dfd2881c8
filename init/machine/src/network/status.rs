// SPDX-License-Identifier: Apache-2.0
//! Each link's state, with its reason.

use super::{
    Link, Observed, delegation,
    desired::{Desired, DesiredLink, DesiredRoute},
    lease::Dhcp,
    virtual_link::Form,
};
use std::{collections::BTreeMap, fmt, time::Duration};
use stele_config::Cidr;

/// The state of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nobody configured it; it is left as it is.
    Unmanaged,
    /// It is configured, but the machine does not have it.
    Absent,
    /// It is not up (yet).
    Down,
    /// Nothing is plugged in at the other end, or the other end is off.
    NoCarrier,
    /// Another machine has an address of it, or somebody else made a link of its name.
    Conflict,
    /// It has no lease yet, or an address or a route is missing, or it is not in the link that it should be in.
    Waiting,
    /// It has what it should have.
    Ready,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unmanaged => "unmanaged",
            Self::Absent => "absent",
            Self::Down => "down",
            Self::NoCarrier => "no-carrier",
            Self::Conflict => "conflict",
            Self::Waiting => "waiting",
            Self::Ready => "ready",
        })
    }
}

/// What there is to say about a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: State,
    /// Why, in a sentence; empty when there is nothing to explain.
    pub reason: String,
    /// Since when it is not as it should be, as time since boot.
    pub since: Option<Duration>,
}

/// Since when each link has been in its state.
#[derive(Debug, Default)]
pub struct Times(BTreeMap<String, (State, Duration)>);

impl Times {
    /// Adds to each link that is not as it should be since when that is so, unless it is known better.
    pub fn tell(&mut self, all: &mut [Status], now: Duration) {
        let before = std::mem::take(&mut self.0);
        for Status { name, state, since, .. } in all {
            let entered = before.get(name).filter(|(old, _)| old == state).map(|(_, at)| *at);
            let entered = entered.unwrap_or(now);
            self.0.insert(name.clone(), (*state, entered));
            if !matches!(state, State::Unmanaged | State::Ready) {
                since.get_or_insert(entered);
            }
        }
    }
}

/// Addresses, and the networks of routes, that the kernel does not take on a link, by its index, with the reason.
pub type Refused = BTreeMap<(u32, Cidr), String>;

/// Says how each link is that the machine has or should have: those that it has by index, then the others.
#[must_use]
pub fn status(
    desired: &Desired,
    observed: &Observed,
    dhcp: &BTreeMap<String, Dhcp>,
    refused: &Refused,
) -> Vec<Status> {
    let here = |name: &str| observed.links.iter().any(|link| link.name == name);
    let absent = desired.links.keys().filter(|name| !here(name)).map(|name| Status {
        name: name.clone(),
        state: State::Absent,
        reason: absence(desired, observed, name),
        since: None,
    });
    let present = observed.links.iter().map(|link| one(desired, observed, dhcp, refused, link));
    present.chain(absent).collect()
}

/// Why the machine has no such link.
fn absence(desired: &Desired, observed: &Observed, name: &str) -> String {
    match desired.made.get(name) {
        None => "The machine has no such link".to_owned(),
        Some(Form::Vlan { link, .. }) if observed.link(link).is_none() => {
            format!("It is on {link}, which the machine does not have")
        }
        Some(form) => format!("The {} is not made yet", form.kind()),
    }
}

/// Those of its links that the machine does not have.
fn missing(desired: &Desired, observed: &Observed, name: &str) -> Vec<String> {
    let inside = desired.links.iter().filter(|(_, link)| link.master.as_deref() == Some(name));
    let absent = inside.filter(|(member, _)| observed.link(member).is_none());
    absent.map(|(member, _)| member.clone()).collect()
}

/// What there is to say about the addresses that it should have and can't use. One that was added a moment ago is there.
fn unusable(
    wanted: &DesiredLink,
    observed: &Observed,
    dhcp: &Dhcp,
    refused: &Refused,
    link: &Link,
) -> Option<String> {
    let leased = |cidr: &Cidr| dhcp.gives(cidr) || wanted.has_delegated(cidr);
    let asking = |cidr: &Cidr| {
        wanted.withheld.iter().any(|(withheld, why)| withheld == cidr && why.by.is_none())
    };
    let unusable = |cidr: &Cidr| {
        let mut there = observed.addresses.iter().filter(|address| address.index == link.index);
        match there.find(|address| address.cidr == *cidr) {
            Some(address) if address.tentative && !leased(cidr) => Some(format!(
                "It has not {cidr} yet: it is asking whether another machine has this address"
            )),
            Some(_) => None,
            None if asking(cidr) => Some(format!(
                "It has not {cidr} yet: it is asking whether another machine has this address"
            )),
            None => {
                let why = refused.get(&(link.index, *cidr))?;
                Some(format!("It has not {cidr}: {why}"))
            }
        }
    };
    let all: Vec<_> = wanted.addresses.iter().filter_map(unusable).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// Why it has not a route that it should have. One that was added a moment ago is there.
fn unroutable(
    route: &DesiredRoute,
    observed: &Observed,
    refused: &Refused,
    link: &Link,
) -> Option<String> {
    let to = route.to;
    match route.source.filter(|_| !route.has_source(observed)) {
        Some(source) => Some(format!(
            "It has not the route to {to} yet: the machine has not its source {source}"
        )),
        None => {
            let why = refused.get(&(link.index, to))?;
            Some(format!("It has not the route to {to}: {why}"))
        }
    }
}

/// Who else has its fixed IPv4 addresses.
fn rivalled(wanted: &DesiredLink, dhcp: Option<&Dhcp>) -> Option<String> {
    let taken = wanted.withheld.iter().filter_map(|(cidr, why)| {
        let (address, by) = (cidr.address(), why.by?);
        Some(format!(
            "Another machine has the address {address}: {by}; it is tried again and again"
        ))
    });
    let contested = dhcp.into_iter().flat_map(|dhcp| dhcp.acd.rivals()).map(|(address, by)| {
        format!("Another machine has the address {address} as well: {by}; it is kept, and defended")
    });
    let all: Vec<_> = taken.chain(contested).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

fn one(
    desired: &Desired,
    observed: &Observed,
    dhcp: &BTreeMap<String, Dhcp>,
    refused: &Refused,
    link: &Link,
) -> Status {
    let status = |state, reason: &str| Status {
        name: link.name.clone(),
        state,
        reason: reason.to_owned(),
        since: None,
    };
    let Some(wanted) = desired.links.get(&link.name) else {
        return status(State::Unmanaged, "");
    };
    if desired.made.contains_key(&link.name) && !link.ours {
        return status(State::Conflict, "Somebody else made a link of this name");
    }
    let whole = wanted.master.as_ref();
    if let Some(whole) = whole
        && observed.link(whole).is_none_or(|whole| link.master != Some(whole.index))
    {
        return status(State::Waiting, &format!("It is not in {whole} yet"));
    }
    if wanted.vlans.is_some() && wanted.vlans != link.vlans {
        return status(State::Waiting, "It is not in its VLANs yet");
    }
    if !link.up {
        return status(State::Down, "It is being set up");
    }
    if !link.carrier {
        return status(
            State::NoCarrier,
            "No carrier: nothing is connected, or the other end is off",
        );
    }
    let duplicate = |address: &&super::Address| address.index == link.index && address.duplicate;
    if let Some(address) = observed.addresses.iter().find(duplicate) {
        let reason = format!("Another machine has the address {}", address.cidr.address());
        return status(State::Conflict, &reason);
    }
    if let Some(reason) = rivalled(wanted, dhcp.get(&link.name)) {
        return status(State::Conflict, &reason);
    }
    let unnetworked = delegation::lack(wanted, dhcp);
    let unknown = Dhcp::default();
    let dhcp = dhcp.get(&link.name).unwrap_or(&unknown);
    let missing4 = wanted.dhcp4.is_some() && dhcp.four.lease.is_none();
    let missing6 = wanted.dhcp6.is_some() && dhcp.six.lease.is_none();
    let missing6 = missing6 && wanted.why6.counts();
    let awaited = [
        missing4.then_some((&dhcp.four.word, dhcp.four.since, "Waiting for DHCP")),
        missing6.then_some((&dhcp.six.word, dhcp.six.since, "Waiting for DHCPv6")),
    ];
    match awaited.into_iter().flatten().next() {
        None => {}
        Some((word, _, otherwise)) if word.is_empty() => {
            return status(State::Waiting, otherwise);
        }
        Some((word, since, _)) => {
            return Status { since: Some(since), ..status(State::Waiting, word) };
        }
    }
    if let Some(reason) = unnetworked {
        return status(State::Waiting, &reason);
    }
    if let Some(reason) = unusable(wanted, observed, dhcp, refused, link) {
        return status(State::Waiting, &reason);
    }
    if let Some(reason) =
        wanted.routes.iter().find_map(|route| unroutable(route, observed, refused, link))
    {
        return status(State::Waiting, &reason);
    }
    let missing = missing(desired, observed, &link.name);
    if !missing.is_empty() {
        return status(State::Ready, &format!("The machine has no {}", missing.join(", ")));
    }
    status(State::Ready, "")
}

#[cfg(test)]
mod tests;
