// SPDX-License-Identifier: Apache-2.0
//! What a new configuration will do to the machine: one change for each thing that becomes another, and what it takes to
//! come into force.
//!
//! A kind without names has one document or none; one with names is compared name by name, with [`named`].

mod access;
mod health;
mod kernel;
mod network;
mod services;
mod time;
mod trust;
mod upgrade;

use std::fmt;
use stele_config::MachineConfig;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whose: the kind, and the name where it has one.
    pub document: String,
    /// What becomes of it.
    pub what: String,
    /// What it takes.
    pub effect: Effect,
}

/// What it takes for a change to be in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Live,
    /// These services start again.
    Restart(Vec<String>),
    /// The machine starts again.
    Reboot,
}

impl Change {
    fn live(document: impl Into<String>, what: impl Into<String>) -> Change {
        Change { document: document.into(), what: what.into(), effect: Effect::Live }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}, {}", self.document, self.what, self.effect)
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Effect::Live => f.write_str("live"),
            Effect::Restart(services) => write!(f, "restarts {}", services.join(", ")),
            Effect::Reboot => f.write_str("with the next boot"),
        }
    }
}

/// What changes from one configuration to the next; nothing when they are the same.
#[must_use]
pub fn plan(old: Option<&MachineConfig>, new: &MachineConfig) -> Vec<Change> {
    let mut changes = Vec::new();
    changes.extend(identity(old, new));
    changes.extend(access::clients(old, new));
    changes.extend(network::hostname(old, new));
    changes.extend(network::links(old, new));
    changes.extend(network::virtual_links(old, new));
    changes.extend(network::routing_rules(old, new));
    changes.extend(network::firewall(old, new));
    changes.extend(network::hosts(old, new));
    changes.extend(network::resolver(old, new));
    changes.extend(time::time(old, new));
    changes.extend(health::probes(old, new));
    changes.extend(health::checks(old, new));
    changes.extend(network::metadata_service(old, new));
    changes.extend(health::metrics(old, new));
    changes.extend(health::log_sinks(old, new));
    changes.extend(health::watchdog(old, new));
    changes.extend(upgrade::policy(old, new));
    changes.extend(kernel::args(old, new));
    changes.extend(kernel::modules(old, new));
    changes.extend(kernel::sysctls(old, new));
    changes.extend(trust::roots(old, new));
    changes.extend(trust::mirrors(old, new));
    changes.extend(trust::auths(old, new));
    changes.extend(services::environments(old, new));
    changes.extend(services::files(old, new));
    changes
}

fn identity(old: Option<&MachineConfig>, new: &MachineConfig) -> Option<Change> {
    match old {
        None => Some(Change {
            document: "Identity".to_owned(),
            what: "the API serves the node's own certificate".to_owned(),
            effect: Effect::Restart(vec!["apid".to_owned()]),
        }),
        Some(old) if old.identity() != new.identity() => {
            Some(Change::live("Identity", "the API serves a new certificate"))
        }
        Some(_) => None,
    }
}

/// What becomes of a document with a name.
enum Fate<'a, T> {
    /// It is new.
    Added(&'a T),
    /// It says something else.
    Changed(&'a T),
    /// It is there no more.
    Gone(&'a T),
}

/// What becomes of the documents of a kind, by their names: first those that there are, then those that have gone.
fn named<'a, T: PartialEq, N: PartialEq + ?Sized>(
    before: &'a [T],
    after: &'a [T],
    name: impl Fn(&T) -> &N,
) -> Vec<Fate<'a, T>> {
    let find = |all: &'a [T], one: &T| all.iter().find(|other| name(other) == name(one));
    let there = after.iter().filter_map(|to| match find(before, to) {
        Some(from) if from == to => None,
        Some(_) => Some(Fate::Changed(to)),
        None => Some(Fate::Added(to)),
    });
    let gone = before.iter().filter(|one| find(after, one).is_none()).map(Fate::Gone);
    there.chain(gone).collect()
}

#[cfg(test)]
pub(crate) mod tests;
