// SPDX-License-Identifier: Apache-2.0
//! One connection to one node.
//!
//! Not tonic's channel: that one reconnects in silence when a node refuses a certificate, and hides why. Here a
//! connection is made once, and whatever ends it is told.

use crate::{
    failure::{Approach, Failure},
    node::Node,
};
use bytes::Bytes;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, pki_types::ServerName};
use std::{
    error::Error,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use stele_proto::v1::{
    config_service_client::ConfigServiceClient, diagnose_service_client::DiagnoseServiceClient,
    event_service_client::EventServiceClient, log_service_client::LogServiceClient,
    machine_service_client::MachineServiceClient, resource_service_client::ResourceServiceClient,
    upgrade_service_client::UpgradeServiceClient,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{Response, Status, body::Body};

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    /// For the connection to be there.
    pub(crate) connect: Duration,
    /// For the answer to one call.
    pub(crate) answer: Duration,
}

/// A node answers a TLS client with its first HTTP/2 frame at once, or with the alert that says why not. In TLS 1.3 a
/// client is done before the server has looked at its certificate, so this is when one learns of it.
const FIRST_FRAME: Duration = Duration::from_millis(500);

/// Large enough that a log stream is never held up by its window.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// A connected node.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// Who it is.
    pub(crate) node: Node,
    connection: Connection,
    deadlines: Deadlines,
}

impl Session {
    /// Connects.
    pub(crate) async fn connect(
        node: &Node,
        tls: Arc<ClientConfig>,
        approach: Approach,
        deadlines: Deadlines,
    ) -> Result<Session, Failure> {
        let tried = format!("Connecting to {}", node.address());
        match timeout(deadlines.connect, connect(node, tls, approach, &tried)).await {
            Ok(Ok(connection)) => Ok(Session { node: node.clone(), connection, deadlines }),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(Failure::timeout(tried, deadlines.connect.as_secs_f64())),
        }
    }

    /// Awaits the answer to a call. `tried` says in a few words what the call is for.
    pub(crate) async fn answer<T>(
        &self,
        tried: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        match timeout(self.deadlines.answer, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(Failure::status(tried.to_owned(), &status)),
            Err(_) => Err(Failure::timeout(tried.to_owned(), self.deadlines.answer.as_secs_f64())),
        }
    }

    /// The machine itself.
    pub(crate) fn machine(&self) -> MachineServiceClient<Connection> {
        MachineServiceClient::new(self.connection.clone())
    }

    /// Its configuration.
    pub(crate) fn config(&self) -> ConfigServiceClient<Connection> {
        ConfigServiceClient::new(self.connection.clone())
    }

    /// Its images.
    pub(crate) fn upgrade(&self) -> UpgradeServiceClient<Connection> {
        UpgradeServiceClient::new(self.connection.clone())
    }

    /// Its events.
    pub(crate) fn events(&self) -> EventServiceClient<Connection> {
        EventServiceClient::new(self.connection.clone())
    }

    /// Its diagnostics.
    pub(crate) fn diagnose(&self) -> DiagnoseServiceClient<Connection> {
        DiagnoseServiceClient::new(self.connection.clone())
    }

    /// How long to wait for each part of an answer.
    pub(crate) fn patience(&self) -> Duration {
        self.deadlines.answer
    }

    /// Its logs.
    pub(crate) fn logs(&self) -> LogServiceClient<Connection> {
        LogServiceClient::new(self.connection.clone())
    }

    /// Its resources.
    pub(crate) fn resources(&self) -> ResourceServiceClient<Connection> {
        ResourceServiceClient::new(self.connection.clone())
            .max_decoding_message_size(64 * 1024 * 1024)
    }

    /// The connection, for calls that no stub is for.
    pub(crate) fn connection(&self) -> Connection {
        self.connection.clone()
    }
}

async fn connect(
    node: &Node,
    tls: Arc<ClientConfig>,
    approach: Approach,
    tried: &str,
) -> Result<Connection, Failure> {
    let name = ServerName::try_from(node.expected_name().to_owned()).map_err(|_| {
        Failure::new(
            tried,
            format!("\"{}\" is no name that a certificate can carry", node.expected_name()),
            None,
        )
    })?;
    let tcp = TcpStream::connect((node.host.as_str(), node.port))
        .await
        .map_err(|error| Failure::tcp(tried.to_owned(), &error))?;
    // Nagle's algorithm and delayed acknowledgements together cost 40 ms a call.
    tcp.set_nodelay(true).map_err(|error| Failure::tcp(tried.to_owned(), &error))?;
    let refused = |error: &io::Error| Failure::tls(tried.to_owned(), error, approach);
    let stream =
        TlsConnector::from(tls).connect(name, tcp).await.map_err(|error| refused(&error))?;
    let stream = Started::begin(stream).await.map_err(|error| refused(&error))?;

    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(Duration::from_secs(15))
        .keep_alive_timeout(Duration::from_secs(15))
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Failure::tls(tried.to_owned(), &error, approach))?;
    let (end, ended) = watch::channel(None);
    tokio::spawn(async move {
        let result = connection.await;
        end.send_replace(Some(result.err().map(Arc::new)));
    });
    Ok(Connection { sender, authority: node.address(), ended })
}

/// The gRPC transport over one HTTP/2 connection.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Body>,
    authority: String,
    /// Why the connection ended, once it has.
    ended: watch::Receiver<Option<Option<Arc<hyper::Error>>>>,
}

type BoxError = Box<dyn Error + Send + Sync>;

impl tower::Service<http::Request<Body>> for Connection {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(())) // a call on an ended connection says why it ended
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path_and_query().cloned();
        let uri = http::Uri::builder().scheme("https").authority(self.authority.as_str());
        let mut sender = self.sender.clone();
        let mut ended = self.ended.clone();
        let uri = uri
            .path_and_query(path.unwrap_or_else(|| http::uri::PathAndQuery::from_static("/")))
            .build();
        Box::pin(async move {
            *request.uri_mut() = uri?;
            request.headers_mut().insert(
                http::header::USER_AGENT,
                http::HeaderValue::from_static(concat!("stele-ctl/", env!("CARGO_PKG_VERSION"))),
            );
            match sender.send_request(request).await {
                Ok(response) => Ok(response),
                Err(error) => {
                    // The connection knows better than the call what both died of.
                    let end =
                        timeout(Duration::from_millis(200), ended.wait_for(Option::is_some)).await;
                    match end.ok().and_then(Result::ok).and_then(|end| end.clone().flatten()) {
                        Some(cause) => Err(cause.into()),
                        None => Err(error.into()),
                    }
                }
            }
        })
    }
}

/// A TLS stream whose first bytes have been awaited already.
struct Started {
    first: Bytes,
    stream: TlsStream<TcpStream>,
}

impl Started {
    async fn begin(mut stream: TlsStream<TcpStream>) -> io::Result<Started> {
        let mut buffer = vec![0; 1024];
        let first = match timeout(FIRST_FRAME, stream.read(&mut buffer)).await {
            Ok(Ok(0)) => {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the node closed the connection without a word",
                ));
            }
            Ok(Ok(count)) => Bytes::from(buffer).slice(..count),
            Ok(Err(error)) => return Err(error),
            Err(_) => Bytes::new(), // a slow network, or a server that lets the client speak first
        };
        Ok(Started { first, stream })
    }
}

impl AsyncRead for Started {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let count = self.first.len().min(buf.remaining());
        buf.put_slice(&self.first.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Started {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        Poll::Ready(Ok(()))
    }
}
