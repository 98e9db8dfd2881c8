// SPDX-License-Identifier: Apache-2.0
//! Both ends of apid: certificates and a client on the outside, a small PID 1 on the inside.

use apid::{
    audit::Sink,
    server::{self, Control, Options},
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{body::Frame, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};
use stele_proto::internal::{CertificateReport, Close, Frame as InitFrame, frame};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixListener, UnixStream, unix::pipe},
    sync::mpsc,
    task::JoinHandle,
};

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// What to put into a certificate.
pub(crate) struct Ask<'a> {
    pub(crate) organization: &'a str,
    pub(crate) usage: Option<ExtendedKeyUsagePurpose>,
    pub(crate) ca: bool,
    pub(crate) life: (i64, i64),
}

impl Default for Ask<'_> {
    fn default() -> Self {
        Ask {
            organization: "os:admin",
            usage: Some(ExtendedKeyUsagePurpose::ClientAuth),
            ca: false,
            life: (-3600, 3600),
        }
    }
}

fn params(name: &str, ask: &Ask<'_>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    if !ask.organization.is_empty() {
        params.distinguished_name.push(DnType::OrganizationName, ask.organization);
    }
    params.extended_key_usages = ask.usage.iter().cloned().collect();
    params.is_ca =
        if ask.ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    if ask.ca {
        params.key_usages.push(KeyUsagePurpose::KeyCertSign);
    }
    let now = time::OffsetDateTime::now_utc();
    params.not_before = now + time::Duration::seconds(ask.life.0);
    params.not_after = now + time::Duration::seconds(ask.life.1);
    params
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

pub(crate) fn authority(name: &str) -> Identity {
    let key = key();
    let ask = Ask { organization: "", usage: None, ca: true, ..Ask::default() };
    let certificate = params(name, &ask).self_signed(&key).unwrap().pem();
    Identity { certificate, key: key.serialize_pem() }
}

pub(crate) fn issue(issuer: &Identity, name: &str, ask: &Ask<'_>) -> Identity {
    let key = key();
    let issuer =
        Issuer::from_ca_cert_pem(&issuer.certificate, KeyPair::from_pem(&issuer.key).unwrap())
            .unwrap();
    let certificate = params(name, ask).signed_by(&key, &issuer).unwrap().pem();
    Identity { certificate, key: key.serialize_pem() }
}

/// The operator's CA and a node's intermediate.
pub(crate) struct Operator {
    pub(crate) ca: Identity,
    pub(crate) node: Identity,
}

impl Operator {
    pub(crate) fn new() -> Self {
        let ca = authority("operator");
        let ask = Ask {
            organization: "",
            usage: Some(ExtendedKeyUsagePurpose::ServerAuth),
            ca: true,
            ..Ask::default()
        };
        let node = issue(&ca, "node", &ask);
        Self { ca, node }
    }

    pub(crate) fn client(&self, organization: &str) -> Identity {
        issue(&self.ca, "ada", &Ask { organization, ..Ask::default() })
    }

    pub(crate) fn json(&self, addresses: &[&str]) -> String {
        serde_json::json!({
            "mode": "running", "hostname": "n1", "addresses": addresses,
            "ca": self.ca.certificate, "certificate": self.node.certificate, "key": self.node.key,
        })
        .to_string()
    }
}

/// What the small PID 1 saw.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) connections: AtomicUsize,
    pub(crate) open: AtomicUsize,
    pub(crate) cancelled: AtomicUsize,
    pub(crate) uploaded: AtomicUsize,
}

/// A running apid between a client and a small PID 1.
pub(crate) struct House {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    pub(crate) reports: mpsc::UnboundedReceiver<CertificateReport>,
    pub(crate) control: Control,
    pub(crate) apid: JoinHandle<()>,
    audit: pipe::Receiver,
    audited: String,
    folder: tempfile::TempDir,
}

