// SPDX-License-Identifier: Apache-2.0
//! Where logs are sent to.

use crate::choice::choice;
use crate::list::List;
use crate::node::Node;
use crate::pem::Certificates;
use crate::record::{Check, record};
use crate::report::Report;
use crate::{Endpoint, Name};

/// Most of them. Each has a process of its own.
pub(crate) const MAX_SINKS: usize = 8;

record! {
    /// A place that logs are sent to, those of the kernel and of each service: `ctl logs` names them.
    ///
    /// While it is away, the lines wait in the machine's memory, where there is room for half a MiB of each log; then the
    /// oldest are lost, which is counted, told to the sink and shown (`ctl get logsink`). It goes on where it was. What was on its
    /// way when a connection broke may come twice or, as syslog has no receipts, not at all. The lines of an earlier boot are
    /// not sent.
    pub struct LogSink as "LogSink" {
        /// What it is called. Each has one document.
        name: Name,
        /// Where it is: a host and a port.
        address: Endpoint,
        /// How it is reached: with `tcp` and `tls`, messages of `rfc5424` are counted (RFC 6587, RFC 5425), and objects of
        /// `json` are lines; with `udp`, each is a datagram, and nobody knows whether it has arrived.
        protocol: SinkProtocol = "tcp",
        /// How a line is written: as a syslog message, or as a JSON object with the keys `time`, `host`, `log`, `severity`
        /// and `message`.
        format: SinkFormat = "rfc5424",
        /// For `tls`: who may have signed the sink's certificate. Without it, those that the machine trusts.
        ca: Option<Certificates<8>>,
        /// The logs that are sent. Without it, all of them.
        logs: List<Name, 0, 64>,
        /// Begin only once the clock is right (`ctl get time`), which certificates need to be judged. Until then, lines wait as they
        /// do while the sink is away.
        after_clock as "afterClock": bool = false,
    }
}

choice! {
    /// How a sink is reached.
    pub enum SinkProtocol {
        /// A stream.
        Tcp = "tcp",
        /// Datagrams.
        Udp = "udp",
        /// A stream that nobody else can read.
        Tls = "tls",
    }
}

choice! {
    /// How a line is written.
    pub enum SinkFormat {
        /// A syslog message.
        Rfc5424 = "rfc5424",
        /// A JSON object.
        Json = "json",
    }
}

impl LogSink {
    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &Endpoint {
        &self.address
    }

    /// How it is reached.
    #[must_use]
    pub fn protocol(&self) -> SinkProtocol {
        self.protocol
    }

    /// How a line is written.
    #[must_use]
    pub fn format(&self) -> SinkFormat {
        self.format
    }

    /// Who may have signed its certificate, as PEM, where that is set.
    #[must_use]
    pub fn ca(&self) -> Option<&str> {
        self.ca.as_ref().map(Certificates::as_str)
    }

    /// The logs that are sent; all of them for none.
    #[must_use]
    pub fn logs(&self) -> &[Name] {
        &self.logs
    }

    /// Whether it begins only once the clock is right.
    #[must_use]
    pub fn after_clock(&self) -> bool {
        self.after_clock
    }
}

impl Check for LogSink {
    fn check(&self, node: &Node, report: &mut Report) {
        if self.ca.is_some() && self.protocol != SinkProtocol::Tls {
            let message = format!("{} looks at no certificate", self.protocol);
            report.find_at(node, "ca", message, "protocol: tls beside it");
        }
    }
}
