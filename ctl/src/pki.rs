// SPDX-License-Identifier: Apache-2.0
//! The certificates of a fleet.
//!
//! ```text
//! operator CA (10 years, stays with the operator)
//! ├── node intermediate (in the machine configuration; server authentication only, no further CA)
//! │   └── serving certificates, made by the node itself
//! └── client certificates (O = role)
//! ```
//!
//! All keys are P-256, because practically every TPM 2.0 holds those. Validity starts an hour early, so that a node
//! whose clock runs behind still takes a certificate that was made a moment ago.

use anyhow::{Context as _, Result, ensure};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{fmt, time::Duration};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

const EARLY: time::Duration = time::Duration::HOUR;
const CA_LIFETIME: time::Duration = time::Duration::days(3653);

/// A certificate and its key, both PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pair {
    /// The certificate.
    pub(crate) certificate: String,
    /// The key, PKCS #8.
    pub(crate) key: String,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair")
            .field("certificate", &self.certificate)
            .field("key", &"(secret)")
            .finish()
    }
}

/// What the operator keeps: the secrets file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Secrets {
    /// The operator's CA.
    pub(crate) ca: Pair,
}

/// Makes an operator CA.
pub(crate) fn make_ca(now: OffsetDateTime) -> Result<Pair> {
    let key = new_key()?;
    // CAs of different fleets have different names, so that a certificate of the wrong one is told as that, and not as a
    // signature that does not fit.
    let digest = Sha256::digest(key.public_key_raw());
    let mark: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let mut params = params(&format!("Stele operator CA {mark}"), None, now, CA_LIFETIME);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).context("Signing the operator CA")?;
    Ok(pair(&certificate, &key))
}

/// Makes a node's own intermediate, with which it renews its serving certificates by itself.
pub(crate) fn make_node(ca: &Pair, hostname: &str, now: OffsetDateTime) -> Result<Pair> {
    let key = new_key()?;
    let issuer = issuer(ca)?;
    let mut params = params(hostname, None, now, remaining(&ca.certificate, now)?);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    // Verifiers hold every certificate of a chain to this: a client certificate below it is worth nothing.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &issuer).context("Signing the node's certificate")?;
    Ok(pair(&certificate, &key))
}

/// Makes a client certificate: the role is its organization, the name its common name.
pub(crate) fn make_client(
    ca: &Pair,
    name: &str,
    role: &str,
    lifetime: Duration,
    now: OffsetDateTime,
) -> Result<Pair> {
    ensure!(!name.trim().is_empty(), "A client needs a name: it is what the audit log calls it");
    let lifetime = time::Duration::try_from(lifetime)?;
    ensure!(lifetime > time::Duration::ZERO, "A client certificate needs a lifetime above zero");
    let remaining = remaining(&ca.certificate, now)?;
    ensure!(
        lifetime <= remaining,
        "The operator CA expires on {}, before a certificate made now for that long would. Choose a shorter --lifetime",
        crate::span::format_moment(now + remaining)
    );
    let key = new_key()?;
    let issuer = issuer(ca)?;
    let mut params = params(name, Some(role), now, lifetime);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &issuer).context("Signing the client certificate")?;
    Ok(pair(&certificate, &key))
}

/// What a certificate says of itself, as far as ctl shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    /// The common name.
    pub(crate) name: String,
    /// The organization: the role.
    pub(crate) role: String,
    /// When it begins to hold.
    pub(crate) not_before: OffsetDateTime,
    /// When it expires.
    pub(crate) not_after: OffsetDateTime,
}

/// Reads the first certificate of a PEM text.
pub(crate) fn read_certificate(pem: &str) -> Result<Summary> {
    let (_, pem) =
        x509_parser::pem::parse_x509_pem(pem.as_bytes()).context("The certificate is not PEM")?;
    summarize(&pem.contents)
}

/// Reads a DER certificate.
pub(crate) fn summarize(der: &[u8]) -> Result<Summary> {
    let (_, certificate) =
        X509Certificate::from_der(der).context("The certificate is not X.509")?;
    let subject = certificate.subject();
    let first = |value: Option<&x509_parser::x509::AttributeTypeAndValue<'_>>| {
        value.and_then(|value| value.as_str().ok()).unwrap_or_default().to_owned()
    };
    Ok(Summary {
        name: first(subject.iter_common_name().next()),
        role: first(subject.iter_organization().next()),
        not_before: certificate.validity().not_before.to_datetime(),
        not_after: certificate.validity().not_after.to_datetime(),
    })
}

/// The common name of who signed a DER certificate.
pub(crate) fn issuer_name(der: &[u8]) -> Result<String> {
    let (_, certificate) =
        X509Certificate::from_der(der).context("The certificate is not X.509")?;
    let name = certificate.issuer().iter_common_name().next().and_then(|name| name.as_str().ok());
    Ok(name.unwrap_or_default().to_owned())
}