impl House {
    pub(crate) async fn new(identity: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.json");
        std::fs::write(&path, identity).unwrap();
        let init = folder.path().join("init.sock");
        let seen = Arc::new(Seen::default());
        let (reporter, reports) = mpsc::unbounded_channel();
        tokio::spawn(init_process(UnixListener::bind(&init).unwrap(), Arc::clone(&seen), reporter));
        let (sender, audit) = pipe::pipe().unwrap();
        let control = Control::default();
        let listener = apid::listener::bind(0).unwrap();
        let port = listener.local_addr().unwrap().port();
        let options = Options {
            listener,
            identity: path,
            init,
            audit: Sink::Pipe(sender),
            control: control.clone(),
        };
        let apid = tokio::spawn(async move { server::serve(options).await.unwrap() });
        let address = (Ipv4Addr::LOCALHOST, port).into();
        Self { address, seen, reports, control, apid, audit, audited: String::new(), folder }
    }

    pub(crate) fn identity(&self) -> PathBuf {
        self.folder.path().join("identity.json")
    }

    pub(crate) fn init(&self) -> PathBuf {
        self.folder.path().join("init.sock")
    }

    /// Waits for an audit line with all of these parts.
    pub(crate) async fn audited(&mut self, parts: &[&str]) -> serde_json::Value {
        let wait = async {
            loop {
                while let Some((line, rest)) = self.audited.split_once('\n') {
                    let (line, rest) = (line.to_owned(), rest.to_owned());
                    self.audited = rest;
                    if parts.iter().all(|part| line.contains(part)) {
                        return serde_json::from_str(&line).unwrap();
                    }
                }
                let mut bytes = [0; 4096];
                let count = self.audit.read(&mut bytes).await.unwrap();
                self.audited.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
            }
        };
        tokio::time::timeout(Duration::from_secs(5), wait)
            .await
            .unwrap_or_else(|_| panic!("no audit line with {parts:?}"))
    }
}

