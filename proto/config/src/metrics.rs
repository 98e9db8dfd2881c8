// SPDX-License-Identifier: Apache-2.0
//! Where the machine's figures can be had without a certificate.

use crate::node::Node;
use crate::record::{Check, record};
use crate::report::Report;
use std::net::SocketAddr;

/// The port of the API.
const API: u16 = 50_000;
/// The first port that needs no privilege.
const UNPRIVILEGED: u16 = 1024;

record! {
    /// Where the machine's figures can be had as OpenMetrics by anyone, over plain HTTP (`GET /metrics`). With a client
    /// certificate of at least `os:reader`, or of a role that opens `/metrics`, they can always be had from the API's own
    /// port, without this document.
    pub struct Metrics as "Metrics" {
        /// On which address and port; `0.0.0.0` and `[::]` stand for all of the machine. The port is 1024 or higher, and not
        /// the API's.
        address: SocketAddr,
    }
}

impl Metrics {
    /// On which address and port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Check for Metrics {
    fn check(&self, node: &Node, report: &mut Report) {
        let ip = self.address.ip();
        if ip.is_multicast() {
            report.find_at(
                node,
                "address",
                format!("nothing can listen on {ip}"),
                "a unicast address",
            );
        }
        match self.address.port() {
            API => {
                report.find_at(node, "address", format!("{API} is the API's port"), "another port")
            }
            port if port < UNPRIVILEGED => {
                let message = format!("port {port} needs a privilege");
                report.find_at(
                    node,
                    "address",
                    message,
                    format!("a port of {UNPRIVILEGED} or higher"),
                );
            }
            _ => {}
        }
    }
}
