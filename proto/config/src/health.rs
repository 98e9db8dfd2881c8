// SPDX-License-Identifier: Apache-2.0
//! Health checks: what must work besides the system itself.

use crate::integer::Integer;
use crate::node::{Node, Tree};
use crate::record::{Check, check_keys, record};
use crate::report::Report;
use crate::shape::{Record, Shape};
use crate::span::Span;
use crate::target::{DnsProbe, HttpProbe, IcmpProbe, Target, TcpProbe, check_one, targets};
use crate::value::{Secrets, Value};
use crate::{Name, Need};
use std::time::Duration;

/// Most of them. All run at once, in one process.
pub(crate) const MAX_CHECKS: usize = 64;

record! {
    /// Something that must work besides the system itself. It has exactly one of `icmp`, `http`, `tcp`, `dns`, `service`,
    /// `probe` and `clock`, which says what is tried.
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
        /// Send an echo request.
        icmp: Option<IcmpProbe>,
        /// Ask a web server.
        http: Option<HttpProbe>,
        /// Connect by TCP.
        tcp: Option<TcpProbe>,
        /// Resolve a name.
        dns: Option<DnsProbe>,
        /// Watch a service of this machine.
        service: Option<ServiceProbe>,
        /// Watch a Probe, which says how often it tries, and how long that may take: the check passes while it is reachable.
        probe: Option<Name>,
        /// Watch the machine's clock.
        clock: Option<ClockProbe>,
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

/// Watches the machine's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClockProbe;

/// A health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    document: HealthCheckDocument,
    subject: Subject,
}

/// What a health check is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Something on the network.
    Target(Target),
    /// A service of this machine.
    Service(ServiceProbe),
    /// A probe, by its name.
    Probe(Name),
    /// The machine's clock.
    Clock,
}

impl HealthCheckDocument {
    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    /// All that it is about, each with its key.
    fn subjects(&self) -> Vec<(&'static str, Subject)> {
        let HealthCheckDocument { icmp, http, tcp, dns, service, probe, clock, .. } = self;
        let targets = targets(icmp.as_ref(), http.as_ref(), tcp.as_ref(), dns.as_ref());
        let others = [
            ("service", service.clone().map(Subject::Service)),
            ("probe", probe.clone().map(Subject::Probe)),
            ("clock", clock.map(|ClockProbe| Subject::Clock)),
        ];
        let others = others.into_iter().filter_map(|(key, subject)| Some((key, subject?)));
        targets
            .into_iter()
            .map(|(key, target)| (key, Subject::Target(target)))
            .chain(others)
            .collect()
    }
}

impl Check for HealthCheckDocument {
    fn check(&self, node: &Node, report: &mut Report) {
        let keys = "icmp, http, tcp, dns, service, probe, clock";
        check_one(&self.subjects(), keys, node, report);
    }
}

impl HealthCheck {
    /// Of a document that is good in itself.
    pub(crate) fn new(document: HealthCheckDocument) -> Option<HealthCheck> {
        let (_, subject) = document.subjects().pop()?;
        Some(HealthCheck { document, subject })
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

    /// What it is about.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.subject
    }
}

impl Value for ClockProbe {
    fn shape() -> Shape {
        let doc =
            &["Watches the machine's clock (`ctl get time`): the check passes once it is right."];
        Shape::Record(Record { name: "ClockProbe", doc, fields: Vec::new() })
    }

    fn read(node: &Node, report: &mut Report) -> Option<ClockProbe> {
        check_keys(node, &[], &ClockProbe::shape(), report).then_some(ClockProbe)
    }

    fn write(&self, _: Secrets) -> Option<Tree> {
        Some(Tree::Map(Vec::new()))
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
