// SPDX-License-Identifier: Apache-2.0
//! The plan against a kernel that is a table.

use super::{Action, plan};
use crate::network::{
    Address, Link, Observed, Route,
    acd::Withheld,
    desired::{Desired, DesiredLink, DesiredRoute},
    dhcp6::{Says, Why},
    fixture,
    given::{Given, Giver},
    lease::{Claim, Dhcp, Lease, Report},
    lease6::{Claim6, Lease6},
    virtual_link::Form,
    vlans::{Membership, Range, Vlans},
    wanted::Wanted,
};
use proptest::prelude::*;
use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};
use stele_config::{Cidr, Device, Dhcp4, MachineConfig, RouteType, canonical};

/// Does what the kernel would; refuses what it would refuse.
fn apply(state: &mut Observed, action: &Action) {
    act(state, action);
    let looks = |link: &&Link| {
        link.ours && matches!(link.form, Some(Form::Bridge { vlan_filtering: true, .. }))
    };
    let bridges: Vec<u32> = state.links.iter().filter(looks).map(|link| link.index).collect();
    let masters: Vec<_> = state.links.iter().map(|link| (link.index, link.master)).collect();
    for link in &mut state.links {
        // A bond forgets what has left it.
        let here = |primary: &u32| masters.contains(&(*primary, Some(link.index)));
        link.primary = link.primary.filter(here);
        let inside = bridges.contains(&link.index)
            || link.master.is_some_and(|master| bridges.contains(&master));
        link.vlans = inside.then(|| link.vlans.take().unwrap_or_default());
    }
}

/// VLANs of packets without a tag.
fn all_native<const COUNT: usize>(ids: [u16; COUNT]) -> Vlans {
    let membership = Membership { untagged: true, native: true };
    ids.into_iter().map(|id| Range { first: id, last: id, membership }).collect()
}

/// Each VLAN alone.
fn each(vlans: &Vlans) -> Vec<Range> {
    let native = vlans.native().map(|id| Range {
        first: id,
        last: id,
        membership: Membership { untagged: true, native: true },
    });
    let alone = |range: Range| {
        (range.first..=range.last).map(move |id| Range { first: id, last: id, ..range })
    };
    vlans.others().into_iter().flat_map(alone).chain(native).collect()
}

fn act(state: &mut Observed, action: &Action) {
    fn link(state: &mut Observed, index: u32) -> &mut Link {
        state.links.iter_mut().find(|link| link.index == index).expect("the link")
    }
    match action {
        Action::MakeLink { name, form, parent } => make(state, name, form, *parent),
        Action::ChangeForm { index, form } => link(state, *index).form = Some(form.clone()),
        Action::RemoveLink { index } => {
            let gone = link(state, *index).clone();
            let peer = match gone.form {
                Some(Form::Veth { peer }) => peer,
                _ => String::new(),
            };
            let ends = |link: &Link| link.index == *index || link.name == peer;
            let gone: Vec<u32> =
                state.links.iter().filter(|link| ends(link)).map(|link| link.index).collect();
            state.links.retain(|link| !gone.contains(&link.index));
            state.addresses.retain(|one| !gone.contains(&one.index));
            state.routes.retain(|one| !gone.contains(&one.index));
            for link in &mut state.links {
                link.master = link.master.filter(|master| !gone.contains(master));
            }
        }
        Action::SetDown { index } => {
            link(state, *index).up = false;
            // The kernel drops those of others as well: the link is somebody else's part from now on.
            state.routes.retain(|one| !(one.ours && one.index == *index));
        }
        Action::SetMaster { index, master } => {
            let into = master.map(|master| link(state, master).clone());
            let link = link(state, *index);
            if let Some(Link { form: Some(Form::Bond { .. }), mtu, .. }) = into {
                assert!(!link.up, "EPERM");
                (link.up, link.mtu) = (true, mtu);
            }
            link.master = *master;
        }
        Action::SetPrimary { index, primary } => link(state, *index).primary = *primary,
        Action::AddVlans { index, bridge, range } => {
            let link = link(state, *index);
            assert_eq!(matches!(link.form, Some(Form::Bridge { .. })), *bridge);
            let before = link.vlans.take().expect("a bridge that looks at tags");
            // Of a link one VLAN is native at most.
            let demote = |mut old: Range| {
                old.membership.native &= !range.membership.native;
                old
            };
            link.vlans = Some(each(&before).into_iter().map(demote).chain([*range]).collect());
        }
        Action::DelVlans { index, range, .. } => {
            let link = link(state, *index);
            let before = link.vlans.take().expect("a bridge that looks at tags");
            let gone = range.first..=range.last;
            let kept = each(&before).into_iter().filter(|old| !gone.contains(&old.first));
            link.vlans = Some(kept.collect());
        }
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
            let taken = state.routes.iter().any(|one| one.place() == route.place());
            assert!(!taken, "EEXIST {route:?}");
            let source = |source| {
                let there = |one: &Address| one.cidr.address() == source && !one.tentative;
                state.addresses.iter().any(there)
            };
            assert!(route.source.is_none_or(source), "EINVAL {route:?}");
            state.routes.push(route.clone());
        }
        Action::AddRule(rule) => state.rules.push(rule.clone()),
        Action::DelRule(rule) => state.rules.retain(|one| one != rule),
        Action::DelRoute(route) => {
            state.routes.retain(|one| !(one.ours && one.key() == route.key()))
        }
    }
}