/// Waits until something holds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = SystemTime::now();
    while !holds() {
        assert!(
            begun.elapsed().unwrap() < Duration::from_secs(5),
            "not within five seconds: {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn init_process(
    listener: UnixListener,
    seen: Arc<Seen>,
    reporter: mpsc::UnboundedSender<CertificateReport>,
) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        seen.connections.fetch_add(1, Ordering::SeqCst);
        seen.open.fetch_add(1, Ordering::SeqCst);
        let (seen, reporter) = (Arc::clone(&seen), reporter.clone());
        tokio::spawn(async move {
            let in_call = init_connection(stream, &seen, reporter).await.is_some();
            seen.open.fetch_sub(1, Ordering::SeqCst);
            if in_call {
                seen.cancelled.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
}

async fn receive(stream: &mut UnixStream) -> Option<frame::Frame> {
    let size = stream.read_u32().await.ok()?;
    assert!(size <= 2 << 20);
    let mut bytes = vec![0; size as usize];
    stream.read_exact(&mut bytes).await.ok()?;
    Some(InitFrame::decode(&bytes[..]).unwrap().frame.unwrap())
}

async fn send(stream: &mut UnixStream, frame: frame::Frame) -> Option<()> {
    let bytes = InitFrame { frame: Some(frame) }.encode_to_vec();
    stream.write_u32(u32::try_from(bytes.len()).unwrap()).await.ok()?;
    stream.write_all(&bytes).await.ok()
}

async fn close(
    stream: &mut UnixStream,
    code: i32,
    message: &str,
    details: Vec<prost_types::Any>,
) -> Option<()> {
    send(stream, frame::Frame::Close(Close { code, message: message.into(), details })).await
}

/// Serves calls; `Some` when the connection ended within one.
async fn init_connection(
    mut stream: UnixStream,
    seen: &Seen,
    reporter: mpsc::UnboundedSender<CertificateReport>,
) -> Option<()> {
    loop {
        let frame::Frame::Open(open) = receive(&mut stream).await? else {
            panic!("a call begins with open")
        };
        if init_call(&mut stream, &open, seen, &reporter).await.is_none() {
            return Some(());
        }
    }
}

async fn init_call(
    stream: &mut UnixStream,
    open: &stele_proto::internal::Open,
    seen: &Seen,
    reporter: &mpsc::UnboundedSender<CertificateReport>,
) -> Option<()> {
    let mut messages = Vec::new();
    let mut uploaded = 0;
    loop {
        match receive(stream).await? {
            // As PID 1 does: what the caller still sends belongs to no call.
            frame::Frame::Message(message) if message == "refuse" => {
                close(stream, 3, "not an image", Vec::new()).await?;
                return None;
            }
            frame::Frame::Message(message) => {
                uploaded += message.len();
                if open.method.ends_with("/Push") {
                    seen.uploaded.fetch_add(message.len(), Ordering::SeqCst);
                } else {
                    messages.push(message);
                }
            }
            frame::Frame::HalfClose(_) => break,
            other => panic!("in the middle of a call: {other:?}"),
        }
    }
    match open.method.rsplit('/').next().unwrap() {
        "ReportCertificate" => {
            reporter.send(CertificateReport::decode(messages.remove(0)).unwrap()).ok();
            close(stream, 0, "", Vec::new()).await
        }
        "Push" => {
            send(stream, frame::Frame::Message(uploaded.to_string().into())).await?;
            close(stream, 0, "", Vec::new()).await
        }
        "Apply" => {
            let any = prost_types::Any {
                type_url: "type.googleapis.com/stele.v1.Findings".into(),
                value: vec![1],
            };
            close(stream, 3, &format!("for {} as {}", open.subject, open.role), vec![any]).await
        }
        // Streams what its first message asks for: as many messages, of this size; nothing more for ever with "hang".
        "Stream" => {
            let asked = String::from_utf8(messages.remove(0).to_vec()).unwrap();
            let mut numbers = asked.split(' ');
            let mut number = || numbers.next().and_then(|number| number.parse().ok()).unwrap_or(0);
            let (count, size): (usize, usize) = (number(), number());
            for number in 0..count {
                send(stream, frame::Frame::Message(vec![number as u8; size].into())).await?;
            }
            if asked.ends_with("hang") {
                receive(stream).await?;
            }
            close(stream, 0, "", Vec::new()).await
        }
        _ => {
            send(stream, frame::Frame::Message(messages.remove(0))).await?;
            close(stream, 0, "", Vec::new()).await
        }
    }
}

/// A TLS client that trusts anyone: whom it meets is looked at by the tests.
pub(crate) fn tls(
    client: Option<&Identity>,
    version: &'static rustls::SupportedProtocolVersion,
) -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)));
    let mut config = match client {
        Some(client) => {
            let chain = CertificateDer::pem_slice_iter(client.certificate.as_bytes())
                .map(Result::unwrap)
                .collect();
            builder
                .with_client_auth_cert(
                    chain,
                    PrivateKeyDer::from_pem_slice(client.key.as_bytes()).unwrap(),
                )
                .unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

#[derive(Debug)]
struct Anyone(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

type Upload = http_body_util::combinators::UnsyncBoxBody<Bytes, &'static str>;

/// A client on one connection.
#[derive(Clone)]
pub(crate) struct Client {
    sender: SendRequest<Upload>,
    socket: Arc<std::net::TcpStream>,
    pub(crate) chain: Vec<CertificateDer<'static>>,
}

/// What a call ended with.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) messages: Vec<Bytes>,
    pub(crate) code: i32,
    pub(crate) message: String,
    pub(crate) headers: HeaderMap,
}

impl Client {
    /// Connects, and has a first call answered: in TLS 1.3 a client learns only then that it was refused.
    pub(crate) async fn connect(
        address: SocketAddr,
        client: Option<&Identity>,
    ) -> Result<Self, String> {
        Self::connect_with(address, tls(client, &rustls::version::TLS13)).await
    }

    pub(crate) async fn connect_with(
        address: SocketAddr,
        tls: Arc<rustls::ClientConfig>,
    ) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).unwrap();
        let stream = stream.into_std().unwrap();
        let socket = Arc::new(stream.try_clone().unwrap());
        let stream = TcpStream::from_std(stream).unwrap();
        let name = ServerName::try_from("n1").unwrap();
        let stream = tokio_rustls::TlsConnector::from(tls)
            .connect(name, stream)
            .await
            .map_err(|error| error.to_string())?;
        let chain = stream
            .get_ref()
            .1
            .peer_certificates()
            .unwrap()
            .iter()
            .map(|der| der.clone().into_owned())
            .collect();
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| format!("{error:?}"))?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, socket, chain })
    }

    pub(crate) async fn call(&self, path: &str, message: &[u8]) -> Result<Answer, String> {
        self.upload(path, vec![Bytes::copy_from_slice(message)]).await
    }

    pub(crate) async fn upload(&self, path: &str, messages: Vec<Bytes>) -> Result<Answer, String> {
        let mut response = self.open(path, messages, &[]).await?;
        let mut bytes = BytesMut::new();
        let mut trailers = response.headers().clone();
        while let Some(frame) = response.body_mut().frame().await {
            match frame.map_err(|error| format!("{error:?}"))?.into_data() {
                Ok(data) => bytes.extend_from_slice(&data),
                Err(frame) => trailers = frame.into_trailers().unwrap(),
            }
        }
        let mut messages = Vec::new();
        while !bytes.is_empty() {
            let prefix = bytes.split_to(5);
            let size = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
            messages.push(bytes.split_to(size as usize).freeze());
        }
        let text = |name: &str| {
            trailers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        let code = text("grpc-status").parse().unwrap_or(-1);
        Ok(Answer {
            messages,
            code,
            message: text("grpc-message").replace("%20", " "),
            headers: trailers,
        })
    }

    pub(crate) async fn open(
        &self,
        path: &str,
        messages: Vec<Bytes>,
        headers: &[(&'static str, &'static str)],
    ) -> Result<http::Response<hyper::body::Incoming>, String> {
        let frames = messages.into_iter().flat_map(|message| {
            let mut prefix = vec![0];
            prefix.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
            [Ok(Frame::data(Bytes::from(prefix))), Ok(Frame::data(message))]
        });
        let body = StreamBody::new(tokio_stream::iter(frames)).boxed_unsync();
        let mut request = Request::post(format!("https://n1{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut sender = self.sender.clone();
        sender.ready().await.map_err(|error| format!("{error:?}"))?;
        sender.send_request(request.body(body).unwrap()).await.map_err(|error| format!("{error:?}"))
    }
}

impl Client {
    /// Goes away without a word.
    pub(crate) fn vanish(&self) {
        self.socket.shutdown(std::net::Shutdown::Both).unwrap();
    }

    /// A call whose bytes come from elsewhere; an error among them cancels it.
    pub(crate) async fn send(
        &self,
        path: &str,
        bytes: mpsc::Receiver<Result<Bytes, &'static str>>,
    ) -> Result<http::Response<hyper::body::Incoming>, String> {
        let frames = tokio_stream::StreamExt::map(
            tokio_stream::wrappers::ReceiverStream::new(bytes),
            |bytes| bytes.map(Frame::data),
        );
        let request =
            Request::post(format!("https://n1{path}")).header("content-type", "application/grpc");
        let request = request.body(StreamBody::new(frames).boxed_unsync()).unwrap();
        self.sender.clone().send_request(request).await.map_err(|error| format!("{error:?}"))
    }

    /// An upload that does not end by itself.
    pub(crate) fn endless(&self, path: &'static str, message: Bytes) -> JoinHandle<()> {
        let mut prefix = vec![0];
        prefix.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
        let frames = std::iter::repeat_with(move || {
            [Ok(Frame::data(Bytes::from(prefix.clone()))), Ok(Frame::data(message.clone()))]
        });
        let body = StreamBody::new(tokio_stream::iter(frames.flatten())).boxed_unsync();
        let request = Request::post(format!("https://n1{path}"))
            .header("content-type", "application/grpc")
            .body(body)
            .unwrap();
        let mut sender = self.sender.clone();
        tokio::spawn(async move {
            drop(sender.send_request(request).await);
            std::future::pending::<()>().await;
        })
    }
}

pub(crate) fn write_identity(path: &Path, identity: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, identity).unwrap();
    std::fs::rename(new, path).unwrap();
}
