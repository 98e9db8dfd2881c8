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

mod agent;
mod rules;
mod show;
mod system;

use crate::{boots::Reason, configuration::Causes, node::Node, report, upgrade};
use agent::{Agent, Seen};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    io,
    rc::Rc,
    time::Duration,
};
use stele_kernel::{clock, power::End};
use stele_machine::{
    boots::{self, Start},
    health::{Check, Gate, Health, Millis, State, Verdict},
    probe::{Probes as Watched, Try},
};
use tokio::time::Instant;

pub(crate) use rules::SYSTEM;
pub(crate) use show::seconds;
pub(crate) use system::networks;

/// How often the system's own checks are made while it matters, and otherwise.
const OFTEN: Duration = Duration::from_millis(500);
const ORDINARY: Duration = Duration::from_secs(10);
/// While something is not yet passing, they are made often for this long.
const SETTLING: Millis = 120_000;
/// How long a machine may take to come up before the watchdog lets it go: the disk agent may check file systems.
const COMING_UP: Millis = 20 * 60 * 1000;
/// How long after its time a gate may be without a verdict.
const GRACE: Millis = 10_000;
/// How long making an image permanent may wait for someone else who works on the ESP.
const BLESSING: Millis = 120_000;
/// How long restarting may take after the gate has failed, and the part of it that the record may take.
const RESTARTING: Millis = 60_000;
const RECORDING: Duration = Duration::from_secs(3);
/// How often the networks are written down at most.
const REMEMBER_EVERY: Millis = 600_000;

/// Makes what the probe agent needs.
pub(crate) fn prepare() -> io::Result<()> {
    agent::prepare()
}

/// The machine's health.
#[derive(Debug, Default)]
pub(crate) struct Healths {
    health: RefCell<Health>,
    gate: RefCell<Gated>,
    probes: RefCell<Watched>,
    up: Cell<bool>,
    /// When the networks were written down; 0 for not in this boot.
    remembered: Cell<Millis>,
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
    /// It has; making its image permanent has waited since then.
    Blessing {
        gate: Gate,
        since: Millis,
    },
    Passed,
    Failed {
        reason: String,
        at: Millis,
    },
}

impl Healths {
    /// The configuration's checks that fail now. The system's own are never excused: what was missing before an upgrade is
    /// part of what they look at.
    pub(crate) fn failing(&self) -> BTreeSet<String> {
        let mut failing = self.health.borrow().failing();
        failing.retain(|name| !name.starts_with(SYSTEM));
        failing
    }

    /// The machine has come up.
    pub(crate) fn is_up(&self) {
        self.up.set(true);
    }

    /// Whether this boot has yet to prove itself.
    pub(crate) fn is_pending(&self) -> bool {
        matches!(*self.gate.borrow(), Gated::Pending { .. } | Gated::Blessing { .. })
    }

