// SPDX-License-Identifier: Apache-2.0
//! Signatures of artifacts in registries, in the forms that cosign writes with a key pair.
//!
//! ```text
//! key ─signs─► statement ─names─► digest of the manifest ─names─► digest of the layer, which is the image
//! ```
//!
//! Two forms of the statement:
//!
//! * a bundle (`application/vnd.dev.sigstore.bundle.v0.3+json`, what cosign 3 writes): an in-toto statement in a DSSE
//!   envelope;
//! * the "simple signing" payload of before (`--new-bundle-format=false`), with its signature beside it.
//!
//! Transparency logs and certificates are of no interest here: who holds a key that is trusted is trusted.

use crate::PublicKey;
use base64ct::{Base64, Encoding as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The media type of a bundle.
pub const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The media type of a payload of before.
pub const SIMPLE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation of that payload's layer that holds its signature.
pub const ANNOTATION: &str = "dev.cosignproject.cosign/signature";

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// What cosign says of an artifact that it signs; other predicates say other things, with the same key.
const PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";
const PAYLOAD: &str = "application/vnd.in-toto+json";
const SIMPLE_TYPE: &str = "cosign container image signature";

/// A signature as it lies in a registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Document {
    /// A bundle, the text of its blob.
    Bundle(String),
    /// A payload of before.
    Simple {
        /// The text of its blob.
        payload: String,
        /// The annotation [`ANNOTATION`].
        signature: String,
    },
}

/// What a signature says, once it was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouched {
    /// The SHA-256 of a manifest, in lower-case hex.
    pub manifest: String,
    /// The key's [`PublicKey::id`].
    pub key: String,
}

/// Why a signature vouches for nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CosignError {
    /// Not in a form of cosign's.
    #[error("a signature can't be understood: {0}")]
    Form(String),
    /// By someone else, or altered.
    #[error("a signature is not by a key that is trusted here")]
    Untrusted,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    verification_material: Material,
    dsse_envelope: Envelope,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Material {
    public_key: Hint,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct Hint {
    hint: String,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize, Serialize)]
struct Signature {
    sig: String,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
    #[serde(default)]
    predicate: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize, Serialize)]
struct Subject {
    digest: Digest,
}

#[derive(Deserialize, Serialize)]
struct Digest {
    sha256: String,
}

#[derive(Deserialize)]
struct Simple {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// Which manifest this signature vouches for, if one of these keys made it.
///
/// # Errors
/// When none of them did, or it is something else.
pub fn verify(document: &Document, keys: &[PublicKey]) -> Result<Vouched, CosignError> {
    match document {
        Document::Bundle(text) => verify_bundle(text, keys),
        Document::Simple { payload, signature } => verify_simple(payload, signature, keys),
    }
}

fn verify_bundle(text: &str, keys: &[PublicKey]) -> Result<Vouched, CosignError> {
    let bundle: Bundle = understand(text.as_bytes())?;
    let Envelope { payload, payload_type, signatures } = bundle.dsse_envelope;
    let payload = decode(&payload)?;
    let signed = Sha256::digest(pre_authentication(&payload_type, &payload)).into();
    let key = signatures
        .iter()
        .take(16)
        .filter_map(|signature| decode(&signature.sig).ok())
        .find_map(|der| signer(&signed, &der, keys))
        .ok_or(CosignError::Untrusted)?;
    // Nothing of the payload is looked at before this line.
    if payload_type != PAYLOAD {
        return Err(form("its payload is another one than cosign's"));
    }
    let statement: Statement = understand(&payload)?;
    if statement.kind != STATEMENT || statement.predicate_type != PREDICATE {
        return Err(form("it is a statement about something else than who made the artifact"));
    }
    match statement.subject.as_slice() {
        [subject] => Ok(Vouched { manifest: digest(&subject.digest.sha256)?, key }),
        _ => Err(form("it is not about exactly one artifact")),
    }
}

fn verify_simple(
    payload: &str,
    signature: &str,
    keys: &[PublicKey],
) -> Result<Vouched, CosignError> {
    let signed = Sha256::digest(payload).into();
    let key = signer(&signed, &decode(signature)?, keys).ok_or(CosignError::Untrusted)?;
    let Simple { critical } = understand(payload.as_bytes())?;
    if critical.kind != SIMPLE_TYPE {
        return Err(form("it is a statement about something else than who made the artifact"));
    }
    let sha256 = critical.image.digest.strip_prefix("sha256:");
    Ok(Vouched { manifest: digest(sha256.unwrap_or_default())?, key })
}

fn signer(sha256: &[u8; 32], der: &[u8], keys: &[PublicKey]) -> Option<String> {
    keys.iter().find(|key| key.verify(sha256, der)).map(PublicKey::id)
}

/// What a DSSE signature is of: the protocol's PAE.
fn pre_authentication(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

fn understand<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, CosignError> {
    serde_json::from_slice(bytes).map_err(|error| form(&error.to_string()))
}

fn decode(text: &str) -> Result<Vec<u8>, CosignError> {
    Base64::decode_vec(text).map_err(|_| form("it is not base64"))
}

fn digest(hex: &str) -> Result<String, CosignError> {
    let hexadecimal = hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if hex.len() == 64 && hexadecimal {
        Ok(hex.to_owned())
    } else {
        Err(form("it does not name a SHA-256"))
    }
}

fn form(what: &str) -> CosignError {
    CosignError::Form(what.to_owned())
}

/// The bundle by which this key vouches for the manifest with this SHA-256: the text of its blob.
///
/// # Errors
/// When the arithmetic of the signature fails, which nobody has ever seen.
#[cfg(feature = "sign")]
pub fn bundle(
    key: &crate::SigningKey,
    manifest: &[u8; 32],
) -> Result<String, crate::SignatureError> {
    let sha256: String = manifest.iter().map(|byte| format!("{byte:02x}")).collect();
    let statement = Statement {
        kind: STATEMENT.to_owned(),
        subject: vec![Subject { digest: Digest { sha256 } }],
        predicate_type: PREDICATE.to_owned(),
        predicate: serde_json::Map::new(),
    };
    let text = |error: serde_json::Error| crate::SignatureError::Write(error.to_string());
    let payload = serde_json::to_vec(&statement).map_err(text)?;
    let signed = Sha256::digest(pre_authentication(PAYLOAD, &payload)).into();
    let bundle = Bundle {
        media_type: BUNDLE.to_owned(),
        verification_material: Material {
            public_key: Hint { hint: Base64::encode_string(&key.public().fingerprint()) },
        },
        dsse_envelope: Envelope {
            payload: Base64::encode_string(&payload),
            payload_type: PAYLOAD.to_owned(),
            signatures: vec![Signature { sig: Base64::encode_string(&key.sign(&signed)?) }],
        },
    };
    serde_json::to_string(&bundle).map_err(text)
}

#[cfg(test)]
mod tests;
