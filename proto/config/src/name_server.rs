// SPDX-License-Identifier: Apache-2.0
//! Whom to ask for names, and how.

use crate::Host;
use crate::endpoint::{EndpointError, read_host, split};
use crate::value::Text;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// The ports of DNS (RFC 1035), and of DNS over TLS (RFC 7858).
const PLAIN: u16 = 53;
const TLS: u16 = 853;

/// A name server, as systemd-resolved writes it: `192.0.2.53`, `192.0.2.53:5353`, `192.0.2.53#dns.example.com`,
/// `[2001:db8::53]:8853#dns.example.com`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct NameServer {
    address: IpAddr,
    port: Option<u16>,
    name: Option<Host>,
}

impl NameServer {
    /// One that is asked without TLS, at the usual port.
    #[must_use]
    pub fn plain(address: IpAddr) -> NameServer {
        NameServer { address, port: None, name: None }
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Where it is asked.
    #[must_use]
    pub fn socket(&self) -> SocketAddr {
        let usual = if self.name.is_some() { TLS } else { PLAIN };
        SocketAddr::new(self.address, self.port.unwrap_or(usual))
    }

    /// The name that its certificate has, if it is asked over TLS: a name or an address.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        self.name.as_ref().map(|name| match name {
            Host::Address(address) => address.to_string(),
            Host::Name(name) => name.to_string(),
        })
    }

    /// Whether the resolvers of C libraries can ask it: not over TLS, and at no other port.
    #[must_use]
    pub fn is_usual(&self) -> bool {
        self.name.is_none() && self.socket().port() == PLAIN
    }
}

impl FromStr for NameServer {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<NameServer, EndpointError> {
        let (place, name) = match text.split_once('#') {
            Some((place, name)) => (place, Some(read_host(name)?)),
            None => (text, None),
        };
        let (host, port) = match place.parse::<IpAddr>() {
            Ok(address) => (Host::Address(address), None),
            Err(_) => split(place)?,
        };
        match host {
            Host::Name(_) => Err(EndpointError::NotAnAddress),
            Host::Address(address) if address.is_unspecified() || address.is_multicast() => {
                Err(EndpointError::Nowhere(address))
            }
            Host::Address(address) => Ok(NameServer { address, port, name }),
        }
    }
}

impl fmt::Display for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address, self.port) {
            (address, None) => write!(f, "{address}")?,
            (IpAddr::V4(address), Some(port)) => write!(f, "{address}:{port}")?,
            (IpAddr::V6(address), Some(port)) => write!(f, "[{address}]:{port}")?,
        }
        self.name().map_or(Ok(()), |name| write!(f, "#{name}"))
    }
}

impl fmt::Debug for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Text for NameServer {
    const WHAT: &'static str = "a name server";
    const EXAMPLE: &'static str = "192.0.2.53#dns.example.com";
    const PATTERN: &'static str =
        "^(\\[[0-9A-Fa-f:.]+\\]:[0-9]+|[0-9.]+(:[0-9]+)?|[0-9A-Fa-f:.]+)(#[0-9A-Za-z.:-]+)?$";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_a_port_and_a_name() {
        let said = |text: &str| {
            let server: NameServer = text.parse().unwrap();
            let shown = format!("{} {:?} {}", server.socket(), server.name(), server.is_usual());
            assert_eq!(server.to_string().parse(), Ok(server), "{text}");
            shown
        };
        assert_eq!(said("192.0.2.53"), "192.0.2.53:53 None true");
        assert_eq!(said("192.0.2.53:53"), "192.0.2.53:53 None true");
        assert_eq!(said("2001:DB8::53"), "[2001:db8::53]:53 None true");
        assert_eq!(said("192.0.2.53:5353"), "192.0.2.53:5353 None false");
        assert_eq!(
            said("192.0.2.53#DNS.example.com"),
            "192.0.2.53:853 Some(\"dns.example.com\") false"
        );
        assert_eq!(
            said("[2001:db8::53]:8853#2001:db8::53"),
            "[2001:db8::53]:8853 Some(\"2001:db8::53\") false"
        );
    }

    #[test]
    fn what_is_none() {
        let refused = |text: &str| text.parse::<NameServer>().unwrap_err().to_string();
        assert!(refused("dns.example.com").contains("by its address alone"));
        assert!(refused("0.0.0.0").contains("nothing has"));
        assert!(refused("192.0.2.53:0").contains("port"));
        assert!(refused("192.0.2.53#").contains("host"));
        assert!(refused("192.0.2.53#a b").contains("host"));
        assert!(refused("192.0.2.53#a#b").contains("host"));
        assert!(refused("").contains("host"));
    }
}
