// SPDX-License-Identifier: Apache-2.0
//! Descriptions as the documentation of those who make them has them.

use super::{Description, Form};
use base64ct::{Base64, Encoding as _};
use stele_config::canonical;

/// What a description says, a line for each document, as PID 1 reads it.
fn said(form: Form, text: &str) -> String {
    let Description { documents, left_out } = form.documents(text.as_bytes()).unwrap();
    assert_eq!(left_out, []);
    let bytes = serde_json::to_vec(&documents).unwrap();
    let network = canonical::read_network(&bytes)
        .unwrap_or_else(|findings| panic!("{findings:?}: {documents:#?}"));
    let mut lines = Vec::new();
    for link in network.links() {
        let mac = link.matched().map(|matched| format!(" {matched}")).unwrap_or_default();
        let mut words = vec![format!("{}{mac}:", link.name())];
        words.extend(link.dhcp4().map(|_| "dhcp".to_owned()));
        words.extend(link.dhcp6().map(|dhcp6| match dhcp6.address {
            true => "dhcp6".to_owned(),
            false => "dhcp6 (no address)".to_owned(),
        }));
        words.extend(link.mtu().map(|mtu| format!("mtu {mtu}")));
        words.extend(link.addresses().iter().map(ToString::to_string));
        words.extend(link.routes().iter().map(|route| {
            let metric = route.metric.map(|metric| format!("#{metric}")).unwrap_or_default();
            format!(
                "{}>{}{metric}",
                route.to,
                route.via.map(|via| via.to_string()).unwrap_or_default()
            )
        }));
        lines.push(words.join(" "));
    }
    lines.extend(network.virtual_links().iter().map(|link| {
        let members: Vec<_> = link.members().into_iter().chain(link.parent()).collect();
        let members: Vec<_> = members.iter().map(|name| name.as_str()).collect();
        format!("{} {} of {}", link.kind(), link.name(), members.join(" "))
    }));
    lines.extend(network.resolver().map(|resolver| {
        let search: Vec<_> = resolver.search().iter().map(|domain| domain.as_str()).collect();
        format!("{:?} {search:?}", resolver.servers())
    }));
    lines.join("\n")
}

