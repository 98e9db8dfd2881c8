// SPDX-License-Identifier: Apache-2.0
//! Making keys and signatures. The same key signs the same bytes alike each time (RFC 6979), so builds repeat.

use crate::{PublicKey, SignatureError};
use p256::{
    ecdsa::{Signature, SigningKey as Inner, signature::hazmat::PrehashSigner as _},
    elliptic_curve::Generate as _,
    pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, LineEnding},
};
use std::fmt;

/// What images are signed with.
#[derive(Clone)]
pub struct SigningKey(Inner);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.public().id()).finish()
    }
}

impl SigningKey {
    /// Makes one.
    ///
    /// # Errors
    /// When the machine has no random numbers.
    pub fn generate() -> Result<SigningKey, SignatureError> {
        Inner::try_generate().map(SigningKey).map_err(|_| SignatureError::Random)
    }

    /// Reads the PEM form, which begins with `-----BEGIN PRIVATE KEY-----`.
    ///
    /// # Errors
    /// When it is anything else, an encrypted key, or one of another kind.
    pub fn from_pem(pem: &str) -> Result<SigningKey, SignatureError> {
        Inner::from_pkcs8_pem(pem.trim())
            .map(SigningKey)
            .map_err(|error| SignatureError::PrivateKey(error.to_string()))
    }

    /// The PEM form. Whoever writes it to a file lets nobody else read that (mode 0600).
    ///
    /// # Errors
    /// Never for a key that was read or made here.
    pub fn to_pem(&self) -> Result<String, SignatureError> {
        self.0
            .to_pkcs8_pem(LineEnding::LF)
            .map(|pem| pem.to_string())
            .map_err(|error| SignatureError::PrivateKey(error.to_string()))
    }

    /// The key that verifies what this one signs.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(*self.0.verifying_key())
    }

    /// Signs what has this SHA-256: a signature in DER.
    ///
    /// # Errors
    /// When the arithmetic fails, which it does for no digest that anybody has ever seen.
    pub fn sign(&self, sha256: &[u8; 32]) -> Result<Vec<u8>, SignatureError> {
        let signature: Signature = self.0.sign_prehash(sha256).map_err(|_| SignatureError::Der)?;
        Ok(signature.to_der().as_bytes().to_vec())
    }
}
