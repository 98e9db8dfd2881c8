// SPDX-License-Identifier: Apache-2.0
//! Authorities, certificates and keys for tests.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SignatureAlgorithm,
};

/// What an Identity holds, as PEM.
#[derive(Clone, Debug)]
pub(crate) struct Pki {
    pub(crate) ca: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) ca_key: String,
    /// A certificate of the same authority for the same key, that is no authority's.
    pub(crate) leaf: String,
}

/// An authority of this name and an intermediate of it.
pub(crate) fn make(name: &str) -> Pki {
    make_with(name, &PKCS_ED25519)
}

/// The same with keys of another type.
pub(crate) fn make_p384(name: &str) -> Pki {
    make_with(name, &PKCS_ECDSA_P384_SHA384)
}

fn make_with(name: &str, algorithm: &'static SignatureAlgorithm) -> Pki {
    let ca_key = KeyPair::generate_for(algorithm).unwrap();
    let ca_params = params(name, IsCa::Ca(BasicConstraints::Unconstrained));
    let ca = ca_params.self_signed(&ca_key).unwrap();
    let issuer = Issuer::from_params(&ca_params, &ca_key);
    let key = KeyPair::generate_for(algorithm).unwrap();
    let certificate = params("node-1", IsCa::Ca(BasicConstraints::Constrained(0)))
        .signed_by(&key, &issuer)
        .unwrap();
    let leaf = params("leaf", IsCa::NoCa).signed_by(&key, &issuer).unwrap();
    Pki {
        ca: ca.pem(),
        certificate: certificate.pem(),
        key: key.serialize_pem(),
        ca_key: ca_key.serialize_pem(),
        leaf: leaf.pem(),
    }
}

fn params(name: &str, is_ca: IsCa) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = is_ca;
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}

impl Pki {
    /// The Identity document.
    pub(crate) fn yaml(&self) -> String {
        format!(
            "apiVersion: stele/v1\nkind: Identity\nca: |\n{}certificate: |\n{}key: |\n{}",
            indent(&self.ca),
            indent(&self.certificate),
            indent(&self.key)
        )
    }
}

fn indent(pem: &str) -> String {
    pem.lines().map(|line| format!("  {line}\n")).collect()
}
