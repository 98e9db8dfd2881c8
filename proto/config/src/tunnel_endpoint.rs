// SPDX-License-Identifier: Apache-2.0
//! Where the other end of a tunnel is reached.

use crate::value::Text;
use crate::{Domain, Endpoint, EndpointError, Host};
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// An address and a port, or a name and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TunnelEndpoint {
    /// By its address, with the number of a link where that is one of a link alone: `[fe80::1%2]:51820`.
    Address(SocketAddr),
    /// By its name.
    Name(Domain, u16),
}

impl FromStr for TunnelEndpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<TunnelEndpoint, EndpointError> {
        if let Ok(address) = text.parse() {
            return Ok(TunnelEndpoint::Address(address));
        }
        let endpoint: Endpoint = text.parse()?;
        Ok(match endpoint.host() {
            Host::Address(address) => {
                TunnelEndpoint::Address(SocketAddr::new(*address, endpoint.port()))
            }
            Host::Name(name) => TunnelEndpoint::Name(name.clone(), endpoint.port()),
        })
    }
}

impl fmt::Display for TunnelEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TunnelEndpoint::Address(address) => address.fmt(f),
            TunnelEndpoint::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

impl Text for TunnelEndpoint {
    const WHAT: &'static str = "a host and a port";
    const EXAMPLE: &'static str = "vpn.example.com:51820";
    const PATTERN: &'static str = "^(\\[[0-9A-Fa-f:.%]+\\]|[0-9A-Za-z.-]+):[0-9]+$";
}
