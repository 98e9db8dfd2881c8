// SPDX-License-Identifier: Apache-2.0
//! Fetch: what a URL or a registry names, as bytes, and nothing if anything is odd about the way there.
//!
//! * TLS 1.2 or newer, against the given trust roots and no others.
//! * At most [`REDIRECTS`] redirects, from http to https if need be, never back, never in a circle.
//! * Nobody waits for a server that says nothing, and nobody takes more bytes than asked for.
//! * A connection that breaks is gone on from, where the server can do that, and given up after some tries that brought
//!   nothing. What can't be had at all is said at once.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, RANGE};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, ClientBuilder, RequestBuilder, Response, StatusCode, Url};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::fetch::registry::Registry;

pub mod place;
pub mod reference;
pub mod registry;

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
    /// What came before and what comes now don't fit together.
    #[error("{0}")]
    Changed(&'static str),
    /// It broke off again and again.
    #[error("giving up after {tries} tries that brought nothing, {done} bytes being here")]
    GivenUp {
        /// How many.
        tries: u32,
        /// Bytes that came.
        done: u64,
        /// Why the last one failed.
        #[source]
        last: Box<FetchError>,
    },
    /// No name of an artifact.
    #[error("this is not the name of an artifact in a registry: {0}")]
    Reference(&'static str),
    /// What the configuration says of registries can't be read.
    #[error("reading what the configuration says of registries")]
    Registries(#[source] io::Error),
    /// The registry says something odd.
    #[error("{0}")]
    Registry(String),
    /// Nobody takes the bytes.
    #[error("passing it on")]
    Output(#[source] io::Error),
}

impl FetchError {
    /// Whether the server has nothing there for us, and will not have it soon (RFC 9110, 15.5).
    #[must_use]
    pub fn is_absence(&self) -> bool {
        let soon =
            [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
        matches!(self, FetchError::Status(status) if status.is_client_error() && !soon.contains(status))
    }
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

/// What is wanted of it.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The most bytes it may have.
    pub max: u64,
    /// The first byte that is wanted.
    pub from: u64,
    /// Bytes per second that are taken at most.
    pub rate: Option<u64>,
    /// Tries in a row that may bring nothing, and the pause before the first of them; each later one is twice as long.
    pub patience: (u32, Duration),
}

impl Wanted {
    /// All of it, up to so many bytes.
    #[must_use]
    pub const fn up_to(max: u64) -> Wanted {
        Wanted { max, from: 0, rate: None, patience: (5, Duration::from_secs(1)) }
    }
}

/// Where it is.
#[derive(Debug)]
pub enum Origin {
    /// At a URL.
    Url(Url),
    /// In a registry, by its digest.
    Blob(Box<Registry>, String),
}

impl Origin {
    async fn ask(&mut self, client: &Client, headers: HeaderMap) -> Result<Response, FetchError> {
        match self {
            Origin::Url(url) => send(client.get(url.clone()).headers(headers)).await,
            Origin::Blob(registry, digest) => {
                registry.get(client, &format!("blobs/{digest}"), headers).await
            }
        }
    }
}

pub(crate) async fn send(request: RequestBuilder) -> Result<Response, FetchError> {
    request.send().await.map_err(|source| FetchError::Http { doing: "asking for it", source })
}

/// Writes what is at `origin` to `output`, from the wanted byte on. Says how many bytes it has.
///
/// # Errors
/// When it can't be had to its end, or has more. What was written until then is the start of it.
pub async fn fetch(
    client: &Client,
    mut origin: Origin,
    wanted: Wanted,
    output: &mut impl Write,
) -> Result<u64, FetchError> {
    let mut transfer = Transfer::new(wanted);
    let (tries, pause) = wanted.patience;
    let mut failed = 0;
    loop {
        let before = transfer.done;
        let error = match transfer.attempt(client, &mut origin, output).await {
            Ok(()) => break,
            Err(error) => error,
        };
        if !transfer.began || !is_passing(&error) {
            return Err(error);
        }
        failed = if transfer.done > before { 1 } else { failed + 1 };
        if failed > tries {
            return Err(FetchError::GivenUp { tries, done: transfer.done, last: Box::new(error) });
        }
        tokio::time::sleep(pause.saturating_mul(1 << (failed - 1).min(5))).await;
    }
    output.flush().map_err(FetchError::Output)?;
    Ok(transfer.done)
}

/// Whether another try may help, once it has worked for a while.
fn is_passing(error: &FetchError) -> bool {
    match error {
        FetchError::Http { source, .. } => !source.is_redirect() && !source.is_builder(),
        FetchError::Status(status) => {
            status.is_server_error()
                || matches!(*status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
        }
        _ => false,
    }
}

/// Bytes on their way, over as many connections as it takes.
struct Transfer {
    wanted: Wanted,
    /// Bytes that are behind us, counted from the start of the file.
    done: u64,
    /// Whether any have come in this run.
    began: bool,
    /// How many there are, once a server has said so.
    total: Option<u64>,
    /// Which of its versions this is.
    etag: Option<HeaderValue>,
    started: Instant,
}

impl Transfer {
    fn new(wanted: Wanted) -> Transfer {
        let started = Instant::now();
        Transfer { wanted, done: wanted.from, began: false, total: None, etag: None, started }
    }

    async fn attempt(
        &mut self,
        client: &Client,
        origin: &mut Origin,
        output: &mut impl Write,
    ) -> Result<(), FetchError> {
        let mut headers = HeaderMap::new();
        if self.done > 0 {
            let range = HeaderValue::from_str(&format!("bytes={}-", self.done));
            headers.extend(range.map(|range| (RANGE, range)));
            headers.extend(self.etag.clone().map(|etag| (IF_RANGE, etag)));
        }
        let mut response = origin.ask(client, headers).await?;
        let mut skip = match self.start_of(&response)? {
            Some(start) => self.done - start,
            None => return Ok(()),
        };
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|source| FetchError::Http { doing: "receiving it", source })?
        {
            let dropped = skip.min(chunk.len() as u64);
            skip -= dropped;
            let bytes = chunk.get(usize::try_from(dropped).unwrap_or(chunk.len())..);
            let bytes = bytes.unwrap_or_default();
            if self.done + bytes.len() as u64 > self.wanted.max {
                return Err(FetchError::TooLarge { max: self.wanted.max, announced: None });
            }
            output.write_all(bytes).map_err(FetchError::Output)?;
            self.done += bytes.len() as u64;
            self.began |= !chunk.is_empty();
            self.slow_down().await;
        }
        match self.total {
            _ if skip > 0 => Err(FetchError::Changed("the server has less of it than came before")),
            Some(total) if self.done < total => {
                Err(FetchError::Changed("the server ended it early and said it was whole"))
            }
            _ => Ok(()),
        }
    }

    /// Where in the file this answer starts; nothing when all of it is here.
    fn start_of(&mut self, response: &Response) -> Result<Option<u64>, FetchError> {
        let (start, total) = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let (start, total) = content_range(response.headers())
                    .ok_or(FetchError::Changed("the server sent some part of it, and not which"))?;
                if start > self.done {
                    return Err(FetchError::Changed("the server sent another part than asked for"));
                }
                (start, total)
            }
            // Nothing is behind the last byte.
            StatusCode::RANGE_NOT_SATISFIABLE if self.done > 0 => {
                let total = response.headers().get(CONTENT_RANGE).and_then(|value| {
                    value.to_str().ok()?.strip_prefix("bytes */")?.parse::<u64>().ok()
                });
                return if total == Some(self.done) {
                    Ok(None)
                } else {
                    Err(FetchError::Changed("the server has less of it than came before"))
                };
            }
            status if status.is_success() => (0, response.content_length()),
            status => return Err(FetchError::Status(status)),
        };
        if let Some(size) = total.filter(|size| *size > self.wanted.max) {
            return Err(FetchError::TooLarge { max: self.wanted.max, announced: Some(size) });
        }
        if total.is_some_and(|size| size < self.done) {
            return Err(FetchError::Changed("the server has less of it than came before"));
        }
        let etag = response.headers().get(ETAG);
        let strong = etag.filter(|etag| !etag.as_bytes().starts_with(b"W/"));
        let other = self.etag.is_some() && strong.is_some() && self.etag.as_ref() != strong;
        if other || (self.total.is_some() && total.is_some() && self.total != total) {
            return Err(FetchError::Changed("the server has something else now than before"));
        }
        self.etag = self.etag.take().or_else(|| strong.cloned());
        self.total = self.total.or(total);
        Ok(Some(start))
    }

    /// Waits until so many bytes may have come.
    async fn slow_down(&self) {
        let Some(rate) = self.wanted.rate.filter(|rate| *rate > 0) else { return };
        let bytes = self.done.saturating_sub(self.wanted.from);
        let due = Duration::from_millis(bytes.saturating_mul(1000) / rate);
        tokio::time::sleep(due.saturating_sub(self.started.elapsed())).await;
    }
}

/// First byte and size of the whole, of `bytes FIRST-LAST/SIZE`.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let value = headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    let (range, total) = value.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.parse().ok()?, total.parse().ok()))
}

/// All of something small, in memory.
pub(crate) async fn whole(response: Response, max: u64) -> Result<Vec<u8>, FetchError> {
    let mut response = response;
    let mut bytes = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|source| FetchError::Http { doing: "receiving it", source })?
    {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > max {
            return Err(FetchError::TooLarge { max, announced: None });
        }
    }
    Ok(bytes)
}

