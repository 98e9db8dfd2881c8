// SPDX-License-Identifier: Apache-2.0
//! The certificate that apid serves, made in memory and never stored.
//!
//! * On a configured node: a P-256 leaf, signed by the node's own intermediate, for the node's name and addresses. It lives for
//!   30 days, but not longer than the intermediate; after two thirds of its life a new one takes its place.
//! * In maintenance: self-signed, and the same for the life of the process whatever happens to the addresses, because people
//!   compare its fingerprint with the one on the console.
//!
//! It begins an hour in the past, for the clients whose clocks are behind. A clock that jumps out of its life makes a new one.

use crate::identity::{Credentials, Identity, Mode};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use stele_proto::internal::CertificateReport;
use time::OffsetDateTime;

const LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
const MAINTENANCE_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
const BACKDATE: Duration = Duration::from_secs(3600);
// RFC 5280, 4.1.2.5: a time that a certificate can always hold.
const LATEST: u64 = 253_402_300_799;

/// A certificate to serve, with its key.
#[derive(Debug)]
pub struct Certificate {
    /// What the peer is sent: the leaf, and the node's intermediate if there is one.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
    /// What PID 1 is told.
    pub report: CertificateReport,
    /// When it is time for the next one; `None` if never.
    renew: Option<(SystemTime, SystemTime)>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The node's key is no key.
    #[error("Reading the node's private key")]
    Key {
        /// Why.
        source: rcgen::Error,
    },
    /// The node's certificate is no certificate.
    #[error("Reading the node's certificate: {reason}")]
    Intermediate {
        /// Why.
        reason: String,
    },
    /// A name or an address that no certificate can hold.
    #[error("Naming {name} in a certificate")]
    Name {
        /// The name.
        name: String,
        /// Why.
        source: rcgen::Error,
    },
    /// The making itself.
    #[error("Making a certificate")]
    Make {
        /// Why.
        source: rcgen::Error,
    },
}

impl Certificate {
    /// Makes a certificate for this identity.
    pub fn make(identity: &Identity, now: SystemTime) -> Result<Self, CertificateError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map_err(|source| CertificateError::Make { source })?;
        let mut params = params(identity)?;
        match &identity.mode {
            Mode::Maintenance => {
                let life = life(&mut params, now, now + MAINTENANCE_LIFE);
                let leaf =
                    params.self_signed(&key).map_err(|source| CertificateError::Make { source })?;
                Ok(Self::assemble(leaf.der().clone(), None, &key, &params, life, None))
            }
            Mode::Running(credentials) => {
                let (intermediate, issuer, end) = issuer(credentials)?;
                let life = life(&mut params, now, (now + LIFE).min(end));
                params.use_authority_key_identifier_extension = true;
                let leaf = params
                    .signed_by(&key, &issuer)
                    .map_err(|source| CertificateError::Make { source })?;
                let renew = now + life.1.duration_since(now).unwrap_or_default() * 2 / 3;
                // A new leaf lives no longer than the intermediate either: towards its end, leave an hour between two.
                let renew = renew.max(now + BACKDATE);
                Ok(Self::assemble(
                    leaf.der().clone(),
                    Some(intermediate),
                    &key,
                    &params,
                    life,
                    Some((life.0, renew)),
                ))
            }
        }
    }

    /// True when the next certificate should be made: near the end of this one, or when the clock has left its life.
    #[must_use]
    pub fn is_due(&self, now: SystemTime) -> bool {
        self.renew.is_some_and(|(begin, renew)| now < begin || now >= renew)
    }

    fn assemble(
        leaf: CertificateDer<'static>,
        intermediate: Option<CertificateDer<'static>>,
        key: &KeyPair,
        params: &CertificateParams,
        life: (SystemTime, SystemTime),
        renew: Option<(SystemTime, SystemTime)>,
    ) -> Self {
        let report = CertificateReport {
            fingerprint: fingerprint(&leaf),
            not_before: seconds(life.0),
            not_after: seconds(life.1),
            names: params.subject_alt_names.iter().map(printable).collect(),
            ..CertificateReport::default()
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Self { chain: std::iter::once(leaf).chain(intermediate).collect(), key, report, renew }
    }
}

