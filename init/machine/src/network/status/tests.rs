// SPDX-License-Identifier: Apache-2.0
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
    let text: Vec<_> =
        status(&desired, &observed, &BTreeMap::from([("eth0".to_owned(), dhcp)]), &Refused::new())
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
    expect![
        "waiting It has not 192.0.2.7/24 yet: it is asking whether another machine has this address"
    ]
    .assert_eq(&tell(&[]));
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
    let address = |cidr| Address { index: 2, cidr, ours: true, tentative: false, duplicate: false };
    let tell = |addresses: Vec<Address>, refused: Refused| {
        let observed = Observed { links: vec![link(2, "eth0")], addresses, ..Observed::default() };
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
fn a_route_that_is_not_there_holds_its_link() {
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
    let told = |addresses, refused| {
        let observed = Observed { links: vec![link(2, "eth0")], addresses, ..Observed::default() };
        let all = status(&desired, &observed, &BTreeMap::new(), &refused);
        all.first().map(|one| format!("{} {}", one.state, one.reason))
    };
    let tell = |addresses| told(addresses, Refused::new());
    assert_eq!(
        tell(vec![]).as_deref(),
        Some(
            "waiting It has not the route to 10.0.0.0/8 yet: the machine has not its source 192.0.2.7"
        )
    );
    // On whichever link.
    let address = Address { index: 3, cidr, ours: true, tentative: false, duplicate: false };
    assert_eq!(tell(vec![address.clone()]).as_deref(), Some("ready "));
    let to = "10.0.0.0/8".parse().expect("a network");
    let refused = Refused::from([((2, to), "no way there".to_owned())]);
    assert_eq!(
        told(vec![address], refused).as_deref(),
        Some("waiting It has not the route to 10.0.0.0/8: no way there")
    );
}

#[test]
fn a_leased_address_that_is_being_looked_for_does_not_hold_its_link() {
    let lease = {
        let claim =
            Claim { address: Some(Ipv4Addr::new(192, 0, 2, 7)), prefix: 24, ..Claim::default() };
        Lease::try_from(claim).expect("a lease")
    };
    let cidr = lease.address();
    let wanted = DesiredLink { addresses: vec![cidr], ..DesiredLink::default() };
    let desired =
        Desired { links: BTreeMap::from([("eth0".to_owned(), wanted)]), ..Desired::default() };
    let mut dhcp = Dhcp::default();
    dhcp.four.hear(Report::Leased(lease), Duration::ZERO);
    let addresses = vec![Address { index: 2, cidr, ours: true, tentative: true, duplicate: false }];
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
    check(vec![link(2, "eth0")], Some(Report::Leased(lease)), &expect![[r#"eth0 ready "" None"#]]);
    assert_eq!(State::NoCarrier.to_string(), "no-carrier");
}
