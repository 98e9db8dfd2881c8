// SPDX-License-Identifier: Apache-2.0
//! TLS 1.3, with client certificates on a configured node.
//!
//! A client certificate is issued by the operator's CA itself and says that it is for client authentication. What stands
//! between is not looked at: so a certificate that a node's intermediate issued is refused whatever it holds, and a stolen node
//! makes no clients.
//!
//! Sessions are not resumed: each connection verifies its client anew.

use crate::{certificate::Certificate, identity::Mode};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{
        NoServerSessionStorage, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};
use std::{io, sync::Arc};

/// Why there is no TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The operator's CA is no certificate.
    #[error("Reading the CA certificate: {reason}")]
    Ca {
        /// Why.
        reason: String,
    },
    /// The parts do not go together.
    #[error("Configuring TLS")]
    Configure {
        /// Why.
        source: Error,
    },
}

/// The TLS configuration that serves this certificate in this mode.
pub fn configure(certificate: &Certificate, mode: &Mode) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let configure = |source| TlsError::Configure { source };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(configure)?;
    let builder = match mode {
        Mode::Maintenance => builder.with_no_client_auth(),
        Mode::Running(credentials) => {
            builder.with_client_cert_verifier(verifier(&credentials.ca, provider)?)
        }
    };
    let mut config = builder
        .with_single_cert(certificate.chain.clone(), certificate.key.clone_key())
        .map_err(configure)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn verifier(
    ca: &str,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let refuse = |reason: String| TlsError::Ca { reason };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
        roots.add(certificate).map_err(|error| refuse(error.to_string()))?;
    }
    let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| refuse(error.to_string()))?;
    Ok(Arc::new(ClientVerifier { inner }))
}

/// webpki's verifier, and stricter: no intermediates, and the purpose must be written in the certificate.
#[derive(Debug)]
struct ClientVerifier {
    inner: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(leaf, &[], now)?;
        // webpki takes a certificate without an extended key usage for one of every usage.
        let (_, parsed) =
            x509_parser::parse_x509_certificate(leaf).map_err(|_| CertificateError::BadEncoding)?;
        match parsed.extended_key_usage() {
            Ok(Some(usage)) if usage.value.client_auth => Ok(verified),
            Ok(_) => Err(CertificateError::InvalidPurpose.into()),
            Err(_) => Err(CertificateError::BadEncoding.into()),
        }
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

/// Why a handshake failed, in a sentence for the audit log.
#[must_use]
pub fn explain(error: &io::Error) -> String {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return format!("the connection broke in the handshake: {error}");
    };
    match tls {
        Error::InvalidMessage(_) => "the peer does not speak TLS".to_owned(),
        Error::NoCertificatesPresented => "no client certificate".to_owned(),
        Error::PeerIncompatible(reason) => {
            format!("the peer does not speak TLS 1.3 the way this node does: {reason:?}")
        }
        Error::NoApplicationProtocol => "the peer does not offer HTTP/2 (ALPN h2)".to_owned(),
        Error::AlertReceived(alert) => {
            format!("the peer refused this node's certificate or parameters: {alert:?}")
        }
        Error::InvalidCertificate(reason) => match reason {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the client certificate has expired, by this node's clock".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the client certificate is not valid yet, by this node's clock".to_owned()
            }
            CertificateError::UnknownIssuer => {
                "the client certificate was not issued by this node's CA".to_owned()
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                "the client certificate is not made for client authentication".to_owned()
            }
            other => format!("the client certificate is not good: {other}"),
        },
        other => other.to_string(),
    }
}
