// SPDX-License-Identifier: Apache-2.0
//! A prefix that Kea gives, on the kernel's links.

use crate::{
    WIDE, dhcp6,
    lab::{Lab, wait_for},
    lease6, subnet, text,
};
use std::{
    collections::BTreeMap,
    io::ErrorKind,
    net::{Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};
use stele_config::{MachineConfig, canonical};
use stele_init::rig;
use stele_machine::network::{
    lease::{Dhcp, Report},
    lease6::{Claim6, Lease6},
};
use stele_proto::internal;

/// A machine that asks for a prefix on one link, and has network 5 of it on another.
fn config() -> MachineConfig {
    let pem = |label: &str| format!("-----BEGIN {label}-----\\nMAA=\\n-----END {label}-----\\n");
    let (certificate, key) = (pem("CERTIFICATE"), pem("PRIVATE KEY"));
    let documents = format!(
        r#"[{{"apiVersion":"stele/v1","kind":"Identity","ca":"{certificate}","certificate":"{certificate}","key":"{key}"}},
        {{"apiVersion":"stele/v2","kind":"Link","name":"client","dhcp6":{{"address":false,"prefix":56}}}},
        {{"apiVersion":"stele/v1","kind":"Veth","name":"inside","peer":"outside"}},
        {{"apiVersion":"stele/v2","kind":"Link","name":"inside","delegated":{{"from":"client","subnet":5}}}}]"#
    );
    canonical::read(documents.as_bytes()).expect("a configuration")
}

fn known(lease: &internal::Lease6) -> BTreeMap<String, Dhcp> {
    let prefix = |prefix: &internal::Prefix6| {
        let network = <[u8; 16]>::try_from(&prefix.network[..]).expect("an address");
        (Ipv6Addr::from(network), prefix.prefix_length)
    };
    let prefixes = lease.prefixes.iter().map(prefix).collect();
    let claim = Claim6 { prefixes, seconds: lease.lease_seconds, ..Claim6::default() };
    let mut dhcp = Dhcp::default();
    dhcp.six.hear(Report::Leased(Lease6::from(claim)), Duration::ZERO);
    BTreeMap::from([("client".to_owned(), dhcp)])
}

#[test]
fn a_link_has_its_network_of_the_prefix_and_the_rest_goes_in_no_circle() {
    let mut lab = Lab::new("prefix");
    lab.serve(6, subnet(WIDE));
    let lease = lease6(&dhcp6(&mut lab, &["--prefix", "56"]));
    let network = text(&lease.prefixes[0].network);
    let of = |subnet: u128, host: u128| {
        let first: Ipv6Addr = network.parse().expect("an address");
        Ipv6Addr::from_bits(first.to_bits() | subnet << 64 | host).to_string()
    };
    let config = config();
    let settle = |known: &BTreeMap<String, Dhcp>| {
        lab.on("client", || rig::converge_with(&config, known).expect("what the kernel takes"))
    };
    assert!(settle(&known(&lease)) >= 3);
    assert_eq!(settle(&known(&lease)), 0, "it is as it should be");
    let inside = lab.says("client", "-6 address show inside");
    assert!(inside.contains(&format!("{}/64", of(5, 1))), "{inside}");
    let routes = lab.says("client", "-6 route show type unreachable");
    assert!(routes.contains(&format!("unreachable {network}/56")), "{routes}");
    // The server is the router, who sends all of the prefix to the client, as the client does with what it has no other way for.
    let near = |side: &str, link: &str| {
        let shown = lab.says(side, &format!("-6 address show dev {link} scope link"));
        let words: Vec<&str> = shown.split_whitespace().collect();
        let place = words.iter().position(|word| *word == "inet6").expect("an address");
        words[place + 1].split('/').next().expect("an address").to_owned()
    };
    let (client, server) = (near("client", "client"), near("server", "lan"));
    for side in ["client", "server"] {
        lab.within(side, "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
        lab.within(side, "echo 0 > /proc/sys/net/ipv6/icmp/ratelimit");
    }
    lab.link("server", "-6 address add 2001:db8:77::1/64 dev lan");
    lab.link("client", &format!("-6 route add default via {server} dev client"));
    lab.link("server", &format!("-6 route add {network}/56 via {client} dev lan"));
    // What comes of a connection from the server.
    let connects = |subnet| {
        let to = SocketAddr::new(of(subnet, 1).parse().expect("an address"), 80);
        let tried = lab.on("server", || TcpStream::connect_timeout(&to, Duration::from_secs(2)));
        tried.expect_err("nobody listens").kind()
    };
    // The kernel looks first whether another machine has the address.
    wait_for("the machine", || (connects(5) == ErrorKind::ConnectionRefused).then_some(()));
    assert_eq!(connects(6), ErrorKind::NetworkUnreachable);
    // The server is gone, and the lease has ended.
    assert!(settle(&BTreeMap::new()) >= 2);
    let inside = lab.says("client", "-6 address show inside");
    assert!(!inside.contains(&of(5, 1)), "{inside}");
    assert_eq!(lab.says("client", "-6 route show type unreachable"), "");
    assert_ne!(connects(6), ErrorKind::NetworkUnreachable, "it goes in a circle");
}
