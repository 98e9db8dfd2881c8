// SPDX-License-Identifier: Apache-2.0
//! Names of machines that no name server is asked for.

use crate::list::List;
use crate::node::Node;
use crate::record::{Check, record};
use crate::report::Report;
use crate::{Domain, Name};
use std::net::IpAddr;

/// Most documents.
pub(crate) const MAX_HOSTS: usize = 64;

record! {
    /// Names of machines that no name server is asked for, in `/etc/hosts`. The machine's own are there by themselves.
    pub struct Hosts as "Hosts" {
        /// What they are called together.
        name: Name,
        /// The machines.
        hosts: List<HostsEntry, 1, 256>,
    }
}

record! {
    /// A machine.
    pub struct HostsEntry as "HostsEntry" {
        /// Its address.
        address: IpAddr,
        /// Its names, the one that it is called by first.
        names: List<Domain, 1, 16>,
    }
}

impl Hosts {
    /// What they are called together.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The machines.
    #[must_use]
    pub fn hosts(&self) -> &[HostsEntry] {
        &self.hosts
    }
}

impl HostsEntry {
    /// Its address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Its names.
    #[must_use]
    pub fn names(&self) -> &[Domain] {
        &self.names
    }
}

impl Check for Hosts {
    fn check(&self, node: &Node, report: &mut Report) {
        for (index, host) in self.hosts.iter().enumerate() {
            if host.names.iter().any(|name| name.as_str() == "localhost") {
                let message = "localhost is this machine";
                report.find_item(node, ("hosts", index), message, "another name");
            }
            if host.address.is_unspecified() || host.address.is_multicast() {
                let message = format!("no machine can have {}", host.address);
                report.find_item(node, ("hosts", index), message, "a unicast address");
            }
        }
    }
}

impl Check for HostsEntry {}
