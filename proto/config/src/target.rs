// SPDX-License-Identifier: Apache-2.0
//! What is tried over the network, by probes and by health checks.

use crate::endpoint::{EndpointError, read_host};
use crate::integer::Integer;
use crate::node::Node;
use crate::record::{Check, record};
use crate::report::Report;
use crate::value::Text;
use crate::{Domain, Endpoint, Host, Url};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

record! {
    /// Sends an echo request (ICMP), which must be answered.
    pub struct IcmpProbe as "IcmpProbe" {
        /// Where to: an address or a name. Of a name with several addresses, one that answers is enough.
        address: PingHost,
    }
}

record! {
    /// Asks a web server with GET. Redirects are not followed; what the body says is not looked at.
    pub struct HttpProbe as "HttpProbe" {
        /// What is asked. For `https`, the server's certificate must chain to one of the image's trust roots.
        url: Url,
        /// The status that the answer must have.
        status: Integer<100, 599> = 200,
    }
}

record! {
    /// Connects by TCP, and closes the connection again.
    pub struct TcpProbe as "TcpProbe" {
        /// Where to: a host and a port.
        address: Endpoint,
    }
}

record! {
    /// Resolves a name, which must have an address.
    pub struct DnsProbe as "DnsProbe" {
        /// The name.
        name: Domain,
        /// The name server that is asked. Without it, those that the machine uses.
        server: Option<IpAddr>,
    }
}

/// What is tried over the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Send an echo request.
    Icmp(IcmpProbe),
    /// Ask a web server.
    Http(HttpProbe),
    /// Connect by TCP.
    Tcp(TcpProbe),
    /// Resolve a name.
    Dns(DnsProbe),
}

/// A machine that is to answer: by its address or by its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PingHost(Host);

/// All that a document tries, each with its key.
pub(crate) fn targets(
    icmp: Option<&IcmpProbe>,
    http: Option<&HttpProbe>,
    tcp: Option<&TcpProbe>,
    dns: Option<&DnsProbe>,
) -> Vec<(&'static str, Target)> {
    let all = [
        ("icmp", icmp.cloned().map(Target::Icmp)),
        ("http", http.cloned().map(Target::Http)),
        ("tcp", tcp.cloned().map(Target::Tcp)),
        ("dns", dns.cloned().map(Target::Dns)),
    ];
    all.into_iter().filter_map(|(key, target)| Some((key, target?))).collect()
}

/// Finds what is wrong unless exactly one of the keys is there.
pub(crate) fn check_one<T>(
    found: &[(&'static str, T)],
    keys: &str,
    node: &Node,
    report: &mut Report,
) {
    let expected = format!("exactly one of {keys}");
    match found {
        [] => report.find(node.line, "says nothing of what to try", expected),
        [_] => {}
        [(first, _), others @ ..] => {
            for (key, _) in others {
                report.find_at(node, key, format!("is there besides {first}"), expected.as_str());
            }
        }
    }
}

impl Check for IcmpProbe {
    fn check(&self, node: &Node, report: &mut Report) {
        if let Host::Address(IpAddr::V6(address)) = self.address.host()
            && address.is_unicast_link_local()
        {
            let message = format!("{address} could be on any link");
            report.find_at(
                node,
                "address",
                message,
                "an address that is not link-local, or a name",
            );
        }
    }
}

impl IcmpProbe {
    /// Who must answer.
    #[must_use]
    pub fn address(&self) -> &PingHost {
        &self.address
    }
}

impl Check for HttpProbe {}

impl HttpProbe {
    /// What is asked.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The status that the answer must have: 100 to 599.
    #[must_use]
    pub fn status(&self) -> u32 {
        self.status.value()
    }
}

impl Check for TcpProbe {}

impl TcpProbe {
    /// Where to connect.
    #[must_use]
    pub fn address(&self) -> &Endpoint {
        &self.address
    }
}

impl Check for DnsProbe {
    fn check(&self, node: &Node, report: &mut Report) {
        if let Some(server) = self.server.filter(|ip| ip.is_unspecified() || ip.is_multicast()) {
            let message = format!("no server can have {server}");
            report.find_at(node, "server", message, "a unicast address");
        }
    }
}

impl DnsProbe {
    /// The name to resolve.
    #[must_use]
    pub fn name(&self) -> &Domain {
        &self.name
    }

    /// The name server that is asked, where one is named.
    #[must_use]
    pub fn server(&self) -> Option<IpAddr> {
        self.server
    }
}

impl PingHost {
    /// The host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.0
    }
}

impl FromStr for PingHost {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<PingHost, EndpointError> {
        match read_host(text)? {
            Host::Address(address) if address.is_unspecified() || address.is_multicast() => {
                Err(EndpointError::Nowhere(address))
            }
            host => Ok(PingHost(host)),
        }
    }
}

impl fmt::Display for PingHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Host::Address(address) => write!(f, "{address}"),
            Host::Name(name) => write!(f, "{name}"),
        }
    }
}

impl Text for PingHost {
    const WHAT: &'static str = "an address or a name";
    const EXAMPLE: &'static str = "192.0.2.1";
    const PATTERN: &'static str = "^([0-9A-Za-z.-]+|[0-9A-Fa-f:.]+)$";
}
