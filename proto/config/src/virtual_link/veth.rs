// SPDX-License-Identifier: Apache-2.0
//! Two links with a cable between them.

use crate::InterfaceName;
use crate::node::Node;
use crate::record::{Check, record};
use crate::report::Report;
use crate::virtual_link::VirtualLink;

record! {
    /// Two links with a cable between them: to join a bridge with a VRF, or two bridges.
    ///
    /// The document makes both; a `Link` of the name of one gives that one addresses, routes and an MTU.
    pub struct Veth as "Veth" {
        /// The name of one end.
        name: InterfaceName,
        /// The name of the other.
        peer: InterfaceName,
    }
}

impl Veth {
    /// The name of one end.
    #[must_use]
    pub fn name(&self) -> &InterfaceName {
        &self.name
    }

    /// The name of the other.
    #[must_use]
    pub fn peer(&self) -> &InterfaceName {
        &self.peer
    }
}

impl Check for Veth {
    fn check(&self, node: &Node, report: &mut Report) {
        if self.name == self.peer {
            report.find_at(node, "peer", "both ends have one name", "another name");
        }
        if self.peer.as_str() == "lo" {
            report.find_at(node, "peer", "lo is there on every machine", "another name");
        }
        VirtualLink::Veth(self.clone()).check_alone(node, report);
    }
}
