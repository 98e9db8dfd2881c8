// SPDX-License-Identifier: Apache-2.0
//! What a certificate proves of the time.
//!
//! A machine without a battery begins at its image's build. Certificates made since then seem to be of the future, so no
//! server with NTS could be asked for the time. But one that a trusted authority has signed is there, and so its beginning has
//! passed: the clock is set to it, never back, and never without the signature.

use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme, StreamOwned,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    version::TLS13,
};
use std::{
    io::{self, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use stele_kernel::clock;
use stele_proto::internal::{TimeServer, TimeTask};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

/// How long a server may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a server proves nothing.
#[derive(Debug, thiserror::Error)]
enum ProofError {
    #[error("the name {0:?} is none of a server")]
    Name(String),
    #[error("finding {0}")]
    Find(String, #[source] io::Error),
    #[error("preparing TLS")]
    Tls(#[source] Error),
    #[error("preparing to judge certificates")]
    Judge(#[source] rustls::client::VerifierBuilderError),
    #[error("asking {0} for its certificate")]
    Ask(String, #[source] io::Error),
}

/// Sets the clock to the latest beginning that the certificates of these servers prove, if it is behind.
pub(super) fn apply(task: &TimeTask, roots: &[u8]) {
    for server in task.servers.iter().filter(|server| server.nts) {
        let roots = if server.ca.is_empty() { roots } else { server.ca.as_bytes() };
        match proven(server, roots) {
            Ok(Some(beginning)) => {
                println!(
                    "the certificate of {} proves that the clock is behind: setting it to {beginning}",
                    server.host
                );
                if let Err(error) = clock::set(beginning) {
                    eprintln!("time: setting the clock: {error}");
                }
            }
            Ok(None) => {}
            Err(error) => eprintln!("time: {}", crate::probe::explain(&error)),
        }
    }
}

/// When the certificate of a server begins to be valid, if that is still to come by this clock, and it is good otherwise.
fn proven(server: &TimeServer, roots: &[u8]) -> Result<Option<i64>, ProofError> {
    let shown = super::config::address(server);
    let host = server.host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host.clone()).map_err(|_| ProofError::Name(host.clone()))?;
    let port = u16::try_from(server.port).unwrap_or_default();
    let addresses = (host.as_str(), port).to_socket_addrs();
    let addresses = addresses.map_err(|source| ProofError::Find(shown.clone(), source))?;
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(CertificateDer::pem_slice_iter(roots).flatten());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let judge = WebPkiServerVerifier::builder_with_provider(store.into(), Arc::clone(&provider));
    let patient = Arc::new(Patient {
        inner: judge.build().map_err(ProofError::Judge)?,
        proven: Mutex::default(),
    });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(ProofError::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::<Patient>::clone(&patient))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"ntske/1".to_vec()];
    let config = Arc::new(config);
    let mut last = Ok(());
    for address in addresses {
        let connected = TcpStream::connect_timeout(&address, PATIENCE);
        let connection = ClientConnection::new(Arc::clone(&config), name.clone());
        let connection = connection.map_err(ProofError::Tls)?;
        last = connected.and_then(|stream| shake_hands(connection, stream));
        if last.is_ok() {
            break;
        }
    }
    last.map_err(|source| ProofError::Ask(shown, source))?;
    Ok(*patient.proven.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The server proves that the certificate is its own.
fn shake_hands(connection: ClientConnection, stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut stream = StreamOwned::new(connection, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    stream.conn.send_close_notify();
    stream.flush()
}

/// Judges as usual, but for certificates that are not valid yet.
#[derive(Debug)]
struct Patient {
    inner: Arc<WebPkiServerVerifier>,
    proven: Mutex<Option<i64>>,
}

impl ServerCertVerifier for Patient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judge = |at| {
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, at)
        };
        let judged = judge(now);
        let early = matches!(
            judged,
            Err(Error::InvalidCertificate(
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }
            ))
        );
        if !early {
            return judged;
        }
        let beginnings = intermediates.iter().chain([end_entity]).filter_map(beginning);
        let Some(latest) = beginnings.max() else { return judged };
        let at = Duration::from_secs(u64::try_from(latest).unwrap_or_default());
        let verified = judge(UnixTime::since_unix_epoch(at))?;
        *self.proven.lock().unwrap_or_else(PoisonError::into_inner) = Some(latest);
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Seconds since the epoch.
fn beginning(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(parsed.validity().not_before.timestamp())
}