    /// What should have happened by now and has not, in a sentence.
    pub(crate) fn overdue(&self) -> Option<String> {
        let (by, what) = match &*self.gate.borrow() {
            Gated::Pending { until, .. } => {
                (until.saturating_add(GRACE), "the health gate should have ended by now")
            }
            Gated::Blessing { since, .. } => (
                since.saturating_add(BLESSING).saturating_add(GRACE),
                "the image should be permanent by now",
            ),
            Gated::Failed { at, .. } => {
                (at.saturating_add(RESTARTING), "the machine should have restarted by now")
            }
            Gated::None | Gated::Passed if !self.up.get() => {
                (COMING_UP, "the machine should be up by now")
            }
            Gated::None | Gated::Passed => return None,
        };
        (now() > by).then(|| what.to_owned())
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
    let mut agent = Agent::new(Rc::clone(&node));
    let mut configuration = node.configuration.subscribe();
    let mut identity = node.identity.subscribe();
    let mut causes = Causes::default();
    loop {
        let active = configuration.borrow_and_update().clone();
        let hostname = identity.borrow_and_update().hostname.clone();
        let config = active.as_ref().map(|active| &active.config);
        // The user's checks are no part of safe mode.
        let safe = matches!(node.boots.started(), Start::Safe { .. });
        let gated = node.health.is_pending();
        let rules = rules::of(config, safe, gated);
        let anew = node.health.probes.borrow_mut().set(&rules.probes, now());
        for check in rules.about(&anew) {
            node.health.health.borrow_mut().forget(&check);
        }
        node.health.health.borrow_mut().set(|_| true, &rules.all, now());
        let mut cause = causes.of(active.as_deref());
        cause.clone().act(|| show::probes(&node));
        cause.clone().carry(agent.run(rules.tasks(config, &hostname))).await;
        let mut next = Instant::now();
        loop {
            tokio::select! {
                changed = configuration.changed() => if changed.is_err() { return } else { break },
                changed = identity.changed() => if changed.is_err() { return } else { break },
                seen = agent.seen() => match rules::probe(&seen.check) {
                    None => {
                        let mut health = node.health.health.borrow_mut();
                        health.see(&seen.check, seen.ok, &seen.message, now());
                    }
                    Some(name) if watch(&node, name, &seen) => system::look_at_probes(&node, &rules),
                    Some(_) => continue,
                },
                () = tokio::time::sleep_until(next) => {
                    system::look(&node, &rules);
                    next = Instant::now() + pace(&node);
                    remember_networks(&node).await;
                }
            }
            // The first time it shows which checks there are now.
            std::mem::take(&mut cause).act(|| {
                show::checks(&node, &node.health.health.borrow(), &node.health.gate.borrow());
            });
            judge(&node).await;
            if gated != node.health.is_pending() {
                break;
            }
        }
    }
}

/// Takes what a try of a probe found. True if whether it can be reached is another thing now.
fn watch(node: &Node, name: &str, seen: &Seen) -> bool {
    let found = if seen.ok { Try::Good(seen.took) } else { Try::Failed(&seen.message) };
    let changed = node.health.probes.borrow_mut().see(name, found, now());
    show::probe(node, name);
    changed
}

/// How long to wait before the system's own checks are made again.
fn pace(node: &Node) -> Duration {
    let passing = |check: &Check| check.state() == State::Passing;
    let settling = now() < SETTLING && !node.health.health.borrow().checks().values().all(passing);
    if settling || node.health.is_pending() { OFTEN } else { ORDINARY }
}

/// What an upgrade will be measured against: the networks that are up while all is well. One that was up before has some
/// time to come up again.
async fn remember_networks(node: &Node) {
    if node.boots.started() != Start::Ordinary && *node.health.gate.borrow() != Gated::Passed {
        return;
    }
    let networks = networks(node);
    let before = node.images.memory().networks;
    let last = node.health.remembered.get();
    let early = now() < SETTLING && before.iter().any(|network| !networks.contains(network));
    let often = last > 0 && now() < last.saturating_add(REMEMBER_EVERY);
    if early || often || before == networks {
        return;
    }
    node.health.remembered.set(now());
    if let Err(error) = node.images.change(|memory| memory.networks = networks).await {
        tracing::warn!(error = report::chain(&error), "remembering the networks failed");
    }
}

/// Looks whether the gate can be closed.
async fn judge(node: &Rc<Node>) {
    let verdict = match &*node.health.gate.borrow() {
        Gated::Pending { gate, .. } | Gated::Blessing { gate, .. } => {
            gate.verdict(&node.health.health.borrow(), now())
        }
        Gated::None | Gated::Passed | Gated::Failed { .. } => return,
    };
    match verdict {
        Verdict::Pending { until: known, waiting: names } => {
            if let Gated::Pending { until, waiting, .. } = &mut *node.health.gate.borrow_mut() {
                *until = known;
                *waiting = names;
            }
            show::gate(node, &node.health.gate.borrow());
        }
        Verdict::Passed if node.health.up.get() => pass(node).await,
        // The last of coming up; the watchdog sees to it that it ends.
        Verdict::Passed => {}
        Verdict::Failed { check, reason } => fail(node, format!("{check}: {reason}")).await,
    }
}

/// The image is good: made permanent first, then what depends on it.
async fn pass(node: &Rc<Node>) {
    let checks = show::records(&node.health.health.borrow(), &node.health.gate.borrow());
    let since = {
        let gate = &mut *node.health.gate.borrow_mut();
        if let Gated::Pending { gate: pending, .. } = gate {
            *gate = Gated::Blessing { gate: pending.clone(), since: now() };
        }
        match gate {
            Gated::Blessing { since, .. } => *since,
            Gated::None | Gated::Pending { .. } | Gated::Passed | Gated::Failed { .. } => now(),
        }
    };
    show::gate(node, &node.health.gate.borrow());
    if let Err(reason) = upgrade::bless(node).await {
        // It is tried again with the next look.
        if now() > since.saturating_add(BLESSING) {
            fail(node, format!("making the image permanent: {reason}")).await;
        }
        return;
    }
    *node.health.gate.borrow_mut() = Gated::Passed;
    show::gate(node, &node.health.gate.borrow());
    settle(node, true).await;
    node.boots.judged(node, boots::Health::Passed, String::new(), checks).await;
    tracing::info!(target: report::CONSOLE, "the health gate is passed");
}

/// Remembers that the running image is healthy, and with which configuration; `proved` ends the upgrade that was under way.
pub(crate) async fn settle(node: &Node, proved: bool) {
    if let Err(error) = node.images.healthy(node, proved).await {
        tracing::error!(
            error = report::chain(&error),
            "remembering that this image is healthy failed"
        );
    }
    node.configuration.remember_identity().await;
}

/// The boot has not proved itself: what is known is kept, and the loader gets its turn.
pub(crate) async fn fail(node: &Rc<Node>, reason: String) {
    if !node.health.is_pending() {
        return;
    }
    let checks = show::records(&node.health.health.borrow(), &node.health.gate.borrow());
    tracing::error!(reason, "the health gate has failed; restarting");
    *node.health.gate.borrow_mut() = Gated::Failed { reason: reason.clone(), at: now() };
    show::gate(node, &node.health.gate.borrow());
    let judged = node.boots.judged(node, boots::Health::Failed, reason.clone(), checks);
    if tokio::time::timeout(RECORDING, judged).await.is_err() {
        tracing::warn!("recording why the gate failed takes too long; going on without");
    }
    node.end(End::Restart, Reason::own(format!("the health gate failed: {reason}")));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        configuration::{Intent, Understood},
        fixture,
        node::Release,
        state,
        store::Kind,
    };
    use std::collections::BTreeMap;
    use stele_config::canonical;
    use stele_proto::v1::Event;
    use tokio::{runtime, task::LocalSet};

