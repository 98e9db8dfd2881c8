// SPDX-License-Identifier: Apache-2.0
//! What the API is measured against: a bare tonic server with the same TLS and the same messages, and nothing behind it.
//!
//! It runs as a service on the node that is measured, with apid's identity and apid's TLS configuration, on the port
//! behind apid's. `Version` answers with a constant; `Stream` sends as many lines as `tail` asks for, from memory.
//!
//! `echo flood LINES` is the other side of that: a service that writes so many lines to its log, and then nothing more.

#![forbid(unsafe_code)]

use apid::{
    certificate::Certificate,
    identity::{self, Identity},
    tls,
};
use std::{
    convert::Infallible,
    env,
    future::Future,
    net::Ipv6Addr,
    path::Path,
    pin::Pin,
    task::{self, Poll},
    time::{Duration, SystemTime},
};
use stele_proto::v1::{LogChunk, LogEntry, LogRequest, VersionRequest, VersionResponse};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::{Stream, iter, wrappers::ReceiverStream};
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService, ServerStreamingService, UnaryService},
    transport::Server,
};
use tonic_prost::ProstCodec;
use tower::Service;

/// The port behind apid's.
const PORT: u16 = 50001;

/// Lines in one message, and bytes in one line.
const LINES: usize = 256;
const LINE: usize = 100;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = env::args().skip(1);
    if arguments.next().as_deref() == Some("flood") {
        return flood(arguments.next().unwrap_or_default().parse()?);
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve())
}

fn flood(lines: usize) -> Result<(), Failure> {
    let line = "x".repeat(LINE);
    for _ in 0..lines {
        println!("{line}");
    }
    loop {
        std::thread::park();
    }
}

async fn serve() -> Result<(), Failure> {
    let identity = Identity::wait(Path::new(identity::PATH), Duration::from_secs(60)).await?;
    let certificate = Certificate::make(&identity, SystemTime::now())?;
    let acceptor = TlsAcceptor::from(tls::configure(&certificate, &identity.mode)?);
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)).await?;
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(accept(listener, acceptor, sender));
    Server::builder()
        .add_service(Version)
        .add_service(Logs)
        .serve_with_incoming(ReceiverStream::new(receiver))
        .await?;
    Ok(())
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    sender: mpsc::Sender<std::io::Result<TlsStream<TcpStream>>>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, sender) = (acceptor.clone(), sender.clone());
        tokio::spawn(async move {
            if stream.set_nodelay(true).is_err() {
                return;
            }
            if let Ok(stream) = acceptor.accept(stream).await {
                let _server_gone = sender.send(Ok(stream)).await;
            }
        });
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

/// `MachineService/Version`.
#[derive(Clone, Debug)]
struct Version;

impl NamedService for Version {
    const NAME: &'static str = "stele.v1.MachineService";
}

impl Service<http::Request<Body>> for Version {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _context: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        Box::pin(async { Ok(Grpc::new(ProstCodec::default()).unary(Constant, request).await) })
    }
}

struct Constant;

impl UnaryService<VersionRequest> for Constant {
    type Response = VersionResponse;
    type Future = std::future::Ready<Result<Response<VersionResponse>, Status>>;

    fn call(&mut self, _request: Request<VersionRequest>) -> Self::Future {
        std::future::ready(Ok(Response::new(VersionResponse {
            version: "0.1.0".into(),
            kernel: "6.12.0+deb13-cloud-amd64".into(),
            architecture: "x86-64".into(),
            hostname: "echo".into(),
            boot_id: "00000000-0000-0000-0000-000000000000".into(),
            mode: 2,
            boot: 1,
            reason: String::new(),
        })))
    }
}

/// `LogService/Stream`.
#[derive(Clone, Debug)]
struct Logs;

impl NamedService for Logs {
    const NAME: &'static str = "stele.v1.LogService";
}

impl Service<http::Request<Body>> for Logs {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _context: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        Box::pin(async {
            Ok(Grpc::new(ProstCodec::default()).server_streaming(Lines, request).await)
        })
    }
}

struct Lines;

impl ServerStreamingService<LogRequest> for Lines {
    type Response = LogChunk;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<LogChunk, Status>> + Send>>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<LogRequest>) -> Self::Future {
        let entry = LogEntry {
            time_us: 1_700_000_000_000_000,
            severity: 6,
            message: vec![b'x'; LINE],
            lost: 0,
        };
        let chunk = LogChunk { entries: vec![entry; LINES] };
        let chunks = usize::try_from(request.get_ref().tail).unwrap_or(usize::MAX).div_ceil(LINES);
        let stream: Self::ResponseStream =
            Box::pin(iter((0..chunks).map(move |_| Ok(chunk.clone()))));
        std::future::ready(Ok(Response::new(stream)))
    }
}
