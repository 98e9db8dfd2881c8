// SPDX-License-Identifier: Apache-2.0
//! The API, called without `ctl`: for measurements, and for what `ctl` would never send.

use anyhow::{Context as _, Result};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, version::TLS13};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use serde::Deserialize;
use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};

/// What a client shows, and whom it trusts: all PEM.
#[derive(Clone, Debug, Deserialize)]
pub struct Credentials {
    /// The operator's CA.
    pub ca: String,
    /// The client's certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// As much of the client configuration as is needed here.
#[derive(Debug, Deserialize)]
struct Contexts {
    current: Option<String>,
    contexts: BTreeMap<String, Credentials>,
}

impl Credentials {
    /// Those of the current context (or of the only one) of a client configuration.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("Reading {}", path.display()))?;
        let mut file: Contexts =
            serde_yaml::from_str(&text).with_context(|| format!("Parsing {}", path.display()))?;
        let name = file
            .current
            .or_else(|| file.contexts.keys().next().cloned())
            .context("There is no context")?;
        file.contexts.remove(&name).with_context(|| format!("There is no context {name}"))
    }
}

/// Where a node is, and by which name it shows itself.
#[derive(Clone, Debug)]
pub struct Target {
    /// Host and port to dial.
    pub address: String,
    /// The name in its certificate.
    pub name: String,
}

/// TLS 1.3 with this client certificate, or with none.
pub fn tls(ca: &str, client: Option<&Credentials>) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(certificate.context("Reading the CA")?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots);
    let mut config = match client {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let chain: Result<Vec<_>, _> =
                CertificateDer::pem_slice_iter(client.certificate.as_bytes()).collect();
            let key = PrivateKeyDer::from_pem_slice(client.key.as_bytes())
                .context("Reading the client's key")?;
            builder
                .with_client_auth_cert(chain.context("Reading the client's certificate")?, key)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// One TLS connection.
pub async fn dial(
    target: &Target,
    tls: Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(target.name.clone()).map_err(std::io::Error::other)?;
    let stream = TcpStream::connect(&target.address).await?;
    // Without it each call waits for the peer's delayed acknowledgement.
    stream.set_nodelay(true)?;
    TlsConnector::from(tls).connect(name, stream).await
}

/// A gRPC channel of exactly one connection, which is made now.
pub async fn connect(
    target: &Target,
    tls: Arc<ClientConfig>,
    patience: Duration,
) -> Result<Channel> {
    let endpoint =
        Endpoint::try_from(format!("http://{}", target.address))?.connect_timeout(patience);
    let target = target.clone();
    let connector = tower::service_fn(move |_: http::Uri| {
        let (target, tls) = (target.clone(), Arc::clone(&tls));
        async move { dial(&target, tls).await.map(TokioIo::new) }
    });
    endpoint.connect_with_connector(connector).await.context("Connecting")
}
