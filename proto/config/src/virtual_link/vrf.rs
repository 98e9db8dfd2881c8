// SPDX-License-Identifier: Apache-2.0
//! Routing tables of their own for some links.

use crate::InterfaceName;
use crate::list::List;
use crate::node::Node;
use crate::record::{Check, record};
use crate::report::Report;
use crate::table::Table;
use crate::virtual_link::VirtualLink;

record! {
    /// A routing table of its own for some links: what comes in there is routed by that table alone.
    ///
    /// The document makes a link that stands for all of them. The links in it keep their addresses; their routes, and those of
    /// the link itself, are put into the table.
    pub struct Vrf as "VRF" {
        /// The name of the link.
        name: InterfaceName,
        /// The number of the table. No other VRF has it.
        table: Table,
        /// The links in it: their names, or those of their `Link` documents.
        links: List<InterfaceName, 0, 256>,
    }
}

impl Vrf {
    /// The name of the link.
    #[must_use]
    pub fn name(&self) -> &InterfaceName {
        &self.name
    }

    /// The number of the table.
    #[must_use]
    pub fn table(&self) -> u32 {
        self.table.number()
    }

    /// The links in it.
    #[must_use]
    pub fn links(&self) -> &[InterfaceName] {
        &self.links
    }
}

impl Check for Vrf {
    fn check(&self, node: &Node, report: &mut Report) {
        if self.table == Table::MAIN {
            report.find_at(node, "table", "254 is the main table", "another table");
        }
        VirtualLink::Vrf(self.clone()).check_alone(node, report);
    }
}