    #[test]
    fn new_checks_and_probes_are_the_doing_of_whoever_applied_them() {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let told: Vec<Event> = LocalSet::new().block_on(&runtime, async {
            let node = Rc::new(Node::new(BTreeMap::new(), Release::default()));
            node.logs.files().abandon();
            node.store.events.start(1, 0, Rc::clone(node.logs.files()));
            node.state.set(state::State { boot: 0, persistent: false }).unwrap();
            tokio::task::spawn_local(keep(Rc::clone(&node)));
            let check = r#""kind":"HealthCheck","name":"web","tcp":{"address":"127.0.0.1:1"}"#;
            let probe = r#""kind":"Probe","name":"gate","icmp":{"address":"127.0.0.1"}"#;
            let documents = fixture::documents(&[check, probe]);
            let understood = Understood::of_generation(&documents).unwrap();
            let mut intent = Intent::of_source("ada", 0);
            intent.author.request = "a-1".to_owned();
            let taken = node.configuration.accept_understood(&node, understood, &intent).await;
            taken.unwrap();
            let mut position = node.store.events.start_of_memory();
            let mut told = Vec::new();
            while !told.iter().any(|event: &Event| event.name == "web") {
                tokio::time::sleep(Duration::from_millis(5)).await;
                told.extend(node.store.events.read(&mut position).unwrap());
            }
            told
        });
        for (kind, name) in [("HealthCheck", "web"), ("Probe", "gate")] {
            let event = told.iter().find(|event| event.name == name).unwrap();
            assert_eq!((event.kind.as_str(), event.request.as_str()), (kind, "a-1"), "{event:?}");
            assert_eq!(event.subject, "ada");
        }
    }

    #[test]
    fn a_check_follows_the_probe_that_it_names() {
        let documents = [
            r#""kind":"Probe","name":"gate","failures":2,"tcp":{"address":"127.0.0.1:1"}"#,
            r#""kind":"HealthCheck","name":"way-out","successes":1,"probe":"gate""#,
            r#""kind":"HealthCheck","name":"nowhere","probe":"gaet""#,
        ];
        let config = canonical::read(fixture::documents(&documents).as_bytes()).unwrap();
        let node = Node::new(BTreeMap::new(), Release::default());
        let rules = rules::of(Some(&config), false, false);
        node.health.health.borrow_mut().set(|_| true, &rules.all, 0);
        node.health.probes.borrow_mut().set(&rules.probes, 0);
        let tasks = rules.tasks(Some(&config), "node-1");
        let names: Vec<&str> = tasks.iter().filter_map(|task| rules::probe(task.name())).collect();
        assert_eq!(names, ["gate"]);
        let tried = |ok: bool| {
            let (check, took) = ("probe/gate".to_owned(), Duration::from_micros(1500));
            let seen = Seen { check, ok, message: "refused".to_owned(), took };
            let changed = watch(&node, "gate", &seen);
            system::look_at_probes(&node, &rules);
            let health = node.health.health.borrow();
            let check = &health.checks()["way-out"];
            (changed, check.state(), check.complaint())
        };
        assert_eq!(tried(false), (false, State::Unknown, "it was not tried yet".to_owned()));
        let why = "the probe gate is unreachable: refused".to_owned();
        assert_eq!(tried(false), (true, State::Failing, why));
        let (changed, state, _) = tried(true);
        assert_eq!((changed, state), (true, State::Passing));
        assert_eq!(tried(false).1, State::Passing, "one that fails is not enough");
        let status = node.store.status(Kind::Probe, "gate").unwrap();
        assert_eq!((&status["state"], &status["reason"]), (&"reachable".into(), &"refused".into()));
        assert_eq!(status["latency"], 0.0015);
        let nowhere = node.health.health.borrow().checks()["nowhere"].complaint();
        assert_eq!(nowhere, "there is no probe gaet");
    }
}
