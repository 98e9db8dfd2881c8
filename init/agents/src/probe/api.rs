// SPDX-License-Identifier: Apache-2.0
//! The machine's own API, as somebody outside finds it: it takes connections and has its certificate.
//!
//! The handshake is followed up to the point at which the server has proved who it is. What would come next is the client's
//! certificate, which this agent has none of, so it leaves without a word: the API need not refuse it.

use super::{Seen, tcp::text};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    version::TLS13,
};
use serde::Deserialize;
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Where the API is, and whom it must prove to be.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Api {
    #[serde(deserialize_with = "text")]
    address: SocketAddr,
    ca: String,
    server_name: String,
}

#[derive(Debug, thiserror::Error)]
enum ApiError {
    #[error("the authority's certificate cannot be used")]
    Authority,
    #[error("it hangs up in the middle of the handshake")]
    HungUp,
    #[error("its handshake as {name} fails")]
    Handshake { name: String, source: rustls::Error },
}

impl Api {
    pub(super) fn what(&self) -> String {
        format!("connecting to the API at {}", self.address)
    }

    pub(super) async fn attempt(&self) -> Seen {
        let fail = |source| ApiError::Handshake { name: self.server_name.clone(), source };
        let name = ServerName::try_from(self.server_name.clone())?;
        let mut tls = ClientConnection::new(self.config()?, name).map_err(fail)?;
        let mut stream = TcpStream::connect(self.address).await?;
        while tls.is_handshaking() {
            let mut bytes = Vec::new();
            while tls.wants_write() {
                tls.write_tls(&mut bytes)?;
            }
            stream.write_all(&bytes).await?;
            let mut buffer = [0; 4096];
            let length = stream.read(&mut buffer).await?;
            let mut received = buffer.get(..length).unwrap_or_default();
            if received.is_empty() {
                return Err(ApiError::HungUp.into());
            }
            while !received.is_empty() {
                tls.read_tls(&mut received)?;
                tls.process_new_packets().map_err(fail)?;
            }
        }
        Ok(format!("the API answers as {}", self.server_name))
    }

    fn config(&self) -> Result<Arc<ClientConfig>, Box<dyn std::error::Error + Send + Sync>> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(
            CertificateDer::pem_slice_iter(self.ca.as_bytes()).flatten(),
        );
        if roots.is_empty() {
            return Err(ApiError::Authority.into());
        }
        let mut config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}
