// SPDX-License-Identifier: Apache-2.0
//! A node on loopback: the TLS of a real one, and answers as a test has them.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use serde::Deserialize as _;
use std::{
    convert::Infallible,
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

/// What a call is answered with: messages, and then the end or none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    messages: Vec<Bytes>,
    code: i32,
    message: String,
    details: Option<Bytes>,
    stays: bool,
    /// After these messages the rest of the call is heard, and answered under this path.
    hears: Option<&'static str>,
}

impl Reply {
    pub(crate) fn one(message: &impl Message) -> Reply {
        Reply::default().and(message)
    }

    pub(crate) fn and(mut self, message: &impl Message) -> Reply {
        let mut framed = BytesMut::new();
        framed.put_u8(0);
        framed.put_u32(u32::try_from(message.encoded_len()).unwrap());
        message.encode(&mut framed).unwrap();
        self.messages.push(framed.freeze());
        self
    }

    /// Nothing more comes, and it does not end.
    pub(crate) fn stays(mut self) -> Reply {
        self.stays = true;
        self
    }

    /// What the caller says after these messages is answered under another path.
    pub(crate) fn hears(mut self, path: &'static str) -> Reply {
        self.hears = Some(path);
        self
    }

    pub(crate) fn refused(code: i32, message: &str, details: Vec<prost_types::Any>) -> Reply {
        let status = tonic_types::pb::Status { code, message: message.to_owned(), details };
        Reply {
            code,
            message: message.to_owned(),
            details: Some(status.encode_to_vec().into()),
            ..Reply::default()
        }
    }
}

/// How a node shows itself and whom it lets in.
pub(crate) enum Face {
    /// Configured by this `machine.yaml`, under this name.
    Configured(String, String),
    /// In maintenance mode.
    Maintenance,
}

impl Face {
    /// The face of a node that `ctl gen config` made.
    pub(crate) fn of(folder: &Path, name: &str) -> Face {
        Face::Configured(fs::read_to_string(folder.join("machine.yaml")).unwrap(), name.to_owned())
    }
}

/// A node that answers.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) fingerprint: String,
    up: Arc<AtomicBool>,
}

impl Node {
    /// A free port, for a configuration that must know it before the node is there.
    pub(crate) fn bind() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    pub(crate) fn start<F>(listener: TcpListener, face: &Face, answer: F) -> Node
    where
        F: Fn(&str, Bytes) -> Reply + Send + Sync + 'static,
    {
        let address = listener.local_addr().unwrap();
        let (config, fingerprint) = face.tls();
        let up = Arc::new(AtomicBool::new(true));
        let (answer, switch) = (Arc::new(answer), Arc::clone(&up));
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(serve(listener, TlsAcceptor::from(config), answer, switch));
        });
        Node { address, fingerprint, up }
    }

    /// Connections are closed before a word from now on.
    pub(crate) fn go_down(&self) {
        self.up.store(false, Ordering::SeqCst);
    }
}

impl Face {
    fn tls(&self) -> (Arc<ServerConfig>, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        let mut chain = Vec::new();
        let verifier = match self {
            Face::Configured(machine, name) => {
                let document = serde_yaml::Deserializer::from_str(machine).next().unwrap();
                let identity = serde_yaml::Value::deserialize(document).unwrap();
                let text = |key: &str| identity[key].as_str().unwrap().to_owned();
                params = CertificateParams::new(vec![name.clone()]).unwrap();
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
                let issuer = Issuer::from_ca_cert_pem(
                    &text("certificate"),
                    KeyPair::from_pem(&text("key")).unwrap(),
                )
                .unwrap();
                chain.push(params.signed_by(&key, &issuer).unwrap().der().clone());
                chain.push(CertificateDer::from_pem_slice(text("certificate").as_bytes()).unwrap());
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(text("ca").as_bytes()).unwrap()).unwrap();
                let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .unwrap()
            }
            Face::Maintenance => {
                params.distinguished_name.push(DnType::CommonName, "maintenance");
                chain.push(params.self_signed(&key).unwrap().der().clone());
                WebPkiClientVerifier::no_client_auth()
            }
        };
        let fingerprint =
            sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new_with_prefix(&chain[0]));
        let fingerprint =
            fingerprint.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        (Arc::new(config), fingerprint)
    }
}

async fn serve<F>(listener: TcpListener, tls: TlsAcceptor, answer: Arc<F>, up: Arc<AtomicBool>)
where
    F: Fn(&str, Bytes) -> Reply + Send + Sync + 'static,
{
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    while let Ok((tcp, _)) = listener.accept().await {
        if !up.load(Ordering::SeqCst) {
            continue;
        }
        let (tls, answer) = (tls.clone(), Arc::clone(&answer));
        tokio::spawn(async move {
            tcp.set_nodelay(true).unwrap();
            let Ok(stream) = tls.accept(tcp).await else { return };
            let service = service_fn(|request| call(request, Arc::clone(&answer)));
            let _ = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn all<E>(body: Result<http_body_util::Collected<Bytes>, E>) -> Bytes {
    body.map(|body| body.to_bytes()).unwrap_or_default()
}

/// The first message of a call that has many.
async fn first_message(body: &mut Incoming) -> Bytes {
    let mut bytes = BytesMut::new();
    while bytes.len() < 5
        || bytes.len() < 5 + u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize
    {
        match body.frame().await {
            Some(Ok(frame)) => bytes.extend(frame.into_data().ok()),
            _ => break,
        }
    }
    bytes.freeze()
}

async fn call<F>(
    request: Request<Incoming>,
    answer: Arc<F>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible>
where
    F: Fn(&str, Bytes) -> Reply + Send + Sync + 'static,
{
    let path = request.uri().path().to_owned();
    let mut body = request.into_body();
    let (sender, frames) = mpsc::channel(64);
    tokio::spawn(async move {
        let mut reply = if path.ends_with("/Push") {
            let first = first_message(&mut body).await;
            answer(&path, first)
        } else {
            answer(&path, all((&mut body).collect().await))
        };
        if let Some(path) = reply.hears.take() {
            // The caller waits for the first word before it says more.
            for message in std::mem::take(&mut reply.messages) {
                let _ = sender.send(Frame::data(message)).await;
            }
            reply = answer(path, all((&mut body).collect().await));
        }
        for message in reply.messages {
            if sender.send(Frame::data(message)).await.is_err() {
                return;
            }
        }
        if reply.stays {
            sender.closed().await;
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(reply.code));
        let details = reply.details.unwrap_or_default();
        let status =
            tonic::Status::with_details(tonic::Code::from(reply.code), reply.message, details);
        status.add_header(&mut trailers).unwrap();
        let _ = sender.send(Frame::trailers(trailers)).await;
    });
    let body = BoxBody::new(StreamBody::new(ReceiverStream::new(frames).map(Ok::<_, Infallible>)));
    Ok(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
}
