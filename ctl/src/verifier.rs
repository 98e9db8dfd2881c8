// SPDX-License-Identifier: Apache-2.0
//! Who is let be a node: [`Fleet`] for configured ones, [`Pin`] for those in maintenance mode.

use crate::{pki, tls::Fingerprint};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::{
    fmt,
    sync::{Arc, Mutex},
};

/// Accepts the nodes of a fleet, each as itself.
///
/// A node makes its serving certificates by itself, with an intermediate of its own. So a chain to the operator's CA and a
/// name in the leaf say only that *some* node of the fleet claims that name. What a node cannot choose is the name that the
/// operator gave its intermediate: where a node is expected by name, it must be that. A stolen node is then no other.
/// Where one is expected by address, which no operator knows beforehand, the chain and the address must do.
#[derive(Debug)]
pub(crate) struct Fleet {
    chains: Arc<WebPkiServerVerifier>,
}

impl Fleet {
    /// The fleet of those that this verifier accepts.
    pub(crate) fn new(chains: Arc<WebPkiServerVerifier>) -> Fleet {
        Fleet { chains }
    }
}

/// A node that claims another's name.
#[derive(Debug)]
pub(crate) struct Impostor {
    issuer: String,
    expected: String,
}

impl fmt::Display for Impostor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Impostor { issuer, expected } = self;
        write!(
            f,
            "the node that answers has the identity \"{issuer}\", and claims to be \"{expected}\""
        )
    }
}

impl std::error::Error for Impostor {}

impl ServerCertVerifier for Fleet {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.chains.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        let ServerName::DnsName(expected) = server_name else { return Ok(verified) };
        // The chain holds, so this is the subject of the certificate that signed the leaf.
        let issuer = pki::issuer_name(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        if issuer.eq_ignore_ascii_case(expected.as_ref()) {
            return Ok(verified);
        }
        let impostor = Impostor { issuer, expected: expected.as_ref().to_owned() };
        Err(CertificateError::Other(OtherError(Arc::new(impostor))).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// What a node presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Presented {
    /// The fingerprint of its certificate.
    pub(crate) fingerprint: Fingerprint,
    /// True if it is signed by another: the node has been configured.
    pub(crate) configured: bool,
}

/// Accepts one certificate, by its fingerprint, and remembers which was presented.
#[derive(Debug)]
pub(crate) struct Pin {
    expected: Option<Fingerprint>,
    presented: Mutex<Option<Presented>>,
    provider: Arc<CryptoProvider>,
}

impl Pin {
    /// Accepts this one, or none.
    pub(crate) fn new(expected: Option<Fingerprint>, provider: Arc<CryptoProvider>) -> Pin {
        Pin { expected, presented: Mutex::new(None), provider }
    }

    /// What the node presented, once it did.
    pub(crate) fn presented(&self) -> Option<Presented> {
        self.presented.lock().map(|presented| *presented).unwrap_or_default()
    }
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let fingerprint = Fingerprint::of(end_entity);
        if let Ok(mut presented) = self.presented.lock() {
            *presented = Some(Presented { fingerprint, configured: !intermediates.is_empty() });
        }
        if self.expected == Some(fingerprint) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
