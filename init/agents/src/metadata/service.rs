// SPDX-License-Identifier: Apache-2.0
//! One question to a metadata service, over a connection of its own.
//!
//! The service is asked from a port below 1024 where it wants that, which is why this is no client of a library's. Whoever
//! answers has [`TIMEOUT`] for all of it, and so many bytes. Redirects lead nowhere but to the service itself.

use crate::fetch::tls;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{HOST, LOCATION, USER_AGENT},
    uri::{Authority, Scheme},
};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::{
    collections::BTreeSet,
    fs, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpSocket, TcpStream, lookup_host},
};
use tokio_rustls::TlsConnector;

/// How long one answer may take, however it comes.
pub(super) const TIMEOUT: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REDIRECTS: usize = 3;
/// The addresses of all links: net/ipv6/addrconf.c, `if6_seq_show`.
const IPV6_ADDRESSES: &str = "/proc/self/net/if_inet6";
/// Below 1024, and above what services listen on by name.
const LOW_PORTS: std::ops::RangeInclusive<u16> = 768..=1023;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No address that can be asked.
    #[error("this is no address of a service")]
    Address,
    /// Nobody there.
    #[error("connecting")]
    Connect(#[source] io::Error),
    /// TLS could not be set up.
    #[error("preparing TLS")]
    Tls(#[source] rustls::Error),
    /// A connection that makes no sense.
    #[error("talking to it")]
    Http(#[source] hyper::Error),
    /// It did not end in time.
    #[error("there was no whole answer within {} s", TIMEOUT.as_secs())]
    Slow,
    /// It refuses to answer.
    #[error("the service answered {0}")]
    Status(StatusCode),
    /// More than is taken, or broken off.
    #[error("receiving the answer, of which at most {max} bytes are taken: {why}")]
    Body {
        /// Bytes that are taken.
        max: usize,
        /// What is wrong.
        why: String,
    },
    /// It sends whoever asks elsewhere.
    #[error("{0}")]
    Redirect(&'static str),
}

/// A question.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Question {
    /// What is at a URL?
    pub(super) fn get(uri: Uri) -> Question {
        Question { method: Method::GET, uri, headers: HeaderMap::new(), body: Bytes::new() }
    }
}

/// From where questions are asked.
#[derive(Debug)]
pub(super) struct Asker {
    /// From a low port.
    pub(super) low_port: bool,
    /// Trust roots, in PEM.
    pub(super) roots: Vec<u8>,
}

impl Asker {
    /// Asks, and takes at most so many bytes. The answer's status is one that says yes, or any other that is not a redirect.
    pub(super) async fn ask(
        &self,
        question: Question,
        max: usize,
    ) -> Result<(StatusCode, Vec<u8>), AskError> {
        match tokio::time::timeout(TIMEOUT, self.follow(question, max)).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(AskError::Slow),
        }
    }

    async fn follow(
        &self,
        mut question: Question,
        max: usize,
    ) -> Result<(StatusCode, Vec<u8>), AskError> {
        for _ in 0..=REDIRECTS {
            let response = self.once(question.clone()).await?;
            if !response.status().is_redirection() {
                let status = response.status();
                return receive(response, max).await.map(|bytes| (status, bytes));
            }
            question.uri = redirected(&question.uri, &response)?;
        }
        Err(AskError::Redirect("more than three redirects"))
    }

    async fn once(&self, question: Question) -> Result<Response<Incoming>, AskError> {
        let Question { method, uri, mut headers, body } = question;
        let (authority, secure) = place(&uri).ok_or(AskError::Address)?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| AskError::Address)?;
        headers.insert(HOST, host);
        let agent = concat!("stele/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|_| AskError::Address)?;
        *request.headers_mut() = headers;
        let stream = self.connect(authority, if secure { 443 } else { 80 }).await?;
        if !secure {
            return exchange(stream, request).await;
        }
        let name = ServerName::try_from(authority.host().to_owned());
        let name = name.map_err(|_| AskError::Address)?;
        let config = Arc::new(tls(&self.roots).map_err(AskError::Tls)?);
        let stream = TlsConnector::from(config).connect(name, stream).await;
        exchange(stream.map_err(AskError::Connect)?, request).await
    }

    async fn connect(&self, authority: &Authority, port: u16) -> Result<TcpStream, AskError> {
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = authority.port_u16().unwrap_or(port);
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        let found = lookup_host((host, port)).await.map_err(AskError::Connect)?;
        for address in found.flat_map(on_links) {
            match tokio::time::timeout(CONNECT_TIMEOUT, self.connect_to(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(_elapsed) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(AskError::Connect(last))
    }

    async fn connect_to(&self, address: SocketAddr) -> io::Result<TcpStream> {
        if !self.low_port {
            return TcpStream::connect(address).await;
        }
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for port in LOW_PORTS.rev() {
            let from: SocketAddr = match address {
                SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, port).into(),
                SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, port).into(),
            };
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            let connected = match socket.bind(from) {
                Ok(()) => socket.connect(address).await,
                Err(error) => Err(error),
            };
            match connected {
                // Another process has the port, or its last connection has yet to be forgotten.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable
                    ) =>
                {
                    last = error;
                }
                connected => return connected,
            }
        }
        Err(last)
    }
}

/// A link-local address on each link; any other as it is.
fn on_links(address: SocketAddr) -> Vec<SocketAddr> {
    match address {
        SocketAddr::V6(address)
            if address.ip().is_unicast_link_local() && address.scope_id() == 0 =>
        {
            let known = fs::read_to_string(IPV6_ADDRESSES).unwrap_or_default();
            let on = |link| SocketAddrV6::new(*address.ip(), address.port(), 0, link).into();
            links(&known).into_iter().map(on).collect()
        }
        other => vec![other],
    }
}

/// The indices of links that have a link-local address: it is the first word of a line there, the index the second.
fn links(known: &str) -> BTreeSet<u32> {
    let line = |line: &str| {
        let (address, rest) = line.split_once(' ')?;
        let index = rest.split_whitespace().next()?;
        u32::from_str_radix(index, 16).ok().filter(|_| address.starts_with("fe80"))
    };
    known.lines().filter_map(line).collect()
}

async fn exchange<S>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, AskError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(AskError::Http)?;
    // It ends with the answer; what goes wrong on the way is told to who waits for that.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(AskError::Http)
}

