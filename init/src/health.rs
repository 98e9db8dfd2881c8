// SPDX-License-Identifier: Apache-2.0
//! The machine's health, and the gate that a boot on trial has to pass.
//!
//! ```text
//! system checks: the store, looked at ─┐
//! the user's checks: the probe agent ──┼─► Health ─► Gate ─┬─► passed: the image is made permanent, the floor rises
//! configuration, hostname: the rules ──┘                   └─► failed: the record is kept, restart; the loader does the rest
//! ```
//!
//! Checks run for as long as the machine does, so what an upgrade is measured against is known before it begins. The gate is
//! there only for boots on trial and those that fell back; see `stele_machine::boots`.

mod probes;
mod rules;
mod show;
mod system;

use crate::{boots::Reason, images::Network, node::Node, report, upgrade};
use probes::Probes;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    rc::Rc,
    time::Duration,
};
use stele_kernel::{clock, power::End};
use stele_machine::{
    boots::{self, Start},
    health::{Gate, Health, Millis, Verdict},
};

/// How often the system's own checks are made while the gate is open, and otherwise.
const GATED: Duration = Duration::from_millis(500);
const ORDINARY: Duration = Duration::from_secs(10);
/// How long a machine may take to come up before the watchdog lets it go: the disk agent may check file systems.
const COMING_UP: Millis = 20 * 60 * 1000;
/// How long after the start a network that was up before may take to be up again.
const NETWORKS_SETTLE: Millis = 120_000;
/// How long after its time a gate may be without a verdict.
const GRACE: Millis = 10_000;

/// The machine's health.
#[derive(Debug, Default)]
pub(crate) struct Healths {
    health: RefCell<Health>,
    gate: RefCell<Gated>,
    up: Cell<bool>,
}

/// The gate of this boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Gated {
    /// This boot has nothing to prove.
    #[default]
    None,
    /// It has not proved itself yet; known at this moment at the latest.
    Pending {
        gate: Gate,
        until: Millis,
        waiting: Vec<String>,
    },
    Passed,
    Failed {
        reason: String,
    },
}

impl Healths {
    /// The checks that fail now.
    pub(crate) fn failing(&self) -> BTreeSet<String> {
        self.health.borrow().failing()
    }

    /// The machine has come up.
    pub(crate) fn is_up(&self) {
        self.up.set(true);
    }

    /// Whether this boot has yet to prove itself.
    pub(crate) fn is_pending(&self) -> bool {
        matches!(*self.gate.borrow(), Gated::Pending { .. })
    }

    /// What should have happened by now and has not, in a sentence.
    pub(crate) fn overdue(&self) -> Option<String> {
        let now = now();
        match &*self.gate.borrow() {
            Gated::Pending { until, .. } if now > until.saturating_add(GRACE) => {
                Some("the health gate should have ended by now".to_owned())
            }
            _ if !self.up.get() && now > COMING_UP => {
                Some("the machine should be up by now".to_owned())
            }
            _ => None,
        }
    }
}

