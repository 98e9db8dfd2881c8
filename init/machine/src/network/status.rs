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

/// Addresses that the kernel does not take on a link, by its index, with the reason.
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
    if let Some(DesiredRoute { to, source: Some(source), .. }) =
        wanted.routes.iter().find(|route| !route.has_source(observed))
    {
        let reason =
            format!("It has not the route to {to} yet: the machine has not its source {source}");
        return status(State::Waiting, &reason);
    }
    let missing = missing(desired, observed, &link.name);
    if !missing.is_empty() {
        return status(State::Ready, &format!("The machine has no {}", missing.join(", ")));
    }
    status(State::Ready, "")
}

#[cfg(test)]
mod tests {
    use super::{Refused, State, Status, Times, status};
    use crate::network::{
        Address, Link, Observed,
        desired::{Desired, DesiredLink, DesiredRoute},
        dhcp6::{Says, Why},
        fixture::link,
        lease::{Claim, Dhcp, Lease, Report},
    };
    use expect_test::{Expect, expect};
    use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};
    use stele_config::{Cidr, Mac};

    fn check(links: Vec<Link>, report: Option<Report<Lease>>, expected: &Expect) {
        let wanted =
            DesiredLink { dhcp4: Some(stele_config::Dhcp4::default()), ..DesiredLink::default() };
        let desired =
            Desired { links: BTreeMap::from([("eth0".to_owned(), wanted)]), ..Desired::default() };
        let mut dhcp = Dhcp::default();
        if let Some(report) = report {
            dhcp.four.hear(report, Duration::from_secs(3));
        }
        let duplicate = Address {
            index: 9,
            cidr: "2001:db8::1/64".parse().expect("an address"),
            ours: true,
            tentative: false,
            duplicate: true,
        };
        let observed = Observed { links, addresses: vec![duplicate], ..Observed::default() };
        let text: Vec<_> = status(
            &desired,
            &observed,
            &BTreeMap::from([("eth0".to_owned(), dhcp)]),
            &Refused::new(),
        )
        .iter()
        .map(|one| format!("{} {} {:?} {:?}", one.name, one.state, one.reason, one.since))
        .collect();
        expected.assert_eq(&text.join("\n"));
    }

    #[test]
    fn a_link_that_is_not_ready_says_why() {
        check(vec![], None, &expect![[r#"eth0 absent "The machine has no such link" None"#]]);
        let down = Link { up: false, carrier: false, ..link(2, "eth0") };
        check(vec![down], None, &expect![[r#"eth0 down "It is being set up" None"#]]);
        let unplugged = Link { carrier: false, ..link(2, "eth0") };
        check(
            vec![unplugged],
            None,
            &expect![[
                r#"eth0 no-carrier "No carrier: nothing is connected, or the other end is off" None"#
            ]],
        );
        check(
            vec![link(9, "eth0")],
            None,
            &expect![[r#"eth0 conflict "Another machine has the address 2001:db8::1" None"#]],
        );
        check(vec![link(2, "eth0")], None, &expect![[r#"eth0 waiting "Waiting for DHCP" None"#]]);
        check(
            vec![link(2, "eth0"), link(3, "eth1")],
            Some(Report::Waiting("No server answers".to_owned())),
            &expect![[r#"
                eth0 waiting "No server answers" Some(3s)
                eth1 unmanaged "" None"#]],
        );
    }

    #[test]
    fn a_server_that_only_a_router_speaks_of_holds_no_link() {
        let tell = |why6, word: &str| {
            let dhcp6 = Some(stele_config::Dhcp6::default());
            let wanted = DesiredLink { dhcp6, why6, ..DesiredLink::default() };
            let links = BTreeMap::from([("eth0".to_owned(), wanted)]);
            let desired = Desired { links, ..Desired::default() };
            let mut dhcp = Dhcp::default();
            dhcp.six.hear(Report::Waiting(word.to_owned()), Duration::ZERO);
            let observed = Observed { links: vec![link(2, "eth0")], ..Observed::default() };
            let dhcp = BTreeMap::from([("eth0".to_owned(), dhcp)]);
            let all = status(&desired, &observed, &dhcp, &Refused::new());
            all.iter().map(|one| format!("{} {}", one.state, one.reason)).collect::<String>()
        };
        let advertised = Why::Advertised(Says::Managed);
        assert_eq!(tell(Why::Configured, "No server answers"), "waiting No server answers");
        assert_eq!(tell(advertised, "No server answers"), "ready ");
    }

    #[test]
    fn a_fixed_address_that_another_machine_has_is_told_with_that_machine() {
        let (fixed, mac) = (Ipv4Addr::new(192, 0, 2, 7), Mac::from([0x52, 0x54, 0, 0, 0, 9]));
        let cidr = "192.0.2.7/24".parse().expect("an address");
        let link = link(2, "eth0");
        let tell = |said: &[Option<Mac>]| {
            let mut dhcp = Dhcp::default();
            dhcp.acd.settle(&link, &[fixed], |_| false, Duration::ZERO);
            for by in said {
                dhcp.acd.hear(fixed, *by, Duration::ZERO);
            }
            let addresses = vec![cidr];
            let withheld = dhcp.acd.withheld(&addresses);
            let wanted = DesiredLink { addresses, withheld, ..DesiredLink::default() };
            let links = BTreeMap::from([("eth0".to_owned(), wanted)]);
            let desired = Desired { links, ..Desired::default() };
            let observed = Observed { links: vec![link.clone()], ..Observed::default() };
            let dhcp = BTreeMap::from([("eth0".to_owned(), dhcp)]);
            let all = status(&desired, &observed, &dhcp, &Refused::new());
            all.iter().map(|one| format!("{} {}", one.state, one.reason)).collect::<String>()
        };
        expect!["waiting It has not 192.0.2.7/24 yet: it is asking whether another machine has this address"].assert_eq(&tell(&[]));
        expect!["conflict Another machine has the address 192.0.2.7: 52:54:00:00:00:09; it is tried again and again"].assert_eq(&tell(&[Some(mac)]));
        expect!["conflict Another machine has the address 192.0.2.7 as well: 52:54:00:00:00:09; it is kept, and defended"].assert_eq(&tell(&[None, Some(mac)]));
        assert_eq!(tell(&[Some(mac), None]), "ready ");
    }

    #[test]
    fn the_time_is_kept_while_the_state_is_the_same() {
        let mut times = Times::default();
        let mut tell = |state, own: Option<u64>, now| {
            let since = own.map(Duration::from_secs);
            let one = Status { name: "eth0".to_owned(), state, reason: String::new(), since };
            let mut all = [one];
            times.tell(&mut all, Duration::from_secs(now));
            all.first().and_then(|one| one.since).map(|since| since.as_secs())
        };
        assert_eq!(tell(State::NoCarrier, None, 3), Some(3));
        assert_eq!(tell(State::NoCarrier, None, 5), Some(3));
        assert_eq!(tell(State::Waiting, Some(4), 6), Some(4), "DHCP knows it better");
        assert_eq!(tell(State::Ready, None, 7), None);
        assert_eq!(tell(State::NoCarrier, None, 9), Some(9), "it was ready between");
    }

    #[test]
    fn an_address_that_is_missing_is_told() {
        let [four, six] = ["192.0.2.7/24", "2001:db8::7/64"].map(|text| text.parse().unwrap());
        let wanted = DesiredLink { addresses: vec![four, six], ..DesiredLink::default() };
        let desired =
            Desired { links: BTreeMap::from([("eth0".to_owned(), wanted)]), ..Desired::default() };
        let address =
            |cidr| Address { index: 2, cidr, ours: true, tentative: false, duplicate: false };
        let tell = |addresses: Vec<Address>, refused: Refused| {
            let observed =
                Observed { links: vec![link(2, "eth0")], addresses, ..Observed::default() };
            let all = status(&desired, &observed, &BTreeMap::new(), &refused);
            let text = all.iter().map(|one| format!("{} {}", one.state, one.reason));
            text.collect::<Vec<_>>().join("; ")
        };
        assert_eq!(tell(vec![address(four), address(six)], Refused::new()), "ready ");
        assert_eq!(tell(vec![], Refused::new()), "ready ", "just added");
        assert_eq!(
            tell(vec![address(six)], Refused::from([((2, four), "no room".to_owned())])),
            "waiting It has not 192.0.2.7/24: no room"
        );
        assert_eq!(
            tell(vec![address(six)], Refused::from([((3, four), "no room".to_owned())])),
            "ready ",
            "of another link"
        );
        let asking = Address { tentative: true, ..address(six) };
        assert_eq!(
            tell(vec![address(four), asking.clone()], Refused::new()),
            "waiting It has not 2001:db8::7/64 yet: it is asking whether another machine has this address"
        );
        let duplicate = Address { duplicate: true, ..asking };
        assert_eq!(
            tell(vec![address(four), duplicate], Refused::new()),
            "conflict Another machine has the address 2001:db8::7"
        );
    }

    #[test]
    fn a_route_whose_source_the_machine_has_not_holds_its_link() {
        let cidr: Cidr = "192.0.2.7/24".parse().expect("an address");
        let route = DesiredRoute {
            to: "10.0.0.0/8".parse().expect("a network"),
            via: None,
            metric: 0,
            table: None,
            source: Some(cidr.address()),
            nowhere: None,
        };
        let wanted = DesiredLink { routes: vec![route], ..DesiredLink::default() };
        let desired =
            Desired { links: BTreeMap::from([("eth0".to_owned(), wanted)]), ..Desired::default() };
        let tell = |addresses| {
            let observed =
                Observed { links: vec![link(2, "eth0")], addresses, ..Observed::default() };
            let all = status(&desired, &observed, &BTreeMap::new(), &Refused::new());
            all.first().map(|one| format!("{} {}", one.state, one.reason))
        };
        assert_eq!(
            tell(vec![]).as_deref(),
            Some(
                "waiting It has not the route to 10.0.0.0/8 yet: the machine has not its source 192.0.2.7"
            )
        );
        // On whichever link.
        let address = Address { index: 3, cidr, ours: true, tentative: false, duplicate: false };
        assert_eq!(tell(vec![address]).as_deref(), Some("ready "));
    }

    #[test]
    fn a_leased_address_that_is_being_looked_for_does_not_hold_its_link() {
        let lease = {
            let claim = Claim {
                address: Some(Ipv4Addr::new(192, 0, 2, 7)),
                prefix: 24,
                ..Claim::default()
            };
            Lease::try_from(claim).expect("a lease")
        };
        let cidr = lease.address();
        let wanted = DesiredLink { addresses: vec![cidr], ..DesiredLink::default() };
        let desired =
            Desired { links: BTreeMap::from([("eth0".to_owned(), wanted)]), ..Desired::default() };
        let mut dhcp = Dhcp::default();
        dhcp.four.hear(Report::Leased(lease), Duration::ZERO);
        let addresses =
            vec![Address { index: 2, cidr, ours: true, tentative: true, duplicate: false }];
        let observed = Observed { links: vec![link(2, "eth0")], addresses, ..Observed::default() };
        let dhcp = BTreeMap::from([("eth0".to_owned(), dhcp)]);
        let all = status(&desired, &observed, &dhcp, &Refused::new());
        assert_eq!(all.first().map(|one| one.state), Some(State::Ready));
    }

    #[test]
    fn a_link_with_a_lease_is_ready() {
        let claim =
            Claim { address: Some(Ipv4Addr::new(10, 0, 2, 15)), prefix: 24, ..Claim::default() };
        let lease = Lease::try_from(claim).expect("a lease");
        check(
            vec![link(2, "eth0")],
            Some(Report::Leased(lease)),
            &expect![[r#"eth0 ready "" None"#]],
        );
        assert_eq!(State::NoCarrier.to_string(), "no-carrier");
    }
}