async fn receive(response: Response<Incoming>, max: usize) -> Result<Vec<u8>, AskError> {
    let collected = Limited::new(response.into_body(), max).collect().await;
    match collected {
        Ok(body) => Ok(body.to_bytes().to_vec()),
        Err(error) => Err(AskError::Body { max, why: error.to_string() }),
    }
}

/// Whom a URL names, and whether TLS is spoken there.
fn place(uri: &Uri) -> Option<(&Authority, bool)> {
    let secure = match uri.scheme()? {
        scheme if *scheme == Scheme::HTTPS => true,
        scheme if *scheme == Scheme::HTTP => false,
        _ => return None,
    };
    Some((uri.authority()?, secure))
}

/// Where a redirect leads, if that is still the service.
fn redirected(from: &Uri, response: &Response<Incoming>) -> Result<Uri, AskError> {
    let odd = AskError::Redirect("redirected to what is no URL");
    let Some(to) = response.headers().get(LOCATION).and_then(|to| to.to_str().ok()) else {
        return Err(odd);
    };
    let Ok(to) = to.parse::<Uri>() else { return Err(odd) };
    if to.authority().is_some() {
        return if place(&to) == place(from) {
            Ok(to)
        } else {
            Err(AskError::Redirect("redirected to somebody else"))
        };
    }
    let mut parts = from.clone().into_parts();
    parts.path_and_query = to.into_parts().path_and_query;
    Uri::from_parts(parts).map_err(|_| odd)
}

/// A header, if these words make one.
pub(super) fn header(name: &str, value: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    Some((name, HeaderValue::from_bytes(value).ok()?))
}
