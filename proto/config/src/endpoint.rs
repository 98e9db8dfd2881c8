// SPDX-License-Identifier: Apache-2.0
//! Where something listens: a host and a port.

use crate::Domain;
use crate::value::Text;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// A host and a port: `192.0.2.1:80`, `[2001:db8::1]:80`, `example.com:80`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    host: Host,
    port: u16,
}

/// A machine on the network.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// By its address.
    Address(IpAddr),
    /// By its name.
    Name(Domain),
}

/// Why a text does not say where something listens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// There is no port.
    #[error("the port is missing")]
    PortMissing,
    /// The port is none.
    #[error("the port is no number from 1 to 65535")]
    Port,
    /// The host is neither an address nor a name.
    #[error("the host is neither an IP address nor a domain name")]
    Host,
    /// An IPv6 address that a port follows is in brackets.
    #[error("an IPv6 address needs brackets, such as [2001:db8::1]")]
    Brackets,
    /// An address that nothing has.
    #[error("nothing has the address {0}")]
    Nowhere(IpAddr),
    /// A name, where no name can be resolved yet.
    #[error("a name server is known by its address alone")]
    NotAnAddress,
}

impl Endpoint {
    /// The host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Reads a host and the port that may follow it.
pub(crate) fn split(text: &str) -> Result<(Host, Option<u16>), EndpointError> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => {
            let address: Ipv6Addr = host.parse().map_err(|_| EndpointError::Host)?;
            let port = match rest.strip_prefix(':') {
                None if !rest.is_empty() => return Err(EndpointError::Host),
                port => port,
            };
            (Host::Address(address.into()), port)
        }
        None if text.parse::<Ipv6Addr>().is_ok() => return Err(EndpointError::Brackets),
        None => {
            let (host, port) =
                text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
            (read_host(host)?, port)
        }
    };
    if let Host::Address(address) = host
        && (address.is_unspecified() || address.is_multicast())
    {
        return Err(EndpointError::Nowhere(address));
    }
    Ok((host, port.map(read_port).transpose()?))
}

/// Reads a host without a port.
pub(crate) fn read_host(text: &str) -> Result<Host, EndpointError> {
    if let Ok(address) = text.parse() {
        return Ok(Host::Address(address));
    }
    // What looks like an IPv4 address is a wrong one: no top-level domain is a number (RFC 3696, section 2).
    let last = text.rsplit('.').next().unwrap_or_default();
    if !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(EndpointError::Host);
    }
    text.parse().map(Host::Name).map_err(|_| EndpointError::Host)
}

fn read_port(text: &str) -> Result<u16, EndpointError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port > 0 => Ok(port),
        Ok(_) | Err(_) => Err(EndpointError::Port),
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Endpoint, EndpointError> {
        let (host, port) = split(text)?;
        Ok(Endpoint { host, port: port.ok_or(EndpointError::PortMissing)? })
    }
}

impl fmt::Display for Host {
    /// As it stands before a port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Host::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Host::Name(name) => write!(f, "{name}"),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Text for Endpoint {
    const WHAT: &'static str = "a host and a port";
    const EXAMPLE: &'static str = "192.0.2.1:80";
    const PATTERN: &'static str = "^(\\[[0-9A-Fa-f:.]+\\]|[0-9A-Za-z.-]+):[0-9]+$";
}
