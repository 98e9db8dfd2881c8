// SPDX-License-Identifier: Apache-2.0
//! A question to a web server.

use super::{Seen, dns::Names};
use crate::fetch;
use reqwest::{
    Client, StatusCode,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};
use serde::Deserialize;
use std::{net::SocketAddr, sync::Arc};

/// Most bytes of a body that are awaited.
const MOST_BODY: usize = 64 * 1024;

/// What is asked, and which status is right.
#[derive(Debug, Deserialize)]
pub(super) struct Http {
    url: String,
    status: u16,
}

/// Why nothing can be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// TLS could not be set up.
    #[error("setting up TLS")]
    Tls(#[source] rustls::Error),
    /// The client could not be made.
    #[error("setting up HTTP")]
    Http(#[source] reqwest::Error),
}

#[derive(Debug, thiserror::Error)]
enum HttpError {
    #[error("the answer is {found}, not {expected}")]
    Status { found: StatusCode, expected: u16 },
    #[error("the answer is {status}, but its body breaks off")]
    Body { status: StatusCode, source: reqwest::Error },
}

/// A client that keeps no connection, follows nothing, and resolves names as this agent does.
pub(crate) fn client(roots: &[u8], names: Arc<Names>) -> Result<Client, ClientError> {
    Client::builder()
        .tls_backend_preconfigured(fetch::tls(roots).map_err(ClientError::Tls)?)
        .dns_resolver(Resolver(names))
        .redirect(Policy::none())
        .pool_max_idle_per_host(0)
        .user_agent(concat!("stele-probe/", env!("CARGO_PKG_VERSION")))
        .referer(false)
        .no_proxy()
        .build()
        .map_err(ClientError::Http)
}

struct Resolver(Arc<Names>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let names = Arc::clone(&self.0);
        Box::pin(async move {
            let addresses = names.host(name.as_str()).await?;
            // The port is the URL's.
            let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

impl Http {
    pub(super) fn what(&self) -> String {
        format!("GET {}", self.url)
    }

    pub(super) async fn attempt(&self, client: &Client) -> Seen {
        let mut answer = client.get(&self.url).send().await?;
        let status = answer.status();
        if status.as_u16() != self.status {
            return Err(HttpError::Status { found: status, expected: self.status }.into());
        }
        let mut left = MOST_BODY;
        while let Some(chunk) =
            answer.chunk().await.map_err(|source| HttpError::Body { status, source })?
        {
            left = left.saturating_sub(chunk.len());
            if left == 0 {
                break;
            }
        }
        Ok(status.to_string())
    }
}
