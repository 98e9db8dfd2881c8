// SPDX-License-Identifier: Apache-2.0
//! What can be said of an identity without a clock: that the certificates are what they should be, that the
//! authority signed the node's own, and that the key belongs to it. And of public keys: that they are points of the curve.
//!
//! Whether they have expired is for those who have a clock. The types are those that TLS takes.

use crate::node::Node;
use crate::pem;
use crate::report::Report;
use crate::{Identity, TrustedRoots, UpgradePolicy};
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, ParsedPublicKey, RsaKeyPair,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

/// Says what is wrong between the certificates and the key.
pub(super) fn check(identity: &Identity, node: &Node, report: &mut Report) {
    // The identity was read, so its PEM decodes.
    let authorities = pem::decode(identity.ca(), "CERTIFICATE").unwrap_or_default();
    let own = pem::decode(identity.certificate(), "CERTIFICATE").unwrap_or_default();
    let key = pem::decode(identity.key(), "PRIVATE KEY").unwrap_or_default();
    let authorities = certificates("ca", &authorities, node, report);
    let own = certificates("certificate", &own, node, report);
    let key = key.first().and_then(|key| public_key(key));
    if key.is_none() {
        let expected = "a key for ECDSA (P-256, P-384), Ed25519 or RSA";
        report.find_at(node, "key", "is no private key that TLS takes", expected);
    }
    let (Some(authorities), Some([own])) = (authorities, own.as_deref()) else { return };
    check_issuer(own, &authorities, node, report);
    if key.is_some_and(|key| *key != *own.public_key().subject_public_key.data) {
        let expected = "the private key of certificate";
        report.find_at(node, "key", "does not belong to certificate", expected);
    }
}

/// Says which keys are none that a signature could be verified with.
pub(super) fn check_keys(policy: &UpgradePolicy, node: &Node, report: &mut Report) {
    for (index, key) in policy.keys().enumerate() {
        // The policy was read, so its PEM decodes.
        let ders = pem::decode(key, "PUBLIC KEY").unwrap_or_default();
        let good = ders.first().is_some_and(|der| {
            ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_ASN1, der).is_ok()
        });
        if !good {
            let expected = "a key that belongs to a private one";
            report.find_item(node, ("keys", index), "is no point of the curve P-256", expected);
        }
    }
}

/// Says which certificates are none of authorities.
pub(super) fn check_roots(roots: &TrustedRoots, node: &Node, report: &mut Report) {
    // The document was read, so its PEM decodes.
    let ders = pem::decode(roots.certificates(), "CERTIFICATE").unwrap_or_default();
    let _told = certificates("certificates", &ders, node, report);
}

/// All certificates of a field, each that of an authority; none if something is wrong with one.
fn certificates<'d>(
    field: &str,
    ders: &'d [Vec<u8>],
    node: &Node,
    report: &mut Report,
) -> Option<Vec<X509Certificate<'d>>> {
    let mut all = Some(Vec::new());
    for (index, der) in ders.iter().enumerate() {
        let (message, expected) = match X509Certificate::from_der(der) {
            Ok(([], certificate)) if certificate.is_ca() => {
                all = all.map(|all| all.into_iter().chain([certificate]).collect());
                continue;
            }
            Ok(([], _)) => ("is no certificate of an authority", "basicConstraints with CA:TRUE"),
            Ok(_) | Err(_) => {
                ("is no X.509 certificate", "a certificate in DER within the PEM block")
            }
        };
        let which =
            if ders.len() > 1 { format!("certificate {} ", index + 1) } else { String::new() };
        report.find_at(node, field, format!("{which}{message}"), expected);
        all = None;
    }
    all
}

fn check_issuer(
    own: &X509Certificate<'_>,
    authorities: &[X509Certificate<'_>],
    node: &Node,
    report: &mut Report,
) {
    let find = |message: &str, expected: &str, report: &mut Report| {
        report.find_at(node, "certificate", message, expected);
    };
    if authorities.iter().any(|authority| authority.public_key() == own.public_key()) {
        // Whoever steals such a node can make certificates for clients.
        find(
            "is the authority's own, whose key must not be on a node",
            "an intermediate for this node alone",
            report,
        );
        return;
    }
    let signed = |authority: &X509Certificate<'_>| {
        authority.subject().as_raw() == own.issuer().as_raw()
            && own.verify_signature(Some(authority.public_key())).is_ok()
    };
    if !authorities.iter().any(signed) {
        find("is not signed by ca", "a certificate signed by the key of ca", report);
    }
}

/// The public key that belongs to a PKCS#8 private key, as a certificate has it.
fn public_key(pkcs8: &[u8]) -> Option<Vec<u8>> {
    let ecdsa =
        [&signature::ECDSA_P256_SHA256_ASN1_SIGNING, &signature::ECDSA_P384_SHA384_ASN1_SIGNING];
    let ecdsa =
        ecdsa.into_iter().find_map(|algorithm| EcdsaKeyPair::from_pkcs8(algorithm, pkcs8).ok());
    let bytes = |key: &dyn AsRef<[u8]>| key.as_ref().to_vec();
    ecdsa
        .map(|pair| bytes(pair.public_key()))
        .or_else(|| Ed25519KeyPair::from_pkcs8(pkcs8).ok().map(|pair| bytes(pair.public_key())))
        .or_else(|| RsaKeyPair::from_pkcs8(pkcs8).ok().map(|pair| bytes(pair.public_key())))
}