#[test]
fn version_1() {
    let text = "network:
  version: 1
  config:
    - type: physical
      name: interface0
      mac_address: 'BC:24:11:00:00:01'
      mtu: 1400
      subnets:
        - type: static
          address: 192.168.1.10
          netmask: 255.255.255.0
          gateway: 192.168.1.1
          dns_nameservers: [192.168.1.53]
          routes:
            - {network: 10.0.0.0, netmask: 255.0.0.0, gateway: 192.168.1.2}
        - type: static6
          address: '2001:db8::10/64'
          gateway: '2001:db8::1'
    - type: bond
      name: bond0
      bond_interfaces: [gbe0, gbe1]
      params: {bond-mode: active-backup}
      subnets: [{type: dhcp4}, {type: dhcp6}]
    - type: vlan
      name: eth0.101
      vlan_link: eth0
      vlan_id: 101
    - type: nameserver
      address: [8.8.8.8, 8.8.4.4]
      search: [example.com]
";
    expect_test::expect![[r#"
        bond0: dhcp dhcp6
        eth0.101:
        interface0 bc:24:11:00:00:01: mtu 1400 192.168.1.10/24 2001:db8::10/64 0.0.0.0/0>192.168.1.1 10.0.0.0/8>192.168.1.2 ::/0>2001:db8::1
        VLAN eth0.101 of eth0
        Bond bond0 of gbe0 gbe1
        [192.168.1.53, 8.8.8.8, 8.8.4.4] ["example.com"]"#]]
    .assert_eq(&said(Form::NoCloud, text));
}

#[test]
fn hetzner() {
    let text = "config:
- mac_address: 96:00:00:12:34:56
  name: eth0
  subnets:
  - dns_nameservers:
    - 185.12.64.1
    - 185.12.64.2
    ipv4: true
    type: dhcp
  - address: 2a01:4f8:c0c:1::1/64
    gateway: fe80::1
    ipv6: true
    type: static
  type: physical
version: 1
";
    expect_test::expect![[r#"
        eth0 96:00:00:12:34:56: dhcp 2a01:4f8:c0c:1::1/64 ::/0>fe80::1
        [185.12.64.1, 185.12.64.2] []"#]]
    .assert_eq(&said(Form::NoCloud, text));
}

#[test]
fn version_2() {
    let text = "version: 2
ethernets:
  id0:
    match: {macaddress: '00:11:22:33:44:55'}
    set-name: eth0
    dhcp4: yes
    dhcp6: true
    addresses: ['192.168.14.2/24', {'2001:db8::2/64': {lifetime: 0}}]
    gateway4: 192.168.14.1
    nameservers: {search: [foo.local], addresses: [8.8.8.8]}
    routes:
      - {to: default, via: '2001:db8::1', metric: 50}
      - {to: 10.8.0.0/16, via: 192.168.14.3}
  any:
    match: {name: 'en*'}
    dhcp4: true
  eno1: {mtu: 9000}
bonds:
  bond0:
    interfaces: [eno1, eno2]
    parameters: {mode: 802.3ad, transmit-hash-policy: layer3+4}
    dhcp4: true
vlans:
  en-intra: {id: 15, link: bond0, addresses: [10.3.98.5/24]}
";
    expect_test::expect![[r#"
        any: dhcp
        bond0: dhcp
        en-intra: 10.3.98.5/24
        eno1: mtu 9000
        eth0 00:11:22:33:44:55: dhcp dhcp6 192.168.14.2/24 2001:db8::2/64 0.0.0.0/0>192.168.14.1 ::/0>2001:db8::1#50 10.8.0.0/16>192.168.14.3
        VLAN en-intra of bond0
        Bond bond0 of eno1 eno2
        [8.8.8.8] ["foo.local"]"#]]
    .assert_eq(&said(Form::NoCloud, text));
}

/// The keys of one document.
fn keys(text: &str, kind: &str, name: &str) -> String {
    let Description { documents, left_out } = Form::NoCloud.documents(text.as_bytes()).unwrap();
    assert_eq!(left_out, []);
    let mut found = documents.into_iter().filter(|one| one["kind"] == kind && one["name"] == name);
    let mut keys = found.next().expect("the document");
    for known in ["apiVersion", "kind", "name"] {
        keys.as_object_mut().expect("a mapping").remove(known);
    }
    keys.to_string()
}

#[test]
fn bonds_and_bridges_are_as_they_are_described() {
    let netplan = "version: 2
ethernets: {a: {match: {driver: virtio_net}}, b: {}, c: {accept-ra: no}}
bonds:
  bond0:
    interfaces: [a, b]
    parameters:
      mode: active-backup
      primary: a
      mii-monitor-interval: 200ms
      up-delay: 1s
      down-delay: 0
  bond1:
    interfaces: []
    parameters: {mode: balance-xor, arp-interval: 500, arp-ip-targets: [192.0.2.1, 192.0.2.2]}
bridges: {br0: {interfaces: [c], dhcp4: true, dhcp4-overrides: {use-dns: false, route-metric: 7}}}
";
    expect_test::expect![[
        r#"{"links":["a","b"],"miimon":200,"mode":"active-backup","primary":"a","upDelay":1000}"#
    ]]
    .assert_eq(&keys(netplan, "Bond", "bond0"));
    expect_test::expect![[r#"{"arpInterval":500,"arpTargets":["192.0.2.1","192.0.2.2"],"links":[],"mode":"balance-xor"}"#]].assert_eq(&keys(netplan, "Bond", "bond1"));
    expect_test::expect![[r#"{"ports":[{"link":"c"}],"stp":true}"#]]
        .assert_eq(&keys(netplan, "Bridge", "br0"));
    expect_test::expect![[r#"{"dhcp4":{"dns":false,"metric":7}}"#]]
        .assert_eq(&keys(netplan, "Link", "br0"));
    expect_test::expect![[r#"{"match":{"driver":"virtio_net"}}"#]]
        .assert_eq(&keys(netplan, "Link", "a"));
    expect_test::expect![[r#"{"routerAdvertisements":"ignore"}"#]]
        .assert_eq(&keys(netplan, "Link", "c"));
    let version_1 = "version: 1
config:
- {type: physical, name: eth0, subnets: [{type: static, address: 192.0.2.7/24}]}
- {type: physical, name: eth1, subnets: [{type: static, address: 198.51.100.7/24}]}
- {type: bond, name: bond0, bond_interfaces: [], params: {bond-mode: 4, bond-lacp-rate: 1, bond_miimon: '50'}}
- {type: bridge, name: br0, bridge_interfaces: [eth2], params: {bridge_stp: 'off'}}
- {type: route, destination: 10.0.0.0/8, gateway: 198.51.100.1, metric: 3}
- {type: route, destination: 10.0.0.0/8, gateway: 203.0.113.1}
";
    expect_test::expect![[r#"{"lacpRate":"fast","links":[],"miimon":50,"mode":"802.3ad"}"#]]
        .assert_eq(&keys(version_1, "Bond", "bond0"));
    expect_test::expect![[r#"{"ports":[{"link":"eth2"}],"stp":false}"#]]
        .assert_eq(&keys(version_1, "Bridge", "br0"));
    expect_test::expect![[r#"{"addresses":["198.51.100.7/24"],"routes":[{"metric":3,"to":"10.0.0.0/8","via":"198.51.100.1"}]}"#]].assert_eq(&keys(version_1, "Link", "eth1"));
}

#[test]
fn openstack() {
    let text = r#"{
      "links": [
        {"id": "interface0", "type": "phy", "ethernet_mac_address": "a0:36:9f:2c:e8:80", "mtu": 9000},
        {"id": "interface1", "type": "phy", "ethernet_mac_address": "a0:36:9f:2c:e8:81", "mtu": null},
        {"id": "bond0", "type": "bond", "bond_links": ["interface0", "interface1"], "bond_mode": "802.3ad",
         "bond_xmit_hash_policy": "layer3+4", "bond_miimon": 100, "ethernet_mac_address": "a0:36:9f:2c:e8:82"},
        {"id": "vlan0", "type": "vlan", "vlan_link": "bond0", "vlan_id": 101, "vlan_mac_address": "a0:36:9f:2c:e8:80"}
      ],
      "networks": [
        {"id": "private-ipv4", "type": "ipv4", "link": "bond0", "ip_address": "10.184.0.244", "netmask": "255.255.240.0",
         "routes": [{"network": "10.0.0.0", "netmask": "255.0.0.0", "gateway": "11.0.0.1"},
                    {"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "23.253.157.1"}]},
        {"id": "private-ipv6", "type": "ipv6", "link": "vlan0", "ip_address": "2001:cdba::3257:9652",
         "netmask": "ffff:ffff:ffff:ffff::", "routes": [{"network": "::", "netmask": "::", "gateway": "fd00::1"}]},
        {"id": "auto", "type": "ipv4_dhcp", "link": "vlan0"},
        {"id": "auto6", "type": "ipv6_dhcpv6-stateless", "link": "vlan0"}
      ],
      "services": [{"type": "dns", "address": "8.8.8.8"}, {"type": "dns", "address": "8.8.4.4"}]
    }"#;
    expect_test::expect![[r#"
        bond2: 10.184.0.244/20 10.0.0.0/8>11.0.0.1 0.0.0.0/0>23.253.157.1
        net0 a0:36:9f:2c:e8:80: mtu 9000
        net1 a0:36:9f:2c:e8:81:
        vlan3: dhcp dhcp6 (no address) 2001:cdba::3257:9652/64 ::/0>fd00::1
        VLAN vlan3 of bond2
        Bond bond2 of net0 net1
        [8.8.8.8, 8.8.4.4] []"#]]
    .assert_eq(&said(Form::OpenStack, text));
}

#[test]
fn opennebula() {
    let text = "# Context variables generated by OpenNebula
DNS='9.9.9.9'
ETH0_MAC='02:00:c0:a8:00:01'
ETH0_IP='192.168.0.10'
ETH0_MASK='255.255.0.0'
ETH0_GATEWAY='192.168.0.1'
ETH0_DNS='192.168.0.53 192.168.0.54'
ETH0_SEARCH_DOMAIN='example.com'
ETH0_MTU='1400'
ETH0_IP6='2001:db8::10'
ETH0_IP6_GATEWAY='2001:db8::1'
ETH2_MAC='02:00:c0:a8:00:02'
ETH2_METHOD='dhcp'
ETH3_MAC='02:00:c0:a8:00:03'
ETH3_METHOD='skip'
";
    expect_test::expect![[r#"
        eth0 02:00:c0:a8:00:01: mtu 1400 192.168.0.10/16 2001:db8::10/64 0.0.0.0/0>192.168.0.1 ::/0>2001:db8::1
        eth2 02:00:c0:a8:00:02: dhcp
        [192.168.0.53, 192.168.0.54, 9.9.9.9] ["example.com"]"#]]
    .assert_eq(&said(Form::OpenNebula, text));
}

#[test]
fn ovf() {
    let network = "network: {version: 2, ethernets: {eth0: {addresses: [192.0.2.10/24], gateway4: 192.0.2.1}}}";
    let encoded = Base64::encode_string(network.as_bytes());
    let environment = |value: &str| {
        format!(
            r#"<Environment><PropertySection><Property key="network-config" value="{value}"/></PropertySection></Environment>"#
        )
    };
    assert_eq!(said(Form::Ovf, &environment(&encoded)), "eth0: 192.0.2.10/24 0.0.0.0/0>192.0.2.1");
    assert_eq!(said(Form::Ovf, "<Environment/>"), "");
    assert!(Form::Ovf.documents(environment("%").as_bytes()).is_err());
}

#[test]
fn more_addresses_than_a_link_takes_are_left_out() {
    let addresses: Vec<String> = (0..100).map(|last| format!("\"10.0.0.{last}\"")).collect();
    let text =
        format!(r#"[{{"mac": "52:54:00:12:34:56", "forwardedIps": [{}]}}]"#, addresses.join(", "));
    let said = said(Form::Gcp, &text);
    assert!(said.contains("10.0.0.63/32") && !said.contains("10.0.0.64/32"), "{said}");
}

#[test]
fn what_says_nothing_or_makes_no_sense() {
    for nothing in ["", "version: 1\n", "version: 2\nethernets: []\n", "network: {version: 2}"] {
        assert_eq!(said(Form::NoCloud, nothing), "", "{nothing:?}");
    }
    for form in
        [Form::OpenStack, Form::Azure, Form::DigitalOcean, Form::Equinix, Form::Gcp, Form::Vultr]
    {
        assert_eq!(said(form, "{}"), "", "{form:?}");
        assert!(form.documents(b"<html>").is_err(), "{form:?}");
    }
    assert_eq!(said(Form::OpenNebula, "ETH0_IP='10.0.0.1'"), "");
    assert!(Form::NoCloud.documents(b"network: {config: disabled}").is_err());
    assert!(Form::NoCloud.documents(b"a: [").is_err());
    assert!(Form::OpenStack.documents(b"[").is_err());
}
