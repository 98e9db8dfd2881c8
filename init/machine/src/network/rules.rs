// SPDX-License-Identifier: Apache-2.0
//! Routing rules: what there should be, and the steps from what there is.

use super::{Observed, desired::Desired, plan::Action};
use stele_config::{Cidr, MachineConfig, RoutingRule};

/// A routing rule as the kernel has it, or should have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Whether it is one for IPv6.
    pub ipv6: bool,
    /// Lower ones are looked at first.
    pub priority: u32,
    /// Where packets come from.
    pub from: Option<Cidr>,
    /// Where they go to.
    pub to: Option<Cidr>,
    /// The link that they came in by.
    pub incoming: Option<String>,
    /// The mark that they have.
    pub mark: Option<u32>,
    /// The table that they are routed by.
    pub table: u32,
    /// Whether we added it.
    pub ours: bool,
}

impl Rule {
    /// Whether both say the same, whoever added them.
    fn same(&self, other: &Rule) -> bool {
        Rule { ours: other.ours, ..self.clone() } == *other
    }
}

/// The rules of a configuration, with the link that each is `named` for. One that names no network is one for each family; one
/// for a link that is not there waits for it.
pub(super) fn derive(
    config: Option<&MachineConfig>,
    named: impl Fn(&str) -> Option<String>,
) -> Vec<Rule> {
    let documents = config.map(MachineConfig::routing_rules).unwrap_or_default();
    let families = |document: &RoutingRule| match document.from().or(document.to()) {
        Some(network) => vec![!network.address().is_ipv4()],
        None => vec![false, true],
    };
    let rule = |document: &RoutingRule, incoming: Option<String>, ipv6| Rule {
        ipv6,
        priority: document.priority(),
        // A network of everything is no condition to the kernel.
        from: document.from().filter(|from| from.prefix() > 0),
        to: document.to().filter(|to| to.prefix() > 0),
        incoming,
        mark: document.mark(),
        table: document.table(),
        ours: true,
    };
    let mut rules = Vec::new();
    for document in documents {
        let incoming = match document.incoming().map(|link| named(link.as_str())) {
            Some(None) => continue,
            found => found.flatten(),
        };
        let families = families(document).into_iter();
        rules.extend(families.map(|ipv6| rule(document, incoming.clone(), ipv6)));
    }
    rules
}

/// Which rules are added, and which removed.
pub(super) fn plan(desired: &Desired, observed: &Observed) -> Vec<Action> {
    let new = desired.rules.iter().filter(|new| !observed.rules.iter().any(|old| new.same(old)));
    let unwanted = |old: &&Rule| old.ours && !desired.rules.iter().any(|new| new.same(old));
    let old = observed.rules.iter().filter(unwanted);
    new.cloned().map(Action::AddRule).chain(old.cloned().map(Action::DelRule)).collect()
}
