// SPDX-License-Identifier: Apache-2.0

use super::{
    Origin, Resolver, Wanted, addresses, called, hostname, hosts, resolv_conf, resolver,
    time_servers, told,
};
use crate::network::{
    Address, Link, Observed,
    desired::{Desired, DesiredLink},
    fixture,
    given::{Given, Giver},
    lease::{Claim, Dhcp, Lease, Report},
};
use expect_test::expect;
use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};
use stele_config::{Device, Dhcp4};

fn dhcp(server: [u8; 4], domain: &str, hostname: &str) -> Dhcp {
    let claim = Claim {
        address: Some(Ipv4Addr::new(10, 0, 2, 15)),
        prefix: 24,
        dns_servers: vec![Ipv4Addr::from(server)],
        ntp_servers: vec![Ipv4Addr::from(server)],
        domain: domain.to_owned(),
        hostname: hostname.to_owned(),
        ..Claim::default()
    };
    let mut dhcp = Dhcp::default();
    dhcp.four.hear(Report::Leased(Lease::try_from(claim).expect("a lease")), Duration::ZERO);
    dhcp
}

fn link(index: u32, name: &str, physical: bool) -> Link {
    let mac = [0x52, 0x54, 0, 0x12, 0x34, index as u8];
    let device = Device { mac: Some(mac.into()), ..Device::default() };
    Link { mac: Some(mac), device, physical, ..fixture::link(index, name) }
}

/// Links that take name servers and time servers, or don't.
fn taking(leases: &BTreeMap<String, Dhcp>, takes: bool) -> Desired {
    let dhcp4 = Some(Dhcp4 { dns: takes, time: takes, ..Dhcp4::default() });
    let link = DesiredLink { dhcp4, ..DesiredLink::default() };
    let links = leases.keys().map(|name| (name.clone(), link.clone())).collect();
    Desired { links, ..Desired::default() }
}

