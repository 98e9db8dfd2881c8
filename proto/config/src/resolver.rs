// SPDX-License-Identifier: Apache-2.0
//! How names are resolved.

use crate::Domain;
use crate::list::List;
use crate::node::Node;
use crate::record::{Check, record};
use crate::report::Report;
use std::net::IpAddr;

record! {
    /// How names are resolved. Takes precedence over the name servers that DHCP brings.
    pub struct Resolver as "Resolver" {
        /// The name servers, in the order in which they are asked.
        servers: List<IpAddr, 1, 3>,
        /// The domains in which a name without a dot is looked for.
        search: List<Domain, 0, 6>,
    }
}

impl Resolver {
    /// The name servers, in the order in which they are asked: one to three.
    #[must_use]
    pub fn servers(&self) -> &[IpAddr] {
        &self.servers
    }

    /// The domains in which a name without a dot is looked for.
    #[must_use]
    pub fn search(&self) -> &[Domain] {
        &self.search
    }
}

impl Check for Resolver {
    fn check(&self, node: &Node, report: &mut Report) {
        for (index, server) in self.servers.iter().enumerate() {
            if server.is_unspecified() || server.is_multicast() {
                let message = format!("no server can have {server}");
                report.find_item(node, ("servers", index), message, "a unicast address");
            }
        }
    }
}
