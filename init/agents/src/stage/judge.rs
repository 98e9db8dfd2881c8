// SPDX-License-Identifier: Apache-2.0
//! Whether the documents that a registry has of an artifact vouch for an image, and for which.
//!
//! ```text
//! trusted key ─► signature ─► SHA-256 of the manifest ─► manifest ─► SHA-256 and size of its one layer
//! ```

use base64ct::{Base64, Encoding as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use stele_signature::PublicKey;
use stele_signature::cosign::{self, CosignError, Document};

use crate::stage::{MAX_SIZE, Sha256Sum, StageError, keys};

/// What the fetch agent found in a registry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Documents {
    /// The manifest's bytes, in base64.
    pub manifest: String,
    /// Everything that says who made it.
    pub signatures: Vec<Document>,
}

/// The image that somebody who is trusted vouches for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Vouched {
    /// Its SHA-256.
    pub sha256: Sha256Sum,
    /// Its size in bytes.
    pub size: u64,
    /// The id of the key.
    pub key: String,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Option<Vec<Layer>>,
    #[serde(default)]
    manifests: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Layer {
    digest: String,
    size: u64,
}

/// Judges.
///
/// # Errors
/// When nobody who is trusted vouches for this manifest, or it is not of an artifact with one layer.
pub fn judge(pems: &[String], documents: &[u8]) -> Result<Vouched, StageError> {
    let documents: Documents = serde_json::from_slice(documents)
        .map_err(|error| refuse(format!("what the registry has can't be understood: {error}")))?;
    let manifest = Base64::decode_vec(&documents.manifest)
        .map_err(|_| refuse("the artifact's manifest did not arrive whole".into()))?;
    let sum = Sha256Sum(Sha256::digest(&manifest).into());
    let key = signer(sum, &documents.signatures, &keys(pems))?;
    // Only now is anything in it worth looking at.
    let layer = layer(&manifest)?;
    let sha256 = layer.digest.strip_prefix("sha256:").unwrap_or_default().to_owned();
    let sha256 = Sha256Sum::try_from(sha256)
        .map_err(|_| refuse("the artifact's layer is not named by a SHA-256".into()))?;
    if layer.size == 0 || layer.size > MAX_SIZE {
        return Err(StageError::Size { size: layer.size });
    }
    Ok(Vouched { sha256, size: layer.size, key })
}

fn signer(
    sum: Sha256Sum,
    documents: &[Document],
    keys: &[PublicKey],
) -> Result<String, StageError> {
    let mut other = None;
    let mut odd = None;
    for document in documents {
        match cosign::verify(document, keys) {
            Ok(vouched) if vouched.manifest == sum.to_string() => return Ok(vouched.key),
            Ok(vouched) => other = Some(vouched.manifest),
            Err(CosignError::Untrusted) => {}
            Err(error) => odd = Some(error.to_string()),
        }
    }
    if documents.is_empty() {
        return Err(StageError::Unsigned);
    }
    if let Some(other) = other {
        return Err(refuse(format!(
            "the artifact was altered: its manifest's SHA-256 is {sum}, and signed is {other}"
        )));
    }
    match odd {
        Some(odd) => Err(refuse(odd)),
        None => Err(StageError::Untrusted { trusted: keys.iter().map(PublicKey::id).collect() }),
    }
}

fn layer(manifest: &[u8]) -> Result<Layer, StageError> {
    let manifest: Manifest = serde_json::from_slice(manifest)
        .map_err(|error| refuse(format!("the artifact's manifest can't be understood: {error}")))?;
    if manifest.manifests.is_some() {
        return Err(refuse("this is a list of artifacts, not one artifact".into()));
    }
    let layers = manifest.layers.unwrap_or_default();
    let count = layers.len();
    match layers.into_iter().next() {
        Some(layer) if count == 1 => Ok(layer),
        _ => Err(refuse(format!("an image is an artifact with one layer, this one has {count}"))),
    }
}

fn refuse(why: String) -> StageError {
    StageError::Registry(why)
}
