// SPDX-License-Identifier: Apache-2.0
//! Probes: what is watched over the network for as long as it is configured.

use crate::Name;
use crate::integer::Integer;
use crate::node::Node;
use crate::record::{Check, record};
use crate::report::Report;
use crate::span::Span;
use crate::target::{DnsProbe, HttpProbe, IcmpProbe, Target, TcpProbe, check_one, targets};
use std::time::Duration;

/// Most of them. All run at once, in one process.
pub(crate) const MAX_PROBES: usize = 64;

record! {
    /// Something on the network that is watched: whether it can be reached, since when, how long that takes, and why it
    /// fails (`ctl get probe`). It has exactly one of `icmp`, `http`, `tcp` and `dns`, which says what is tried.
    ///
    /// It changes nothing by itself. A HealthCheck may name it, and then passes while it is reachable.
    pub(crate) struct ProbeDocument as "Probe" {
        /// What it is called. Each has at most one document.
        name: Name,
        /// How long to wait after one try before the next.
        interval: Span<1, 3600> = "10s",
        /// How long a try may take.
        timeout: Span<1, 60> = "5s",
        /// How many tries in a row must fail before it counts as unreachable.
        failures: Integer<1, 100> = 3,
        /// How many tries in a row must succeed before it counts as reachable.
        successes: Integer<1, 100> = 1,
        /// Send an echo request.
        icmp: Option<IcmpProbe>,
        /// Ask a web server.
        http: Option<HttpProbe>,
        /// Connect by TCP.
        tcp: Option<TcpProbe>,
        /// Resolve a name.
        dns: Option<DnsProbe>,
    }
}

/// A probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    document: ProbeDocument,
    target: Target,
}

impl ProbeDocument {
    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    fn targets(&self) -> Vec<(&'static str, Target)> {
        let ProbeDocument { icmp, http, tcp, dns, .. } = self;
        targets(icmp.as_ref(), http.as_ref(), tcp.as_ref(), dns.as_ref())
    }
}

impl Check for ProbeDocument {
    fn check(&self, node: &Node, report: &mut Report) {
        check_one(&self.targets(), "icmp, http, tcp, dns", node, report);
    }
}

impl Probe {
    /// Of a document that is good in itself.
    pub(crate) fn new(document: ProbeDocument) -> Option<Probe> {
        let (_, target) = document.targets().pop()?;
        Some(Probe { document, target })
    }

    pub(crate) fn document(&self) -> &ProbeDocument {
        &self.document
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.document.name
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

    /// How many tries in a row must fail before it counts as unreachable: 1 to 100.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.document.failures.value()
    }

    /// How many tries in a row must succeed before it counts as reachable: 1 to 100.
    #[must_use]
    pub fn successes(&self) -> u32 {
        self.document.successes.value()
    }

    /// What it tries.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }
}
