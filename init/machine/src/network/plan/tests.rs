// SPDX-License-Identifier: Apache-2.0
//! The plan against a kernel that is a table.

use super::{Action, plan};
use crate::network::{
    Address, Link, Observed, Route,
    desired::{Desired, DesiredLink, DesiredRoute},
    lease::{Claim, Dhcp, Lease, Report},
};
use proptest::prelude::*;
use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};
use stele_config::{Cidr, Dhcp4, MachineConfig, canonical};

/// Does what the kernel would; refuses what it would refuse.
fn apply(state: &mut Observed, action: &Action) {
    fn link(state: &mut Observed, index: u32) -> &mut Link {
        state.links.iter_mut().find(|link| link.index == index).expect("the link")
    }
    match action {
        Action::SetUp { index } => link(state, *index).up = true,
        Action::SetMtu { index, mtu } => link(state, *index).mtu = *mtu,
        Action::AddAddress { index, cidr } => {
            assert!(
                !state.addresses.iter().any(|one| (one.index, one.cidr) == (*index, *cidr)),
                "EEXIST {cidr}"
            );
            let flags = (false, false);
            let (tentative, duplicate) = flags;
            state.addresses.push(Address {
                index: *index,
                cidr: *cidr,
                ours: true,
                tentative,
                duplicate,
            });
        }
        Action::DelAddress { index, cidr } => {
            state.addresses.retain(|one| (one.index, one.cidr) != (*index, *cidr));
        }
        Action::AddRoute(route) => {
            assert!(link(state, route.index).up, "ENETDOWN");
            assert!(!state.routes.iter().any(|one| one.rivals(route)), "EEXIST {route:?}");
            state.routes.push(route.clone());
        }
        Action::DelRoute(route) => state.routes.retain(|one| !(one.ours && one.same(route))),
    }
}

fn converge(desired: &Desired, state: &mut Observed) {
    for action in plan(desired, state) {
        apply(state, &action);
    }
}

fn foreign(state: &Observed) -> (Vec<Address>, Vec<Route>) {
    let addresses = state.addresses.iter().filter(|one| !one.ours).cloned().collect();
    (addresses, state.routes.iter().filter(|one| !one.ours).cloned().collect())
}

fn link(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.to_owned(),
        mac: None,
        mtu: 1500,
        first_mtu: 1500,
        max_mtu: None,
        up: false,
        carrier: false,
        physical: name != "lo",
    }
}

fn leased(claim: Claim) -> BTreeMap<String, Dhcp> {
    let mut dhcp = Dhcp::default();
    dhcp.hear(Report::Leased(Lease::try_from(claim).expect("a lease")), Duration::ZERO);
    BTreeMap::from([("eth0".to_owned(), dhcp)])
}

fn claim() -> Claim {
    Claim {
        address: Some(Ipv4Addr::new(10, 0, 2, 15)),
        prefix: 24,
        routers: vec![Ipv4Addr::new(10, 0, 2, 2)],
        ..Claim::default()
    }
}

fn words(actions: &[Action]) -> Vec<String> {
    actions.iter().map(ToString::to_string).collect()
}

fn configured(document: &str) -> MachineConfig {
    let pem = |label: &str| format!("-----BEGIN {label}-----\\nMAA=\\n-----END {label}-----\\n");
    let (certificate, key) = (pem("CERTIFICATE"), pem("PRIVATE KEY"));
    let text = format!(
        r#"[{{"apiVersion":"stele/v1","kind":"Identity","ca":"{certificate}","certificate":"{certificate}","key":"{key}"}},
        {{"apiVersion":"stele/v2","kind":"Link",{document}}}]"#
    );
    canonical::read(text.as_bytes()).expect("a configuration")
}

