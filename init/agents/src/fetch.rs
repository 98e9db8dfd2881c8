// SPDX-License-Identifier: Apache-2.0
//! Fetch: what a URL names, as bytes, and nothing if anything is odd about the way there.
//!
//! * TLS 1.2 or newer, against the given trust roots and no others.
//! * At most [`REDIRECTS`] redirects, from http to https if need be, never back.
//! * Nobody waits for a server that says nothing, and nobody takes more bytes than asked for.

use std::error::Error;
use std::io::{self, Write};
use std::time::Duration;

use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, StatusCode, Url};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// How many redirects are followed.
pub const REDIRECTS: usize = 5;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Why nothing was fetched, or not all.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not a URL.
    #[error("this is not a URL")]
    Url(#[source] Box<dyn Error + Send + Sync>),
    /// Another kind of URL.
    #[error("only http and https can be fetched, not {0}")]
    Scheme(String),
    /// TLS could not be set up.
    #[error("preparing TLS")]
    Tls(#[source] rustls::Error),
    /// The client could not be made.
    #[error("preparing the client")]
    Client(#[source] reqwest::Error),
    /// The server was not reached, or broke off.
    #[error("{doing}")]
    Http {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: reqwest::Error,
    },
    /// The server has no such thing.
    #[error("the server answered {0}")]
    Status(StatusCode),
    /// More than asked for.
    #[error("it has more than the {max} bytes that are taken{}", announced.map(|size| format!(": {size}")).unwrap_or_default())]
    TooLarge {
        /// Bytes that are taken.
        max: u64,
        /// Bytes that the server announced.
        announced: Option<u64>,
    },
    /// Nobody takes the bytes.
    #[error("passing it on")]
    Output(#[source] io::Error),
}

/// Checks that this is a URL that can be fetched.
///
/// # Errors
/// When it isn't.
pub fn parse(text: &str) -> Result<Url, FetchError> {
    let url = Url::parse(text).map_err(|error| FetchError::Url(error.into()))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(FetchError::Scheme(other.to_owned())),
    }
}

/// Writes what `url` names to `output`, at most `max` bytes of it. Says how many it had.
///
/// # Errors
/// When it can't be had whole, or has more. What was written until then is worth nothing.
pub async fn fetch(
    url: Url,
    roots: &[u8],
    max: u64,
    output: &mut impl Write,
) -> Result<u64, FetchError> {
    let mut response = client(roots)?
        .get(url)
        .send()
        .await
        .map_err(|source| FetchError::Http { doing: "asking for it", source })?;
    if !response.status().is_success() {
        return Err(FetchError::Status(response.status()));
    }
    if let Some(size) = response.content_length().filter(|size| *size > max) {
        return Err(FetchError::TooLarge { max, announced: Some(size) });
    }
    let mut done = 0;
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|source| FetchError::Http { doing: "receiving it", source })?
    {
        done += chunk.len() as u64;
        if done > max {
            return Err(FetchError::TooLarge { max, announced: None });
        }
        output.write_all(&chunk).map_err(FetchError::Output)?;
    }
    output.flush().map_err(FetchError::Output)?;
    Ok(done)
}

fn client(roots: &[u8]) -> Result<Client, FetchError> {
    Client::builder()
        .tls_backend_preconfigured(tls(roots).map_err(FetchError::Tls)?)
        .redirect(Policy::custom(redirect))
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(IDLE_TIMEOUT)
        .user_agent(concat!("stele/", env!("CARGO_PKG_VERSION")))
        .referer(false)
        .no_proxy()
        .build()
        .map_err(FetchError::Client)
}

/// TLS 1.2 and 1.3, with these roots in PEM and no others.
pub(crate) fn tls(roots: &[u8]) -> Result<ClientConfig, rustls::Error> {
    let mut store = RootCertStore::empty();
    // Bundles hold roots from before today's rules; one that can't be read can't be trusted, and is no reason to trust none.
    store.add_parsable_certificates(CertificateDer::pem_slice_iter(roots).flatten());
    let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(store).with_no_client_auth())
}

fn redirect(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let from_https = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    if attempt.previous().len() > REDIRECTS {
        return attempt.error(format!("more than {REDIRECTS} redirects"));
    }
    match attempt.url().scheme() {
        "https" => attempt.follow(),
        "http" if !from_https => attempt.follow(),
        "http" => attempt.error("redirected from https to http"),
        _ => attempt.error("redirected to something that is neither http nor https"),
    }
}

/// The URL as it may be shown: without a password in it.
#[must_use]
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    if url.password().is_some() {
        // Only URLs without a host refuse a password, and those have none.
        let _ = url.set_password(Some("…"));
    }
    url.to_string()
}

/// An error and all that caused it, in one line, each thing said once.
#[must_use]
pub fn sentence(error: &FetchError) -> String {
    let mut sentence = error.to_string();
    let mut last = sentence.clone();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string().replace(['\n', '\r'], " ");
        // reqwest's own layer names the URL again, which the line starts with.
        if !text.contains(" for url (") && text != "client error (Connect)" && !last.contains(&text)
        {
            sentence.push_str(": ");
            sentence.push_str(&text);
            last = text;
        }
        cause = error.source();
    }
    sentence
}

#[cfg(test)]
mod tests;
