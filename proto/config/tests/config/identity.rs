// SPDX-License-Identifier: Apache-2.0
//! What the reader says to certificates and keys that do not fit.

use crate::pki::{self, Pki};
use expect_test::{Expect, expect};
use stele_config::yaml;

fn check(change: impl FnOnce(&mut Pki), expected: &Expect) {
    let mut pki = pki::make("authority");
    change(&mut pki);
    let found = match yaml::parse(pki.yaml().as_bytes()) {
        Ok(_) => "good\n".to_owned(),
        Err(findings) => findings.iter().map(|finding| format!("{finding}\n")).collect(),
    };
    assert!(!found.contains(pki.key.lines().nth(1).unwrap_or("no key")), "the key is in {found}");
    expected.assert_eq(&found);
}

fn pem(label: &str, body: &str) -> String {
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

#[test]
fn good() {
    check(
        |_| (),
        &expect![[r#"
        good
    "#]],
    );
    check(
        |pki| *pki = pki::make_p384("authority"),
        &expect![[r#"
        good
    "#]],
    );
    check(
        |pki| pki.ca.push_str(&pki::make("next authority").ca),
        &expect![[r#"
        good
    "#]],
    );
    check(
        |pki| pki.ca.insert_str(0, "Certificate:\n    Data: …\n"),
        &expect![[r#"
        good
    "#]],
    );
}

#[test]
fn not_pem() {
    check(
        |pki| pki.ca = "no certificate\n".to_owned(),
        &expect![[r#"
        document 1 (Identity), line 3, ca: has no PEM block; expected certificates as PEM (-----BEGIN CERTIFICATE-----)
    "#]],
    );
    check(
        |pki| pki.certificate = pki.certificate.replace("-----END", ""),
        &expect![[r#"
        document 1 (Identity), line 13, certificate: has a PEM block that does not end (-----END CERTIFICATE-----); expected one certificate as PEM (-----BEGIN CERTIFICATE-----)
    "#]],
    );
    check(
        |pki| pki.certificate = pem("CERTIFICATE", "MAA=?"),
        &expect![[r#"
        document 1 (Identity), line 13, certificate: has a PEM block that is not base64; expected one certificate as PEM (-----BEGIN CERTIFICATE-----)
    "#]],
    );
    check(
        |pki| pki.certificate = pem("CERTIFICATE", "aGVsbG8="),
        &expect![[r#"
        document 1 (Identity), line 13, certificate: has a PEM block that holds no DER structure; expected one certificate as PEM (-----BEGIN CERTIFICATE-----)
    "#]],
    );
    check(
        |pki| pki.certificate = pem("CERTIFICATE", "MAA="),
        &expect![[r#"
        document 1 (Identity), line 13, certificate: is no X.509 certificate; expected a certificate in DER within the PEM block
    "#]],
    );
    check(
        |pki| pki.certificate = pki.key.clone(),
        &expect![[r#"
        document 1 (Identity), line 13, certificate: has a PEM block of another kind: "PRIVATE KEY"; expected one certificate as PEM (-----BEGIN CERTIFICATE-----)
    "#]],
    );
    check(
        |pki| pki.key = pem("EC PRIVATE KEY", "MAA="),
        &expect![[r#"
        document 1 (Identity), line 23, key: has a PEM block of another kind: "EC PRIVATE KEY"; expected an unencrypted PKCS#8 private key as PEM (-----BEGIN PRIVATE KEY-----)
    "#]],
    );
    check(
        |pki| pki.key = pem("ENCRYPTED PRIVATE KEY", "MAA="),
        &expect![[r#"
        document 1 (Identity), line 23, key: has a PEM block of another kind: "ENCRYPTED PRIVATE KEY"; expected an unencrypted PKCS#8 private key as PEM (-----BEGIN PRIVATE KEY-----)
    "#]],
    );
    check(
        |pki| pki.key = pem("PRIVATE KEY", "MAA="),
        &expect![[r#"
        document 1 (Identity), line 23, key: is no private key that TLS takes; expected a key for ECDSA (P-256, P-384), Ed25519 or RSA
    "#]],
    );
    check(
        |pki| pki.key = "[redacted]\n".to_owned(),
        &expect![[r#"
        document 1 (Identity), line 23, key: is redacted: this configuration was shown without its secrets; expected an unencrypted PKCS#8 private key as PEM (-----BEGIN PRIVATE KEY-----)
    "#]],
    );
}

#[test]
fn more_than_one() {
    check(
        |pki| pki.certificate.push_str(&pki.ca),
        &expect![[r#"
        document 1 (Identity), line 13, certificate: has 2 PEM blocks; expected one certificate as PEM (-----BEGIN CERTIFICATE-----)
    "#]],
    );
    check(
        |pki| pki.ca = pki.ca.repeat(9),
        &expect![[r#"
        document 1 (Identity), line 3, ca: has 9 PEM blocks; expected certificates as PEM (-----BEGIN CERTIFICATE-----)
    "#]],
    );
}

#[test]
fn of_others() {
    // The other authority has the same name, so only the signature tells.
    check(
        |pki| pki.ca = pki::make("authority").ca,
        &expect![[r#"
        document 1 (Identity), line 13, certificate: is not signed by ca; expected a certificate signed by the key of ca
    "#]],
    );
    check(
        |pki| pki.ca = pki::make("other").ca,
        &expect![[r#"
        document 1 (Identity), line 13, certificate: is not signed by ca; expected a certificate signed by the key of ca
    "#]],
    );
    check(
        |pki| pki.key = pki::make("authority").key,
        &expect![[r#"
        document 1 (Identity), line 23, key: does not belong to certificate; expected the private key of certificate
    "#]],
    );
    check(
        |pki| pki.key = pki::make_p384("authority").key,
        &expect![[r#"
        document 1 (Identity), line 23, key: does not belong to certificate; expected the private key of certificate
    "#]],
    );
}

#[test]
fn wrong_purpose() {
    check(
        |pki| pki.certificate = pki.leaf.clone(),
        &expect![[r#"
        document 1 (Identity), line 13, certificate: is no certificate of an authority; expected basicConstraints with CA:TRUE
    "#]],
    );
    check(
        |pki| pki.ca = pki.leaf.clone(),
        &expect![[r#"
        document 1 (Identity), line 3, ca: is no certificate of an authority; expected basicConstraints with CA:TRUE
    "#]],
    );
    check(
        |pki| {
            pki.certificate = pki.ca.clone();
            pki.key = pki.ca_key.clone();
        },
        &expect![[r#"
            document 1 (Identity), line 13, certificate: is the authority's own, whose key must not be on a node; expected an intermediate for this node alone
        "#]],
    );
}

#[test]
fn key_in_the_wrong_place_is_not_quoted() {
    let pki = pki::make("authority");
    let key = serde_json::to_string(&pki.key).unwrap();
    let text = format!(
        "apiVersion: {key}\nkind: {key}\n---\n{key}\n---\n{key}: {key}\nkind: Hostname\nhostname: {key}\n"
    );
    let findings = yaml::parse(text.as_bytes()).unwrap_err();
    assert!(findings.len() > 5);
    for line in pki.key.lines().filter(|line| !line.starts_with('-')) {
        assert!(!format!("{findings:?}").contains(&line[..8]), "{findings:?}");
    }
}

#[test]
fn several_authorities_are_told_apart() {
    check(
        |pki| pki.ca.push_str(&pem("CERTIFICATE", "MAA=")),
        &expect![[r#"
        document 1 (Identity), line 3, ca: certificate 2 is no X.509 certificate; expected a certificate in DER within the PEM block
    "#]],
    );
}