fn make(state: &mut Observed, name: &str, form: &Form, parent: Option<u32>) {
    assert_eq!(matches!(form, Form::Vlan { .. }), parent.is_some());
    let names = match form {
        Form::Veth { peer } => {
            vec![(name, form.clone()), (peer, Form::Veth { peer: name.to_owned() })]
        }
        _ => vec![(name, form.clone())],
    };
    for (name, form) in names {
        assert!(state.link(name).is_none(), "EEXIST {name}");
        let most = state.links.iter().map(|link| link.index).max();
        let index = 1 + most.unwrap_or_default().max(3);
        let made = Link { form: Some(form), ours: true, physical: false, ..link(index, name) };
        state.links.push(made);
    }
}

/// As many passes as it takes: what is made, or gone, is looked at again.
fn converge(desired: &Desired, state: &mut Observed) {
    for _ in 0..8 {
        for action in plan(desired, state) {
            apply(state, &action);
        }
    }
}

fn foreign(state: &Observed) -> (Vec<Address>, Vec<Route>) {
    let addresses = state.addresses.iter().filter(|one| !one.ours).cloned().collect();
    (addresses, state.routes.iter().filter(|one| !one.ours).cloned().collect())
}

fn link(index: u32, name: &str) -> Link {
    let device = name != "lo";
    Link { up: false, carrier: false, arp: device, physical: device, ..fixture::link(index, name) }
}