#[test]
fn a_link_is_found_by_its_hardware_address() {
    let mac = Some([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    let eth0 = Link { mac, ..link(2, "eth0") };
    let bridge = Link { mac, physical: false, ..link(1, "br0") };
    let config = configured(r#""name":"up","match":{"mac":"52:54:00:12:34:56"},"dhcp4":{}"#);
    let named = |links: &[Link]| {
        let desired = Desired::derive(Some(&config), &BTreeMap::new(), links);
        desired.links.into_iter().map(|(name, link)| (name, link.document)).collect::<Vec<_>>()
    };
    let own = |name: &str| vec![(name.to_owned(), "up".to_owned())];
    assert_eq!(named(&[bridge.clone(), eth0]), own("eth0"));
    assert_eq!(named(&[bridge]), own("br0"));
    // One that happens to have the document's name is another one.
    assert_eq!(named(&[link(3, "up")]), own("52:54:00:12:34:56"));
}

#[test]
fn of_what_dhcp_brings_only_that_is_taken_which_is_wanted() {
    let links = [link(2, "eth0")];
    let routes = |dhcp4: &str| {
        let config = configured(&format!(r#""name":"eth0","dhcp4":{dhcp4}"#));
        let desired = Desired::derive(Some(&config), &leased(claim()), &links);
        let link = desired.links["eth0"].clone();
        assert_eq!(link.addresses.len(), 1);
        link.routes.iter().map(|route| route.metric).collect::<Vec<_>>()
    };
    assert_eq!(routes("{}"), [1026]);
    assert_eq!(routes(r#"{"metric":5}"#), [5]);
    assert_eq!(routes(r#"{"routes":false}"#), [0_u32; 0]);
}

#[test]
fn a_machine_without_configuration_takes_what_dhcp_brings_and_gives_it_back() {
    let mut state = Observed { links: vec![link(1, "lo"), link(2, "eth0")], ..Observed::default() };
    let desired = Desired::derive(None, &BTreeMap::new(), &state.links);
    assert_eq!(words(&plan(&desired, &state)), ["set link 1 up", "set link 2 up"]);
    assert_eq!(desired.dhcp_links(&state.links).map(|link| link.index).collect::<Vec<_>>(), [2]);
    converge(&desired, &mut state);

    let desired = Desired::derive(None, &leased(Claim { mtu: 1400, ..claim() }), &state.links);
    assert_eq!(
        words(&plan(&desired, &state)),
        [
            "set the MTU of link 2 to 1400",
            "add 10.0.2.15/24 to link 2",
            "add the route to 0.0.0.0/0 via 10.0.2.2 on link 2",
        ]
    );
    converge(&desired, &mut state);

    let desired = Desired::derive(None, &BTreeMap::new(), &state.links);
    assert_eq!(
        words(&plan(&desired, &state)),
        [
            "remove the route to 0.0.0.0/0 via 10.0.2.2 on link 2",
            "set the MTU of link 2 to 1500",
            "remove 10.0.2.15/24 from link 2",
        ]
    );
}

#[test]
fn a_new_lease_moves_the_machine_without_a_moment_without_an_address() {
    let mut state = Observed { links: vec![link(2, "eth0")], ..Observed::default() };
    converge(&Desired::derive(None, &leased(claim()), &state.links), &mut state);
    let moved = Claim { address: Some(Ipv4Addr::new(10, 0, 2, 16)), ..claim() };
    let desired = Desired::derive(None, &leased(moved), &state.links);
    assert_eq!(
        words(&plan(&desired, &state)),
        ["add 10.0.2.16/24 to link 2", "remove 10.0.2.15/24 from link 2"]
    );
}

#[test]
fn a_router_outside_the_network_is_on_the_link() {
    let state = Observed { links: vec![link(2, "eth0")], ..Observed::default() };
    let desired = Desired::derive(None, &leased(Claim { prefix: 32, ..claim() }), &state.links);
    let onlink = |action: &Action| matches!(action, Action::AddRoute(Route { onlink: true, .. }));
    assert!(plan(&desired, &state).iter().any(onlink));
}

#[test]
fn what_nobody_configured_is_left_alone() {
    let state = Observed { links: vec![link(2, "eth0"), link(3, "br0")], ..Observed::default() };
    let wanted = DesiredLink::default();
    let desired = Desired { links: BTreeMap::from([("eth9".to_owned(), wanted)]) };
    assert_eq!(plan(&desired, &state), []);
}

#[test]
fn a_foreign_route_keeps_its_place() {
    let to = "0.0.0.0/0".parse().expect("a network");
    let via = Some("10.0.2.9".parse().expect("an address"));
    let other = Route { to, via, index: 7, metric: 1026, onlink: false, ours: false };
    let mut state =
        Observed { links: vec![link(2, "eth0")], routes: vec![other], ..Observed::default() };
    let desired = Desired::derive(None, &leased(claim()), &state.links);
    converge(&desired, &mut state);
    assert_eq!((plan(&desired, &state), state.routes.len()), (vec![], 1));
}

/// Few values, so that they meet.
fn cidr() -> impl Strategy<Value = Cidr> {
    let text = prop::sample::select(vec![
        "10.0.2.15/24",
        "10.0.2.16/24",
        "10.0.2.15/32",
        "192.0.2.0/24",
        "0.0.0.0/0",
        "2001:db8::1/64",
        "::/0",
    ]);
    text.prop_map(|text| text.parse().expect("an address"))
}

fn desired_link() -> impl Strategy<Value = DesiredLink> {
    let via =
        prop::option::of(prop::sample::select(vec!["10.0.2.2", "203.0.113.1", "2001:db8::2"]))
            .prop_map(|via| via.map(|via| via.parse().expect("an address")));
    let route = (cidr(), via, 0..3_u32).prop_map(|(to, via, metric)| DesiredRoute {
        to: to.network(),
        via,
        metric: 1024 + metric,
    });
    let addresses =
        prop::collection::btree_set(cidr(), 0..4).prop_map(|set| set.into_iter().collect());
    (prop::option::of(1280..1283_u32), addresses, prop::collection::vec(route, 0..4), any::<bool>())
        .prop_map(|(mtu, addresses, routes, dhcp4)| DesiredLink {
            mtu,
            addresses,
            routes,
            dhcp4: dhcp4.then(Dhcp4::default),
            document: String::new(),
        })
}

fn desired() -> impl Strategy<Value = Desired> {
    let name = prop::sample::select(vec!["eth0", "eth1", "eth2"]).prop_map(str::to_owned);
    prop::collection::btree_map(name, desired_link(), 0..4).prop_map(|links| {
        let mut taken = std::collections::BTreeSet::new();
        let mut links: BTreeMap<_, DesiredLink> = links;
        for link in links.values_mut() {
            link.routes.retain(|route| taken.insert((route.to, route.metric)));
        }
        Desired { links }
    })
}

fn observed() -> impl Strategy<Value = Observed> {
    let links =
        prop::sample::subsequence(vec![link(1, "lo"), link(2, "eth0"), link(3, "eth1")], 0..=3);
    let address = (2..4_u32, cidr(), any::<bool>()).prop_map(|(index, cidr, ours)| Address {
        index,
        cidr,
        ours,
        tentative: false,
        duplicate: false,
    });
    let route =
        (cidr(), 2..4_u32, 0..3_u32, any::<bool>()).prop_map(|(to, index, metric, ours)| Route {
            to: to.network(),
            via: None,
            index,
            metric: 1024 + metric,
            onlink: false,
            ours,
        });
    let addresses = prop::collection::vec(address, 0..6);
    (links, addresses, prop::collection::vec(route, 0..6)).prop_map(
        |(links, mut addresses, mut routes)| {
            // What the kernel can't have at once.
            addresses.sort_by_key(|one| (one.index, one.cidr));
            addresses.dedup_by_key(|one| (one.index, one.cidr));
            routes.sort_by_key(|one| (one.to, one.metric));
            routes.dedup_by_key(|one| (one.to, one.metric));
            Observed { links, addresses, routes }
        },
    )
}

proptest! {
    #[test]
    fn a_plan_that_was_applied_leaves_nothing_to_do(
        wishes in prop::collection::vec(desired(), 1..4),
        mut state in observed(),
    ) {
        let before = foreign(&state);
        for desired in &wishes {
            converge(desired, &mut state);
            prop_assert_eq!(plan(desired, &state), vec![]);
            prop_assert_eq!(&foreign(&state), &before);
        }
        converge(&Desired::default(), &mut state);
        prop_assert!(state.addresses.iter().all(|one| !one.ours));
        prop_assert!(state.routes.iter().all(|one| !one.ours));
    }
}
