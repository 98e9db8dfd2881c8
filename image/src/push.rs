// SPDX-License-Identifier: Apache-2.0
//! Publishes an image in an OCI registry. What is there afterwards is described in docs/architecture.md.
//!
//! ```text
//! TAG ─► manifest ─► layer: the image
//!           ▲
//!           └─subject─ manifest ─► layer: the signature (found through the referrers API, or the index sha256-HEX)
//! ```

use crate::keys::Signer;
use crate::progress::Progress;
use crate::tree::{digest, digest_of_file, hex};
use crate::uki;
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use docker_credential::{CredentialRetrievalError, DockerCredential};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::manifest::{ImageIndexEntry, OciImageIndex, OciManifest};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;
use stele_signature::cosign;

/// What kind of artifact an image is.
pub const ARTIFACT: &str = "application/vnd.stele.image.v1";
/// The media type of the image itself.
pub const LAYER: &str = "application/vnd.stele.image.efi";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// What cosign says of what it signs.
const STATEMENT: &str = "https://sigstore.dev/cosign/sign/v1";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Bytes that are sent at a time.
const CHUNK: usize = 1 << 20;
/// How long a registry may say nothing.
const PATIENCE: Duration = Duration::from_secs(120);

/// Pushes, and returns by which digest the artifact can be named for ever: `HOST/NAME@sha256:…`.
pub fn push(
    reference: &str,
    image: &Path,
    signer: Option<&Signer>,
    progress: &Progress,
) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let version = uki::version(image)?;
    let artifact = Artifact::read(image, &version)?;
    let registry = Registry::at(reference, &version)?;
    let push = async {
        registry.log_in().await?;
        progress.step(format!("Pushing to {}", registry.place));
        registry.blob(b"{}").await?;
        registry.file(image, &artifact, progress).await?;
        let manifest = artifact.manifest();
        let place = registry.manifest(&registry.place, &manifest).await?;
        if let Some(signer) = signer {
            progress.step("Signing");
            registry.sign(&manifest, signer).await?;
        }
        anyhow::Ok(place)
    };
    let pushed = runtime.block_on(push);
    pushed.with_context(|| format!("Pushing {} to {reference}", image.display()))
}

/// An image as a registry knows it.
struct Artifact {
    sha256: [u8; 32],
    size: u64,
    version: String,
}

impl Artifact {
    fn read(image: &Path, version: &str) -> Result<Self> {
        let size =
            std::fs::metadata(image).with_context(|| format!("Reading {}", image.display()))?.len();
        Ok(Self { sha256: digest_of_file(image)?, size, version: version.to_owned() })
    }

    fn manifest(&self) -> Vec<u8> {
        let layer = json!({
            "mediaType": LAYER,
            "digest": name(&self.sha256),
            "size": self.size,
            "annotations": {"org.opencontainers.image.title": "stele.efi"},
        });
        let mut manifest = manifest_of(ARTIFACT, &layer);
        manifest["annotations"] = json!({"org.opencontainers.image.version": self.version});
        manifest.to_string().into_bytes()
    }
}

/// One repository of a registry.
struct Registry {
    client: Client,
    place: Reference,
}

impl Registry {
    fn at(reference: &str, version: &str) -> Result<Self> {
        let (protocol, rest) = match reference.strip_prefix("http://") {
            Some(rest) => (ClientProtocol::Http, rest),
            None => {
                (ClientProtocol::Https, reference.strip_prefix("https://").unwrap_or(reference))
            }
        };
        ensure!(
            rest.split_once('/')
                .is_some_and(|(host, _)| host.contains(['.', ':']) || host == "localhost"),
            "{reference:?} names no registry: it takes HOST[:PORT]/NAME[:TAG]"
        );
        let place: Reference =
            rest.parse().with_context(|| format!("Reading the reference {reference:?}"))?;
        ensure!(place.digest().is_none(), "A digest follows from the image; name a tag, or none");
        let tagged = rest.rsplit('/').next().is_some_and(|last| last.contains(':'));
        let tag = if tagged { place.tag().unwrap_or(version) } else { version }.to_owned();
        let place = Reference::with_tag(
            place.registry().to_owned(),
            place.repository().to_owned(),
            tag.replace(['~', '^'], "-"),
        );
        let client = Client::new(ClientConfig {
            protocol,
            use_monolithic_push: true,
            read_timeout: Some(PATIENCE),
            connect_timeout: Some(Duration::from_secs(20)),
            user_agent: "stele-image",
            ..ClientConfig::default()
        });
        Ok(Self { client, place })
    }

    /// As docker, podman and skopeo have logged in, if they have.
    async fn log_in(&self) -> Result<()> {
        let login = match docker_credential::get_credential(self.place.resolve_registry()) {
            Ok(DockerCredential::UsernamePassword(name, password)) => {
                RegistryAuth::Basic(name, password)
            }
            Ok(DockerCredential::IdentityToken(token)) => RegistryAuth::Bearer(token),
            Err(
                CredentialRetrievalError::ConfigNotFound
                | CredentialRetrievalError::ConfigReadError
                | CredentialRetrievalError::NoCredentialConfigured,
            ) => RegistryAuth::Anonymous,
            Err(error) => return Err(error).context("Looking for the login of the registry"),
        };
        let allowed = self.client.auth(&self.place, &login, RegistryOperation::Push).await;
        allowed.map(drop).context("Logging in")
    }

    /// A small blob.
    async fn blob(&self, bytes: &[u8]) -> Result<()> {
        let digest = name(&digest(bytes));
        if self.client.blob_exists(&self.place, &digest).await? {
            return Ok(());
        }
        self.client.push_blob(&self.place, bytes.to_vec(), &digest).await?;
        Ok(())
    }

