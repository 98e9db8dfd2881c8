// SPDX-License-Identifier: Apache-2.0
//! The canonical form: its bytes, what is refused in it, and that secrets stay in it.

use crate::pki;
use expect_test::expect;
use stele_config::{canonical, yaml};

/// An identity that PID 1 takes: PEM around an empty DER SEQUENCE.
const IDENTITY: &str = r#"{"apiVersion":"stele/v1","kind":"Identity","ca":"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----","certificate":"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----","key":"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----"}"#;

fn found(text: &str) -> String {
    match canonical::read(text.as_bytes()) {
        Ok(_) => "good\n".to_owned(),
        Err(findings) => findings.iter().map(|finding| format!("{finding}\n")).collect(),
    }
}

#[test]
fn one_form() {
    let text = format!(
        r#"[
        {{"kind":"Resolver","apiVersion":"stele/v1","servers":["2001:DB8::0:1"],"search":["Example.COM"]}},
        {{"kind":"Link","apiVersion":"stele/v1","routes":[{{"metric":7,"to":"::/0"}}],"name":"eth1","mtu":1400}},
        {{"kind":"Link","apiVersion":"stele/v1","dhcp4":true,"name":"eth0","addresses":["192.0.2.1/24"]}},
        {{"hostname":"Node-1","kind":"Hostname","apiVersion":"stele/v1"}},
        {IDENTITY}]"#
    );
    let bytes = canonical::write(&canonical::read(text.as_bytes()).unwrap());
    assert_eq!(canonical::write(&canonical::read(&bytes).unwrap()), bytes);
    expect![[r#"
        [{"apiVersion":"stele/v1","kind":"Identity","ca":"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n","certificate":"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n","key":"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n"},
        {"apiVersion":"stele/v1","kind":"Hostname","hostname":"node-1"},
        {"apiVersion":"stele/v2","kind":"Link","name":"eth0","dhcp4":{"routes":true,"dns":true,"time":true},"addresses":["192.0.2.1/24"]},
        {"apiVersion":"stele/v2","kind":"Link","name":"eth1","mtu":1400,"routes":[{"to":"::/0","metric":7}]},
        {"apiVersion":"stele/v1","kind":"Resolver","servers":["2001:db8::1"],"search":["example.com"]}]"#]].assert_eq(&String::from_utf8(bytes).unwrap().replace("},{\"api", "},\n{\"api"));
}

#[test]
fn as_yaml() {
    let text = format!(
        r#"[{IDENTITY},{{"kind":"Link","apiVersion":"stele/v1","name":"eth1","mtu":1400,"addresses":["192.0.2.1/24"]}},{{"apiVersion":"stele/v1","kind":"Resolver","servers":["::1"]}}]"#
    );
    let config = canonical::read(text.as_bytes()).unwrap();
    expect![[r#"
        apiVersion: stele/v1
        kind: Identity
        ca: |
          -----BEGIN CERTIFICATE-----
          MAA=
          -----END CERTIFICATE-----
        certificate: |
          -----BEGIN CERTIFICATE-----
          MAA=
          -----END CERTIFICATE-----
        key: '[redacted]'
        ---
        apiVersion: stele/v2
        kind: Link
        name: eth1
        mtu: 1400
        addresses:
        - 192.0.2.1/24
        ---
        apiVersion: stele/v1
        kind: Resolver
        servers:
        - ::1
    "#]]
    .assert_eq(&yaml::print(&canonical::redact(&config)));
}

#[test]
fn refused() {
    expect![[r#"
        configuration: is a mapping; expected a JSON array of documents
    "#]]
    .assert_eq(&found("{}"));
    expect![[r#"
        configuration: is not JSON: EOF while parsing a value at line 1 column 3; expected a JSON array of documents
    "#]].assert_eq(&found("[1,"));
    expect![[r#"
        configuration: there is no document of the kind Identity; expected exactly one; ctl gen config makes it
    "#]].assert_eq(&found("[]"));
    expect![[r#"
        document 1: has no value; expected a document: apiVersion: stele/v1, kind: …
    "#]]
    .assert_eq(&found("[null]"));
    expect![[r#"
        document 2 (Identity): there is another document of this kind; expected at most one
    "#]]
    .assert_eq(&found(&format!("[{IDENTITY},{IDENTITY}]")));
    expect![[r#"
        document 1 (Link), x: there is no key "x" here; expected one of name, mtu, dhcp4, addresses, routes
        document 1 (Link), name: is there twice; expected each key once
        document 1 (Link), mtu: is the number 1.5; expected a whole number from 1280 to 9216
        configuration: there is no document of the kind Identity; expected exactly one; ctl gen config makes it
    "#]].assert_eq(&found(
        r#"[{"apiVersion":"stele/v1","kind":"Link","name":"a","name":"b","mtu":1.5,"x":null}]"#,
    ));
}

#[test]
fn secrets_are_not_shown() {
    let pki = pki::make("authority");
    let config = yaml::parse(pki.yaml().as_bytes()).unwrap();
    assert_eq!(config.identity().key(), pki.key.replace("\r\n", "\n"));
    let secret = pki.key.lines().nth(1).unwrap();
    let redacted = String::from_utf8(canonical::redact(&config)).unwrap();
    for shown in [
        format!("{config:?}"),
        format!("{:?}", config.identity()),
        redacted.clone(),
        yaml::print(redacted.as_bytes()),
    ] {
        assert!(!shown.contains(secret), "{shown}");
        assert!(shown.contains("redacted"), "{shown}");
    }
    expect![[r#"
        document 1 (Identity), key: is redacted: this configuration was shown without its secrets; expected an unencrypted PKCS#8 private key as PEM (-----BEGIN PRIVATE KEY-----)
    "#]].assert_eq(&found(&redacted));
}
