// SPDX-License-Identifier: Apache-2.0
//! What the reader says to each mistake. `UPDATE_EXPECT=1` renews the answers.

use crate::pki;
use expect_test::{Expect, expect};
use stele_config::{reference, yaml};

/// Checks what is found in a stream of an Identity and, from line 2 of document 2 on, this text.
pub(crate) fn check(text: &str, expected: &Expect) {
    let mut stream = pki::make("authority").yaml();
    let before = stream.lines().count();
    stream.push_str("---\n");
    stream.push_str(text);
    expected.assert_eq(&found(&stream, before));
}

/// Checks what is found in a stream.
fn check_all(stream: &str, expected: &Expect) {
    expected.assert_eq(&found(stream, 0));
}

/// All findings, a line each, with lines counted after the first so many, and without the list of all kinds.
fn found(stream: &str, before: usize) -> String {
    let kinds: Vec<&str> = reference::examples().into_iter().map(|(kind, _)| kind).collect();
    let kinds = format!("one of {}", kinds.join(", "));
    match yaml::parse(stream.as_bytes()) {
        Ok(_) => "good\n".to_owned(),
        Err(findings) => findings
            .into_iter()
            .map(|mut finding| {
                finding.line = finding.line.saturating_sub(u32::try_from(before).unwrap());
                format!("{finding}\n").replace(&kinds, "one of the kinds")
            })
            .collect(),
    }
}

const LINK: &str = "apiVersion: stele/v1\nkind: Link\nname: eth0\n";

