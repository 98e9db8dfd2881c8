// SPDX-License-Identifier: Apache-2.0
//! A registry of the OCI distribution specification: an artifact's manifest, what is signed about it, and its blobs.
//!
//! Who may read without a password gets a token from where the registry sends everyone for one.

use base64ct::{Base64, Encoding as _};
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use stele_signature::cosign::{ANNOTATION, BUNDLE, Document, SIMPLE};

use crate::fetch::reference::Reference;
use crate::fetch::{FetchError, send, whole};
use crate::stage::Sha256Sum;
use crate::stage::judge::Documents;

const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json";
const MAX_MANIFEST: u64 = 1024 * 1024;
const MAX_SIGNATURE: u64 = 64 * 1024;
const MAX_TOKEN: u64 = 64 * 1024;
/// Signatures that are looked at.
const MAX_SIGNATURES: usize = 16;

/// A repository in a registry.
#[derive(Debug)]
pub struct Registry {
    reference: Reference,
    token: Option<HeaderValue>,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    #[serde(default)]
    annotations: std::collections::HashMap<String, String>,
}

#[derive(Deserialize)]
struct Token {
    #[serde(alias = "access_token")]
    token: String,
}

impl Registry {
    /// The repository that this name is in.
    #[must_use]
    pub fn new(reference: Reference) -> Registry {
        Registry { reference, token: None }
    }

    /// The artifact's manifest, and everything that is signed about it.
    ///
    /// # Errors
    /// When the registry does not have it, or can't be understood.
    pub async fn documents(&mut self, client: &Client) -> Result<Documents, FetchError> {
        let version = self.reference.version.clone();
        let manifest = self.manifest(client, &version).await?;
        let manifest = manifest.ok_or(FetchError::Status(StatusCode::NOT_FOUND))?;
        let digest = Sha256Sum(Sha256::digest(&manifest).into());
        if version.starts_with("sha256:") && version != format!("sha256:{digest}") {
            let message = format!("the registry sent a manifest with the SHA-256 {digest}");
            return Err(FetchError::Registry(message));
        }
        let mut signatures = self.bundles(client, &digest.to_string()).await?;
        signatures.extend(self.simple(client, &digest.to_string()).await?);
        Ok(Documents { manifest: Base64::encode_string(&manifest), signatures })
    }

    /// Bundles, through the referrers API or the tag that stands in for it.
    async fn bundles(&mut self, client: &Client, hex: &str) -> Result<Vec<Document>, FetchError> {
        let referrers =
            self.get(client, &format!("referrers/sha256:{hex}"), HeaderMap::new()).await?;
        let index = if referrers.status().is_success() {
            Some(whole(referrers, MAX_MANIFEST).await?)
        } else {
            self.manifest(client, &format!("sha256-{hex}")).await?
        };
        let Some(index) = index else { return Ok(Vec::new()) };
        let Index { manifests } = understand(&index, "what it lists of an artifact")?;
        let mut bundles = Vec::new();
        for listed in manifests.iter().take(MAX_SIGNATURES) {
            let Some(manifest) = self.manifest(client, &listed.digest).await? else { continue };
            // Others may say other things about an artifact, in forms of their own.
            let Ok(Manifest { layers }) = serde_json::from_slice(&manifest) else { continue };
            for layer in layers.iter().filter(|layer| layer.media_type == BUNDLE).take(1) {
                bundles.push(Document::Bundle(self.text(client, layer).await?));
            }
        }
        Ok(bundles)
    }

    /// Payloads of before.
    async fn simple(&mut self, client: &Client, hex: &str) -> Result<Vec<Document>, FetchError> {
        let manifest = self.manifest(client, &format!("sha256-{hex}.sig")).await?;
        let Some(manifest) = manifest else { return Ok(Vec::new()) };
        let Manifest { layers } = understand(&manifest, "the manifest of a signature")?;
        let mut documents = Vec::new();
        for layer in layers.iter().filter(|layer| layer.media_type == SIMPLE).take(MAX_SIGNATURES) {
            if let Some(signature) = layer.annotations.get(ANNOTATION) {
                let (payload, signature) = (self.text(client, layer).await?, signature.clone());
                documents.push(Document::Simple { payload, signature });
            }
        }
        Ok(documents)
    }

