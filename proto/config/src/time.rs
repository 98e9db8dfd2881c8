// SPDX-License-Identifier: Apache-2.0
//! Where the machine gets the time from.

use crate::Host;
use crate::endpoint::{EndpointError, split};
use crate::list::List;
use crate::node::Node;
use crate::pem::Certificates;
use crate::record::{Check, record};
use crate::report::Report;
use crate::span::Span;
use crate::value::Text;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

record! {
    /// Where the machine gets the time from. `ctl get time` says how far off its clock is, and whom it believes.
    ///
    /// Without this document, or without servers in it, the servers are those that DHCP brings, or else those that the platform
    /// has for its machines (alibaba, aws, gcp, hetzner, ibm and oracle have some). A configuration without this document, on a
    /// machine that has none of these and no clock of a hypervisor, means `time.cloudflare.com` with NTS; one with it and
    /// without servers means nobody. Of three servers or more, most have to agree. A clock is first set as far as it takes, but
    /// never to before the image was built; from then on it is slewed, or stepped within limits.
    ///
    /// The last time that the machine knew is where a clock begins that can't be right. Sources may set it back from there, so
    /// that one wrong answer does not stay for ever, unless that time was proven: it came from servers with `nts` alone, without
    /// the clock of a hypervisor. Then no source sets the clock to before it, either.
    pub struct Time as "Time" {
        /// The servers. They take the place of those that DHCP brings and of the platform's.
        servers: List<TimeServer, 0, 8>,
        /// Whether the clock of the hypervisor is asked as well, where there is one (KVM's, Hyper-V's and VMware's). It counts as one
        /// of the servers, and is enough without any.
        ptp: bool = true,
        /// A clock that is off by no more than this is slewed: it runs faster or slower until it is right, by at most
        /// 0.2 ms each second. One that is further off is stepped. Without it, ten milliseconds.
        slew_up_to as "slewUpTo": Option<Span<1, 60>>,
        /// How far a clock that was right once since the machine started is stepped. A greater difference is reported, and
        /// the clock stays as it is.
        step_up_to as "stepUpTo": Span<1, 86_400> = "15m",
    }
}

record! {
    /// A server that is asked for the time.
    pub struct TimeServer as "TimeServer" {
        /// Which one: an address or a name, with a port if it is neither 123 nor, with `nts`, 4460.
        pub server: TimeHost,
        /// Whether it has to prove that its answers are its own, by NTS (RFC 8915). Without it, anyone on the way to the
        /// server can set the clock, and when the machine starts as far back as the image's build: certificates that are over
        /// are good again by such a clock.
        pub nts: bool = false,
        /// For `nts`: who may have signed its certificate. Without it, those that the machine trusts.
        ca: Option<Certificates<8>>,
    }
}

/// A server of the time: a host, and maybe a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TimeHost {
    host: Host,
    port: Option<u16>,
}

impl Time {
    /// The servers.
    #[must_use]
    pub fn servers(&self) -> &[TimeServer] {
        &self.servers
    }

    /// Whether the clock of the hypervisor is asked as well.
    #[must_use]
    pub fn ptp(&self) -> bool {
        self.ptp
    }

    /// Up to where the clock is slewed, where that is set.
    #[must_use]
    pub fn slew_up_to(&self) -> Option<Duration> {
        self.slew_up_to.map(Span::duration)
    }

    /// Up to where a clock that was right is stepped.
    #[must_use]
    pub fn step_up_to(&self) -> Duration {
        self.step_up_to.duration()
    }
}

impl TimeServer {
    /// Who may have signed its certificate, as PEM, where that is set.
    #[must_use]
    pub fn ca(&self) -> Option<&str> {
        self.ca.as_ref().map(Certificates::as_str)
    }
}

impl TimeHost {
    /// The host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port, where it is not the usual one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

impl Check for Time {}

impl Check for TimeServer {
    fn check(&self, node: &Node, report: &mut Report) {
        if self.ca.is_some() && !self.nts {
            report.find_at(node, "ca", "no certificate is looked at", "nts: true beside it");
        }
    }
}

impl FromStr for TimeHost {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<TimeHost, EndpointError> {
        let (host, port) = match text.parse::<IpAddr>() {
            Ok(address) => (Host::Address(address), None),
            Err(_) => split(text)?,
        };
        match host {
            Host::Address(address) if address.is_unspecified() || address.is_multicast() => {
                Err(EndpointError::Nowhere(address))
            }
            Host::Address(_) | Host::Name(_) => Ok(TimeHost { host, port }),
        }
    }
}

impl fmt::Display for TimeHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (host, Some(port)) => write!(f, "{host}:{port}"),
            (Host::Address(address), None) => write!(f, "{address}"),
            (Host::Name(name), None) => write!(f, "{name}"),
        }
    }
}

impl Text for TimeHost {
    const WHAT: &'static str = "an address or a name, and maybe a port";
    const EXAMPLE: &'static str = "time.example.com";
    const PATTERN: &'static str =
        "^(\\[[0-9A-Fa-f:.]+\\]|[0-9A-Za-z.-]+|[0-9A-Fa-f:.]+)(:[0-9]+)?$";
}