/// Where the signature of what is at this URL is: beside it.
#[must_use]
pub fn signature_of(url: &Url) -> Url {
    let mut url = url.clone();
    let path = format!("{}.sig", url.path());
    url.set_path(&path);
    url
}

/// The trust roots in these files, in PEM, as far as they can be read: without roots no https server is believed, and http
/// still works.
#[must_use]
pub fn roots<P: AsRef<Path>>(files: &[P]) -> Vec<u8> {
    let mut roots = Vec::new();
    for file in files {
        roots.extend(std::fs::read(file).unwrap_or_default());
        roots.push(b'\n');
    }
    roots
}

/// Makes a client that trusts these roots, in PEM.
///
/// # Errors
/// When TLS can't be set up.
pub fn client(roots: &[u8]) -> Result<Client, FetchError> {
    builder(roots)?
        .redirect(Policy::custom(redirect))
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(IDLE_TIMEOUT)
        .build()
        .map_err(FetchError::Client)
}

/// What every client of this program is: it trusts these roots, in PEM, and no others, and asks nobody but whom it names.
pub(crate) fn builder(roots: &[u8]) -> Result<ClientBuilder, FetchError> {
    Ok(Client::builder()
        .tls_backend_preconfigured(tls(roots).map_err(FetchError::Tls)?)
        .user_agent(concat!("stele/", env!("CARGO_PKG_VERSION")))
        .referer(false)
        .no_proxy())
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
    if attempt.previous().contains(attempt.url()) {
        let message = format!("redirected in a circle: back to {}", shown(attempt.url()));
        return attempt.error(message);
    }
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
    crate::probe::doubtful(sentence)
}

#[cfg(test)]
mod tests;
