// SPDX-License-Identifier: Apache-2.0
//! The agents of the network against Kea and radvd.

mod fixed;
mod flags;
mod lab;
mod prefix;

use lab::{Lab, Reports};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv6Addr};
use stele_proto::internal::{AdvertisedNames, Lease, Lease6, lease_report::Report};

fn text(address: &[u8]) -> String {
    match *address {
        [a, b, c, d] => IpAddr::from([a, b, c, d]).to_string(),
        _ => Ipv6Addr::from(<[u8; 16]>::try_from(address).expect("an address")).to_string(),
    }
}

fn all(addresses: &[Vec<u8>]) -> Vec<String> {
    addresses.iter().map(|address| text(address)).collect()
}

/// A server with these addresses to give.
fn subnet(pool: &str) -> Value {
    json!({
        "preferred-lifetime": 60, "valid-lifetime": 120, "renew-timer": 5, "rebind-timer": 50,
        "subnet6": [{
            "subnet": "2001:db8:77::/64", "interface": "lan", "pools": [{"pool": pool}],
            "pd-pools": [{"prefix": "2001:db8:100::", "prefix-len": 40, "delegated-len": 56}],
        }],
        "option-data": [
            {"name": "dns-servers", "data": "2001:db8:77::1, 2001:db8:77::2"},
            {"name": "domain-search", "data": "lab.example, example"},
            {"code": 56, "csv-format": false, "data": "0001001020010db8007700000000000000000003"},
        ],
    })
}

const WIDE: &str = "2001:db8:77::50 - 2001:db8:77::60";

fn dhcp6(lab: &mut Lab, arguments: &[&str]) -> Reports<Report> {
    lab.agent(&[&["dhcp6", "client"], arguments].concat(), "net_bind_service")
}

fn lease6(reports: &Reports<Report>) -> Lease6 {
    match reports.news() {
        Report::Lease6(lease) => lease,
        report => panic!("no lease: {report:?}"),
    }
}

#[test]
fn an_address_and_a_prefix_come_with_all_that_the_server_says_and_are_renewed() {
    let mut lab = Lab::new("six");
    lab.serve(6, subnet(WIDE));
    let reports = dhcp6(&mut lab, &["--address", "--prefix", "56"]);
    let lease = lease6(&reports);
    let [address] = &lease.addresses[..] else { panic!("{lease:?}") };
    assert!(text(address).starts_with("2001:db8:77::5") || text(address) == "2001:db8:77::60");
    let [prefix] = &lease.prefixes[..] else { panic!("{lease:?}") };
    assert!(text(&prefix.network).starts_with("2001:db8:1"), "{lease:?}");
    assert_eq!((prefix.prefix_length, lease.lease_seconds), (56, 119));
    assert_eq!(all(&lease.dns_servers), ["2001:db8:77::1", "2001:db8:77::2"]);
    assert_eq!(lease.domains, ["lab.example", "example"]);
    assert_eq!(all(&lease.ntp_servers), ["2001:db8:77::3"]);
    let renewed = lease6(&reports);
    assert_eq!((renewed.addresses, renewed.prefixes), (lease.addresses, lease.prefixes));
    // The server tells apart who asks again and who asks for the first time.
    assert!(lab.log().contains("RENEW"), "{}", lab.log());
}

#[test]
fn who_has_addresses_only_asks_what_else_there_is_to_know() {
    let mut lab = Lab::new("inform");
    lab.serve(6, subnet(WIDE));
    let lease = lease6(&dhcp6(&mut lab, &[]));
    assert!(lease.addresses.is_empty() && lease.prefixes.is_empty(), "{lease:?}");
    assert_eq!(all(&lease.dns_servers), ["2001:db8:77::1", "2001:db8:77::2"]);
    assert_eq!(lease.lease_seconds, u32::MAX);
}

#[test]
fn a_server_with_nothing_to_give_is_quoted() {
    let mut lab = Lab::new("none");
    let mut settings = subnet(WIDE);
    settings["subnet6"][0]["pools"] = json!([]);
    lab.serve(6, settings);
    let reports = dhcp6(&mut lab, &["--address"]);
    let why = loop {
        match reports.next() {
            Report::Waiting(why) if why.contains("gives nothing: ") => break why,
            Report::Waiting(_) => {}
            report => panic!("{report:?}"),
        }
    };
    assert!(why.starts_with("The DHCPv6 server 0003"), "{why}");
}

