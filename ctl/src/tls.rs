// SPDX-License-Identifier: Apache-2.0
//! TLS as ctl speaks it: 1.3 only, and never to a node that has not been authenticated.
//!
//! A configured node is authenticated by its chain (leaf ← node's intermediate ← the context's CA, all of them for
//! server authentication), its name, and whom its intermediate was made for. A node in maintenance mode is authenticated by the SHA-256 of the certificate
//! that it shows on its console.

use crate::{
    context::Credentials,
    verifier::{Fleet, Pin},
};
use anyhow::{Context as _, Result, ensure};
use rustls::{
    ClientConfig, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use sha2::{Digest as _, Sha256};
use std::{fmt, str::FromStr, sync::Arc};

/// SHA-256 of a DER certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a DER certificate.
    pub(crate) fn of(der: &[u8]) -> Fingerprint {
        Fingerprint(Sha256::digest(der).into())
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    /// Reads `SHA256:…` or bare hex, with or without colons, in any case.
    fn from_str(text: &str) -> Result<Fingerprint, String> {
        let hex = match text.get(..7) {
            Some(prefix) if prefix.eq_ignore_ascii_case("sha256:") => &text[7..],
            _ => text,
        };
        let digits: Vec<u8> = hex
            .chars()
            .filter(|c| !matches!(c, ':' | ' '))
            .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect::<Option<_>>()
            .ok_or(
                "a fingerprint is SHA256: and hexadecimal digits, as the node's console shows it",
            )?;
        let bytes: Vec<u8> = digits
            .chunks(2)
            .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
            .collect();
        if digits.len() != 64 {
            return Err(format!(
                "a SHA-256 fingerprint has 64 hexadecimal digits, and this one has {}",
                digits.len()
            ));
        }
        Ok(Fingerprint(bytes.try_into().map_err(|_| "a SHA-256 fingerprint has 32 bytes")?))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SHA256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn http2(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// For a configured node: mutual TLS with a context's credentials.
pub(crate) fn mutual(credentials: &Credentials) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(credentials.ca.as_bytes()) {
        roots
            .add(certificate.context("Reading the context's ca")?)
            .context("Reading the context's ca")?;
    }
    ensure!(!roots.is_empty(), "The context's ca holds no certificate");
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(credentials.certificate.as_bytes())
            .collect::<Result<_, _>>()
            .context("Reading the context's certificate")?;
    ensure!(!chain.is_empty(), "The context's certificate holds no certificate");
    let key = PrivateKeyDer::from_pem_slice(credentials.key.as_bytes())
        .context("Reading the context's key")?;
    let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .context("Reading the context's ca")?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Fleet::new(chains)))
        .with_client_auth_cert(chain, key)
        .context("The context's key does not belong to its certificate")?;
    Ok(http2(config))
}

/// For a node in maintenance mode: whoever holds the key of the certificate with this fingerprint.
pub(crate) fn pinned(expected: Option<Fingerprint>) -> Result<(Arc<ClientConfig>, Arc<Pin>)> {
    let pin = Arc::new(Pin::new(expected, provider()));
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&pin) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    Ok((http2(config), pin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_in_every_spelling() {
        let hex = "00ff".repeat(16);
        let colons = "00:FF:".repeat(16);
        let expected = format!("SHA256:{hex}");
        for text in [
            hex.as_str(),
            &hex.to_uppercase(),
            &expected,
            &expected.to_lowercase(),
            colons.trim_end_matches(':'),
            &format!("sha256:{}", colons.trim_end_matches(':')),
        ] {
            assert_eq!(text.parse::<Fingerprint>().unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn half_a_fingerprint_is_none() {
        assert!("SHA256:".parse::<Fingerprint>().unwrap_err().contains("has 0"));
        assert!("SHA256:00ff".parse::<Fingerprint>().unwrap_err().contains("has 4"));
        assert!("SHA1:00ff".parse::<Fingerprint>().unwrap_err().contains("hexadecimal"));
        assert!("é".repeat(64).parse::<Fingerprint>().is_err());
        assert!("0".repeat(63).parse::<Fingerprint>().is_err());
    }

    #[test]
    fn the_fingerprint_is_sha256_of_the_certificate() {
        assert_eq!(
            Fingerprint::of(b"abc").to_string(),
            "SHA256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
