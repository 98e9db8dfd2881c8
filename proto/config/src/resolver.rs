// SPDX-License-Identifier: Apache-2.0
//! How names are resolved.

use crate::list::List;
use crate::node::Node;
use crate::record::{Check, record};
use crate::report::Report;
use crate::{Domain, NameServer};
use std::net::{IpAddr, Ipv4Addr};

record! {
    /// How names are resolved. `ctl get resolver` says by whom, and which of them do not answer.
    pub struct Resolver as "Resolver" {
        /// The name servers, in the order in which they are asked; without any, those of the network: the platform's, or else
        /// those that DHCP and routers bring. Each is an address,
        /// maybe with a port (`192.0.2.53:5353`). One with a name behind `#` is asked over TLS alone (RFC 7858), at port
        /// 853 if it has none of its own, and has to have a certificate for that name, from an authority of the image
        /// or of a document `TrustedRoots`. All of them are asked over TLS, or none.
        servers: List<NameServer, 0, 3>,
        /// The domains in which a name without a dot is looked for. Without any, and without servers, those of the network.
        search: List<Domain, 0, 6>,
        /// Whether programs on the machine ask a stub of its own, at 127.0.0.53, which asks the servers and keeps what they
        /// say for as long as it holds. Without it, there is a stub if there is a server that they could not ask by themselves:
        /// over TLS, or at another port than 53.
        ///
        /// Certificates are judged by the clock: where all servers are asked over TLS, a `Time` document should name one by
        /// its address, or a clock that is far off can't be set right.
        stub: Option<bool>,
    }
}

impl Resolver {
    /// Where the stub is.
    pub const STUB: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);

    /// The name servers, in the order in which they are asked: at most three, and none if they are those of others.
    #[must_use]
    pub fn servers(&self) -> &[NameServer] {
        &self.servers
    }

    /// The domains in which a name without a dot is looked for.
    #[must_use]
    pub fn search(&self) -> &[Domain] {
        &self.search
    }

    /// Whether programs ask a stub of the machine's own.
    #[must_use]
    pub fn stub(&self) -> bool {
        self.stub.unwrap_or_else(|| !self.servers.iter().all(NameServer::is_usual))
    }
}

impl Check for Resolver {
    fn check(&self, node: &Node, report: &mut Report) {
        let over_tls = self.servers.iter().any(|server| server.name().is_some());
        for (index, server) in self.servers.iter().enumerate() {
            let place = ("servers", index);
            if server.address() == IpAddr::V4(Resolver::STUB) {
                let message = format!("{} is the machine's own stub", server.address());
                report.find_item(node, place, message, "another server");
            }
            if over_tls && server.name().is_none() {
                let message = "is asked without TLS, and another one over TLS";
                report.find_item(
                    node,
                    place,
                    message,
                    "a name behind # for each server, or for none",
                );
            }
        }
        if self.stub == Some(false) && !self.servers.iter().all(NameServer::is_usual) {
            let message = "programs can't ask a server over TLS, or at another port than 53";
            report.find_at(node, "stub", message, "true");
        }
    }
}