#[test]
fn good() {
    check(
        "
apiVersion: stele/v1
kind: Hostname
hostname: node-1
---
apiVersion: stele/v1
kind: Link
name: eth0
mtu: 1500
dhcp4: true
addresses: [192.0.2.10/24, \"2001:db8::10/64\", 2001:db8::11/64, fe80::1/64]
routes: [{to: 0.0.0.0/0, via: 192.0.2.1}]
---
# only a comment
---
apiVersion: stele/v1
kind: Resolver
servers: [192.0.2.53]
search: [example.com]
...
",
        &expect![[r#"
            good
        "#]],
    );
}

#[test]
fn unknown_kind() {
    check(
        "apiVersion: stele/v1\nkind: Lnik\n",
        &expect![[r#"
            document 2, line 3, kind: there is no kind "Lnik" (did you mean "Link"?); expected one of the kinds
        "#]],
    );
    check(
        "apiVersion: stele/v1\nkind: Workload\n",
        &expect![[r#"
            document 2, line 3, kind: there is no kind "Workload"; expected one of the kinds
        "#]],
    );
    check(
        "apiVersion: stele/v1\nkind: [Link]\n",
        &expect![[r#"
            document 2, line 3, kind: is a list; expected one of the kinds
        "#]],
    );
    check(
        "apiVersion: stele/v1\nname: eth0\n",
        &expect![[r#"
            document 2, line 2, kind: is missing; expected one of the kinds
        "#]],
    );
}

#[test]
fn wrong_version() {
    check(
        "kind: Link\nname: eth0\n",
        &expect![[r#"
            document 2 (Link), line 2, apiVersion: is missing; expected stele/v2 or stele/v1
        "#]],
    );
    check(
        "apiVersion: v1alpha1\nkind: Link\nname: eth0\n",
        &expect![[r#"
            document 2 (Link), line 2, apiVersion: is text ("v1alpha1"); expected stele/v2 or stele/v1
        "#]],
    );
    check(
        "apiVersion: 1\nkind: Link\nname: eth0\n",
        &expect![[r#"
            document 2 (Link), line 2, apiVersion: is the number 1; expected stele/v2 or stele/v1
        "#]],
    );
}

#[test]
fn unknown_key() {
    check(
        &format!("{LINK}adresses: [192.0.2.1/24]\n"),
        &expect![[r#"
        document 2 (Link), line 5, adresses: there is no key "adresses" here (did you mean "addresses"?); expected one of name, mtu, dhcp4, addresses, routes
    "#]],
    );
    check(
        &format!("{LINK}DHCP4: true\nsomething: 1\n"),
        &expect![[r#"
        document 2 (Link), line 5, DHCP4: there is no key "DHCP4" here (did you mean "dhcp4"?); expected one of name, mtu, dhcp4, addresses, routes
        document 2 (Link), line 6, something: there is no key "something" here; expected one of name, mtu, dhcp4, addresses, routes
    "#]],
    );
    check(
        &format!("{LINK}routes: [{{to: 0.0.0.0/0, gateway: 192.0.2.1}}]\n"),
        &expect![[r#"
            document 2 (Link), line 5, routes[0].gateway: there is no key "gateway" here; expected one of to, via, metric, table, source, type
        "#]],
    );
}

#[test]
fn wrong_type() {
    check(
        &format!("{LINK}mtu: big\ndhcp4: yes\naddresses: 192.0.2.1/24\n"),
        &expect![[r#"
        document 2 (Link), line 5, mtu: is text ("big"); expected a whole number from 1280 to 9216
        document 2 (Link), line 6, dhcp4: is text ("yes"); expected true or false
        document 2 (Link), line 7, addresses: is text ("192.0.2.1/24"); expected a list of at most 64, each an IP address with a prefix length, such as 192.0.2.10/24
    "#]],
    );
    check(
        &format!("{LINK}mtu: 01500\n"),
        &expect![[r#"
        document 2 (Link), line 5, mtu: is the number 01500; expected a whole number from 1280 to 9216
    "#]],
    );
    check(
        &format!("{LINK}mtu: \"1500\"\n"),
        &expect![[r#"
        document 2 (Link), line 5, mtu: is text ("1500"); expected a whole number from 1280 to 9216
    "#]],
    );
    check(
        &format!("{LINK}mtu: 1500.0\n"),
        &expect![[r#"
        document 2 (Link), line 5, mtu: is the number 1500.0; expected a whole number from 1280 to 9216
    "#]],
    );
    check(
        &format!("{LINK}mtu:\n"),
        &expect![[r#"
        document 2 (Link), line 5, mtu: has no value; expected a whole number from 1280 to 9216
    "#]],
    );
    check(
        &format!("{LINK}routes: [default]\n"),
        &expect![[r#"
            document 2 (Link), line 5, routes[0]: is text ("default"); expected a mapping with the keys to, via, metric, table, source, type
        "#]],
    );
    check(
        "apiVersion: stele/v1\nkind: Hostname\nhostname: 1e3\n",
        &expect![[r#"
        document 2 (Hostname), line 4, hostname: is the number 1e3; expected a host name, such as node-1
    "#]],
    );
    check(
        "- apiVersion: stele/v1\n- kind: Link\n",
        &expect![[r#"
            document 2, line 2, kind: is missing; expected one of the kinds
            document 3 (Link), line 3, apiVersion: is missing; expected stele/v2 or stele/v1
            document 3 (Link), line 3, name: is missing; expected an interface name, such as eth0
        "#]],
    );
    check(
        "just text\n",
        &expect![[r#"
        document 2, line 2: is text ("just text"); expected a document: apiVersion: stele/v1, kind: …
    "#]],
    );
}

#[test]
fn out_of_range() {
    check(
        &format!("{LINK}mtu: 68\n"),
        &expect![[r#"
        document 2 (Link), line 5, mtu: 68 is out of range; expected a whole number from 1280 to 9216
    "#]],
    );
    check(
        &format!("{LINK}mtu: -1\n"),
        &expect![[r#"
        document 2 (Link), line 5, mtu: -1 is out of range; expected a whole number from 1280 to 9216
    "#]],
    );
    check(
        &format!("{LINK}mtu: 99999999999999999999999999999999999999999999999\n"),
        &expect![[r#"
        document 2 (Link), line 5, mtu: is the number 99999999999999999999999999999999999999999999999; expected a whole number from 1280 to 9216
    "#]],
    );
    check(
        &format!(
            "{LINK}addresses: [192.0.2.1, 192.0.2.1/33, 192.0.2.1/x, 192.0.2.256/24, 0.0.0.0/0, 2001:db8::/129]\n"
        ),
        &expect![[r#"
            document 2 (Link), line 5, addresses[0]: "192.0.2.1" is not an IP address with a prefix length: the prefix length is missing; expected an IP address with a prefix length, such as 192.0.2.10/24
            document 2 (Link), line 5, addresses[1]: "192.0.2.1/33" is not an IP address with a prefix length: the prefix is longer than the 32 bits of the address; expected an IP address with a prefix length, such as 192.0.2.10/24
            document 2 (Link), line 5, addresses[2]: "192.0.2.1/x" is not an IP address with a prefix length: what is after the / is no number; expected an IP address with a prefix length, such as 192.0.2.10/24
            document 2 (Link), line 5, addresses[3]: "192.0.2.256/24" is not an IP address with a prefix length: what is before the / is no IP address; expected an IP address with a prefix length, such as 192.0.2.10/24
            document 2 (Link), line 5, addresses[5]: "2001:db8::/129" is not an IP address with a prefix length: the prefix is longer than the 128 bits of the address; expected an IP address with a prefix length, such as 192.0.2.10/24
        "#]],
    );
    check(
        "apiVersion: stele/v1\nkind: Resolver\nservers: [192.0.2.1, 192.0.2.2, 192.0.2.3, 192.0.2.4]\nsearch: [ex_ample]\n",
        &expect![[r#"
            document 2 (Resolver), line 4, servers: has 4 items; expected a list of at most 3, each a name server, such as 192.0.2.53#dns.example.com
            document 2 (Resolver), line 5, search[0]: "ex_ample" is not a domain name: '_' is not a letter, a digit or a hyphen; expected a domain name, such as example.com
        "#]],
    );
    check(
        "apiVersion: stele/v1\nkind: Resolver\nservers: [\"::\", 224.0.0.1]\n",
        &expect![[r#"
            document 2 (Resolver), line 4, servers[0]: "::" is not a name server: nothing has the address ::; expected a name server, such as 192.0.2.53#dns.example.com
            document 2 (Resolver), line 4, servers[1]: "224.0.0.1" is not a name server: nothing has the address 224.0.0.1; expected a name server, such as 192.0.2.53#dns.example.com
        "#]],
    );
    check(
        "apiVersion: stele/v1\nkind: Link\nname: \"a/b c\"\n",
        &expect![[r#"
        document 2 (Link), line 4, name: "a/b c" is not an interface name: '/' has no place in it; expected an interface name, such as eth0
    "#]],
    );
    check(
        "apiVersion: stele/v1\nkind: Link\nname: a-name-of-16-bytes\n",
        &expect![[r#"
        document 2 (Link), line 4, name: "a-name-of-16-bytes" is not an interface name: it has 18 bytes, more than 15; expected an interface name, such as eth0
    "#]],
    );
    check(
        "apiVersion: stele/v1\nkind: Hostname\nhostname: node_1\n",
        &expect![[r#"
        document 2 (Hostname), line 4, hostname: "node_1" is not a host name: '_' is not a letter, a digit or a hyphen; expected a host name, such as node-1
    "#]],
    );
    check(
        "apiVersion: stele/v1\nkind: Hostname\nhostname: \"192.0.2.1\"\n",
        &expect![[r#"
        document 2 (Hostname), line 4, hostname: "192.0.2.1" is not a host name: it is an IP address; expected a host name, such as node-1
    "#]],
    );
    check(
        "apiVersion: stele/v1\nkind: Hostname\nhostname: node-1.\n",
        &expect![[r#"
        document 2 (Hostname), line 4, hostname: "node-1." is not a host name: a label is empty; expected a host name, such as node-1
    "#]],
    );
}

#[test]
fn between_keys() {
    check(
        &format!(
            "{LINK}routes:\n- {{to: 10.0.0.0/8, type: blackhole, via: 192.0.2.1}}\n- {{to: 10.1.0.0/16, source: \"::\"}}\n- {{to: \"::/0\", type: gone}}\n- {{to: 10.2.0.0/16, type: prohibit}}\n"
        ),
        &expect![[r#"
            document 2 (Link), line 6, routes[0].type: a route of type blackhole leads nowhere, and has no via and no source; expected a route without them, or without type
            document 2 (Link), line 7, routes[1].source: :: and 10.1.0.0/16 are of different address families; expected an IPv4 address
            document 2 (Link), line 7, routes[1].source: no machine can have ::; expected an address of this machine
            document 2 (Link), line 8, routes[2].type: there is no "gone" here; expected blackhole or unreachable or prohibit
        "#]],
    );
    check(
        "apiVersion: stele/v2\nkind: Link\nname: eth0\ndhcp4: {hostname: web, sendHostname: false}\n---\napiVersion: stele/v2\nkind: Link\nname: eth1\ndhcp4: {hostname: web, clientId: \"00:6e\", search: true}\n---\napiVersion: stele/v2\nkind: Link\nname: eth2\ndhcp4: {clientId: machine}\n",
        &expect![[r#"
            document 2 (Link), line 5, dhcp4.sendHostname: the server is told no name, and web is one to tell it; expected true, or no hostname
            document 4 (Link), line 15, dhcp4.clientId: "machine" is not mac, duid, or bytes in hexadecimal: it is neither mac nor duid, nor bytes of two hexadecimal digits with colons between them; expected mac, duid, or bytes in hexadecimal, such as 00:6e:6f:64:65:2d:31
        "#]],
    );
    check(
        &format!("{LINK}routes:\n- to: 192.0.2.1/24\n- to: ::/0\n  via: 192.0.2.1\n"),
        &expect![[r#"
            document 2 (Link), line 6, routes[0].to: 192.0.2.1/24 has host bits; expected 192.0.2.0/24
            document 2 (Link), line 8, routes[1].via: 192.0.2.1 and ::/0 are of different address families; expected an IPv6 address
        "#]],
    );
    check(
        &format!("{LINK}addresses: [192.0.2.1/24, 192.0.2.1/24]\n"),
        &expect![[r#"
        document 2 (Link), line 5, addresses[1]: is the same as item [0]; expected each item once
    "#]],
    );
    check(
        "apiVersion: stele/v1\nkind: Resolver\nservers: [192.0.2.1, 192.0.2.2#dns.example, 127.0.0.53#dns.example]\nstub: false\n",
        &expect![[r#"
            document 2 (Resolver), line 4, servers[0]: is asked without TLS, and another one over TLS; expected a name behind # for each server, or for none
            document 2 (Resolver), line 4, servers[2]: 127.0.0.53 is the machine's own stub; expected another server
            document 2 (Resolver), line 5, stub: programs can't ask a server over TLS, or at another port than 53; expected true
        "#]],
    );
}

#[test]
fn missing() {
    check(
        "apiVersion: stele/v1\nkind: Link\nroutes: [{via: 192.0.2.1}]\n",
        &expect![[r#"
        document 2 (Link), line 2, name: is missing; expected an interface name, such as eth0
        document 2 (Link), line 4, routes[0].to: is missing; expected an IP address with a prefix length, such as 192.0.2.10/24
    "#]],
    );
    check_all(
        "apiVersion: stele/v1\nkind: Identity\n",
        &expect![[r#"
        document 1 (Identity), line 1, ca: is missing; expected certificates as PEM (-----BEGIN CERTIFICATE-----)
        document 1 (Identity), line 1, certificate: is missing; expected one certificate as PEM (-----BEGIN CERTIFICATE-----)
        document 1 (Identity), line 1, key: is missing; expected an unencrypted PKCS#8 private key as PEM (-----BEGIN PRIVATE KEY-----)
    "#]],
    );
    check_all(
        "apiVersion: stele/v1\nkind: Hostname\nhostname: a\n",
        &expect![[r#"
        configuration: there is no document of the kind Identity; expected exactly one; ctl gen config makes it
    "#]],
    );
}

#[test]
fn twice() {
    check(
        &format!("{LINK}mtu: 1500\nmtu: 1400\nkind: Link\n"),
        &expect![[r#"
        document 2 (Link), line 6, mtu: is there twice, first on line 32; expected each key once
        document 2 (Link), line 7, kind: is there twice, first on line 30; expected each key once
    "#]],
    );
    check(
        &format!("{LINK}---\n{LINK}"),
        &expect![[r#"
        document 3 (Link), line 8, name: there is another Link eth0, on line 29; expected one Link for each interface
    "#]],
    );
    let hostname = "apiVersion: stele/v1\nkind: Hostname\nhostname: a\n";
    check(
        &format!("{hostname}---\n{hostname}"),
        &expect![[r#"
        document 3 (Hostname), line 6: there is another document of this kind, on line 29; expected at most one
    "#]],
    );
}

#[test]
fn all_of_several_documents_at_once() {
    check(
        "apiVersion: stele/v1\nkind: Link\nname: eth0\nmtu: 1\nadresses: []\n---\na: [b\n---\nkind: Resolver\nservers: [x]\n",
        &expect![[r#"
            document 2 (Link), line 5, mtu: 1 is out of range; expected a whole number from 1280 to 9216
            document 2 (Link), line 6, adresses: there is no key "adresses" here (did you mean "addresses"?); expected one of name, mtu, dhcp4, addresses, routes
            document 3, line 8, a: is not YAML: while parsing a flow sequence, expected ',' or ']'
            document 4 (Resolver), line 10, apiVersion: is missing; expected stele/v1
            document 4 (Resolver), line 11, servers[0]: "x" is not a name server: a name server is known by its address alone; expected a name server, such as 192.0.2.53#dns.example.com
        "#]],
    );
}

#[test]
fn not_yaml() {
    check(
        "a: b: c\n",
        &expect![[r#"
        document 2, line 2: is not YAML: mapping values are not allowed in this context
    "#]],
    );
    check(
        "\tkey: value\n",
        &expect![[r#"
            document 2, line 2, kind: is missing; expected one of the kinds
            document 2, line 2, apiVersion: is missing; expected stele/v1 or stele/v2
        "#]],
    );
    check(
        "key: \"value\n",
        &expect![[r#"
        document 2, line 2: is not YAML: while scanning a quoted scalar, found unexpected end of stream
    "#]],
    );
    check(
        "%YAML 1.1\n---\na: b\n",
        &expect![[r#"
            document 2, line 2: is not YAML: missing explicit document end marker before directive
            document 3, line 4, kind: is missing; expected one of the kinds
            document 3, line 4, apiVersion: is missing; expected stele/v1 or stele/v2
        "#]],
    );
    check_all(
        "{\"a\": ",
        &expect![[r#"
            document 1, line 1: is not YAML: while parsing a node, did not find expected node content
        "#]],
    );
    check_all(
        "",
        &expect![[r#"
        configuration: is empty; expected a YAML stream of Stele documents (apiVersion: stele/v1, kind: …)
    "#]],
    );
    check_all(
        "# nothing\n---\n---\n",
        &expect![[r#"
        configuration: there is no document of the kind Identity; expected exactly one; ctl gen config makes it
    "#]],
    );
}

#[test]
fn what_yaml_has_too_much() {
    check(
        "x: &a [1]\ny: *a\nkind: Link\n",
        &expect![[r#"
            document 2 (Link), line 2, x: has an anchor (&); anchors and aliases are not read; expected the value itself
            document 2 (Link), line 2, apiVersion: is missing; expected stele/v2 or stele/v1
            document 2 (Link), line 2, x: there is no key "x" here; expected one of name, match, mtu, dhcp4, dhcp6, routerAdvertisements, delegated, addresses, conflictDetection, routes
            document 2 (Link), line 2, name: is missing; expected an interface name, such as eth0
            document 2 (Link), line 3, y: is an alias (*); anchors and aliases are not read; expected the value itself
            document 2 (Link), line 3, y: there is no key "y" here; expected one of name, match, mtu, dhcp4, dhcp6, routerAdvertisements, delegated, addresses, conflictDetection, routes
        "#]],
    );
    check(
        &format!("{LINK}mtu: !!int \"1500\"\n"),
        &expect![[r#"
        document 2 (Link), line 5, mtu: has a tag (!); tags are not read; expected the value alone, in quotes if it is text
    "#]],
    );
    check(
        &format!("{LINK}<<: {{mtu: 1500}}\n"),
        &expect![[r#"
        document 2 (Link), line 5: has a merge key (<<), which is not read; expected each key in its place
    "#]],
    );
    check(
        &format!("{LINK}? [a]\n: b\n1: c\n~: d\n\"\": e\n"),
        &expect![[r#"
        document 2 (Link), line 5: a key is a list; expected text as a key
        document 2 (Link), line 7: a key is the number 1; expected text as a key
        document 2 (Link), line 8: a key has no value; expected text as a key
        document 2 (Link), line 9: a key is ""; expected text as a key
    "#]],
    );
}

#[test]
fn meant_for_others() {
    check_all(
        "#cloud-config\nusers: []\n",
        &expect![[r#"
        configuration, line 1: is a cloud-init configuration (#cloud-config); expected a YAML stream of Stele documents (apiVersion: stele/v1, kind: …)
    "#]],
    );
    check_all(
        "#!/bin/sh\necho\n",
        &expect![[r#"
        configuration, line 1: is a script (#!); expected a YAML stream of Stele documents (apiVersion: stele/v1, kind: …)
    "#]],
    );
    check_all(
        "Content-Type: multipart/mixed; boundary=x\n",
        &expect![[r#"
        configuration, line 1: is a MIME message; expected a YAML stream of Stele documents (apiVersion: stele/v1, kind: …)
    "#]],
    );
    expect!["configuration, line 1: is compressed with gzip; expected a YAML stream of Stele documents (apiVersion: stele/v1, kind: …)"].assert_eq(&yaml::parse(b"\x1f\x8b\x08\x00").unwrap_err()[0].to_string());
    expect!["configuration, line 2: is not text in UTF-8; expected a YAML stream of Stele documents (apiVersion: stele/v1, kind: …)"].assert_eq(&yaml::parse(b"a: b\nc: \xff\n").unwrap_err()[0].to_string());
    expect!["configuration, line 1: is not text in UTF-8; expected a YAML stream of Stele documents (apiVersion: stele/v1, kind: …)"].assert_eq(&yaml::parse(b"\xff\xfea\x00:\x00").unwrap_err()[0].to_string());
}

#[test]
fn byte_order_mark_and_windows_line_ends_are_read() {
    let stream = format!("\u{feff}{}", pki::make("authority").yaml()).replace('\n', "\r\n");
    check_all(
        &stream,
        &expect![[r#"
        good
    "#]],
    );
}

#[test]
fn what_ends_too_early_is_found_on_a_line_that_there_is() {
    check(
        "apiVersion: stele/v1\nkind: Link\naddresses: [a",
        &expect![[r#"
            document 2, line 4, addresses: is not YAML: while parsing a flow sequence, expected ',' or ']'
        "#]],
    );
}

#[test]
fn dhcpv6_that_nobody_could_start() {
    check(
        "apiVersion: stele/v2\nkind: Link\nname: eth0\nrouterAdvertisements: ignore\ndhcp6: {start: advertised}\n",
        &expect![[r#"
            document 2 (Link), line 5, routerAdvertisements: DHCPv6 starts when a router says so, and none is heeded; expected accept
        "#]],
    );
    check(
        "apiVersion: stele/v2\nkind: Link\nname: eth0\ndhcp6: {start: advertized}\n",
        &expect![[r#"
            document 2 (Link), line 5, dhcp6.start: there is no "advertized" here (did you mean "advertised"?); expected always or advertised or never
        "#]],
    );
}

#[test]
fn networks_of_a_prefix_that_nobody_has() {
    let link = |name: &str, more: &str| {
        format!("---\napiVersion: stele/v2\nkind: Link\nname: {name}\n{more}\n")
    };
    let of = |from: &str, subnet: u32| format!("delegated: {{from: {from}, subnet: {subnet}}}");
    let eth0 = link("eth0", "dhcp6: {prefix: 56}");
    let told = |rest: &[String], expected: &Expect| {
        check(format!("{eth0}{}", rest.concat()).trim_start_matches("---\n"), expected);
    };
    told(
        &[link("lan", &of("eth0", 0)), link("dmz", &of("eth0", 1))],
        &expect![[r#"
            good
        "#]],
    );
    told(
        &[link("lan", &of("eth0", 1)), link("dmz", &of("eth0", 1))],
        &expect![[r#"
            document 4 (Link), line 15, delegated.subnet: Link lan has it; expected another network for each
        "#]],
    );
    told(
        &[link("lan", &of("eht0", 0))],
        &expect![[r#"
        configuration, line 7, delegated.from: of Link lan: there is no Link eht0 (did you mean "eth0"?); expected the name of another Link, one with dhcp6.prefix
    "#]],
    );
    told(
        &[link("eth1", "dhcp6: {}"), link("lan", &of("eth1", 0))],
        &expect![[r#"
        configuration, line 12, delegated.from: of Link lan: Link eth1 asks for no prefix; expected the name of another Link, one with dhcp6.prefix
    "#]],
    );
    let never = link("eth1", "dhcp6: {prefix: 56, start: never}");
    told(
        &[never, link("lan", &of("eth1", 0))],
        &expect![[r#"
        configuration, line 12, delegated.from: of Link lan: Link eth1 asks for no prefix; expected the name of another Link, one with dhcp6.prefix
    "#]],
    );
    told(
        &[link("lan", "dhcp6: {prefix: 60}\ndelegated: {from: lan, subnet: 0}")],
        &expect![[r#"
        configuration, line 7, delegated.from: of Link lan: an interface can't have a network of the prefix that it asks for; expected the name of another Link, one with dhcp6.prefix
    "#]],
    );
    let bond = "---\napiVersion: stele/v1\nkind: Bond\nname: bond0\nlinks: [lan]\n".to_owned();
    told(
        &[link("lan", &of("eth0", 0)), bond],
        &expect![[r#"
        configuration, line 7: Link lan has addresses or DHCP, and is in Bond bond0; expected them in the document Link bond0
    "#]],
    );
    told(
        &[link("lan", "delegated: {from: eth0}")],
        &expect![[r#"
        document 3 (Link), line 10, delegated.subnet: is missing; expected a whole number from 0 to 4294967295
    "#]],
    );
}
