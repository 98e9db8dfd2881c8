// SPDX-License-Identifier: Apache-2.0
//! A registry of the OCI distribution specification: an artifact's manifest, what is signed about it, and its blobs.
//!
//! Mirrors are asked first. One that can't be reached, or lets nobody in, is asked no more; what it does not have, the next one
//! may. Who wants a token is given one from where the registry sends everyone, with the password for it, if there is one.

use base64ct::{Base64, Encoding as _};
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use stele_signature::cosign::{ANNOTATION, BUNDLE, Document, SIMPLE};

use crate::fetch::place::{Permit, Place, Registries};
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
    /// Where to ask, in this order.
    places: Vec<Place>,
    /// The first of them that is worth a try.
    first: usize,
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
    pub fn new(reference: Reference, registries: &Registries) -> Registry {
        let places = registries.places(&reference);
        Registry { reference, places, first: 0 }
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

    /// Asks for something of this repository: the first that has it.
    ///
    /// # Errors
    /// When nobody can be reached, or lets one in: what the registry itself said.
    pub async fn get(
        &mut self,
        client: &Client,
        what: &str,
        headers: HeaderMap,
    ) -> Result<Response, FetchError> {
        let last = self.places.len().saturating_sub(1);
        let mut at = self.first;
        // Who says that it has no such thing is believed if those behind it say nothing.
        let mut missing = None;
        loop {
            let Some(place) = self.places.get_mut(at) else {
                return Err(FetchError::Registry("there is nobody to ask".to_owned()));
            };
            let answer = place.get(client, &self.reference.name, what, headers.clone()).await;
            let closed = match &answer {
                Ok(answer) => answer.status().is_server_error() || is_denied(answer.status()),
                Err(_) => true,
            };
            match answer {
                Ok(answer) if answer.status() == StatusCode::NOT_FOUND && at < last => {
                    missing = Some(answer);
                }
                answer if !closed => return answer,
                answer if at >= last => return missing.map_or(answer, Ok),
                _ if missing.is_none() => self.first = at + 1,
                _ => {}
            }
            at += 1;
        }
    }
}

fn is_denied(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

impl Place {
    /// Asks this one, with a token or the password if it wants that.
    async fn get(
        &mut self,
        client: &Client,
        name: &str,
        what: &str,
        headers: HeaderMap,
    ) -> Result<Response, FetchError> {
        let url = self.base.join(what).map_err(|error| FetchError::Url(error.into()))?;
        let response = self.ask(client, &url, &headers).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let challenge = response.headers().get(WWW_AUTHENTICATE);
        let challenge = challenge.and_then(|value| value.to_str().ok()).unwrap_or_default();
        self.permit = Some(self.permit(client, name, challenge).await?);
        let response = self.ask(client, &url, &headers).await?;
        if is_denied(response.status())
            && let Some(password) = &self.password
        {
            let message = format!("the registry refuses {} with this password", password.username);
            return Err(FetchError::Registry(message));
        }
        Ok(response)
    }

    async fn ask(
        &self,
        client: &Client,
        url: &Url,
        headers: &HeaderMap,
    ) -> Result<Response, FetchError> {
        let request = client.get(url.clone()).headers(headers.clone());
        send(match &self.permit {
            Some(Permit::Password(password)) => password.tell(request),
            Some(Permit::Token(token)) => request.header(AUTHORIZATION, token.clone()),
            None => request,
        })
        .await
    }

    /// What this challenge asks for (RFC 9110, 11.6.1).
    async fn permit(
        &self,
        client: &Client,
        name: &str,
        challenge: &str,
    ) -> Result<Permit, FetchError> {
        let denied = || FetchError::Registry("the registry wants a password".to_owned());
        let (scheme, rest) = challenge.split_once(' ').unwrap_or((challenge, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return self.password.clone().map(Permit::Password).ok_or_else(denied);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(denied());
        }
        self.token(client, name, &parameters(rest)).await.map(Permit::Token)
    }

    /// Gets a token from where the registry sends everyone for one.
    async fn token(
        &self,
        client: &Client,
        name: &str,
        parameters: &[(&str, String)],
    ) -> Result<HeaderValue, FetchError> {
        let denied = || FetchError::Registry("the registry wants a password".to_owned());
        let find = |name: &str| {
            parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
        };
        let realm = find("realm").ok_or_else(denied)?;
        let mut url = Url::parse(realm).map_err(|error| FetchError::Url(error.into()))?;
        if url.scheme() != "https" && url.scheme() != self.base.scheme() {
            return Err(FetchError::Registry(
                "the registry wants a token that would come over http".to_owned(),
            ));
        }
        let scope = format!("repository:{name}:pull");
        url.query_pairs_mut().append_pair("scope", find("scope").unwrap_or(&scope));
        if let Some(service) = find("service") {
            url.query_pairs_mut().append_pair("service", service);
        }
        let request = client.get(url);
        let response = send(match &self.password {
            Some(password) => password.tell(request),
            None => request,
        })
        .await?;
        if !response.status().is_success() {
            let whom = match &self.password {
                Some(password) => format!("{} with this password", password.username),
                None => "those without a password".to_owned(),
            };
            return Err(FetchError::Registry(format!(
                "the registry gives no token to {whom}: {}",
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
