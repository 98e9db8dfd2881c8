// SPDX-License-Identifier: Apache-2.0
//! Connections from outside: TCP, TLS, HTTP/2, each with its limits.

use crate::{
    audit::Who,
    authz::{self, Caller},
    connections::Connection,
    gate::{Gate, Peer},
    limits, tls,
};
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

const BACKLOG: u32 = 1024;

/// Listens on all addresses of both families, or of IPv4 alone where there is no IPv6.
pub fn bind(port: u16) -> io::Result<TcpListener> {
    let v6 =
        TcpSocket::new_v6().and_then(|socket| listen(socket, (Ipv6Addr::UNSPECIFIED, port).into()));
    v6.or_else(|_| listen(TcpSocket::new_v4()?, (Ipv4Addr::UNSPECIFIED, port).into()))
}

fn listen(socket: TcpSocket, address: SocketAddr) -> io::Result<TcpListener> {
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Waits after a failed accept: when descriptors or memory are short, trying at once only burns the CPU.
pub async fn backoff(error: &io::Error) {
    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        tracing::warn!(%error, "A connection could not be accepted");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What a connection is received with.
#[derive(Debug)]
pub struct Guard {
    /// Who answers.
    pub gate: Arc<Gate>,
    /// The certificate and the trust of this moment.
    pub tls: Arc<ServerConfig>,
    /// True in maintenance, when anyone may come.
    pub strangers: bool,
    /// Closed when this connection has to end in order.
    pub ended: watch::Receiver<()>,
}

/// Receives a connection and serves it to its end.
pub async fn connection(
    stream: TcpStream,
    source: SocketAddr,
    connection: Connection,
    guard: Guard,
) {
    let source = SocketAddr::new(source.ip().to_canonical(), source.port());
    let begun = Instant::now();
    let refused = |reason: &str| guard.gate.audit().refused(source, reason, begun);
    let handshake = tokio::select! {
        handshake = tokio::time::timeout(limits::HANDSHAKE, handshake(stream, &guard)) => handshake,
        () = connection.evicted() => return refused("made room for a newer connection before its handshake was done"),
    };
    let (stream, caller) = match handshake {
        Ok(Ok(done)) => done,
        // The machine's own probe looks whether the API answers, and leaves before it is asked who it is: nobody was refused.
        Ok(Err(Failed::Left)) if source.ip().is_loopback() => return,
        Ok(Err(failed)) => return refused(&failed.to_string()),
        Err(_) => return refused("the handshake took longer than ten seconds"),
    };
    connection.established();
    let peer = Arc::new(Peer {
        who: Arc::new(Who::new(source, &caller)),
        caller: Arc::new(caller),
        connection,
    });
    if let Err(error) = serve(stream, &peer, &guard).await
        && !peer.connection.called()
    {
        refused(&format!("the peer does not speak HTTP/2: {error}"));
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("the peer went away in the middle of the handshake")]
    Left,
    #[error("{0}")]
    Refused(String),
}

async fn handshake(
    stream: TcpStream,
    guard: &Guard,
) -> Result<(TlsStream<TcpStream>, Caller), Failed> {
    // Answers are written whole: waiting for more to send only adds the peer's delayed acknowledgement.
    stream.set_nodelay(true).map_err(|error| Failed::Refused(error.to_string()))?;
    let stream = TlsAcceptor::from(Arc::clone(&guard.tls)).accept(stream).await;
    let stream = stream.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Failed::Left,
        _ => Failed::Refused(tls::explain(&error)),
    })?;
    if guard.strangers {
        return Ok((stream, Caller::Stranger));
    }
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let caller = certificate.and_then(|certificate| Caller::parse(certificate));
    caller
        .map(|caller| (stream, caller))
        .ok_or_else(|| Failed::Refused("the client certificate cannot be read".to_owned()))
}

async fn serve(stream: TlsStream<TcpStream>, peer: &Arc<Peer>, guard: &Guard) -> hyper::Result<()> {
    let service = service_fn(|request| {
        let (gate, peer) = (Arc::clone(&guard.gate), Arc::clone(peer));
        async move { Ok::<_, Infallible>(gate.answer(&peer, request).await) }
    });
    let mut http = pin!(builder(guard.strangers).serve_connection(TokioIo::new(stream), service));
    let mut ended = guard.ended.clone();
    let mut access = guard.gate.access();
    let mut known = Arc::clone(&access.borrow_and_update());
    let mut ending = false;
    let mut patience = limits::IDLE;
    // When the client lost something that it might be doing.
    let mut withdrawn = None;
    loop {
        tokio::select! {
            done = &mut http => return done,
            () = peer.connection.evicted() => return Ok(()),
            () = cut(withdrawn) => return Ok(()),
            Ok(()) = access.changed(), if withdrawn.is_none() => {
                let before = std::mem::replace(&mut known, Arc::clone(&access.borrow_and_update()));
                if !authz::loses(&peer.caller, &before, &known) {
                    continue;
                }
                withdrawn = Some(tokio::time::Instant::now());
                ending = true;
            }
            _ = ended.changed(), if !ending => ending = true,
            () = tokio::time::sleep(patience) => match peer.connection.idle(Instant::now()) {
                // It was asked to end and did not.
                Some(idle) if idle >= limits::IDLE && ending => return Ok(()),
                Some(idle) if idle >= limits::IDLE => {
                    ending = true;
                    patience = limits::HANDSHAKE;
                }
                Some(idle) => {
                    patience = limits::IDLE - idle;
                    continue;
                }
                None => {
                    patience = limits::IDLE;
                    continue;
                }
            },
        }
        http.as_mut().graceful_shutdown();
    }
}

/// Waits for the end of a connection whose client may do less than before.
async fn cut(withdrawn: Option<tokio::time::Instant>) {
    match withdrawn {
        Some(since) => tokio::time::sleep_until(since + limits::WITHDRAWN).await,
        None => std::future::pending().await,
    }
}

fn builder(strangers: bool) -> http2::Builder<TokioExecutor> {
    // A stranger brings one configuration, which is small.
    let part = if strangers { 8 } else { 1 };
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(limits::STREAMS / part)
        .max_header_list_size(limits::HEADERS)
        .initial_stream_window_size(limits::STREAM_WINDOW / part)
        .initial_connection_window_size(limits::CONNECTION_WINDOW / part)
        .max_send_buf_size(limits::SEND_BUFFER)
        .keep_alive_interval(limits::KEEPALIVE_INTERVAL)
        .keep_alive_timeout(limits::KEEPALIVE_TIMEOUT);
    builder
}