#[test]
fn an_address_that_another_machine_has_is_declined() {
    let mut lab = Lab::new("duplicate");
    lab.serve(6, subnet("2001:db8:77::50 - 2001:db8:77::50"));
    lab.link("server", "address add 2001:db8:77::50/128 dev lan");
    let reports = dhcp6(&mut lab, &["--address"]);
    assert_eq!(all(&lease6(&reports).addresses), ["2001:db8:77::50"]);
    lab.link("client", "address add 2001:db8:77::50/128 dev client");
    let Report::Lost(why) = reports.news() else { panic!("the duplicate was not seen") };
    assert_eq!(why, "Another machine on the link has the address 2001:db8:77::50");
}

#[test]
fn a_cable_that_comes_back_brings_the_same_address() {
    let mut lab = Lab::new("cable6");
    lab.serve(6, subnet(WIDE));
    let reports = dhcp6(&mut lab, &["--address"]);
    let first = lease6(&reports);
    lab.link("server", "link set lan down");
    lab.link("server", "link set lan up");
    assert_eq!(lease6(&reports).addresses, first.addresses);
}

#[test]
fn name_servers_and_domains_that_a_router_advertises_are_heard() {
    let mut lab = Lab::new("router");
    // It needs no privilege at all.
    let reports = lab.reporter(&["routers"], "", |names: AdvertisedNames| names);
    lab.advertise(
        "prefix 2001:db8:77::/64 {}; \
         RDNSS 2001:db8:77::53 2001:db8:77::54 { AdvRDNSSLifetime 600; }; \
         DNSSL lab.example example { AdvDNSSLLifetime 500; };",
    );
    let (first, second) = (reports.next(), reports.next());
    let (servers, domains) =
        if first.domains.is_empty() { (first, second) } else { (second, first) };
    assert_eq!(all(&servers.dns_servers), ["2001:db8:77::53", "2001:db8:77::54"]);
    assert_eq!(
        (domains.domains, domains.seconds),
        (vec!["lab.example".to_owned(), "example".to_owned()], 500)
    );
    assert_eq!((servers.seconds, servers.link), (600, domains.link));
}

fn lease(reports: &Reports<Report>) -> Lease {
    match reports.news() {
        Report::Lease(lease) => lease,
        report => panic!("no lease: {report:?}"),
    }
}

/// A server of DHCPv4 that has these networks, and says so of itself.
fn subnet4(network: &str) -> Value {
    json!({
        "authoritative": true, "valid-lifetime": 120, "renew-timer": 5, "rebind-timer": 100,
        "subnet4": [{
            "subnet": format!("{network}.0/24"),
            "interface": "lan",
            "pools": [{"pool": format!("{network}.50 - {network}.60")}],
            "option-data": [{"name": "routers", "data": format!("{network}.1")}],
        }],
    })
}

#[test]
fn a_server_of_ipv4_knows_the_machine_as_one_of_ipv6_does() {
    let mut lab = Lab::new("duid");
    lab.link("server", "address add 10.77.0.1/24 dev lan");
    lab.link("client", "link set client address 02:00:00:00:00:07");
    let mut settings = subnet4("10.77.0");
    settings["host-reservation-identifiers"] = json!(["client-id"]);
    settings["subnet4"][0]["reservations"] = json!([{
        // RFC 4361: a type, a number for the link, and the DUID of its hardware address.
        "client-id": "ff8f929c1e00030001020000000007",
        "ip-address": "10.77.0.77",
    }]);
    settings["subnet4"][0]["option-data"] =
        json!([{"name": "domain-search", "data": "lab.example, deep.lab.example"}]);
    lab.serve(4, settings);
    let lease = lease(&lab.agent(&["dhcp", "client", "--client-id", "duid"], "net_raw"));
    assert_eq!(text(&lease.address), "10.77.0.77");
    assert_eq!(lease.search, ["lab.example", "deep.lab.example"]);
}

#[test]
fn a_lease_of_ipv4_is_renewed_and_refused_by_a_server_that_has_moved() {
    let mut lab = Lab::new("four");
    lab.link("server", "address add 10.77.0.1/24 dev lan");
    lab.serve(4, subnet4("10.77.0"));
    let reports = lab.agent(&["dhcp", "client"], "net_raw");
    let first = lease(&reports);
    assert!(text(&first.address).starts_with("10.77.0."), "{first:?}");
    lab.link("client", &format!("address add {}/24 dev client", text(&first.address)));
    assert_eq!(lease(&reports), first);
    lab.link("server", "address del 10.77.0.1/24 dev lan");
    lab.link("server", "address add 10.78.0.1/24 dev lan");
    lab.serve(4, subnet4("10.78.0"));
    lab.link("server", "link set lan down");
    lab.link("server", "link set lan up");
    let Report::Lost(why) = reports.news() else { panic!("the old address is kept") };
    assert!(why.starts_with("The DHCP server 10.78.0.1 refused the address"), "{why}");
    assert!(text(&lease(&reports).address).starts_with("10.78.0."));
}
