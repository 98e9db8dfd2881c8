// SPDX-License-Identifier: Apache-2.0
//! Which packets are routed by which table.

use crate::integer::Integer;
use crate::node::Node;
use crate::record::{Check, record};
use crate::report::Report;
use crate::table::Table;
use crate::{Cidr, InterfaceName, Name};

/// Most documents.
pub(crate) const MAX_RULES: usize = 256;

record! {
    /// Which packets are routed by another table than the main one. A rule holds for what all of its conditions hold for; one
    /// without `from` and `to` for IPv4 and IPv6.
    pub struct RoutingRule as "RoutingRule" {
        /// What it is called.
        name: Name,
        /// Its place: the lower, the earlier it is looked at. The main table has 32766. No other rule has it.
        priority: Integer<1, 32765>,
        /// Packets from this network.
        from: Option<Cidr>,
        /// Packets to this network.
        to: Option<Cidr>,
        /// Packets that came in by this interface; `lo` for those of the machine itself.
        incoming: Option<InterfaceName>,
        /// Packets with this mark.
        mark: Option<Integer<1, { u32::MAX }>>,
        /// The table that they are routed by. When it has no route for them, later rules are looked at.
        table: Table,
    }
}

impl RoutingRule {
    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Its place.
    #[must_use]
    pub fn priority(&self) -> u32 {
        self.priority.value()
    }

    /// Where packets come from.
    #[must_use]
    pub fn from(&self) -> Option<Cidr> {
        self.from
    }

    /// Where they go to.
    #[must_use]
    pub fn to(&self) -> Option<Cidr> {
        self.to
    }

    /// The interface that they came in by.
    #[must_use]
    pub fn incoming(&self) -> Option<&InterfaceName> {
        self.incoming.as_ref()
    }

    /// The mark that they have.
    #[must_use]
    pub fn mark(&self) -> Option<u32> {
        self.mark.map(Integer::value)
    }

    /// The table that they are routed by.
    #[must_use]
    pub fn table(&self) -> u32 {
        self.table.number()
    }

    /// Says that another rule has its place.
    pub(crate) fn check_beside(&self, other: &RoutingRule, node: &Node, report: &mut Report) {
        if self.priority == other.priority {
            let message = format!("RoutingRule {} has it", other.name);
            report.find_at(node, "priority", message, "another priority for each rule");
        }
    }
}

impl Check for RoutingRule {
    fn check(&self, node: &Node, report: &mut Report) {
        for (key, cidr) in [("from", self.from), ("to", self.to)] {
            if let Some(cidr) = cidr.filter(|cidr| cidr.network() != *cidr) {
                let message = format!("{cidr} has host bits");
                report.find_at(node, key, message, cidr.network().to_string());
            }
        }
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from.address().is_ipv4() != to.address().is_ipv4()
        {
            let message = format!("{from} and {to} are of different address families");
            report.find_at(node, "to", message, "both IPv4 or both IPv6");
        }
        let conditions =
            [self.from.is_some(), self.to.is_some(), self.incoming.is_some(), self.mark.is_some()];
        if !conditions.contains(&true) {
            let message = "it has no condition, and holds for everything";
            report.find(node.line, message, "from, to, incoming or mark");
        }
    }
}
