// SPDX-License-Identifier: Apache-2.0
//! What takes long when it is done for the first time, done before somebody waits for it.

use aws_lc_rs::{
    error::Unspecified,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _,
        UnparsedPublicKey,
    },
};

/// Some of everything: lists, mappings, blocks of text, a certificate, a key.
const DOCUMENTS: &str = concat!(
    include_str!("../../examples/Link.yaml"),
    "---\n",
    include_str!("../../examples/Sysctl.yaml"),
    "---\n",
    include_str!("../../examples/HealthCheck.yaml"),
    "---\n",
    include_str!("../../examples/TrustedRoots.yaml"),
    "---\n",
    include_str!("../../examples/UpgradePolicy.yaml"),
);

/// Reads a configuration of nobody's, and judges a key as it does those of an identity: the code for it is in memory then, and
/// the next one takes a fraction of the time.
pub fn rehearse() {
    let _told = super::locate(DOCUMENTS.as_bytes());
    let _judged = judge_a_key();
}

fn judge_a_key() -> Result<(), Unspecified> {
    let (random, message) = (SystemRandom::new(), DOCUMENTS.as_bytes());
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)?;
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.as_ref())
        .map_err(|_rejected| Unspecified)?;
    let signature = key.sign(&random, message)?;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key())
        .verify(message, signature.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_all_of_it_and_judges_a_key() {
        // Only an identity is missing.
        let findings = crate::yaml::locate(DOCUMENTS.as_bytes()).unwrap_err();
        let kinds: Vec<_> = findings.iter().map(|finding| finding.message.as_str()).collect();
        assert_eq!(kinds.len(), 1, "{kinds:?}");
        assert!(judge_a_key().is_ok());
    }
}
