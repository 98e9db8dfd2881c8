// SPDX-License-Identifier: Apache-2.0
//! A TCP connection that is made and closed again.

use super::{Seen, dns::Names};
use serde::{Deserialize, Deserializer, de};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};
use stele_config::{Endpoint, Host};
use tokio::net::TcpStream;

/// What is connected to.
#[derive(Debug, Deserialize)]
pub(super) struct Tcp {
    #[serde(deserialize_with = "text")]
    address: Endpoint,
}

#[derive(Debug, thiserror::Error)]
#[error("{address}")]
struct ConnectError {
    address: IpAddr,
    source: io::Error,
}

/// Reads a value from its text.
pub(super) fn text<'de, D: Deserializer<'de>, T: FromStr>(deserializer: D) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| de::Error::custom(format!("{text:?} is not what it should be")))
}

impl Tcp {
    pub(super) fn what(&self) -> String {
        format!("connecting to {}", self.address)
    }

    pub(super) async fn attempt(&self, names: &Names) -> Seen {
        let port = self.address.port();
        let addresses = match self.address.host() {
            // No need to name the address a second time.
            Host::Address(address) => {
                TcpStream::connect(SocketAddr::new(*address, port)).await?;
                return Ok(format!("{} took a connection", self.address));
            }
            Host::Name(name) => names.host(name.as_str()).await?,
        };
        let mut failed = None;
        for address in addresses {
            match TcpStream::connect(SocketAddr::new(address, port)).await {
                Ok(_) => return Ok(format!("{} took a connection at {address}", self.address)),
                Err(source) => failed = Some(ConnectError { address, source }),
            }
        }
        Err(failed.map_or_else(|| "the name has no address".into(), Into::into))
    }
}
