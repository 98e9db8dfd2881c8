// SPDX-License-Identifier: Apache-2.0
//! Certificates of all kinds.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// What to put into a certificate.
pub(crate) struct Ask<'a> {
    pub(crate) organization: &'a str,
    pub(crate) usage: Option<ExtendedKeyUsagePurpose>,
    pub(crate) ca: bool,
    pub(crate) life: (i64, i64),
}

impl Default for Ask<'_> {
    fn default() -> Self {
        Ask {
            organization: "os:admin",
            usage: Some(ExtendedKeyUsagePurpose::ClientAuth),
            ca: false,
            life: (-3600, 3600),
        }
    }
}

fn params(name: &str, ask: &Ask<'_>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    if !ask.organization.is_empty() {
        params.distinguished_name.push(DnType::OrganizationName, ask.organization);
    }
    params.extended_key_usages = ask.usage.iter().cloned().collect();
    params.is_ca =
        if ask.ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    if ask.ca {
        params.key_usages.push(KeyUsagePurpose::KeyCertSign);
    }
    let now = time::OffsetDateTime::now_utc();
    params.not_before = now + time::Duration::seconds(ask.life.0);
    params.not_after = now + time::Duration::seconds(ask.life.1);
    params
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

pub(crate) fn authority(name: &str) -> Identity {
    let key = key();
    let ask = Ask { organization: "", usage: None, ca: true, ..Ask::default() };
    let certificate = params(name, &ask).self_signed(&key).unwrap().pem();
    Identity { certificate, key: key.serialize_pem() }
}

pub(crate) fn issue(issuer: &Identity, name: &str, ask: &Ask<'_>) -> Identity {
    let key = key();
    let issuer =
        Issuer::from_ca_cert_pem(&issuer.certificate, KeyPair::from_pem(&issuer.key).unwrap())
            .unwrap();
    let certificate = params(name, ask).signed_by(&key, &issuer).unwrap().pem();
    Identity { certificate, key: key.serialize_pem() }
}

/// The operator's CA and a node's intermediate.
pub(crate) struct Operator {
    pub(crate) ca: Identity,
    pub(crate) node: Identity,
}

impl Operator {
    pub(crate) fn new() -> Self {
        let ca = authority("operator");
        let ask = Ask {
            organization: "",
            usage: Some(ExtendedKeyUsagePurpose::ServerAuth),
            ca: true,
            ..Ask::default()
        };
        let node = issue(&ca, "node", &ask);
        Self { ca, node }
    }

    pub(crate) fn client(&self, organization: &str) -> Identity {
        issue(&self.ca, "ada", &Ask { organization, ..Ask::default() })
    }

    pub(crate) fn json(&self, addresses: &[&str]) -> String {
        self.json_with(addresses, &serde_json::json!({}))
    }

    /// With what the operator says of clients.
    pub(crate) fn json_with(&self, addresses: &[&str], access: &serde_json::Value) -> String {
        serde_json::json!({
            "mode": "running", "hostname": "n1", "addresses": addresses, "access": access,
            "generation": 7,
            "ca": self.ca.certificate, "certificate": self.node.certificate, "key": self.node.key,
        })
        .to_string()
    }
}