    /// The image.
    async fn file(&self, path: &Path, artifact: &Artifact, progress: &Progress) -> Result<()> {
        let digest = name(&artifact.sha256);
        if self.client.blob_exists(&self.place, &digest).await? {
            return Ok(());
        }
        let mut file = File::open(path)?;
        let bar = progress.bytes("Pushing", artifact.size);
        let chunks = std::iter::from_fn(move || {
            let mut chunk = vec![0; CHUNK];
            match file.read(&mut chunk) {
                Ok(0) => None,
                Ok(length) => {
                    chunk.truncate(length);
                    bar.inc(length as u64);
                    Some(Ok(Bytes::from(chunk)))
                }
                Err(error) => Some(Err(OciDistributionError::from(error))),
            }
        });
        let stream = tokio_stream::iter(chunks);
        let size = Some(artifact.size);
        self.client.push_blob_stream(&self.place, stream, &digest, size).await?;
        Ok(())
    }

    /// A manifest; its name by digest.
    async fn manifest(&self, place: &Reference, bytes: &[u8]) -> Result<String> {
        let kind = MANIFEST.parse().context("A media type")?;
        self.client.push_manifest_raw(place, bytes.to_vec(), kind).await?;
        Ok(self.by_digest(bytes).whole())
    }

    fn by_digest(&self, bytes: &[u8]) -> Reference {
        self.place.clone_with_digest(name(&digest(bytes)))
    }

    /// Vouches for a manifest that is there.
    async fn sign(&self, manifest: &[u8], signer: &Signer) -> Result<()> {
        let bundle = signer.vouch(&digest(manifest))?.into_bytes();
        self.blob(&bundle).await?;
        let layer = json!({
            "mediaType": cosign::BUNDLE,
            "digest": name(&digest(&bundle)),
            "size": bundle.len(),
        });
        let mut signature = manifest_of(cosign::BUNDLE, &layer);
        signature["subject"] = json!({
            "mediaType": MANIFEST,
            "digest": name(&digest(manifest)),
            "size": manifest.len(),
        });
        signature["annotations"] = json!({
            "dev.sigstore.bundle.content": "dsse-envelope",
            "dev.sigstore.bundle.predicateType": STATEMENT,
        });
        let signature = signature.to_string().into_bytes();
        self.manifest(&self.by_digest(&signature), &signature).await?;
        self.refer(manifest, &signature).await
    }

    /// A registry without the referrers API has an index in its place, which whoever adds to it keeps.
    async fn refer(&self, subject: &[u8], signature: &[u8]) -> Result<()> {
        let mut index: OciImageIndex =
            self.client.pull_referrers(&self.by_digest(subject), None).await?;
        let own = name(&digest(signature));
        if index.manifests.iter().any(|entry| entry.digest == own) {
            return Ok(());
        }
        index.media_type = Some("application/vnd.oci.image.index.v1+json".to_owned());
        index.manifests.push(ImageIndexEntry {
            media_type: MANIFEST.to_owned(),
            digest: own,
            size: i64::try_from(signature.len())?,
            platform: None,
            annotations: None,
            artifact_type: Some(cosign::BUNDLE.to_owned()),
        });
        let tag = name(&digest(subject)).replace(':', "-");
        let place = Reference::with_tag(
            self.place.registry().to_owned(),
            self.place.repository().to_owned(),
            tag,
        );
        self.client.push_manifest(&place, &OciManifest::ImageIndex(index)).await?;
        Ok(())
    }
}

/// A manifest with an empty config and one layer.
fn manifest_of(kind: &str, layer: &Value) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": kind,
        "config": {"mediaType": EMPTY, "digest": name(&digest(b"{}")), "size": 2},
        "layers": [layer],
    })
}

/// A digest as registries write it.
fn name(sha256: &[u8; 32]) -> String {
    format!("sha256:{}", hex(sha256))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_is_the_version_unless_one_is_named() {
        for (reference, whole) in [
            ("ghcr.io/stele/os", "ghcr.io/stele/os:1.2.0"),
            ("ghcr.io/stele/os:edge", "ghcr.io/stele/os:edge"),
            ("http://localhost:5000/os", "localhost:5000/os:1.2.0"),
            ("https://10.0.2.2:5000/a/os:2", "10.0.2.2:5000/a/os:2"),
        ] {
            assert_eq!(Registry::at(reference, "1.2.0").unwrap().place.whole(), whole);
        }
        assert_eq!(
            Registry::at("ghcr.io/os", "1.2.0~rc1^git2").unwrap().place.tag(),
            Some("1.2.0-rc1-git2")
        );
    }

    #[test]
    fn what_names_no_registry_is_refused() {
        for reference in ["", "os", "stele/os", "ghcr.io", "http://ghcr.io/", "ghcr.io/OS!"] {
            assert!(Registry::at(reference, "1").is_err(), "{reference}");
        }
        let digest = format!("ghcr.io/os@sha256:{}", "0".repeat(64));
        assert!(Registry::at(&digest, "1").is_err());
    }

    #[test]
    fn a_manifest_repeats_and_has_one_layer() {
        let artifact = Artifact { sha256: [7; 32], size: 9, version: "1.2.0".into() };
        let manifest: Value = serde_json::from_slice(&artifact.manifest()).unwrap();
        assert_eq!(artifact.manifest(), artifact.manifest());
        assert_eq!(manifest["artifactType"], ARTIFACT);
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
        assert_eq!(manifest["layers"][0]["size"], 9);
        assert_eq!(
            manifest["config"]["digest"],
            "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        );
    }
}
