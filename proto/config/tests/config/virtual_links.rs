// SPDX-License-Identifier: Apache-2.0
//! Links that the kernel makes, each good in itself, and what they can't be together.

use crate::findings::check;
use expect_test::expect;

#[test]
fn good() {
    check(
        "
apiVersion: stele/v1
kind: Bond
name: bond0
links: [eth0, eth1]
mode: balance-xor
hashPolicy: layer3+4
---
apiVersion: stele/v2
kind: Link
name: bond0
dhcp4: {}
---
apiVersion: stele/v2
kind: Link
name: eth0
match: {mac: \"52:54:00:12:34:56\"}
---
apiVersion: stele/v1
kind: VLAN
name: storage
link: bond0
id: 7
---
apiVersion: stele/v1
kind: VLAN
name: outer
link: bond0
id: 7
protocol: 802.1ad
---
apiVersion: stele/v1
kind: Bridge
name: br0
ports: [{link: storage}]
---
apiVersion: stele/v1
kind: VRF
name: red
table: 1000
links: [br0]
---
apiVersion: stele/v2
kind: Link
name: br0
addresses: [192.0.2.1/24]
routes: [{to: 10.0.0.0/8, table: 1000}]
",
        &expect![[r#"
            good
        "#]],
    );
}

#[test]
fn wrong_in_themselves() {
    check(
        "
apiVersion: stele/v1
kind: Bond
name: bond0
links: [bond0, lo]
mode: active-backup
lacpRate: fast
hashPolicy: layer2
---
apiVersion: stele/v1
kind: Bond
name: bond1
mode: lacp
---
apiVersion: stele/v1
kind: Veth
name: a
peer: a
---
apiVersion: stele/v1
kind: VLAN
name: storage
link: storage
id: 4095
---
apiVersion: stele/v1
kind: VLAN
name: other
link: other
id: 1
---
apiVersion: stele/v1
kind: Bridge
name: br0
ports: [{link: eth0}, {link: eth0}]
forwardDelay: 1s
priority: 65536
---
apiVersion: stele/v1
kind: Bridge
name: br1
ports: [{link: eth1}, {link: eth1, vlan: 2}]
---
apiVersion: stele/v1
kind: VRF
name: red
table: 254
---
apiVersion: stele/v1
kind: VRF
name: lo
table: 255
---
apiVersion: stele/v1
kind: Dummy
name: lo
",
        &expect![[r#"
            document 2 (Bond), line 6, links[0]: bond0 can't be in Bond bond0; expected another link
            document 2 (Bond), line 6, links[1]: lo can't be in Bond bond0; expected another link
            document 2 (Bond), line 8, lacpRate: active-backup knows no LACP; expected mode: 802.3ad
            document 2 (Bond), line 9, hashPolicy: active-backup chooses links otherwise; expected mode: 802.3ad, balance-xor or balance-tlb
            document 3 (Bond), line 14, mode: there is no "lacp" here; expected balance-rr or active-backup or balance-xor or broadcast or 802.3ad or balance-tlb or balance-alb
            document 4 (Veth), line 19, peer: both ends have one name; expected another name
            document 5 (VLAN), line 25, id: 4095 is out of range; expected a whole number from 1 to 4094
            document 6 (VLAN), line 30, link: it can't be on itself; expected another link
            document 7 (Bridge), line 36, ports[1]: is the same as item [0]; expected each item once
            document 7 (Bridge), line 37, forwardDelay: "1s" is out of range; expected a time span such as 1m30s, from 2s to 30s
            document 7 (Bridge), line 38, priority: 65536 is out of range; expected a whole number from 0 to 65535
            document 8 (Bridge), line 43, ports[1].vlan: there is no key "vlan" here (did you mean "vlans"?); expected one of link, pvid, vlans
            document 8 (Bridge), line 43, ports[1]: is the same as item [0]; expected each item once
            document 9 (VRF), line 48, table: 254 is the main table; expected another table
            document 10 (VRF), line 53, table: 255 is the kernel's own table; expected a whole number from 1 to 4294967295
            document 11 (Dummy), line 57, name: lo is there on every machine; expected another name
            configuration, line 3: Bond bond0 is in or on itself; expected links that are in or on others, and not in a circle
            configuration, line 27: VLAN other is in or on itself; expected links that are in or on others, and not in a circle
        "#]],
    );
}

#[test]
fn wrong_together() {
    check(
        "
apiVersion: stele/v1
kind: Bond
name: bond0
links: [eth0, eth1]
---
apiVersion: stele/v1
kind: Bond
name: bond1
links: [eth2, eth1]
---
apiVersion: stele/v1
kind: Bridge
name: bond0
ports: [{link: eth0}]
---
apiVersion: stele/v1
kind: Veth
name: x
peer: bond1
---
apiVersion: stele/v1
kind: VLAN
name: v1
link: eth5
id: 2
---
apiVersion: stele/v1
kind: VLAN
name: v2
link: eth5
id: 2
---
apiVersion: stele/v1
kind: VRF
name: red
table: 5
---
apiVersion: stele/v1
kind: VRF
name: blue
table: 5
---
apiVersion: stele/v1
kind: VLAN
name: round
link: br9
id: 2
---
apiVersion: stele/v1
kind: Bridge
name: br9
ports: [{link: round}]
---
apiVersion: stele/v2
kind: Link
name: eth0
dhcp4: {}
",
        &expect![[r#"
            document 3 (Bond), line 11, links[1]: eth1 is in Bond bond0; expected each link in one at most
            document 4 (Bridge), line 15, name: Bond bond0 makes bond0; expected each link once
            document 4 (Bridge), line 16, ports[0]: eth0 is in Bond bond0; expected each link in one at most
            document 5 (Veth), line 21, peer: Bond bond1 makes bond1; expected each link once
            document 7 (VLAN), line 33, id: VLAN v1 is the same network; expected each once
            document 9 (VRF), line 43, table: VRF red has it; expected a table for each
            configuration, line 45: VLAN round is in or on itself; expected links that are in or on others, and not in a circle
            configuration, line 51: Bridge br9 is in or on itself; expected links that are in or on others, and not in a circle
            configuration, line 56: Link eth0 has addresses or DHCP, and is in Bond bond0; expected them in the document Link bond0
            configuration, line 56: Link eth0 has addresses or DHCP, and is in Bridge bond0; expected them in the document Link bond0
        "#]],
    );
}

#[test]
fn how_bonds_find_out_which_links_work() {
    check(
        "
apiVersion: stele/v1
kind: Bond
name: bond0
links: [eth0, eth1]
primary: eth1
upDelay: 200
downDelay: 100
---
apiVersion: stele/v1
kind: Bond
name: bond1
arpInterval: 1000
arpTargets: [192.0.2.1, \"2001:db8::1\", \"fe80::1\"]
arpValidate: filter_backup
",
        &expect![[r#"
            good
        "#]],
    );
    check(
        "
apiVersion: stele/v1
kind: Bond
name: bond0
links: [eth0, eth1]
mode: 802.3ad
primary: eth2
arpInterval: 100
upDelay: 200
---
apiVersion: stele/v1
kind: Bond
name: bond1
primary: eth5
miimon: 80
upDelay: 200
arpInterval: 100
arpTargets: [192.0.2.1, \"ff02::1\", 255.255.255.255, 0.0.0.7]
---
apiVersion: stele/v1
kind: Bond
name: bond2
arpTargets: [192.0.2.1]
downDelay: 600001
---
apiVersion: stele/v1
kind: Bond
name: bond3
arpTargets: [192.0.2.1]
arpValidate: all
downDelay: 50
",
        &expect![[r#"
            document 2 (Bond), line 8, primary: with 802.3ad all links work; expected mode: active-backup, balance-tlb or balance-alb
            document 2 (Bond), line 8, primary: eth2 is not in Bond bond0; expected eth0 or eth1
            document 2 (Bond), line 9, arpInterval: 802.3ad can't tell by ARP which links work; expected miimon, or mode: balance-rr, active-backup, balance-xor or broadcast
            document 2 (Bond), line 9, arpInterval: there is nobody to ask; expected arpTargets
            document 2 (Bond), line 10, upDelay: carriers are not looked at with arpInterval; expected miimon in place of arpInterval
            document 3 (Bond), line 15, primary: eth5 is not in Bond bond1; expected a link of links
            document 3 (Bond), line 17, upDelay: 200 is no multiple of miimon, 80; expected 160 or 240
            document 3 (Bond), line 18, arpInterval: there is miimon as well, and links are looked at in one way only; expected miimon or arpInterval
            document 3 (Bond), line 19, arpTargets[1]: ff02::1 can't be asked whether it is there; expected the address of a machine
            document 3 (Bond), line 19, arpTargets[2]: 255.255.255.255 can't be asked whether it is there; expected the address of a machine
            document 3 (Bond), line 19, arpTargets[3]: 0.0.0.7 can't be asked whether it is there; expected the address of a machine
            document 4 (Bond), line 25, downDelay: 600001 is out of range; expected a whole number from 0 to 600000
            document 5 (Bond), line 30, arpTargets: they are never asked; expected arpInterval
            document 5 (Bond), line 31, arpValidate: nobody is ever asked; expected arpInterval
            document 5 (Bond), line 32, downDelay: 50 is no multiple of miimon, 100; expected 0 or 100
        "#]],
    );
}

#[test]
fn vlans_of_bridges() {
    check(
        "
apiVersion: stele/v1
kind: Bridge
name: br0
vlanFiltering: true
pvid: 0
vlans: [10, 20-29]
ports:
- {link: eth0, pvid: 10}
- {link: eth1, vlans: [10, 2-5, '7']}
- {link: eth2, pvid: 4094, vlans: [1-4093]}
",
        &expect![[r#"
            good
        "#]],
    );
    check(
        "
apiVersion: stele/v1
kind: Bridge
name: br0
pvid: 2
vlans: [3]
ports: [{link: eth0, vlans: [4]}, {link: eth1}, {link: eth2, pvid: 0}]
---
apiVersion: stele/v1
kind: Bridge
name: br1
vlanFiltering: true
pvid: 4095
vlans: [0, 5-4095, 9-8, x]
---
apiVersion: stele/v1
kind: Bridge
name: br2
vlanFiltering: true
vlans: [1, 20-29]
ports:
- {link: eth5, pvid: 25, vlans: [20-29, 29-31, 40]}
- {link: eth6, pvid: 25, vlans: [20-24, 26-29]}
",
        &expect![[r#"
            document 2 (Bridge), line 6, pvid: VLANs mean nothing to a bridge that does not look at tags; expected vlanFiltering: true
            document 2 (Bridge), line 7, vlans: VLANs mean nothing to a bridge that does not look at tags; expected vlanFiltering: true
            document 2 (Bridge), line 8, ports[0]: VLANs of a port mean nothing to a bridge that does not look at tags; expected vlanFiltering: true
            document 2 (Bridge), line 8, ports[2]: VLANs of a port mean nothing to a bridge that does not look at tags; expected vlanFiltering: true
            document 3 (Bridge), line 14, pvid: 4095 is out of range; expected a whole number from 0 to 4094
            document 3 (Bridge), line 15, vlans[0]: "0" is no VLAN and no range of them; expected a VLAN or a range of VLANs, such as 20-29
            document 3 (Bridge), line 15, vlans[1]: "5-4095" is no VLAN and no range of them; expected a VLAN or a range of VLANs, such as 20-29
            document 3 (Bridge), line 15, vlans[2]: "9-8" is no VLAN and no range of them; expected a VLAN or a range of VLANs, such as 20-29
            document 3 (Bridge), line 15, vlans[3]: "x" is no VLAN and no range of them; expected a VLAN or a range of VLANs, such as 20-29
            document 4 (Bridge), line 21, vlans[0]: VLAN 1 is that of packets without a tag; expected other VLANs here, or another pvid (0 for none)
            document 4 (Bridge), line 23, ports[0].vlans[0]: VLAN 25 is that of packets without a tag; expected other VLANs here, or another pvid (0 for none)
            document 4 (Bridge), line 23, ports[0].vlans[1]: 29-31 and 20-29 have VLANs in common; expected each VLAN once
        "#]],
    );
}

#[test]
fn routing_rules() {
    check(
        "
apiVersion: stele/v1
kind: RoutingRule
name: a
priority: 32766
from: 192.0.2.1/24
to: 2001:db8::/32
table: 5
---
apiVersion: stele/v1
kind: RoutingRule
name: b
priority: 7
table: 5
---
apiVersion: stele/v1
kind: RoutingRule
name: c
priority: 7
mark: 1
table: 255
---
apiVersion: stele/v1
kind: RoutingRule
name: d
priority: 7
from: 192.0.2.1/24
to: 2001:db8::/32
table: 5
",
        &expect![[r#"
            document 2 (RoutingRule), line 6, priority: 32766 is out of range; expected a whole number from 1 to 32765
            document 3 (RoutingRule), line 11: it has no condition, and holds for everything; expected from, to, incoming or mark
            document 4 (RoutingRule), line 22, table: 255 is the kernel's own table; expected a whole number from 1 to 4294967295
            document 5 (RoutingRule), line 27, priority: RoutingRule b has it; expected another priority for each rule
            document 5 (RoutingRule), line 28, from: 192.0.2.1/24 has host bits; expected 192.0.2.0/24
            document 5 (RoutingRule), line 29, to: 192.0.2.1/24 and 2001:db8::/32 are of different address families; expected both IPv4 or both IPv6
        "#]],
    );
}

#[test]
fn tunnels() {
    check(
        "
apiVersion: stele/v1
kind: WireGuard
name: wg0
privateKey: AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=
peers:
- publicKey: xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=
  allowedIPs: [10.0.0.0/8, \"::/0\"]
  endpoint: vpn.example.com:51820
---
apiVersion: stele/v1
kind: WireGuard
name: wg1
privateKey: s3cret
port: 0
peers:
- publicKey: short
- publicKey: xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=
  allowedIPs: [10.0.0.0/8]
  presharedKey: 12
---
apiVersion: stele/v1
kind: WireGuard
name: wg2
peers:
- publicKey: B6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9/AsrhtHHw=
  allowedIPs: [10.0.0.1/8]
- publicKey: xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=
  allowedIPs: [10.0.0.1/8]
- publicKey: xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=
  endpoint: example_com:51820
---
apiVersion: stele/v1
kind: WireGuard
name: wg3
privateKey: \"[redacted]\"
",
        &expect![[r#"
            document 3 (WireGuard), line 15, privateKey: is not 32 bytes as base64; expected a secret key of WireGuard, such as what `wg genkey` prints
            document 3 (WireGuard), line 16, port: 0 is out of range; expected a whole number from 1 to 65535
            document 3 (WireGuard), line 18, peers[0].publicKey: "short" is not a public key of WireGuard: it is not 32 bytes as base64; expected a public key of WireGuard, such as xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=
            document 3 (WireGuard), line 21, peers[1].presharedKey: is not text; expected a secret key of WireGuard, such as what `wg genkey` prints
            document 4 (WireGuard), line 32, peers[2].endpoint: "example_com:51820" is not a host and a port: the host is neither an IP address nor a domain name; expected a host and a port, such as vpn.example.com:51820
            document 5 (WireGuard), line 37, privateKey: is redacted: this configuration was shown without its secrets; expected a secret key of WireGuard, such as what `wg genkey` prints
        "#]],
    );
}

#[test]
fn firewalls() {
    check(
        "
apiVersion: stele/v1
kind: Firewall
ingress: reject
rules:
- {ports: [80]}
- {protocol: tcp, ports: [0, 90-80, 65536, x, 1-2-3]}
- {from: [10.0.0.1/8], to: [\"::/0\"], rate: 10/fortnight}
- {}
- {}
---
apiVersion: stele/v1
kind: Firewall
",
        &expect![[r#"
            document 2 (Firewall), line 5, ingress: there is no "reject" here; expected accept or drop
            document 2 (Firewall), line 8, rules[1].ports[0]: "0" is no port and no range of them; expected a port or a range of ports, such as 8000-8100
            document 2 (Firewall), line 8, rules[1].ports[1]: "90-80" is no port and no range of them; expected a port or a range of ports, such as 8000-8100
            document 2 (Firewall), line 8, rules[1].ports[2]: "65536" is no port and no range of them; expected a port or a range of ports, such as 8000-8100
            document 2 (Firewall), line 8, rules[1].ports[3]: "x" is no port and no range of them; expected a port or a range of ports, such as 8000-8100
            document 2 (Firewall), line 8, rules[1].ports[4]: "1-2-3" is no port and no range of them; expected a port or a range of ports, such as 8000-8100
            document 2 (Firewall), line 9, rules[2].rate: "10/fortnight" is not a rate: it is not a number from 1 to 1000000, a / and second, minute, hour or day; expected a rate, such as 10/second
            document 2 (Firewall), line 11, rules[4]: is the same as item [3]; expected each item once
        "#]],
    );
    check(
        "
apiVersion: stele/v1
kind: Firewall
rules:
- {ports: [80], protocol: icmp}
- {from: [10.0.0.1/8], to: [\"::/0\"]}
- {direction: forward, interfaces: [eth0]}
- {incoming: [eth0], icmpTypes: [echo-request]}
- {protocol: icmp, from: [10.0.0.0/8], icmpTypes: [echo-reply, packet-too-big]}
- {protocol: icmp, to: [\"::/0\"], icmpTypes: [echo-reply, packet-too-big]}
- {direction: forward, incoming: [eth1], outgoing: [eth0], action: reject}
- {protocol: esp, sourcePorts: [500]}
- {protocol: sctp, ports: [5], sourcePorts: [5]}
",
        &expect![[r#"
            document 2 (Firewall), line 6, rules[0]: has ports and no protocol that has them; expected protocol: tcp or udp or sctp
            document 2 (Firewall), line 7, rules[1]: 10.0.0.1/8 has host bits; expected 10.0.0.0/8
            document 2 (Firewall), line 7, rules[1]: from and to are of different address families; expected both IPv4 or both IPv6
            document 2 (Firewall), line 8, rules[2]: interfaces could be those that packets come in by or go out by; expected incoming or outgoing
            document 2 (Firewall), line 9, rules[3]: incoming and outgoing are of packets that are passed on; expected interfaces, or direction: forward
            document 2 (Firewall), line 9, rules[3]: has types of ICMP and no protocol that has them; expected protocol: icmp
            document 2 (Firewall), line 10, rules[4]: there is no packet-too-big between these networks; expected a type that is
            document 2 (Firewall), line 13, rules[7]: has ports and no protocol that has them; expected protocol: tcp or udp or sctp
        "#]],
    );
    check(
        "apiVersion: stele/v1\nkind: Firewall\nrules: [{protocol: grr}, {protocol: 256}, {protocol: true}, {protocol: 47}]\n",
        &expect![[r#"
            document 2 (Firewall), line 4, rules[0].protocol: no protocol is called "grr" here (did you mean "gre"?); expected a protocol by its name, or a number from 0 to 255, such as tcp
            document 2 (Firewall), line 4, rules[1].protocol: 256 is no protocol; expected a protocol by its name, or a number from 0 to 255, such as tcp
            document 2 (Firewall), line 4, rules[2].protocol: is true; expected a protocol by its name, or a number from 0 to 255, such as tcp
        "#]],
    );
}
