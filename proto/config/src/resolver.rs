// SPDX-License-Identifier: Apache-2.0
//! How names are resolved.

use crate::Domain;
use crate::list::List;
use crate::node::{Node, Tree};
use crate::record::{Check, record};
use crate::report::{Report, Step};
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
        let Some(Tree::List(nodes)) = node.entry("servers").map(|entry| &entry.value.tree) else {
            return;
        };
        for (index, (server, node)) in self.servers.iter().zip(nodes).enumerate() {
            if server.is_unspecified() || server.is_multicast() {
                report.at("servers", |report| {
                    report.within(Step::Item(index), |report| {
                        report.find(
                            node.line,
                            format!("no server can have {server}"),
                            "a unicast address",
                        );
                    });
                });
            }
        }
    }
}