/// SHA-256 of a certificate, in lower-case hex.
#[must_use]
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn params(identity: &Identity) -> Result<CertificateParams, CertificateError> {
    let mut params = CertificateParams::default();
    if !identity.hostname.is_empty() {
        let name = identity.hostname.as_str().try_into();
        let name = name
            .map_err(|source| CertificateError::Name { name: identity.hostname.clone(), source })?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    params
        .subject_alt_names
        .extend(identity.addresses.iter().map(|address| SanType::IpAddress(*address)));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, identity.hostname.as_str());
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn issuer(
    credentials: &Credentials,
) -> Result<(CertificateDer<'static>, Issuer<'static, KeyPair>, SystemTime), CertificateError> {
    let key =
        KeyPair::from_pem(&credentials.key).map_err(|source| CertificateError::Key { source })?;
    let intermediate = |reason: String| CertificateError::Intermediate { reason };
    let der = CertificateDer::from_pem_slice(credentials.certificate.as_bytes())
        .map_err(|error| intermediate(error.to_string()))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der)
        .map_err(|error| intermediate(error.to_string()))?;
    if parsed.public_key().raw != key.subject_public_key_info() {
        return Err(intermediate("it does not belong to the private key beside it".to_owned()));
    }
    let end = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or_default();
    let issuer =
        Issuer::from_ca_cert_der(&der, key).map_err(|error| intermediate(error.to_string()))?;
    Ok((der.clone(), issuer, UNIX_EPOCH + Duration::from_secs(end.min(LATEST))))
}

/// Writes the life into the certificate and returns it as it will be there, in whole seconds.
fn life(
    params: &mut CertificateParams,
    now: SystemTime,
    end: SystemTime,
) -> (SystemTime, SystemTime) {
    // Whatever the clock says, a certificate begins before it ends.
    let begin = now.min(end).checked_sub(BACKDATE).unwrap_or(UNIX_EPOCH).max(UNIX_EPOCH);
    params.not_before = date(begin);
    params.not_after = date(end);
    (begin, end)
}

fn date(time: SystemTime) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds(time)).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn seconds(time: SystemTime) -> i64 {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds.min(LATEST)).unwrap_or_default()
}

fn printable(name: &SanType) -> String {
    match name {
        SanType::DnsName(name) => name.as_str().to_owned(),
        SanType::IpAddress(address) => address.to_string(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use rcgen::BasicConstraints;

    fn node(intermediate_life: Duration) -> Identity {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let end = SystemTime::now() + intermediate_life;
        params.not_after = date(end);
        let certificate = params.self_signed(&key).unwrap().pem();
        Identity {
            mode: Mode::Running(Credentials {
                ca: certificate.clone(),
                certificate,
                key: key.serialize_pem(),
            }),
            hostname: "n1".into(),
            addresses: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            access: Access::default(),
            generation: 0,
        }
    }

    #[test]
    fn a_leaf_names_the_node_and_is_renewed_in_time() {
        let now = SystemTime::now();
        let certificate = Certificate::make(&node(LIFE * 12), now).unwrap();
        assert_eq!(certificate.chain.len(), 2);
        assert_eq!(certificate.report.names, ["n1", "10.0.0.1", "fd00::1"]);
        assert_eq!(certificate.report.fingerprint.len(), 64);
        assert!(!certificate.is_due(now));
        assert!(!certificate.is_due(now + LIFE / 2));
        assert!(certificate.is_due(now + LIFE * 3 / 4));
        assert!(certificate.is_due(now - BACKDATE * 2), "a clock before its life");
    }

    #[test]
    fn a_leaf_ends_no_later_than_the_intermediate() {
        let now = SystemTime::now();
        let certificate = Certificate::make(&node(LIFE / 30), now).unwrap();
        let end = seconds(now + LIFE / 30);
        assert!((end - 2..=end + 2).contains(&certificate.report.not_after));
        let ended = Certificate::make(&node(LIFE / 30), now + LIFE).unwrap();
        assert!(ended.report.not_before < ended.report.not_after);
        assert!(!ended.is_due(now + LIFE), "an ended intermediate makes no loop");
    }

    #[test]
    fn a_key_of_another_node_is_refused() {
        let (mut one, other) = (node(LIFE), node(LIFE));
        if let (Mode::Running(one), Mode::Running(other)) = (&mut one.mode, other.mode) {
            one.key = other.key;
        }
        assert!(matches!(
            Certificate::make(&one, SystemTime::now()),
            Err(CertificateError::Intermediate { .. })
        ));
    }

    #[test]
    fn maintenance_keeps_one_certificate() {
        let identity = Identity {
            mode: Mode::Maintenance,
            hostname: "stele".into(),
            addresses: Vec::new(),
            access: Access::default(),
            generation: 0,
        };
        let now = SystemTime::now();
        let certificate = Certificate::make(&identity, now).unwrap();
        assert_eq!(certificate.chain.len(), 1);
        assert!(!certificate.is_due(now + LIFE * 100));
    }
}
