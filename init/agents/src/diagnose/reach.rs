// SPDX-License-Identifier: Apache-2.0
//! Whether a server can be reached: by TCP, TLS or HTTP.
//!
//! A handshake goes on with a server that is not trusted, so that it can be told whom it says it is. Nothing is said to it after that.

use super::{DiagnoseError, addresses, micros, plain};
use crate::{
    fetch,
    probe::{Names, Surroundings, explain, http},
};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use std::{
    error::Error,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};
use stele_config::{Endpoint, Host};
use stele_proto::v1::{
    Family, HttpFacts, HttpProbe, ProbeRequest, ProbeResponse, TcpProbe, TlsFacts, TlsProbe,
    probe_request::Target,
};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;

/// Bytes of a body that are taken.
const MOST_BODY: u64 = 1024 * 1024;
/// Certificates of a server that are passed on, and bytes of each.
const MOST_CERTIFICATES: usize = 10;
const LONGEST_CERTIFICATE: usize = 64 * 1024;

type Failure = Box<dyn Error + Send + Sync>;

pub(super) async fn run(
    request: ProbeRequest,
    surroundings: Surroundings,
) -> Result<ProbeResponse, DiagnoseError> {
    let begun = Instant::now();
    let patience = Duration::from_millis(request.timeout_ms.into());
    let mut seen = ProbeResponse::default();
    let tried = timeout(patience, attempt(request.target, surroundings, &mut seen)).await;
    let result = tried.unwrap_or_else(|_| Err(format!("not done within {patience:?}").into()));
    seen.ok = result.is_ok();
    if let Err(error) = result {
        seen.reason = plain(&explain(error.as_ref()));
    }
    seen.total_us = micros(begun.elapsed());
    Ok(seen)
}

async fn attempt(
    target: Option<Target>,
    surroundings: Surroundings,
    seen: &mut ProbeResponse,
) -> Result<(), Failure> {
    let roots = fetch::roots(&surroundings.roots);
    match target {
        Some(Target::Tcp(TcpProbe { address })) => {
            connect(&address.parse()?, &surroundings.names, seen).await.map(drop)
        }
        Some(Target::Tls(probe)) => handshake(probe, &roots, &surroundings.names, seen).await,
        Some(Target::Http(probe)) => ask(probe, &roots, surroundings.names, seen).await,
        None => Err("there is nothing to try".into()),
    }
}

/// Connects to the first address that takes it.
async fn connect(
    place: &Endpoint,
    names: &Names,
    seen: &mut ProbeResponse,
) -> Result<TcpStream, Failure> {
    let begun = Instant::now();
    let addresses = addresses(&bare(place), Family::Unspecified, names).await?;
    seen.resolve_us = micros(begun.elapsed());
    let mut failed: Failure = "the name has no address".into();
    for address in addresses {
        let address = SocketAddr::new(address, place.port());
        seen.address = address.to_string();
        let begun = Instant::now();
        match TcpStream::connect(address).await {
            Ok(stream) => {
                seen.connect_us = micros(begun.elapsed());
                return Ok(stream);
            }
            Err(error) => failed = format!("connecting to {address}: {}", explain(&error)).into(),
        }
    }
    Err(failed)
}

/// The host without the brackets of an address.
fn bare(place: &Endpoint) -> String {
    match place.host() {
        Host::Address(address) => address.to_string(),
        Host::Name(name) => name.as_str().to_owned(),
    }
}

async fn handshake(
    probe: TlsProbe,
    roots: &[u8],
    names: &Names,
    seen: &mut ProbeResponse,
) -> Result<(), Failure> {
    let place: Endpoint = probe.address.parse()?;
    let name = match probe.server_name.as_str() {
        "" => bare(&place),
        name => name.to_owned(),
    };
    let name = ServerName::try_from(name)?;
    let witness = Arc::new(Witness::new(roots));
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&witness.provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&witness) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    config.alpn_protocols = probe.alpn.into_iter().map(String::into_bytes).collect();
    let stream = connect(&place, names, seen).await?;
    let begun = Instant::now();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    seen.handshake_us = micros(begun.elapsed());
    let (_, session) = stream.get_ref();
    let certificates = session.peer_certificates().unwrap_or_default().iter();
    let debug = |value: Option<String>| value.unwrap_or_default();
    seen.tls = Some(TlsFacts {
        version: debug(session.protocol_version().map(|version| format!("{version:?}"))),
        cipher: debug(session.negotiated_cipher_suite().map(|s| format!("{:?}", s.suite()))),
        alpn: plain(&String::from_utf8_lossy(session.alpn_protocol().unwrap_or_default())),
        certificates: certificates
            .take(MOST_CERTIFICATES)
            .filter(|certificate| certificate.len() <= LONGEST_CERTIFICATE)
            .map(|certificate| certificate.to_vec())
            .collect(),
    });
    match witness.doubt.get() {
        Some(doubt) => Err(doubt.clone().into()),
        None => Ok(()),
    }
}

/// Judges a server's certificates as the machine does, writes down what it finds, and lets all pass.
#[derive(Debug)]
struct Witness {
    provider: Arc<CryptoProvider>,
    /// None for a machine that trusts no one.
    judge: Option<Arc<WebPkiServerVerifier>>,
    doubt: OnceLock<rustls::Error>,
}

impl Witness {
    fn new(roots: &[u8]) -> Witness {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(CertificateDer::pem_slice_iter(roots).flatten());
        let judge = WebPkiServerVerifier::builder_with_provider(store.into(), provider.clone());
        Witness { provider, judge: judge.build().ok(), doubt: OnceLock::new() }
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judged = match &self.judge {
            Some(judge) => judge
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .map(drop),
            None => Err(CertificateError::UnknownIssuer.into()),
        };
        if let Err(doubt) = judged {
            // There is one judgement for each handshake.
            self.doubt.get_or_init(|| doubt);
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

async fn ask(
    probe: HttpProbe,
    roots: &[u8],
    names: Names,
    seen: &mut ProbeResponse,
) -> Result<(), Failure> {
    let client = http::client(roots, Arc::new(names))?;
    let request = if probe.head { client.head(&probe.url) } else { client.get(&probe.url) };
    let mut answer = request.send().await?;
    seen.address = answer.remote_addr().map(|address| address.to_string()).unwrap_or_default();
    let header = |name: &str| {
        let value = answer.headers().get(name).map(|value| value.as_bytes()).unwrap_or_default();
        plain(&String::from_utf8_lossy(value))
    };
    let facts = HttpFacts {
        status: answer.status().as_u16().into(),
        version: format!("{:?}", answer.version()),
        content_type: header("content-type"),
        location: header("location"),
        server: header("server"),
        body_bytes: 0,
    };
    let facts = seen.http.insert(facts);
    while let Some(chunk) = answer.chunk().await? {
        let length = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        facts.body_bytes = facts.body_bytes.saturating_add(length).min(MOST_BODY);
        if facts.body_bytes == MOST_BODY {
            break;
        }
    }
    Ok(())
}
