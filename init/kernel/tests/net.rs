// SPDX-License-Identifier: Apache-2.0
//! The network module against the real kernel, each test in a network namespace of its own thread.

use nix::sched::{CloneFlags, unshare};
use std::{
    fs,
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};
use stele_kernel::net::{
    AddressInfo, BondForm, BridgeForm, Direction, Fence, Firewall, FirewallRule, LOOPBACK,
    LinkForm, LinkInfo, MAIN_TABLE, Monitor, NetError, Netlink, NewLink, Nowhere, OWNER, Ports,
    Route, Rule, Transport, Verdict, VlanEnd, VlanRange, WireGuardPeer, WireGuardSettings,
};

/// Runs a test where nothing outside can be harmed: a network namespace is a property of the thread.
fn in_namespace(test: impl FnOnce(Netlink) + Send + 'static) {
    let body = move || {
        unshare(CloneFlags::CLONE_NEWNET)
            .expect("making a network namespace (this test needs root)");
        test(Netlink::new());
    };
    thread::spawn(body).join().expect("the test in its namespace");
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn route(to: &str, prefix: u8, via: Option<&str>) -> Route {
    let via = via.map(ip);
    Route {
        to: ip(to),
        prefix,
        via,
        index: LOOPBACK,
        metric: 1024,
        protocol: OWNER,
        onlink: false,
        table: MAIN_TABLE,
        source: None,
        nowhere: None,
    }
}

#[test]
fn a_new_namespace_has_a_loopback_that_is_down_until_it_is_set_up() {
    in_namespace(|mut netlink| {
        let links = netlink.links().expect("links");
        let lo = links.iter().find(|link| link.index == LOOPBACK).expect("a loopback");
        assert_eq!(
            (lo.name.as_str(), lo.up, lo.carrier, lo.physical, lo.mac),
            ("lo", false, false, false, None)
        );
        netlink.set_up(LOOPBACK).expect("up");
        netlink.set_mtu(LOOPBACK, 9000).expect("mtu");
        let links = netlink.links().expect("links");
        let lo = links.iter().find(|link| link.index == LOOPBACK).expect("a loopback");
        assert_eq!((lo.up, lo.carrier, lo.mtu), (true, true, 9000));
        netlink.set_down(LOOPBACK).expect("down");
        let links = netlink.links().expect("links");
        assert!(links.iter().all(|link| link.index != LOOPBACK || !link.up));
    });
}

#[test]
fn addresses_and_routes_come_back_as_they_were_added() {
    in_namespace(|mut netlink| {
        netlink.set_up(LOOPBACK).expect("up");
        for (address, prefix) in [("192.0.2.1", 24), ("2001:db8::1", 64)] {
            let address = ip(address);
            netlink.add_address(LOOPBACK, address, prefix).expect("adding");
            netlink.add_address(LOOPBACK, address, prefix).expect("adding it again");
            let all = netlink.addresses().expect("addresses");
            let one = all.iter().find(|one| one.address == address).expect("the address");
            assert_eq!(
                (one.index, one.prefix, one.protocol, one.duplicate),
                (LOOPBACK, prefix, OWNER, false)
            );
        }
        let routes = [
            route("198.51.100.0", 24, None),
            route("0.0.0.0", 0, Some("192.0.2.254")),
            route("2001:db8:1::", 48, None),
            Route { onlink: true, ..route("203.0.113.0", 24, Some("10.9.9.9")) },
        ];
        for route in &routes {
            netlink.add_route(route).expect("adding");
        }
        let mut ours = netlink.routes().expect("routes");
        ours.retain(|route| route.protocol == OWNER);
        assert_eq!(ours.len(), routes.len());
        assert!(routes.iter().all(|route| ours.contains(route)), "{ours:?}");
        for route in &routes {
            netlink.del_route(route).expect("removing");
            netlink.del_route(route).expect("removing it again");
        }
        assert!(netlink.routes().expect("routes").iter().all(|route| route.protocol != OWNER));
        netlink.del_address(LOOPBACK, ip("192.0.2.1"), 24).expect("removing");
        netlink.del_address(LOOPBACK, ip("192.0.2.1"), 24).expect("removing it again");
        assert!(
            netlink
                .addresses()
                .expect("addresses")
                .iter()
                .all(|one| one.address != ip("192.0.2.1"))
        );
    });
}

#[test]
fn a_refusal_says_what_was_tried_and_the_kernels_own_words() {
    in_namespace(|mut netlink| {
        netlink.set_up(LOOPBACK).expect("up");
        let error = netlink
            .add_route(&route("0.0.0.0", 0, Some("10.1.1.1")))
            .expect_err("an unreachable router");
        assert_eq!(
            error.to_string(),
            "Adding the route to 0.0.0.0/0 via 10.1.1.1 through link 1 with metric 1024"
        );
        let NetError::AddRoute { source, .. } = error else { panic!("{error:?}") };
        assert_eq!(source.errno(), Some(libc::ENETUNREACH));
        assert!(source.to_string().starts_with("Nexthop has invalid gateway"), "{source}");
    });
}

#[test]
fn a_flood_of_others_routes_hides_none_of_ours() {
    in_namespace(|mut netlink| {
        netlink.set_up(LOOPBACK).expect("up");
        let other = |number: u16| {
            let to = format!("2001:db8:{number:x}::");
            Route { protocol: libc::RTPROT_STATIC, ..route(&to, 48, None) }
        };
        for number in 0..5000 {
            netlink.add_route(&other(number)).expect("adding");
        }
        netlink.add_route(&route("2001:dbf::", 48, None)).expect("adding");
        let (ours, others): (Vec<_>, Vec<_>) =
            netlink.routes().expect("routes").into_iter().partition(|one| one.protocol == OWNER);
        assert_eq!((ours.len(), others.len()), (1, 4096));
    });
}

#[test]
fn another_route_to_the_same_network_is_not_replaced() {
    in_namespace(|mut netlink| {
        netlink.set_up(LOOPBACK).expect("up");
        let foreign = Route { protocol: libc::RTPROT_STATIC, ..route("198.51.100.0", 24, None) };
        netlink.add_route(&foreign).expect("adding");
        assert!(netlink.add_route(&route("198.51.100.0", 24, None)).is_err());
        netlink.del_route(&route("198.51.100.0", 24, None)).expect("nothing of ours to remove");
        assert!(netlink.routes().expect("routes").contains(&foreign));
    });
}

#[test]
fn the_monitor_tells_of_changes_once() {
    in_namespace(|mut netlink| {
        let monitor = Monitor::new().expect("subscribing");
        assert!(!monitor.drain().expect("nothing yet"));
        netlink.set_up(LOOPBACK).expect("up");
        assert!(monitor.drain().expect("a change"));
        assert!(!monitor.drain().expect("nothing more"));
        netlink.add_address(LOOPBACK, ip("192.0.2.1"), 24).expect("adding");
        assert!(monitor.drain().expect("a change"));
    });
}

/// Makes a link, unless this kernel has no links of its form.
fn made(netlink: &mut Netlink, new: NewLink<'_>) -> Option<LinkInfo> {
    match netlink.make_link(new) {
        Ok(()) => {}
        Err(NetError::MakeLink { source, .. }) if source.errno() == Some(libc::EOPNOTSUPP) => {
            println!("this kernel has no {:?}", new.form);
            return None;
        }
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
    }
    Some(link(netlink, new.name))
}

fn link(netlink: &mut Netlink, name: &str) -> LinkInfo {
    let links = netlink.links().expect("links");
    links.into_iter().find(|link| link.name == name).expect("the link")
}

fn new<'a>(name: &'a str, form: &'a LinkForm) -> NewLink<'a> {
    NewLink { name, form, parent: None, peer: None }
}

fn bridge() -> BridgeForm {
    BridgeForm { stp: true, forward_delay: 400, priority: 4096, vlan_filtering: false }
}

fn bond(mode: u8) -> BondForm {
    BondForm {
        mode,
        miimon: 50,
        up_delay: 0,
        down_delay: 0,
        arp_interval: 0,
        arp_targets: vec![],
        nd_targets: vec![],
        arp_validate: 0,
        lacp_fast: false,
        hash_policy: 0,
    }
}

fn by_arp() -> BondForm {
    let arp_targets = vec![[192, 0, 2, 1].into(), [192, 0, 2, 2].into()];
    let nd_targets = vec![[0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()];
    BondForm { miimon: 0, arp_interval: 500, arp_targets, nd_targets, arp_validate: 3, ..bond(1) }
}

#[test]
fn a_bond_looks_at_its_links_in_one_way_and_then_in_another() {
    in_namespace(|mut netlink| {
        let one = made(&mut netlink, new("bond0", &LinkForm::Bond(bond(1))));
        let cable = NewLink { peer: Some("outer"), ..new("inner", &LinkForm::Veth) };
        let (Some(whole), Some(inner)) = (one, made(&mut netlink, cable)) else { return };
        netlink.set_up(whole.index).expect("up");
        for name in ["inner", "outer"] {
            let index = link(&mut netlink, name).index;
            netlink.set_master(index, Some(whole.index)).expect("into it");
        }
        let delayed = BondForm { up_delay: 300, down_delay: 150, ..bond(1) };
        let by_nd = BondForm { arp_targets: vec![], arp_validate: 6, ..by_arp() };
        for form in [by_arp(), delayed, by_arp(), by_nd, by_arp(), bond(1)] {
            let form = LinkForm::Bond(form);
            netlink.change_form(whole.index, &form).expect("changing");
            assert_eq!(link(&mut netlink, "bond0").form, Some(form));
        }
        for primary in [Some(inner.index), None] {
            netlink.set_primary(whole.index, primary).expect("preferring");
            assert_eq!(link(&mut netlink, "bond0").primary, primary);
        }
    });
}

#[test]
fn links_are_what_they_were_made_as_and_go() {
    in_namespace(|mut netlink| {
        let forms = [
            LinkForm::Dummy,
            LinkForm::Bridge(bridge()),
            LinkForm::Bond(BondForm { lacp_fast: true, hash_policy: 1, ..bond(4) }),
            LinkForm::Bond(BondForm { up_delay: 200, down_delay: 100, ..bond(1) }),
            LinkForm::Bond(by_arp()),
            LinkForm::Vrf { table: 1000 },
            LinkForm::WireGuard,
        ];
        for form in &forms {
            let Some(link) = made(&mut netlink, new("made", form)) else { continue };
            assert_eq!((link.form.as_ref(), link.ours, link.physical), (Some(form), true, false));
            assert_eq!(link.arp, matches!(form, LinkForm::Bridge(_) | LinkForm::Bond(_)));
            let again = netlink.make_link(new("made", form)).expect_err("a name twice");
            assert_eq!(again.to_string(), "Making the link made");
            netlink.remove_link(link.index).expect("removing");
            netlink.remove_link(link.index).expect("removing it again");
            assert!(netlink.links().expect("links").iter().all(|link| link.name != "made"));
        }
    });
}

#[test]
fn a_cable_has_two_ends_and_one_of_them_carries_networks() {
    in_namespace(|mut netlink| {
        let cable = NewLink { peer: Some("outer"), ..new("inner", &LinkForm::Veth) };
        let Some(inner) = made(&mut netlink, cable) else { return };
        let outer = link(&mut netlink, "outer");
        assert_eq!((inner.parent, outer.parent), (Some(outer.index), Some(inner.index)));
        assert!(inner.ours && outer.ours && outer.form == Some(LinkForm::Veth));
        for service in [false, true] {
            let form = LinkForm::Vlan { id: 42, service };
            let vlan = NewLink { parent: Some(inner.index), ..new("vlan", &form) };
            let Some(vlan) = made(&mut netlink, vlan) else { return };
            assert_eq!((vlan.form, vlan.parent), (Some(form), Some(inner.index)));
            netlink.remove_link(vlan.index).expect("removing");
        }
    });
}

#[test]
fn links_come_into_others_and_out_of_them_while_these_work() {
    in_namespace(|mut netlink| {
        let cable = NewLink { peer: Some("outer"), ..new("inner", &LinkForm::Veth) };
        let form = LinkForm::Bridge(bridge());
        let (Some(inner), Some(whole)) =
            (made(&mut netlink, cable), made(&mut netlink, new("br0", &form)))
        else {
            return;
        };
        netlink.set_up(whole.index).expect("up");
        netlink.set_master(inner.index, Some(whole.index)).expect("into it");
        assert_eq!(link(&mut netlink, "inner").master, Some(whole.index));
        let other = BridgeForm { stp: false, priority: 100, vlan_filtering: true, ..bridge() };
        match netlink.change_form(whole.index, &LinkForm::Bridge(other.clone())) {
            Ok(()) => assert_eq!(link(&mut netlink, "br0").form, Some(LinkForm::Bridge(other))),
            // A kernel without the filtering of VLANs takes the rest.
            Err(error) => {
                println!("{error}: {:?}", std::error::Error::source(&error));
                let other = LinkForm::Bridge(BridgeForm { vlan_filtering: false, ..other });
                netlink.change_form(whole.index, &other).expect("changing");
                assert_eq!(link(&mut netlink, "br0").form, Some(other));
            }
        }
        netlink.set_master(inner.index, None).expect("out of it");
        assert_eq!(link(&mut netlink, "inner").master, None);
    });
}

#[test]
fn ports_come_into_vlans_and_go_out_of_them() {
    in_namespace(|mut netlink| {
        let cable = NewLink { peer: Some("outer"), ..new("inner", &LinkForm::Veth) };
        let form = LinkForm::Bridge(BridgeForm { vlan_filtering: true, ..bridge() });
        let port = made(&mut netlink, cable).expect("a cable").index;
        if let Err(error) = netlink.make_link(new("br0", &form)) {
            println!("this kernel's bridges don't filter: {:?}", std::error::Error::source(&error));
            return;
        }
        let whole = link(&mut netlink, "br0").index;
        netlink.set_master(port, Some(whole)).expect("into it");
        let range = |first, last, both| VlanRange { first, last, untagged: both, native: both };
        let both = |netlink: &mut Netlink| {
            let all = netlink.vlans().expect("looking");
            (
                all.get(&port).cloned().unwrap_or_default(),
                all.get(&whole).cloned().unwrap_or_default(),
            )
        };
        // The kernel puts them into none by itself.
        assert_eq!(both(&mut netlink), (Vec::new(), Vec::new()));
        let (here, there) = (VlanEnd::Port(port), VlanEnd::Bridge(whole));
        netlink.add_vlans(here, range(10, 10, true)).expect("adding");
        netlink.add_vlans(here, range(20, 29, false)).expect("adding");
        netlink.add_vlans(there, range(20, 20, false)).expect("adding");
        netlink.del_vlans(here, range(25, 27, false)).expect("removing");
        netlink.del_vlans(here, range(25, 27, false)).expect("removing it again");
        let expected = vec![range(10, 10, true), range(20, 24, false), range(28, 29, false)];
        assert_eq!(both(&mut netlink), (expected, vec![range(20, 20, false)]));
        // As many as there can be: more than fit into one answer of the usual size.
        for id in (1..4094).step_by(2) {
            netlink.add_vlans(here, range(id, id, false)).expect("adding");
        }
        netlink.del_vlans(here, range(2, 2, false)).expect("removing");
        assert!(both(&mut netlink).0.len() > 2000);
        netlink.links().expect("links");
        let error = netlink.add_vlans(VlanEnd::Port(LOOPBACK), range(5, 5, false));
        assert_eq!(error.expect_err("no port").to_string(), "Setting link 1 to other VLANs");
    });
}

#[test]
fn a_route_is_in_its_table_alone() {
    in_namespace(|mut netlink| {
        netlink.set_up(LOOPBACK).expect("up");
        for table in [100, 70_000] {
            let there = Route { table, ..route("198.51.100.0", 24, None) };
            netlink.add_route(&there).expect("adding");
            netlink.add_route(&route("198.51.100.0", 24, None)).expect("the same in the main one");
            netlink.del_route(&route("198.51.100.0", 24, None)).expect("removing");
            assert!(netlink.routes().expect("routes").contains(&there));
            netlink.del_route(&there).expect("removing");
            assert!(!netlink.routes().expect("routes").contains(&there));
        }
    });
}

#[test]
fn a_route_that_leads_nowhere_stands_behind_those_that_lead_somewhere() {
    in_namespace(|mut netlink| {
        netlink.set_up(LOOPBACK).expect("up");
        let connect = || {
            let patience = Duration::from_millis(50);
            let connected =
                std::net::TcpStream::connect_timeout(&(ip("2001:db8:1:5::7"), 80).into(), patience);
            connected.expect_err("nobody is there").raw_os_error()
        };
        for table in [MAIN_TABLE, 70_000] {
            let (metric, nowhere) = (u32::MAX, Some(Nowhere::Unreachable));
            let nowhere = Route { nowhere, table, metric, ..route("2001:db8:1::", 48, None) };
            netlink.add_route(&nowhere).expect("adding");
            assert!(netlink.add_route(&nowhere).is_err(), "twice");
            assert!(netlink.routes().expect("routes").contains(&nowhere));
            if table == MAIN_TABLE {
                assert_eq!(connect(), Some(libc::EHOSTUNREACH));
                netlink.add_address(LOOPBACK, ip("2001:db8:1:5::1"), 64).expect("adding");
                assert_ne!(connect(), Some(libc::EHOSTUNREACH));
            }
            netlink.del_route(&nowhere).expect("removing");
            netlink.del_route(&nowhere).expect("removing it again");
            assert!(!netlink.routes().expect("routes").contains(&nowhere));
        }
    });
}

#[test]
fn routes_that_lead_nowhere_do_so_in_three_ways_and_in_both_families() {
    in_namespace(|mut netlink| {
        netlink.set_up(LOOPBACK).expect("up");
        let connect = |to: &str| {
            let to = (ip(to), 80).into();
            let connected = std::net::TcpStream::connect_timeout(&to, Duration::from_millis(50));
            connected.expect_err("nobody is there").raw_os_error()
        };
        for (network, prefix, host) in
            [("198.51.100.0", 24, "198.51.100.7"), ("2001:db8:1::", 48, "2001:db8:1::7")]
        {
            for (nowhere, error) in [
                (Nowhere::Blackhole, libc::EINVAL),
                (Nowhere::Unreachable, libc::EHOSTUNREACH),
                (Nowhere::Prohibit, libc::EACCES),
            ] {
                let route = Route { nowhere: Some(nowhere), ..route(network, prefix, None) };
                netlink.add_route(&route).expect("adding");
                assert!(netlink.add_route(&route).is_err(), "twice");
                assert!(netlink.routes().expect("routes").contains(&route), "{route:?}");
                assert_eq!(connect(host), Some(error), "{route:?}");
                netlink.del_route(&route).expect("removing");
                netlink.del_route(&route).expect("removing it again");
                assert!(!netlink.routes().expect("routes").contains(&route));
            }
        }
    });
}

#[test]
fn packets_have_the_source_that_their_route_says() {
    in_namespace(|mut netlink| {
        netlink.set_up(LOOPBACK).expect("up");
        for (network, prefix, host, first, second) in [
            ("198.51.100.0", 24, "198.51.100.7", "192.0.2.1", "192.0.2.2"),
            ("2001:db8:1::", 48, "2001:db8:1::7", "2001:db8::1", "2001:db8::2"),
        ] {
            let from =
                |second: &str| Route { source: Some(ip(second)), ..route(network, prefix, None) };
            netlink.add_route(&from(second)).expect_err("the machine does not have it");
            let whole = if ip(first).is_ipv4() { 32 } else { 128 };
            for address in [first, second] {
                netlink.add_address(LOOPBACK, ip(address), whole).expect("adding");
            }
            // With IPv6 the kernel asks for them first, even where nobody can answer.
            let begun = Instant::now();
            while netlink.addresses().expect("addresses").iter().any(|one| one.tentative) {
                assert!(begun.elapsed() < Duration::from_secs(10), "it still asks");
                thread::yield_now();
            }
            for source in [first, second] {
                netlink.add_route(&from(source)).expect("adding");
                assert!(netlink.routes().expect("routes").contains(&from(source)));
                let any = if whole == 32 { "0.0.0.0:0" } else { "[::]:0" };
                let socket = std::net::UdpSocket::bind(any).expect("a socket");
                socket.connect((ip(host), 9)).expect("a route");
                assert_eq!(socket.local_addr().expect("an address").ip(), ip(source));
                netlink.del_route(&from(source)).expect("removing");
                assert!(!netlink.routes().expect("routes").contains(&from(source)));
            }
        }
    });
}

#[test]
fn rules_come_back_as_they_were_added() {
    in_namespace(|mut netlink| {
        let rule = |ipv6, priority| Rule {
            ipv6,
            priority,
            from: None,
            to: None,
            incoming: None,
            mark: None,
            table: 70_000,
            protocol: OWNER,
        };
        let rules = [
            Rule { from: Some((ip("192.0.2.0"), 24)), ..rule(false, 100) },
            Rule { to: Some((ip("2001:db8::"), 32)), table: 5, ..rule(true, 100) },
            Rule { incoming: Some("lo".to_owned()), mark: Some(7), ..rule(true, 102) },
        ];
        for rule in &rules {
            netlink.add_rule(rule).expect("adding");
            assert!(netlink.add_rule(rule).is_err(), "twice");
            assert!(netlink.rules().expect("rules").contains(rule), "{rule:?}");
        }
        for rule in &rules {
            netlink.del_rule(rule).expect("removing");
            netlink.del_rule(rule).expect("removing it again");
        }
        assert!(netlink.rules().expect("rules").iter().all(|rule| rule.protocol != OWNER));
    });
}

#[test]
fn tunnels_have_the_keys_and_peers_that_they_were_given() {
    in_namespace(|mut netlink| {
        let Some(link) = made(&mut netlink, new("wg0", &LinkForm::WireGuard)) else { return };
        let mut private_key = [7; 32];
        // As Curve25519 has it: the kernel says it so.
        (private_key[0], private_key[31]) = (0, 71);
        let settings = WireGuardSettings { private_key, port: Some(51820), mark: 5 };
        netlink.set_wireguard(link.index, &settings).expect("setting");
        let peer = |number: u8| WireGuardPeer {
            public_key: [number; 32],
            preshared_key: [9; 32],
            endpoint: "192.0.2.1:51820".parse().ok(),
            keepalive: 25,
            allowed: (0..64).map(|third| (ip(&format!("10.{number}.{third}.0")), 24)).collect(),
            handshake: None,
        };
        for number in 1..=64 {
            netlink.set_wireguard_peer(link.index, &peer(number)).expect("adding");
        }
        let fewer = WireGuardPeer { allowed: vec![(ip("2001:db8::"), 32)], ..peer(3) };
        netlink.set_wireguard_peer(link.index, &fewer).expect("changing");
        netlink.del_wireguard_peer(link.index, &[1; 32]).expect("removing");
        netlink.del_wireguard_peer(link.index, &[1; 32]).expect("removing it again");
        let mut there = netlink.wireguard(link.index).expect("looking");
        assert_eq!((there.private_key, there.port, there.mark), (private_key, 51820, 5));
        assert!(there.public_key != [0; 32]);
        assert_eq!(there.peers.len(), 63);
        for peer in &mut there.peers {
            peer.allowed.sort();
        }
        assert!(there.peers.contains(&fewer) && there.peers.contains(&peer(2)));
    });
}

fn anything() -> FirewallRule {
    FirewallRule {
        direction: Direction::Ingress,
        ipv6: None,
        from: vec![],
        to: vec![],
        incoming: vec![],
        outgoing: vec![],
        transport: None,
        ports: vec![],
        source_ports: vec![],
        icmp_types: vec![],
        rate: None,
        established: false,
        verdict: Verdict::Accept,
    }
}

/// Everything that a rule can say.
fn rules() -> Vec<FirewallRule> {
    vec![
        FirewallRule { incoming: vec!["lo".to_owned()], ..anything() },
        FirewallRule { established: true, ..anything() },
        FirewallRule {
            ipv6: Some(false),
            from: vec![(ip("10.0.0.0"), ip("10.255.255.255")), (ip("192.0.2.7"), ip("192.0.2.7"))],
            to: vec![(ip("0.0.0.0"), ip("255.255.255.255"))],
            transport: Some(Transport::TCP),
            ports: vec![(80, 80), (8000, 65535)],
            ..anything()
        },
        FirewallRule {
            ipv6: Some(true),
            transport: Some(Transport::Icmp),
            icmp_types: vec![(133, 136)],
            from: vec![(ip("fe80::"), ip("febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"))],
            ..anything()
        },
        FirewallRule { rate: Some((10, 60)), transport: Some(Transport::UDP), ..anything() },
        FirewallRule {
            direction: Direction::Egress,
            verdict: Verdict::Reject,
            ports: vec![(25, 25)],
            transport: Some(Transport::TCP),
            ..anything()
        },
        FirewallRule {
            direction: Direction::Egress,
            verdict: Verdict::Drop,
            outgoing: vec!["eth0".to_owned(), "eth1".to_owned()],
            ..anything()
        },
    ]
}

#[test]
fn the_firewall_is_replaced_as_a_whole() {
    in_namespace(|mut netlink| {
        assert_eq!(netlink.firewall().expect("looking"), None);
        netlink.del_firewall().expect("removing none");
        let firewall = Firewall {
            drops_ingress: true,
            drops_egress: false,
            drops_forward: None,
            rules: rules(),
        };
        for mark in [b"one", b"two"] {
            netlink.set_firewall(&firewall, mark).expect("replacing");
            assert_eq!(netlink.firewall().expect("looking").as_deref(), Some(&mark[..]));
        }
        let never = FirewallRule { rate: Some((0, 1)), ..anything() };
        let wrong = Firewall { rules: vec![never], ..firewall.clone() };
        let error = netlink.set_firewall(&wrong, b"three").expect_err("a rate of nothing");
        assert_eq!(error.to_string(), "Replacing the firewall");
        assert_eq!(netlink.firewall().expect("looking").as_deref(), Some(&b"two"[..]));
        netlink.del_firewall().expect("removing");
        assert_eq!(netlink.firewall().expect("looking"), None);
    });
}

#[test]
fn the_firewall_lets_through_what_it_should_and_nothing_else() {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    in_namespace(|mut netlink| {
        netlink.set_up(LOOPBACK).expect("up");
        let open = TcpListener::bind("127.0.0.1:0").expect("listening");
        let shut = TcpListener::bind("127.0.0.1:0").expect("listening");
        let port = |listener: &TcpListener| listener.local_addr().expect("an address");
        let connect = |to| TcpStream::connect_timeout(&to, std::time::Duration::from_millis(200));
        let wanted = port(&open).port();
        let rules = vec![
            FirewallRule { established: true, ..anything() },
            FirewallRule {
                ipv6: Some(false),
                from: vec![(ip("127.0.0.0"), ip("127.0.0.9"))],
                transport: Some(Transport::TCP),
                ports: vec![(wanted, wanted)],
                ..anything()
            },
            FirewallRule { transport: Some(Transport::UDP), rate: Some((2, 3600)), ..anything() },
            FirewallRule {
                direction: Direction::Egress,
                verdict: Verdict::Reject,
                ipv6: Some(false),
                to: vec![(ip("127.0.0.77"), ip("127.0.0.77"))],
                ..anything()
            },
        ];
        let firewall =
            Firewall { drops_ingress: true, drops_egress: false, drops_forward: None, rules };
        netlink.set_firewall(&firewall, b"").expect("replacing");
        let before = connect(port(&open)).expect("a port that is open");
        before.set_read_timeout(Some(std::time::Duration::from_secs(2))).expect("a timeout");
        let (mut far, _) = open.accept().expect("the connection");
        let error = connect(port(&shut)).expect_err("one that is not");
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        receiver.set_read_timeout(Some(std::time::Duration::from_millis(100))).expect("a timeout");
        for _ in 0..5 {
            // Each is a connection of its own to the kernel.
            let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            sender.send_to(b"x", receiver.local_addr().expect("an address")).expect("sending");
        }
        let came = std::iter::from_fn(|| receiver.recv(&mut [0]).ok()).count();
        assert_eq!(came, 2);
        let refused = connect("127.0.0.77:80".parse().expect("an address")).expect_err("refused");
        assert_ne!(refused.kind(), std::io::ErrorKind::TimedOut);
        // A connection goes on when the port is shut to others.
        let mut fewer = firewall.clone();
        fewer.rules.truncate(1);
        netlink.set_firewall(&fewer, b"").expect("replacing");
        assert!(connect(port(&open)).is_err(), "it is open");
        std::io::Write::write_all(&mut far, b"still here").expect("writing");
        let mut text = [0; 10];
        std::io::Read::read_exact(&mut &before, &mut text).expect("reading");
    });
}

#[test]
fn protocols_are_told_apart_by_number_and_packets_by_the_ports_that_they_come_from() {
    use rustix::net::{
        AddressFamily, Protocol, RecvFlags, SendFlags, SocketType, recv, sendto, socket, sockopt,
    };
    use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
    const SOON: std::time::Duration = std::time::Duration::from_millis(100);
    in_namespace(|mut netlink| {
        netlink.set_up(LOOPBACK).expect("up");
        let bound = || UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let (receiver, named, other) = (bound(), bound(), bound());
        receiver.set_read_timeout(Some(SOON)).expect("a timeout");
        let port = |socket: &UdpSocket| socket.local_addr().expect("an address").port();
        let (ospf, gre) = (89, 47);
        let rules = vec![
            FirewallRule { transport: Some(Transport::Number(ospf)), ..anything() },
            FirewallRule {
                transport: Some(Transport::UDP),
                source_ports: vec![(port(&named), port(&named))],
                ports: vec![(port(&receiver), port(&receiver))],
                ..anything()
            },
        ];
        let firewall =
            Firewall { drops_ingress: true, drops_egress: false, drops_forward: None, rules };
        netlink.set_firewall(&firewall, b"").expect("replacing");
        let comes = |number: u8| {
            let protocol = Protocol::from_raw(u32::from(number).try_into().expect("not 0"));
            let raw = socket(AddressFamily::INET, SocketType::RAW, Some(protocol));
            let raw = raw.expect("a raw socket");
            sockopt::set_socket_timeout(&raw, sockopt::Timeout::Recv, Some(SOON)).expect("set");
            let here = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
            sendto(&raw, b"x", SendFlags::empty(), &here).expect("sending");
            recv(&raw, &mut [0_u8; 64][..], RecvFlags::empty()).is_ok()
        };
        assert_eq!((comes(ospf), comes(gre)), (true, false));
        for (sender, heard) in [(&other, false), (&named, true)] {
            sender.send_to(b"x", ("127.0.0.1", port(&receiver))).expect("sending");
            assert_eq!(receiver.recv(&mut [0]).is_ok(), heard);
        }
    });
}

#[test]
fn a_fence_lets_one_user_through_to_its_ports() {
    in_namespace(|mut netlink| {
        netlink.set_up(LOOPBACK).expect("up");
        netlink.add_address(LOOPBACK, ip("192.0.2.1"), 24).expect("an address");
        netlink.add_route(&route("198.51.100.0", 24, None)).expect("a route");
        // Nobody is there: whoever gets through hears nothing.
        let kind = |port: u16| {
            let address = (ip("198.51.100.7"), port).into();
            let patience = std::time::Duration::from_millis(50);
            std::net::TcpStream::connect_timeout(&address, patience).expect_err("silence").kind()
        };
        let (silence, refused) =
            (std::io::ErrorKind::TimedOut, std::io::ErrorKind::PermissionDenied);
        assert_eq!(kind(80), silence);
        let sends = |port: u16| {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
            socket.send_to(b"x", (ip("198.51.100.7"), port)).map(drop).map_err(|error| error.kind())
        };
        let fence = Fence { address: ip("198.51.100.7"), ports: Ports::Tcp(54, 80), user: 210 };
        netlink.add_fence(&fence).expect("a fence");
        // This test is root.
        assert_eq!([53, 54, 80, 81].map(kind), [silence, refused, refused, silence]);
        assert_eq!(sends(80), Ok(()));
        let datagrams = Fence { ports: Ports::Udp(54, 80), ..fence };
        netlink.add_fence(&datagrams).expect("a fence");
        assert_eq!((sends(53), sends(80)), (Ok(()), Err(refused)));
        assert!(netlink.rules().expect("rules").iter().all(|rule| rule.protocol != OWNER));
        netlink.del_fence(&fence).expect("no fence");
        netlink.del_fence(&fence).expect("still none");
        let own = Fence { user: 0, ..fence };
        netlink.add_fence(&own).expect("a fence");
        assert_eq!(kind(80), silence);
    });
}

#[test]
fn a_fence_is_around_an_address_on_any_link() {
    in_namespace(|mut netlink| {
        let Some(link) = made(&mut netlink, new("made", &LinkForm::Dummy)) else { return };
        netlink.set_up(link.index).expect("up");
        netlink.add_address(link.index, ip("fe80::1"), 64).expect("an address");
        let kind = |netlink: &mut Netlink, fence: Option<Fence>| {
            fence.iter().for_each(|fence| netlink.add_fence(fence).expect("a fence"));
            let address = "fe80::a9fe:a9fe".parse().expect("an address");
            let address = std::net::SocketAddrV6::new(address, 80, 0, link.index);
            let patience = std::time::Duration::from_millis(50);
            let connected = std::net::TcpStream::connect_timeout(&address.into(), patience);
            connected.expect_err("nobody is there").kind()
        };
        let refused = std::io::ErrorKind::PermissionDenied;
        assert_ne!(kind(&mut netlink, None), refused);
        let fence = Fence { address: ip("fe80::a9fe:a9fe"), ports: Ports::Tcp(80, 80), user: 210 };
        assert_eq!(kind(&mut netlink, Some(fence)), refused);
    });
}

/// How often the routers of any link were asked.
fn solicitations() -> u32 {
    let counters = fs::read_to_string("/proc/thread-self/net/snmp6").expect("counters");
    let mut words =
        counters.split_whitespace().skip_while(|word| *word != "Icmp6OutRouterSolicits");
    words.nth(1).and_then(|count| count.parse().ok()).expect("a number")
}

#[test]
fn routers_are_asked_where_they_are_heeded() {
    in_namespace(|mut netlink| {
        let write = |file: &str, text: &str| {
            fs::write(format!("/proc/sys/net/ipv6/conf/{file}"), text).expect("a setting");
        };
        // The link's own address is there at once, and nobody asks by himself.
        write("default/accept_dad", "0");
        write("default/accept_ra", "0");
        let form = LinkForm::Veth;
        let new = NewLink { name: "near", form: &form, parent: None, peer: Some("far") };
        netlink.make_link(new).expect("a cable");
        let links = netlink.links().expect("links");
        let ends: Vec<_> = links.iter().filter(|link| link.index != LOOPBACK).collect();
        for end in &ends {
            netlink.set_up(end.index).expect("up");
        }
        let near = ends.iter().find(|end| end.name == "near").expect("an end").index;
        let begun = Instant::now();
        let own = |one: &AddressInfo| one.index == near && !one.tentative;
        while !netlink.addresses().expect("addresses").iter().any(own) {
            assert!(begun.elapsed() < Duration::from_secs(5), "no address of its own");
            thread::sleep(Duration::from_millis(10));
        }
        netlink.solicit_routers(near).expect("nothing");
        assert_eq!(solicitations(), 0);
        write("near/accept_ra", "1");
        netlink.solicit_routers(near).expect("asking");
        assert_eq!(solicitations(), 1);
        assert!(netlink.solicit_routers(77).is_err(), "there is no such link");
    });
}
