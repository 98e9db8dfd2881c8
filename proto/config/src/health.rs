// SPDX-License-Identifier: Apache-2.0
//! Health checks: what must work besides the system itself.

use crate::integer::Integer;
use crate::node::Node;
use crate::record::{Check, record};
use crate::report::Report;
use crate::span::Span;
use crate::{Domain, Endpoint, Name, Need, Url};
use std::net::IpAddr;
use std::time::Duration;

/// Most of them. All run at once, in one process.
pub(crate) const MAX_CHECKS: usize = 64;

record! {
    /// Something that must work besides the system itself. It has exactly one of `http`, `tcp`, `dns` and `service`,
    /// which says what is tried.
    ///
    /// While a new image is on trial, everything that is required must be passing by its deadline, or the machine goes
    /// back to the image before. What failed already under that one does not count against the new. At all other times a
    /// check is watched and told (`ctl health`), and nothing more.
    pub(crate) struct HealthCheckDocument as "HealthCheck" {
        /// What it is called. Each has at most one document.
        name: Name,
        /// Whether an image is kept under which it fails.
        need: Need = "required",
        /// How long to wait after one try before the next.
        interval: Span<1, 3600> = "10s",
        /// How long a try may take.
        timeout: Span<1, 60> = "5s",
        /// By when, after the start of a new image, it must be passing.
        deadline: Span<10, 3600> = "3m",
        /// How many tries in a row must succeed before it counts as passing.
        successes: Integer<1, 100> = 3,
        /// Ask a web server.
        http: Option<HttpProbe>,
        /// Connect by TCP.
        tcp: Option<TcpProbe>,
        /// Resolve a name.
        dns: Option<DnsProbe>,
        /// Watch a service of this machine.
        service: Option<ServiceProbe>,
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

record! {
    /// Watches a service of this machine (`ctl get service`).
    pub struct ServiceProbe as "ServiceProbe" {
        /// The service's name.
        name: Name,
        /// How long it must have been ready without a restart.
        stable_for as "stableFor": Span<1, 3600> = "30s",
    }
}

/// A health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    document: HealthCheckDocument,
    probe: Probe,
}

/// What a health check tries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Ask a web server.
    Http(HttpProbe),
    /// Connect by TCP.
    Tcp(TcpProbe),
    /// Resolve a name.
    Dns(DnsProbe),
    /// Watch a service of this machine.
    Service(ServiceProbe),
}

/// The keys of which there is exactly one.
const PROBES: &str = "exactly one of http, tcp, dns, service";

impl HealthCheckDocument {
    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    /// All that it tries, each with its key.
    fn probes(&self) -> Vec<(&'static str, Probe)> {
        let HealthCheckDocument { http, tcp, dns, service, .. } = self;
        let probes = [
            ("http", http.clone().map(Probe::Http)),
            ("tcp", tcp.clone().map(Probe::Tcp)),
            ("dns", dns.clone().map(Probe::Dns)),
            ("service", service.clone().map(Probe::Service)),
        ];
        probes.into_iter().filter_map(|(key, probe)| Some((key, probe?))).collect()
    }
}

impl Check for HealthCheckDocument {
    fn check(&self, node: &Node, report: &mut Report) {
        match self.probes().as_slice() {
            [] => report.find(node.line, "says nothing of what to try", PROBES),
            [_] => {}
            [(first, _), others @ ..] => {
                for (key, _) in others {
                    report.find_at(node, key, format!("is there besides {first}"), PROBES);
                }
            }
        }
    }
}

impl HealthCheck {
    /// Of a document that is good in itself.
    pub(crate) fn new(document: HealthCheckDocument) -> Option<HealthCheck> {
        let (_, probe) = document.probes().pop()?;
        Some(HealthCheck { document, probe })
    }

    pub(crate) fn document(&self) -> &HealthCheckDocument {
        &self.document
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.document.name
    }

    /// Whether an image is kept under which it fails.
    #[must_use]
    pub fn need(&self) -> Need {
        self.document.need
    }

    /// How long to wait after one try before the next.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.document.interval.duration()
    }

    /// How long a try may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.document.timeout.duration()
    }

    /// By when, after the start of a new image, it must be passing.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.document.deadline.duration()
    }

    /// How many tries in a row must succeed before it counts as passing: 1 to 100.
    #[must_use]
    pub fn successes(&self) -> u32 {
        self.document.successes.value()
    }

    /// What it tries.
    #[must_use]
    pub fn probe(&self) -> &Probe {
        &self.probe
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

impl Check for ServiceProbe {}

impl ServiceProbe {
    /// The service's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// How long it must have been ready without a restart.
    #[must_use]
    pub fn stable_for(&self) -> Duration {
        self.stable_for.duration()
    }
}
