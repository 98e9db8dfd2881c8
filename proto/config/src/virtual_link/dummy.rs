// SPDX-License-Identifier: Apache-2.0
//! Links that lead nowhere.

use crate::InterfaceName;
use crate::node::Node;
use crate::record::{Check, record};
use crate::report::Report;
use crate::virtual_link::VirtualLink;

record! {
    /// A link that leads nowhere and is always up: for addresses of the machine that belong to none of its cables.
    ///
    /// The document makes the link; a `Link` of the same name gives it addresses, routes and an MTU.
    pub struct Dummy as "Dummy" {
        /// The name of the link.
        name: InterfaceName,
    }
}

impl Dummy {
    /// The name of the link.
    #[must_use]
    pub fn name(&self) -> &InterfaceName {
        &self.name
    }
}

impl Check for Dummy {
    fn check(&self, node: &Node, report: &mut Report) {
        VirtualLink::Dummy(self.clone()).check_alone(node, report);
    }
}