pub(crate) fn now() -> Millis {
    u64::try_from(clock::since_boot().unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

/// Opens the gate, if this boot has one. Called as soon as that is known: what comes up after it is measured by it.
pub(crate) fn open_gate(node: &Node) {
    if node.boots.started().is_gated() {
        let trial = node.images.memory().trial;
        let excused = trial.map(|trial| trial.failing).unwrap_or_default();
        let until = u64::try_from(rules::DEADLINE.as_millis()).unwrap_or(u64::MAX);
        let (start, waiting) = (now(), Vec::new());
        let (gate, until) = (Gate::new(start, excused), start.saturating_add(until));
        *node.health.gate.borrow_mut() = Gated::Pending { gate, until, waiting };
    }
    show::gate(node, &node.health.gate.borrow());
}

/// Looks after the machine's health for as long as it runs.
pub(crate) async fn keep(node: Rc<Node>) {
    let mut probes = Probes::new(Rc::clone(&node));
    let mut configuration = node.configuration.subscribe();
    let mut identity = node.identity.subscribe();
    let mut next = tokio::time::Instant::now();
    loop {
        let active = configuration.borrow_and_update().clone();
        let hostname = identity.borrow_and_update().hostname.clone();
        let config = active.as_ref().map(|active| &active.config);
        let gated = node.health.is_pending();
        // The user's checks are no part of safe mode.
        let safe = matches!(node.boots.started(), Start::Safe { .. });
        let rules = rules::of(config, safe);
        node.health.health.borrow_mut().set(|_| true, &rules.all, now());
        probes.run(rules.probes(config, &hostname)).await;
        let seen = tokio::select! {
            seen = probes.seen() => Some(seen),
            () = tokio::time::sleep_until(next) => None,
            changed = configuration.changed() => if changed.is_err() { return } else { continue },
            changed = identity.changed() => if changed.is_err() { return } else { continue },
        };
        match seen {
            Some(seen) => {
                let mut health = node.health.health.borrow_mut();
                health.see(&seen.check, seen.ok, &seen.message, now());
            }
            None => {
                next = tokio::time::Instant::now() + if gated { GATED } else { ORDINARY };
                system::look(&node, &rules);
                remember_networks(&node).await;
            }
        }
        show::checks(&node, &node.health.health.borrow(), &node.health.gate.borrow());
        judge(&node).await;
    }
}

/// What an upgrade will be measured against: the networks that are up while all is well. One that was up before has some
/// time to come up again.
async fn remember_networks(node: &Node) {
    if node.boots.started() != Start::Ordinary && *node.health.gate.borrow() != Gated::Passed {
        return;
    }
    let networks: Vec<Network> = system::networks(node);
    let before = node.images.memory().networks;
    if now() < NETWORKS_SETTLE && before.iter().any(|network| !networks.contains(network)) {
        return;
    }
    if let Err(error) = node.images.change(|memory| memory.networks = networks).await {
        tracing::warn!(error = report::chain(&error), "remembering the networks failed");
    }
}

/// Looks whether the gate can be closed.
async fn judge(node: &Rc<Node>) {
    let verdict = match &*node.health.gate.borrow() {
        Gated::Pending { gate, .. } if node.health.up.get() => {
            gate.verdict(&node.health.health.borrow(), now())
        }
        _ => return,
    };
    match verdict {
        Verdict::Pending { until: known, waiting: names } => {
            if let Gated::Pending { until, waiting, .. } = &mut *node.health.gate.borrow_mut() {
                *until = known;
                *waiting = names;
            }
            show::gate(node, &node.health.gate.borrow());
        }
        Verdict::Passed => pass(node).await,
        Verdict::Failed { check, reason } => fail(node, format!("{check}: {reason}")).await,
    }
}

/// The image is good: made permanent first, then what depends on it.
async fn pass(node: &Rc<Node>) {
    let checks = show::records(&node.health.health.borrow(), &node.health.gate.borrow());
    if let Err(reason) = upgrade::bless(node).await {
        return fail(node, format!("making the image permanent: {reason}")).await;
    }
    *node.health.gate.borrow_mut() = Gated::Passed;
    show::gate(node, &node.health.gate.borrow());
    settle(node).await;
    node.boots.judged(node, boots::Health::Passed, String::new(), checks).await;
    tracing::info!(target: report::CONSOLE, "the health gate is passed");
}

/// Remembers that the running image is healthy, and with which configuration.
pub(crate) async fn settle(node: &Node) {
    if let Err(error) = node.images.healthy(node).await {
        tracing::error!(
            error = report::chain(&error),
            "remembering that this image is healthy failed"
        );
    }
}

/// The boot has not proved itself: what is known is kept, and the loader gets its turn.
pub(crate) async fn fail(node: &Rc<Node>, reason: String) {
    if !node.health.is_pending() {
        return;
    }
    let checks = show::records(&node.health.health.borrow(), &node.health.gate.borrow());
    tracing::error!(reason, "the health gate has failed; restarting");
    *node.health.gate.borrow_mut() = Gated::Failed { reason: reason.clone() };
    show::gate(node, &node.health.gate.borrow());
    node.boots.judged(node, boots::Health::Failed, reason.clone(), checks).await;
    node.end(End::Restart, Reason::own(format!("the health gate failed: {reason}")));
}
