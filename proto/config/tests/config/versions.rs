// SPDX-License-Identifier: Apache-2.0
//! Versions of documents: the older ones are read, and the newer ones written for who knows no other.

use crate::findings::check;
use crate::pki;
use expect_test::{Expect, expect};
use stele_config::{API_VERSIONS, canonical, newest_version, reference, yaml};

/// Checks what becomes of a stream of these documents in `stele/v1`.
fn back(text: &str, expected: &Expect) {
    let stream = format!("{}---\n{text}", pki::make("authority").yaml());
    let config = yaml::parse(stream.as_bytes()).unwrap();
    let answer = match canonical::write_as(&config, "stele/v1") {
        Ok(bytes) => {
            assert_eq!(canonical::read(&bytes).unwrap(), config);
            let text = String::from_utf8(bytes).unwrap();
            text.split_once("},").map(|(_, rest)| format!("[{rest}\n")).unwrap_or_default()
        }
        Err(findings) => findings.iter().map(|finding| format!("{finding}\n")).collect(),
    };
    expected.assert_eq(&answer);
}

#[test]
fn every_version_has_an_example_that_is_good() {
    assert!(!reference::older_examples().is_empty());
    for (kind, example) in reference::older_examples() {
        check(&format!("\n{example}"), &expect![["good\n"]]);
        assert!(API_VERSIONS.iter().any(|version| example.contains(version)), "{kind}");
        assert!(!example.contains(newest_version(kind)), "{kind}");
    }
}

#[test]
fn what_is_wrong_is_told_in_the_words_of_its_own_version() {
    check(
        "
apiVersion: stele/v1
kind: Link
name: eth0
match: {mac: \"52:54:00:12:34:56\"}
dhcp4: {}
addresses:
- 192.0.2.1/24
- 0.0.0.0/8
",
        &expect![[r#"
            document 2 (Link), line 6, match: there is no key "match" here; expected one of name, mtu, dhcp4, addresses, routes
            document 2 (Link), line 7, dhcp4: is a mapping; expected true or false
        "#]],
    );
    check(
        "
apiVersion: stele/v2
kind: Link
name: eth0
match: {mac: \"ff:ff:ff:ff:ff:ff\"}
dhcp4: true
---
apiVersion: stele/v2
kind: Link
name: eth1
match: {name: eth1}
dhcp4: {metrik: 1}
---
apiVersion: stele/v2
kind: Hostname
hostname: a
",
        &expect![[r#"
            document 2 (Link), line 6, match.mac: "ff:ff:ff:ff:ff:ff" is not a hardware address: it is of a group, or of nothing at all; expected a hardware address, such as 52:54:00:12:34:56
            document 2 (Link), line 7, dhcp4: is true; expected a mapping with the keys metric, routes, dns, search, time, hostname, sendHostname, clientId
            document 3 (Link), line 12, match.name: there is no key "name" here; expected one of mac, path, driver
            document 3 (Link), line 12, match: there is nothing in it; expected mac, path or driver
            document 3 (Link), line 13, dhcp4.metrik: there is no key "metrik" here (did you mean "metric"?); expected one of metric, routes, dns, search, time, hostname, sendHostname, clientId
            document 4 (Hostname), line 15, apiVersion: is text ("stele/v2"); expected stele/v1
        "#]],
    );
}

#[test]
fn documents_of_both_versions_stand_side_by_side() {
    check(
        "
apiVersion: stele/v1
kind: Link
name: eth1
---
apiVersion: stele/v2
kind: Link
name: eth0
match: {mac: \"52:54:00:12:34:56\"}
---
apiVersion: stele/v2
kind: Link
name: other
match: {mac: \"52-54-00-12-34-56\"}
",
        &expect![[r#"
            document 4 (Link), line 15, match: Link eth0 is for the same interface; expected one Link for each interface
        "#]],
    );
}

#[test]
fn what_an_older_image_knows_is_written_for_it() {
    back(
        "apiVersion: stele/v2\nkind: Link\nname: eth0\ndhcp4: {}\nmtu: 1400\n---\napiVersion: stele/v1\nkind: Hostname\nhostname: a\n",
        &expect![[r#"
            [{"apiVersion":"stele/v1","kind":"Hostname","hostname":"a"},{"apiVersion":"stele/v1","kind":"Link","name":"eth0","mtu":1400,"dhcp4":true}]
        "#]],
    );
}

#[test]
fn what_it_does_not_know_is_refused_with_document_and_key() {
    back(
        "apiVersion: stele/v2\nkind: Link\nname: eth0\ndhcp4: {metric: 5, dns: false, routes: false}\n---\napiVersion: stele/v2\nkind: Link\nname: up\nmatch: {mac: \"52:54:00:12:34:56\"}\n",
        &expect![[r#"
            document 2 (Link), dhcp4.metric: can't be said of eth0 in stele/v1, by which the machine takes the metric that it chooses; expected a document without it
            document 2 (Link), dhcp4.routes: can't be said of eth0 in stele/v1, by which the machine takes the routes that DHCP brings; expected a document without it
            document 2 (Link), dhcp4.dns: can't be said of eth0 in stele/v1, by which the machine takes the name servers that DHCP brings; expected a document without it
            document 3 (Link), match: can't be said of up in stele/v1, by which the machine takes the interface of the document's name; expected a document without it
        "#]],
    );
}

#[test]
fn one_document_is_made_of_another_version() {
    let old = r#"{"apiVersion":"stele/v1","kind":"Link","name":"eth0","dhcp4":true}"#;
    let new = canonical::convert(old, "stele/v2").unwrap();
    expect![[r#"{"apiVersion":"stele/v2","kind":"Link","name":"eth0","dhcp4":{"routes":true,"dns":true,"time":true}}"#]].assert_eq(&new);
    assert_eq!(canonical::convert(&new, "stele/v1").unwrap(), old);
    let hostname = r#"{"apiVersion":"stele/v1","kind":"Hostname","hostname":"a"}"#;
    assert_eq!(canonical::convert(hostname, "stele/v2").unwrap(), hostname);
    for none in ["[]", "", "{}"] {
        assert!(!canonical::convert(none, "stele/v1").unwrap_err().is_empty());
    }
}
