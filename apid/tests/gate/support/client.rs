// SPDX-License-Identifier: Apache-2.0
//! A client with its own TLS and HTTP/2.

use super::pki::Identity;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{body::Frame, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use std::{net::SocketAddr, sync::Arc};
use tokio::{net::TcpStream, sync::mpsc, task::JoinHandle};

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
    /// What is no gRPC: the status, the form and the text of the answer to a GET.
    pub(crate) async fn get(&self, path: &str, accept: &str) -> (u16, String, String) {
        let request = Request::get(format!("https://n1{path}")).header("accept", accept);
        let request =
            request.body(http_body_util::Empty::new().map_err(|no| match no {}).boxed_unsync());
        let mut sender = self.sender.clone();
        sender.ready().await.unwrap();
        let response = sender.send_request(request.unwrap()).await.unwrap();
        let (status, form) = (response.status(), response.headers()["content-type"].clone());
        let text = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(text.to_vec()).unwrap();
        (status.as_u16(), form.to_str().unwrap().to_owned(), text)
    }

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