fn new_key() -> Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("Making a P-256 key")
}

fn pair(certificate: &Certificate, key: &KeyPair) -> Pair {
    Pair { certificate: certificate.pem(), key: key.serialize_pem() }
}

fn issuer(ca: &Pair) -> Result<Issuer<'static, KeyPair>> {
    let key = KeyPair::from_pem(&ca.key).context("Reading ca.key of the secrets")?;
    Issuer::from_ca_cert_pem(&ca.certificate, key).context("Reading ca.certificate of the secrets")
}

fn remaining(certificate: &str, now: OffsetDateTime) -> Result<time::Duration> {
    let ca = read_certificate(certificate)?;
    ensure!(
        ca.not_after > now,
        "The operator CA expired on {}. Make new secrets",
        crate::span::format_moment(ca.not_after)
    );
    Ok(ca.not_after - now)
}

fn params(
    name: &str,
    role: Option<&str>,
    now: OffsetDateTime,
    lifetime: time::Duration,
) -> CertificateParams {
    let mut subject = DistinguishedName::new();
    if let Some(role) = role {
        subject.push(DnType::OrganizationName, role);
    }
    subject.push(DnType::CommonName, name);
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.not_before = now - EARLY;
    params.not_after = now + lifetime;
    params
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::extensions::ParsedExtension;

    fn der(pair: &Pair) -> Vec<u8> {
        x509_parser::pem::parse_x509_pem(pair.certificate.as_bytes()).unwrap().1.contents
    }

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    #[test]
    fn the_ca_signs_certificates_for_ten_years() {
        let der = der(&make_ca(now()).unwrap());
        let (_, ca) = X509Certificate::from_der(&der).unwrap();
        ca.verify_signature(None).unwrap();
        assert!(ca.is_ca());
        assert_eq!(ca.basic_constraints().unwrap().unwrap().value.path_len_constraint, None);
        assert!(ca.key_usage().unwrap().unwrap().value.key_cert_sign());
        assert!(ca.validity().not_after.timestamp() - now().unix_timestamp() >= 3652 * 86_400);
        assert!(ca.validity().not_before.timestamp() < now().unix_timestamp());
        let point = ca.public_key().parsed().unwrap();
        assert!(
            matches!(point, x509_parser::public_key::PublicKey::EC(point) if point.key_size() == 256)
        );
    }

    #[test]
    fn the_node_serves_and_does_nothing_else() {
        let ca_pair = make_ca(now()).unwrap();
        let (ca_der, der) = (der(&ca_pair), der(&make_node(&ca_pair, "web1", now()).unwrap()));
        let (_, ca) = X509Certificate::from_der(&ca_der).unwrap();
        let (_, node) = X509Certificate::from_der(&der).unwrap();
        node.verify_signature(Some(ca.public_key())).unwrap();
        assert_eq!(node.basic_constraints().unwrap().unwrap().value.path_len_constraint, Some(0));
        let usage = node.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.server_auth && !usage.client_auth && !usage.any && usage.other.is_empty());
        assert!(
            node.extensions().iter().any(|e| matches!(
                e.parsed_extension(),
                ParsedExtension::AuthorityKeyIdentifier(_)
            ))
        );
        assert_eq!(summarize(&der).unwrap().role, "", "a node has no role");
        assert_eq!(node.validity().not_after, ca.validity().not_after);
    }

    #[test]
    fn a_client_carries_its_role_and_is_no_ca() {
        let ca = make_ca(now()).unwrap();
        let client =
            make_client(&ca, "alice", "os:reader", Duration::from_secs(8 * 3600), now()).unwrap();
        let summary = read_certificate(&client.certificate).unwrap();
        assert_eq!((summary.name.as_str(), summary.role.as_str()), ("alice", "os:reader"));
        assert_eq!(summary.not_after, now() + time::Duration::hours(8));
        let der = der(&client);
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        assert!(!certificate.is_ca());
        let usage = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
    }

    #[test]
    fn impossible_clients_are_refused() {
        let ca = make_ca(now()).unwrap();
        let make = |name, days: u64, now| {
            make_client(&ca, name, "os:admin", Duration::from_secs(days * 86_400), now)
        };
        assert!(make("", 1, now()).is_err());
        assert!(make("a", 0, now()).is_err());
        assert!(make("a", 4000, now()).unwrap_err().to_string().contains("expires on"));
        assert!(
            make("a", 1, now() + time::Duration::days(4000))
                .unwrap_err()
                .to_string()
                .contains("expired on")
        );
    }

    #[test]
    fn secrets_stay_out_of_debug_output() {
        let ca = make_ca(now()).unwrap();
        assert!(!format!("{ca:?}").contains("PRIVATE"));
    }
}
