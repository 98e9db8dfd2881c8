// SPDX-License-Identifier: Apache-2.0
//! Signatures of images: who made them is one of those that this machine takes images from.
//!
//! ECDSA on P-256 over the SHA-256 of the file, as `cosign sign-blob --key` and `openssl dgst -sha256 -sign` make it.
//! Keys are PEM: PKCS#8 the private one, SubjectPublicKeyInfo the public one. `FILE.sig`, beside the file, holds the
//! signature in base64 of its DER form.
//!
//! [`cosign`] is the same for an artifact in a registry, whose manifest is what is signed.
//!
//! Verifying needs nothing but bytes; making keys and signatures is for those who build images, behind the feature
//! `sign`. No input or output lives here.

#![forbid(unsafe_code)]

use base64ct::{Base64, Encoding as _};
use p256::{
    ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier as _},
    pkcs8::{DecodePublicKey as _, EncodePublicKey as _, LineEnding},
};
use sha2::{Digest as _, Sha256};

#[cfg(feature = "sign")]
pub use sign::SigningKey;

pub mod cosign;
#[cfg(feature = "sign")]
mod sign;

/// No signature of ours is longer: two integers of 33 bytes, and what is around them.
const LONGEST: usize = 72;

/// Why this is no key, or no signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not a public key that images can be verified with.
    #[error("this is not a public key for ECDSA on P-256 in PEM: {0}")]
    PublicKey(String),
    /// Not a private key that images can be signed with.
    #[error("this is not a private key for ECDSA on P-256 in PKCS#8 PEM: {0}")]
    PrivateKey(String),
    /// Not the text of a signature.
    #[error("this is not a signature in base64")]
    Text,
    /// Base64 of something else.
    #[error("this is not an ECDSA signature on P-256 in DER")]
    Der,
    /// Something could not be put into words.
    #[error("writing a signature: {0}")]
    Write(String),
    /// The machine has no random numbers.
    #[error("there are no random numbers to make a key of")]
    Random,
}

/// What a signature is verified with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Reads the PEM form, which begins with `-----BEGIN PUBLIC KEY-----`.
    ///
    /// # Errors
    /// When it is anything else, or a key of another kind.
    pub fn from_pem(pem: &str) -> Result<PublicKey, SignatureError> {
        VerifyingKey::from_public_key_pem(pem.trim())
            .map(PublicKey)
            .map_err(|error| SignatureError::PublicKey(error.to_string()))
    }

    /// The PEM form.
    ///
    /// # Errors
    /// Never for a key that was read or made here.
    pub fn to_pem(&self) -> Result<String, SignatureError> {
        self.0
            .to_public_key_pem(LineEnding::LF)
            .map_err(|error| SignatureError::PublicKey(error.to_string()))
    }

    /// A short name for it: the first 16 hex digits of the SHA-256 of its DER form.
    #[must_use]
    pub fn id(&self) -> String {
        self.fingerprint().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The SHA-256 of its DER form.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let der = self.0.to_public_key_der().map(p256::pkcs8::Document::into_vec);
        Sha256::digest(der.unwrap_or_default()).into()
    }

    /// Whether this key's owner has signed what has this SHA-256.
    #[must_use]
    pub fn verify(&self, sha256: &[u8; 32], der: &[u8]) -> bool {
        Signature::from_der(der)
            .is_ok_and(|signature| self.0.verify_prehash(sha256, &signature).is_ok())
    }
}

/// Reads what `FILE.sig` holds: the DER form of a signature.
///
/// # Errors
/// When it is something else.
pub fn read(text: &str) -> Result<Vec<u8>, SignatureError> {
    let der = Base64::decode_vec(text.trim()).map_err(|_| SignatureError::Text)?;
    if der.len() > LONGEST || Signature::from_der(&der).is_err() {
        return Err(SignatureError::Der);
    }
    Ok(der)
}

/// What `FILE.sig` holds for this signature.
#[must_use]
pub fn write(der: &[u8]) -> String {
    Base64::encode_string(der) + "\n"
}

#[cfg(test)]
mod tests;