fn leased(claim: Claim) -> BTreeMap<String, Dhcp> {
    let mut dhcp = Dhcp::default();
    dhcp.four.hear(Report::Leased(Lease::try_from(claim).expect("a lease")), Duration::ZERO);
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

fn steps(desired: &Desired, state: &mut Observed) -> Vec<Vec<String>> {
    let mut passes = Vec::new();
    loop {
        let actions = plan(desired, state);
        if actions.is_empty() {
            return passes;
        }
        passes.push(words(&actions));
        for action in &actions {
            apply(state, action);
        }
    }
}

#[test]
fn a_bond_takes_over_from_the_links_in_it_and_gives_back() {
    let link = |index, name| Link { up: true, ..link(index, name) };
    let mut state = Observed {
        links: vec![link(1, "lo"), link(2, "eth0"), link(3, "eth1")],
        ..Observed::default()
    };
    let alone = configured(r#""name":"eth0","addresses":["192.0.2.1/24"]"#);
    let bond = configured(
        r#""name":"bond0","addresses":["192.0.2.1/24"]},
        {"apiVersion":"stele/v1","kind":"Bond","name":"bond0","links":["eth0","eth1"],"primary":"eth1"},
        {"apiVersion":"stele/v1","kind":"VLAN","name":"storage","link":"bond0","id":5"#,
    );
    let derive =
        |config, state: &Observed| Desired::derive(Some(config), &BTreeMap::new(), &state.links);
    converge(&derive(&alone, &state), &mut state);
    let before = state.clone();
    let expected = expect_test::expect![[r#"
        [
            [
                "make the Bond bond0",
                "remove 192.0.2.1/24 from link 2",
            ],
            [
                "make the VLAN storage",
                "set link 2 down",
                "put link 2 into link 4",
                "set link 3 down",
                "put link 3 into link 4",
                "set link 4 up",
                "add 192.0.2.1/24 to link 4",
            ],
            [
                "prefer link 3 in link 4",
                "set link 5 up",
            ],
        ]
    "#]];
    expected.assert_debug_eq(&steps(&derive(&bond, &state), &mut state));
    let expected = expect_test::expect![[r#"
        [
            [
                "remove link 4",
                "remove link 5",
            ],
            [
                "add 192.0.2.1/24 to link 2",
            ],
        ]
    "#]];
    expected.assert_debug_eq(&steps(&derive(&alone, &state), &mut state));
    assert_eq!(state, before);
}

#[test]
fn the_ports_of_a_bridge_are_in_the_vlans_that_it_says_and_no_other() {
    let bridge = |more: &str| {
        configured(&format!(
            r#""name":"eth0"}},
            {{"apiVersion":"stele/v1","kind":"Bridge","name":"br0","vlanFiltering":true,{more}"#
        ))
    };
    let mut state = Observed { links: vec![link(2, "eth0")], ..Observed::default() };
    let derive =
        |config, state: &Observed| Desired::derive(Some(config), &BTreeMap::new(), &state.links);
    let ports =
        bridge(r#""pvid":0,"vlans":[42],"ports":[{"link":"eth0","pvid":10,"vlans":["20-29",40]}]"#);
    let expected = expect_test::expect![[r#"
        [
            [
                "make the Bridge br0",
                "set link 2 up",
            ],
            [
                "put link 2 into link 4",
                "put link 4 into VLAN 42",
                "set link 4 up",
            ],
            [
                "put link 2 into VLAN 10, without a tag",
                "put link 2 into VLAN 20-29",
                "put link 2 into VLAN 40",
            ],
        ]
    "#]];
    expected.assert_debug_eq(&steps(&derive(&ports, &state), &mut state));
    let expected = expect_test::expect![[r#"
        [
            [
                "put link 2 into VLAN 30",
                "take link 2 out of VLAN 29",
                "put link 4 into VLAN 1, without a tag",
                "take link 4 out of VLAN 42",
            ],
        ]
    "#]];
    let other = bridge(r#""ports":[{"link":"eth0","pvid":10,"vlans":["20-28",30,40]}]"#);
    expected.assert_debug_eq(&steps(&derive(&other, &state), &mut state));
    let plain = bridge(r#""ports":[{"link":"eth0"}]"#);
    converge(&derive(&plain, &state), &mut state);
    assert_eq!(state.link("eth0").and_then(|link| link.vlans.clone()), Some(all_native([1])));
}

#[test]
fn what_is_in_a_vrf_is_routed_by_its_table_and_what_others_made_stays() {
    let config = configured(
        r#""name":"eth0","addresses":["192.0.2.1/24"],"routes":[{"to":"0.0.0.0/0","via":"192.0.2.2"},{"to":"10.0.0.0/8","table":7}]},
        {"apiVersion":"stele/v1","kind":"VRF","name":"red","table":100,"links":["eth0"]},
        {"apiVersion":"stele/v1","kind":"Bridge","name":"docker0"},
        {"apiVersion":"stele/v1","kind":"Veth","name":"inner","peer":"outer""#,
    );
    let theirs = Link { form: Some(Form::Dummy), physical: false, ..link(3, "docker0") };
    let mut state =
        Observed { links: vec![link(2, "eth0"), theirs.clone()], ..Observed::default() };
    let desired = Desired::derive(Some(&config), &BTreeMap::new(), &state.links);
    converge(&desired, &mut state);
    let tables: Vec<_> =
        state.routes.iter().map(|route| (route.to.prefix(), route.table)).collect();
    assert_eq!(tables, [(8, 7), (0, 100)]);
    assert_eq!(state.link("docker0").and_then(|link| link.form.clone()), theirs.form);
    assert!(state.link("inner").is_some() && state.link("outer").is_some());
    converge(&Desired::default(), &mut state);
    let names: Vec<_> = state.links.iter().map(|link| link.name.as_str()).collect();
    assert_eq!(names, ["eth0", "docker0"]);
}

#[test]
fn a_rule_without_a_network_is_one_of_each_family_and_others_rules_stay() {
    let config = configured(
        r#""name":"eth0"},
        {"apiVersion":"stele/v1","kind":"RoutingRule","name":"a","priority":7,"from":"192.0.2.0/24","table":5},
        {"apiVersion":"stele/v1","kind":"RoutingRule","name":"b","priority":8,"mark":9,"table":6"#,
    );
    let desired = Desired::derive(Some(&config), &BTreeMap::new(), &[]);
    let mut state = Observed::default();
    converge(&desired, &mut state);
    let seen: Vec<_> = state.rules.iter().map(|rule| (rule.ipv6, rule.priority)).collect();
    assert_eq!(seen, [(false, 7), (false, 8), (true, 8)]);
    assert_eq!(plan(&desired, &state), vec![]);
    for rule in state.rules.iter_mut().filter(|rule| rule.ipv6) {
        rule.ours = false;
    }
    assert_eq!(plan(&desired, &state), vec![]);
    converge(&Desired::default(), &mut state);
    assert_eq!(state.rules.len(), 1);
}

#[test]
fn a_link_is_found_by_what_is_behind_it() {
    let device = Device { mac: "52:54:00:12:34:56".parse().ok(), ..Device::default() };
    let eth0 = Link { device: device.clone(), ..link(2, "eth0") };
    let bridge = Link { device, physical: false, ..link(1, "br0") };
    let config = configured(r#""name":"up","match":{"mac":"52:54:00:12:34:56"},"dhcp4":{}"#);
    let named = |config: &MachineConfig, links: &[Link]| {
        let desired = Desired::derive(Some(config), &BTreeMap::new(), links);
        desired.links.into_iter().map(|(name, link)| (name, link.document)).collect::<Vec<_>>()
    };
    let own = |name: &str| vec![(name.to_owned(), "up".to_owned())];
    assert_eq!(named(&config, &[bridge.clone(), eth0]), own("eth0"));
    assert_eq!(named(&config, &[bridge]), own("br0"));
    // One that happens to have the document's name is another one.
    assert_eq!(named(&config, &[link(3, "up")]), own("52:54:00:12:34:56"));
    // All that is asked for has to hold.
    let config =
        configured(r#""name":"up","match":{"path":"pci-0000:00:03.0","driver":"virtio_net"}"#);
    let by = |path: &str, driver: &str| Device {
        path: path.parse().ok(),
        driver: driver.parse().ok(),
        mac: None,
    };
    let links = [
        Link { device: by("pci-0000:00:02.0", "virtio_net"), ..link(2, "eth0") },
        Link { device: by("pci-0000:00:03.0", "e1000"), ..link(3, "eth1") },
        Link { device: by("pci-0000:00:03.0", "virtio-net"), ..link(4, "eth2") },
    ];
    assert_eq!(named(&config, &links), own("eth2"));
    assert_eq!(named(&config, &links[..2]), own("pci-0000:00:03.0, driver virtio_net"));
}

#[test]
fn a_routing_rule_is_for_the_link_that_a_document_is_for() {
    let config = configured(
        r#""name":"uplink","match":{"mac":"52:54:00:12:34:56"}},
        {"apiVersion":"stele/v1","kind":"RoutingRule","name":"a","priority":7,"incoming":"uplink","to":"192.0.2.0/24","table":5},
        {"apiVersion":"stele/v1","kind":"RoutingRule","name":"b","priority":8,"incoming":"eth9","to":"192.0.2.0/24","table":5"#,
    );
    let device = Device { mac: "52:54:00:12:34:56".parse().ok(), ..Device::default() };
    let mut state = Observed::default();
    let rules = |state: &mut Observed| {
        converge(&Desired::derive(Some(&config), &BTreeMap::new(), &state.links), state);
        let rules = state.rules.iter().map(|rule| (rule.priority, rule.incoming.clone()));
        rules.collect::<BTreeMap<_, _>>()
    };
    let by = |name: &str| Some(name.to_owned());
    // What the kernel can't be told yet is not made a rule for all links.
    assert_eq!(rules(&mut state), BTreeMap::from([(8, by("eth9"))]));
    state.links = vec![Link { device: device.clone(), ..link(2, "eth0") }];
    assert_eq!(rules(&mut state), BTreeMap::from([(7, by("eth0")), (8, by("eth9"))]));
    state.links = vec![Link { device, ..link(3, "eth1") }];
    assert_eq!(rules(&mut state), BTreeMap::from([(7, by("eth1")), (8, by("eth9"))]));
    state.links.clear();
    assert_eq!(rules(&mut state), BTreeMap::from([(8, by("eth9"))]));
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
fn what_routers_say_of_dhcpv6_counts_where_they_are_heeded_and_for_a_link_that_is_whole() {
    let heard = |says| BTreeMap::from([("eth0".to_owned(), Dhcp { says, ..Dhcp::default() })]);
    let why = |document: &str, says| {
        let config = configured(document);
        let desired = Desired::derive(Some(&config), &heard(says), &[link(2, "eth0")]);
        let asked = desired.takes6("eth0").map(|asked| (asked.address, asked.prefix()));
        (desired.links["eth0"].why6, asked)
    };
    let managed = Some(Says::Managed);
    assert_eq!(why(r#""name":"eth0""#, None), (Why::Unadvertised, None));
    let asked = (Why::Advertised(Says::Managed), Some((true, None)));
    assert_eq!(why(r#""name":"eth0""#, managed), asked);
    let document = r#""name":"eth0","dhcp6":{"start":"advertised","prefix":56}"#;
    let asked = (Why::Advertised(Says::Other), Some((false, Some(56))));
    assert_eq!(why(document, Some(Says::Other)), asked);
    let document = r#""name":"eth0","dhcp6":{"start":"never"}"#;
    assert_eq!(why(document, managed), (Why::Never, None));
    let document = r#""name":"eth0","routerAdvertisements":"ignore""#;
    assert_eq!(why(document, managed), (Why::Unheeded, None));
    let inside = |kind: &str, more: &str| {
        let document = format!(
            r#""name":"eth0"}},{{"apiVersion":"stele/v1","kind":"{kind}","name":"whole","links":["eth0"]{more}"#
        );
        why(&document, managed).0
    };
    assert_eq!(inside("Bond", ""), Why::Unheeded, "the bond hears them");
    assert_eq!(inside("VRF", r#","table":100"#), Why::Advertised(Says::Managed));
    let desired = Desired::derive(None, &heard(managed), &[link(2, "eth0")]);
    assert!(desired.takes6("eth0").is_some_and(|asked| asked.address), "without a configuration");
}

#[test]
fn an_mtu_of_a_lease_is_had_as_far_as_the_link_can() {
    let dhcp = leased(Claim { mtu: 9000, ..claim() });
    let mtu = |config: Option<&MachineConfig>, max_mtu| {
        let links = [Link { max_mtu, ..link(2, "eth0") }];
        Desired::derive(config, &dhcp, &links).links["eth0"].mtu
    };
    assert_eq!(mtu(None, None), Some(9000));
    assert_eq!(mtu(None, Some(1500)), Some(1500));
    // What the configuration says is refused by the kernel, and told.
    let config = configured(r#""name":"eth0","mtu":9000,"dhcp4":{}"#);
    assert_eq!(mtu(Some(&config), Some(1500)), Some(9000));
}

#[test]
fn a_machine_without_configuration_takes_what_dhcp_brings_and_gives_it_back() {
    let mut state = Observed { links: vec![link(1, "lo"), link(2, "eth0")], ..Observed::default() };
    let desired = Desired::derive(None, &BTreeMap::new(), &state.links);
    assert_eq!(words(&plan(&desired, &state)), ["set link 1 up", "set link 2 up"]);
    assert_eq!(
        desired.dhcp_links(&state.links).map(|(link, _)| link.index).collect::<Vec<_>>(),
        [2]
    );
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
fn a_link_has_a_network_of_a_prefix_for_as_long_as_another_has_that() {
    let mut state = Observed {
        links: vec![link(1, "lo"), link(2, "eth0"), link(3, "lan")],
        ..Observed::default()
    };
    let config = configured(
        r#""name":"eth0","dhcp6":{"address":false,"prefix":56}},
        {"apiVersion":"stele/v2","kind":"Link","name":"lan","delegated":{"from":"eth0","subnet":5}"#,
    );
    let after = |prefixes: &[(&str, u32)]| {
        let mut dhcp = Dhcp::default();
        let prefix = |(text, length): &(&str, u32)| (text.parse().expect("an address"), *length);
        let prefixes = prefixes.iter().map(prefix).collect();
        let claim = Claim6 { prefixes, seconds: 60, ..Claim6::default() };
        dhcp.six.hear(Report::Leased(Lease6::from(claim)), Duration::ZERO);
        BTreeMap::from([("eth0".to_owned(), dhcp)])
    };
    let mut pass = |dhcp| {
        let desired = Desired::derive(Some(&config), &dhcp, &state.links);
        let steps = steps(&desired, &mut state).concat();
        let lan = &desired.links["lan"].delegation.as_ref().expect("its part").addresses;
        (steps, lan.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let nothing: [&str; 0] = [];
    let (steps, lan) = pass(BTreeMap::new());
    assert_eq!(steps, ["set link 1 up", "set link 2 up", "set link 3 up"]);
    assert_eq!(lan, nothing);
    let (steps, lan) = pass(after(&[("2001:db8:0:ff00::", 56)]));
    assert_eq!(
        steps,
        [
            "add 2001:db8:0:ff05::1/64 to link 3",
            "add the route to 2001:db8:0:ff00::/56, which leads nowhere"
        ]
    );
    assert_eq!(lan, ["2001:db8:0:ff05::1/64"]);
    // The server moves the machine to another prefix, in which that network is not.
    let (steps, lan) = pass(after(&[("2001:db8:1::", 64), ("2001:db8:2::", 60)]));
    assert_eq!(
        steps,
        [
            "remove the route to 2001:db8:0:ff00::/56, which leads nowhere",
            "add 2001:db8:2:5::1/64 to link 3",
            "add the route to 2001:db8:2::/60, which leads nowhere",
            "remove 2001:db8:0:ff05::1/64 from link 3",
        ]
    );
    assert_eq!(lan, ["2001:db8:2:5::1/64"]);
    let (steps, lan) = pass(BTreeMap::new());
    let gone = [
        "remove the route to 2001:db8:2::/60, which leads nowhere",
        "remove 2001:db8:2:5::1/64 from link 3",
    ];
    assert_eq!(steps, gone);
    assert_eq!(lan, nothing);
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
    let desired =
        Desired { links: BTreeMap::from([("eth9".to_owned(), wanted)]), ..Desired::default() };
    assert_eq!(plan(&desired, &state), []);
}

#[test]
fn a_route_with_a_source_waits_for_the_address_and_one_that_leads_nowhere_for_no_gateway() {
    let config = configured(
        r#""name":"eth0","addresses":["192.0.2.1/24"],"routes":[
            {"to":"0.0.0.0/0","via":"192.0.2.2","source":"198.51.100.1"},
            {"to":"10.0.0.0/8","type":"blackhole"},
            {"to":"2001:db8::/32","type":"prohibit"}]"#,
    );
    let lo = Link { physical: false, ..link(1, "lo") };
    let mut state = Observed { links: vec![lo, link(2, "eth0")], ..Observed::default() };
    let routes = |state: &mut Observed| {
        converge(&Desired::derive(Some(&config), &BTreeMap::new(), &state.links), state);
        let text = |route: &Route| format!("{} {} {:?}", route.to, route.index, route.nowhere);
        state.routes.iter().map(text).collect::<Vec<_>>().join("\n")
    };
    let nowhere = expect_test::expect![[r"
        10.0.0.0/8 1 Some(Blackhole)
        2001:db8::/32 1 Some(Prohibit)"]];
    nowhere.assert_eq(&routes(&mut state));
    let cidr = "198.51.100.1/32".parse().expect("an address");
    let address = |tentative| Address { index: 2, cidr, ours: false, tentative, duplicate: false };
    state.addresses.push(address(true));
    nowhere.assert_eq(&routes(&mut state));
    state.addresses.pop();
    state.addresses.push(address(false));
    assert!(routes(&mut state).ends_with("0.0.0.0/0 2 None"), "{:?}", state.routes);
    // The same network by another source, or another way to nowhere, is another route.
    let source = state.routes.last_mut().expect("a route");
    source.source = None;
    state.routes[0].nowhere = Some(RouteType::Unreachable);
    let desired = Desired::derive(Some(&config), &BTreeMap::new(), &state.links);
    let steps = plan(&desired, &state);
    assert_eq!(steps.len(), 4, "{steps:?}");
}

#[test]
fn a_foreign_route_keeps_its_place() {
    let to = "0.0.0.0/0".parse().expect("a network");
    let via = Some("10.0.2.9".parse().expect("an address"));
    let other = Route {
        to,
        via,
        index: 7,
        metric: 1026,
        onlink: false,
        table: 254,
        source: None,
        nowhere: None,
        ours: false,
    };
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
    let route = (cidr(), via, 0..4_u32).prop_map(|(to, via, metric)| DesiredRoute {
        to: to.network(),
        via,
        metric: 1024 + metric,
        table: (metric == 2).then_some(100),
        source: None,
        nowhere: (metric == 3).then_some(RouteType::Blackhole),
    });
    let addresses = prop::collection::btree_set(cidr(), 0..4)
        .prop_map(|set| set.into_iter().collect::<Vec<Cidr>>());
    let routes = prop::collection::vec(route, 0..4);
    let by = stele_config::Mac::from([0x52, 0x54, 0, 0, 0, 9]);
    let withheld = prop::sample::select(vec![
        None,
        Some(Withheld { by: None, old: true }),
        Some(Withheld { by: Some(by), old: false }),
        Some(Withheld { by: Some(by), old: true }),
    ]);
    let addresses = (addresses, prop::collection::vec(withheld, 4));
    (prop::option::of(1280..1283_u32), addresses, routes, any::<bool>(), vlans()).prop_map(
        |(mtu, (addresses, withheld), routes, dhcp4, vlans)| DesiredLink {
            mtu,
            fixed: vec![],
            withheld: (addresses.iter().zip(withheld))
                .filter(|(cidr, _)| cidr.address().is_ipv4())
                .filter_map(|(cidr, why)| Some((*cidr, why?)))
                .collect(),
            addresses,
            routes,
            dhcp4: dhcp4.then(Dhcp4::default),
            dhcp6: None,
            why6: Why::default(),
            ignores_routers: false,
            delegation: None,
            master: None,
            primary: None,
            vlans: Some(vlans),
            document: String::new(),
        },
    )
}

/// Few VLANs, with a tag and without.
fn vlans() -> impl Strategy<Value = Vlans> {
    let tagged = Membership { untagged: false, native: false };
    let range = (1..6_u16, 0..3_u16).prop_map(move |(first, more)| Range {
        first,
        last: first + more,
        membership: tagged,
    });
    let native = prop::option::of(1..6_u16).prop_map(|id| match id {
        Some(id) => each(&all_native([id])),
        None => vec![],
    });
    (prop::collection::vec(range, 0..3), native)
        .prop_map(|(ranges, native)| ranges.into_iter().chain(native).collect())
}

fn desired() -> impl Strategy<Value = Desired> {
    let name = prop::sample::select(vec!["eth0", "eth1", "eth2"]).prop_map(str::to_owned);
    let links = prop::collection::btree_map(name, desired_link(), 0..4);
    let masters = prop::collection::vec((0..4_usize, 0..4_usize), 0..4);
    (links, made(), masters).prop_map(|(links, made, masters)| {
        let mut taken = std::collections::BTreeSet::new();
        let mut links: BTreeMap<_, DesiredLink> = links;
        for link in links.values_mut() {
            link.routes.retain(|route| taken.insert((route.to, route.metric, route.table)));
        }
        for name in made.keys() {
            links.entry(name.clone()).or_default();
        }
        for (member, master) in masters {
            let member = ["eth0", "eth1", "inner", "outer"][member];
            let master = ["br0", "bond0", "red", "br1"][master];
            if made.contains_key(master) {
                links.entry(member.to_owned()).or_default().master = Some(master.to_owned());
            }
        }
        if let Some(Form::Vlan { link, .. }) = made.get("vlan") {
            links.entry(link.clone()).or_default();
        }
        let joined = |name: &&str| {
            links.get(*name).is_some_and(|link| link.master.as_deref() == Some("bond0"))
        };
        let primary = ["eth1", "inner"].iter().find(|name| joined(name)).map(ToString::to_string);
        if let Some(link) = links.get_mut("bond0") {
            link.primary = primary;
        }
        let filters = matches!(made.get("br0"), Some(Form::Bridge { vlan_filtering: true, .. }));
        for (name, link) in &mut links {
            let inside = name == "br0" || link.master.as_deref() == Some("br0");
            let chosen = link.vlans.take().unwrap_or_else(|| all_native([3]));
            link.vlans = (filters && inside).then_some(chosen);
        }
        Desired { links, made, ..Desired::default() }
    })
}

/// Links to be made, of which no two are of one name.
fn made() -> impl Strategy<Value = BTreeMap<String, Form>> {
    let veth = |peer: &str| Form::Veth { peer: peer.to_owned() };
    let bridge = any::<[bool; 2]>().prop_map(|[stp, vlan_filtering]| Form::Bridge {
        stp,
        forward_delay: 1500,
        priority: 1,
        vlan_filtering,
    });
    let bond = (0..2_u8, 1..3_u32).prop_map(|(mode, miimon)| Form::Bond {
        mode,
        miimon,
        up_delay: miimon,
        down_delay: 0,
        arp_interval: 0,
        arp_targets: vec![],
        nd_targets: vec![],
        arp_validate: 0,
        lacp_fast: false,
        hash_policy: 0,
    });
    let vlan = (prop::sample::select(vec!["eth0", "bond0", "eth7"]), 1..3_u16)
        .prop_map(|(link, id)| Form::Vlan { link: link.to_owned(), id, service: false });
    let vrf = (1..3_u32).prop_map(|table| Form::Vrf { table });
    (bridge, bond, vlan, vrf, any::<[bool; 6]>()).prop_map(
        move |(bridge, bond, vlan, vrf, there)| {
            let all = [
                vec![("br0", bridge)],
                vec![("bond0", bond)],
                vec![("vlan", vlan)],
                vec![("red", vrf)],
                vec![("inner", veth("outer")), ("outer", veth("inner"))],
                vec![("services", Form::Dummy)],
            ];
            let made =
                all.into_iter().zip(there).filter_map(|(links, there)| there.then_some(links));
            made.flatten().map(|(name, form)| (name.to_owned(), form)).collect()
        },
    )
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
            table: 254,
            source: None,
            nowhere: None,
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
            Observed { links, addresses, routes, ..Observed::default() }
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

#[test]
fn links_of_others_count_while_the_configuration_has_none() {
    let given = canonical::read_network(
        br#"[{"apiVersion":"stele/v2","kind":"Link","name":"eth0","addresses":["192.0.2.1/24"]},
        {"apiVersion":"stele/v1","kind":"VLAN","name":"storage","link":"eth0","id":5},
        {"apiVersion":"stele/v1","kind":"Resolver","servers":["192.0.2.53"]}]"#,
    );
    let given = Given { by: Giver::Platform, documents: given.expect("documents") };
    let wanted = Wanted { config: None, given: Some(&given) };
    assert_eq!((wanted.links().len(), wanted.virtual_links().count()), (1, 1));
    assert!(wanted.resolvers().next().is_some());
    assert!(Wanted::default().resolvers().next().is_none());
    let config = configured(r#""name":"eth1","dhcp4":{}"#);
    let wanted = Wanted { config: Some(&config), ..wanted };
    assert_eq!(wanted.links(), config.links());
    assert_eq!(wanted.virtual_links().count(), 0);
    assert!(wanted.resolvers().next().is_some(), "it has no Resolver of its own");
    let odd =
        canonical::read_network(br#"[{"apiVersion":"stele/v1","kind":"Hostname","hostname":"a"}]"#);
    assert!(odd.is_err());
}