    async fn manifest(
        &mut self,
        client: &Client,
        version: &str,
    ) -> Result<Option<Vec<u8>>, FetchError> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(MANIFESTS))]);
        let response = self.get(client, &format!("manifests/{version}"), headers).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(whole(response, MAX_MANIFEST).await?)),
            status => Err(FetchError::Status(status)),
        }
    }

    async fn text(&mut self, client: &Client, layer: &Descriptor) -> Result<String, FetchError> {
        let response =
            self.get(client, &format!("blobs/{}", layer.digest), HeaderMap::new()).await?;
        if !response.status().is_success() {
            return Err(FetchError::Status(response.status()));
        }
        let bytes = whole(response, MAX_SIGNATURE).await?;
        String::from_utf8(bytes)
            .map_err(|_| FetchError::Registry("a signature in the registry is no text".into()))
    }

    /// Asks the registry for something of this repository, with a token if it wants one.
    ///
    /// # Errors
    /// When it can't be reached, or gives no token.
    pub async fn get(
        &mut self,
        client: &Client,
        what: &str,
        headers: HeaderMap,
    ) -> Result<Response, FetchError> {
        let url = self.reference.base.join(what).map_err(|error| FetchError::Url(error.into()))?;
        let mut headers = headers;
        headers.extend(self.token.clone().map(|token| (AUTHORIZATION, token)));
        let response = send(client.get(url.clone()).headers(headers.clone())).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let challenge = response.headers().get(WWW_AUTHENTICATE);
        let challenge = challenge.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let token = self.token(client, challenge).await?;
        headers.insert(AUTHORIZATION, token.clone());
        self.token = Some(token);
        send(client.get(url).headers(headers)).await
    }

    /// Gets a token from where the registry sends everyone for one.
    async fn token(&self, client: &Client, challenge: &str) -> Result<HeaderValue, FetchError> {
        let denied = || FetchError::Registry("the registry wants a password".to_owned());
        let challenge = challenge.strip_prefix("Bearer ").ok_or_else(denied)?;
        let parameters = parameters(challenge);
        let find = |name: &str| {
            parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
        };
        let realm = find("realm").ok_or_else(denied)?;
        let mut url = Url::parse(realm).map_err(|error| FetchError::Url(error.into()))?;
        if url.scheme() != "https" && url.scheme() != self.reference.base.scheme() {
            return Err(FetchError::Registry(
                "the registry wants a token that would come over http".to_owned(),
            ));
        }
        let scope = format!("repository:{}:pull", self.reference.name);
        url.query_pairs_mut().append_pair("scope", find("scope").unwrap_or(&scope));
        if let Some(service) = find("service") {
            url.query_pairs_mut().append_pair("service", service);
        }
        let response = send(client.get(url)).await?;
        if !response.status().is_success() {
            return Err(FetchError::Registry(format!(
                "the registry gives no token to those without a password: {}",
                response.status()
            )));
        }
        let Token { token } = understand(&whole(response, MAX_TOKEN).await?, "its token")?;
        let mut header = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| FetchError::Registry("the registry's token makes no sense".to_owned()))?;
        header.set_sensitive(true);
        Ok(header)
    }
}

fn understand<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, FetchError> {
    serde_json::from_slice(bytes)
        .map_err(|error| FetchError::Registry(format!("{what} can't be understood: {error}")))
}

/// `key="value",key="value"`, as in RFC 9110, 11.2.
fn parameters(text: &str) -> Vec<(&str, String)> {
    let mut parameters = Vec::new();
    let mut rest = text;
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim_matches([' ', ',']);
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        parameters.push((key, value.to_owned()));
        rest = after;
    }
    parameters
}

#[cfg(test)]
mod tests;