#[test]
fn leases_bring_name_servers_and_domains_each_once() {
    let leases = BTreeMap::from([
        ("eth0".to_owned(), dhcp([10, 0, 2, 3], "a.example", "")),
        ("eth1".to_owned(), dhcp([10, 0, 2, 3], "b.example", "")),
        ("eth2".to_owned(), dhcp([10, 0, 2, 4], "", "")),
        ("eth3".to_owned(), Dhcp::default()),
    ]);
    let text = resolv_conf(&resolver(Wanted::default(), &taking(&leases, true), &leases));
    expect![[r"
        nameserver 10.0.2.3
        nameserver 10.0.2.4
        search a.example b.example
    "]]
    .assert_eq(&text);
    assert_eq!(resolv_conf(&Resolver::default()), "");
    assert_eq!(resolver(Wanted::default(), &taking(&leases, false), &leases), Resolver::default());
    let servers = time_servers(&taking(&leases, true), &leases);
    assert_eq!(servers, [Ipv4Addr::new(10, 0, 2, 3), Ipv4Addr::new(10, 0, 2, 4)]);
    assert!(time_servers(&taking(&leases, false), &leases).is_empty());
}

#[test]
fn a_stub_stands_before_the_servers() {
    let leases = BTreeMap::from([("eth0".to_owned(), dhcp([10, 0, 2, 3], "a.example", ""))]);
    let with = |document: &str| {
        let text = format!(r#"[{{"apiVersion":"stele/v1","kind":"Resolver"{document}}}]"#);
        let documents = stele_config::canonical::read_network(text.as_bytes());
        let given = Given { by: Giver::Platform, documents: documents.expect("documents") };
        let wanted = Wanted { config: None, given: Some(&given) };
        let resolver = resolver(wanted, &taking(&leases, true), &leases);
        format!(
            "{:?} of {}\n{}",
            resolver.servers,
            resolver.origin.as_str(),
            resolv_conf(&resolver)
        )
    };
    expect![[r"
        [10.0.2.3] of lease
        nameserver 127.0.0.53
        search a.example
    "]]
    .assert_eq(&with(r#","stub":true"#));
    expect![[r"
        [10.0.2.3] of lease
        nameserver 10.0.2.3
        search b.example
    "]]
    .assert_eq(&with(r#","search":["b.example"]"#));
    expect![[r"
        [192.0.2.53#dns.example] of configuration
        nameserver 127.0.0.53
    "]]
    .assert_eq(&with(r#","servers":["192.0.2.53#dns.example"]"#));
    expect![[r"
        [192.0.2.53:5353] of configuration
        nameserver 127.0.0.53
    "]]
    .assert_eq(&with(r#","servers":["192.0.2.53:5353"]"#));
}

#[test]
fn search_domains_are_taken_with_the_name_servers_or_by_themselves() {
    let claim = Claim {
        address: Some(Ipv4Addr::new(10, 0, 2, 15)),
        prefix: 24,
        dns_servers: vec![Ipv4Addr::new(10, 0, 2, 3)],
        domain: "a.example".to_owned(),
        search: vec!["b.example".to_owned(), "a.example".to_owned()],
        ..Claim::default()
    };
    let mut dhcp = Dhcp::default();
    dhcp.four.hear(Report::Leased(Lease::try_from(claim).expect("a lease")), Duration::ZERO);
    let leases = BTreeMap::from([("eth0".to_owned(), dhcp)]);
    let with = |dhcp4: &str| {
        let text =
            format!(r#"[{{"apiVersion":"stele/v2","kind":"Link","name":"eth0","dhcp4":{dhcp4}}}]"#);
        let documents = stele_config::canonical::read_network(text.as_bytes());
        let given = Given { by: Giver::Platform, documents: documents.expect("documents") };
        let wanted = Wanted { config: None, given: Some(&given) };
        let links = [link(2, "eth0", true)];
        let desired = Desired::derive(wanted, &leases, &links);
        resolv_conf(&resolver(wanted, &desired, &leases))
    };
    expect!["nameserver 10.0.2.3\nsearch a.example b.example\n"].assert_eq(&with("{}"));
    expect![""].assert_eq(&with(r#"{"dns":false}"#));
    expect!["nameserver 10.0.2.3\n"].assert_eq(&with(r#"{"search":false}"#));
    expect!["search a.example b.example\n"].assert_eq(&with(r#"{"dns":false,"search":true}"#));
}

#[test]
fn the_machine_finds_itself_by_name() {
    expect![[r"
        127.0.0.1 localhost
        ::1 localhost ip6-localhost ip6-loopback
        127.0.1.1 stele-123402
    "]]
    .assert_eq(&hosts("stele-123402", &[], &[]));
    let addresses =
        ["10.0.2.15".parse().expect("an address"), "2001:db8::1".parse().expect("an address")];
    expect![[r"
        127.0.0.1 localhost
        ::1 localhost ip6-localhost ip6-loopback
        10.0.2.15 node.example node
        2001:db8::1 node.example node
    "]]
    .assert_eq(&hosts("node.example", &addresses, &[]));
}

#[test]
fn the_configuration_names_the_machine_before_the_platform_a_lease_and_its_hardware_do() {
    let links = [link(1, "br0", false), link(2, "eth0", true)];
    let (none, lease) =
        (BTreeMap::new(), BTreeMap::from([("eth0".to_owned(), dhcp([10, 0, 2, 3], "", "rack-7"))]));
    let web = called("web.example").expect("a name");
    let document = crate::change::tests::config(&[r#""kind":"Hostname","hostname":"db""#]);
    let said = |config, called, leases| {
        let (name, origin) = hostname(config, called, leases, &links);
        format!("{name} by {}", origin.as_str())
    };
    assert_eq!(said(Some(&document), Some(&web), &lease), "db by configuration");
    assert_eq!(said(None, Some(&web), &lease), "web.example by platform");
    assert_eq!(said(None, None, &lease), "rack-7 by lease");
    assert_eq!(said(None, None, &none), "stele-123402 by machine");
    assert_eq!(hostname(None, None, &none, &[]), ("stele".to_owned(), Origin::Machine));
}

#[test]
fn a_platform_s_name_is_cut_to_what_is_one() {
    let long = format!("{}-", "a".repeat(62));
    for (given, expected) in [
        ("Web.Example.", "web.example"),
        (" web\n", "web"),
        ("web.c.a_project.internal", "web"),
        (&format!("web.{}.internal", "a".repeat(60)), "web"),
        (&format!("{long}b.internal"), &"a".repeat(62)),
    ] {
        assert_eq!(called(given).as_ref().map(stele_config::Hostname::as_str), Ok(expected));
    }
    for wrong in ["", "my_web", "192.0.2.7", "2001:db8::1", "-.example"] {
        assert!(called(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_server_is_told_what_is_written_or_nothing_unless_somebody_says_so() {
    let links = [link(2, "eth0", true)];
    let config = |dhcp4: &str, hostname: &str| {
        let pem =
            |label: &str| format!("-----BEGIN {label}-----\\nMAA=\\n-----END {label}-----\\n");
        let (certificate, key) = (pem("CERTIFICATE"), pem("PRIVATE KEY"));
        let text = format!(
            r#"[{{"apiVersion":"stele/v1","kind":"Identity","ca":"{certificate}","certificate":"{certificate}","key":"{key}"}},{hostname}
            {{"apiVersion":"stele/v2","kind":"Link","name":"eth0","dhcp4":{dhcp4}}}]"#
        );
        stele_config::canonical::read(text.as_bytes()).expect("a configuration")
    };
    let named = r#"{"apiVersion":"stele/v1","kind":"Hostname","hostname":"node-1"},"#;
    for (dhcp4, with, without) in [
        ("{}", Some("node-1"), None),
        (r#"{"sendHostname":false}"#, None, None),
        (r#"{"sendHostname":true}"#, Some("node-1"), Some("stele-123402")),
        (r#"{"hostname":"rack-7"}"#, Some("rack-7"), Some("rack-7")),
    ] {
        let said = |hostname: &str| {
            let config = config(dhcp4, hostname);
            let takes = config.links()[0].dhcp4().expect("DHCP");
            told(takes, Some(&config), &links)
        };
        assert_eq!((said(named).as_deref(), said("").as_deref()), (with, without), "{dhcp4}");
    }
    assert_eq!(told(&Dhcp4::default(), None, &links), None);
}

#[test]
fn only_addresses_that_work_from_elsewhere_count() {
    let address = |index, cidr: &str, tentative, duplicate| Address {
        index,
        cidr: cidr.parse().expect("an address"),
        ours: true,
        tentative,
        duplicate,
    };
    let observed = Observed {
        addresses: vec![
            address(1, "127.0.0.1/8", false, false),
            address(1, "::1/128", false, false),
            address(2, "fe80::1/64", false, false),
            address(2, "fec0::1/64", false, false),
            address(2, "2001:db8::2/64", true, false),
            address(2, "2001:db8::3/64", false, true),
            address(2, "2001:db8::1/64", false, false),
            address(3, "192.0.2.1/24", false, false),
            address(2, "169.254.3.4/16", false, false),
            address(2, "10.0.2.15/24", false, false),
        ],
        ..Observed::default()
    };
    let text: Vec<_> = addresses(&observed).iter().map(ToString::to_string).collect();
    assert_eq!(text, ["10.0.2.15", "192.0.2.1", "2001:db8::1"]);
}
