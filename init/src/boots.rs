// SPDX-License-Identifier: Apache-2.0
//! Boot records, in `/state/boots/N.json`: which image, why, what its health gate found, how it ended.
//!
//! A boot that could not write its own record, or not its end, gets it from the next one that can: from what its kernel
//! wrote down, from the watchdog, from the boot loader's counter, from a look at the image itself.

mod history;

use crate::{
    arguments, evidence, health, images, log_files,
    node::Node,
    report,
    state::{self, StateError},
    store::Kind,
    upgrade,
};
use history::{Completed, Known};
use serde::Serialize;
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    rc::Rc,
};
use stele_kernel::{clock, power::End, watchdog};
use stele_machine::{
    boots::{self, CheckRecord, Ended, Health, How, Record, Running, Start},
    slots::{self, Observed, Slot, State},
};
use tokio::sync::Mutex;

/// Records that are kept.
const KEPT: usize = 50;
/// The log of a boot that holds what its kernel wrote down at its end.
const PANIC_LOG: &str = "panic";

/// The record of the running boot.
#[derive(Debug, Default)]
pub(crate) struct Boots {
    current: RefCell<Record>,
    /// The generation of the last boot that had nothing to prove, or had proved it.
    last_good: Cell<Option<u64>>,
    /// In safe mode, the configuration's checks that did not pass in the last boot that had to prove itself.
    failed_before: RefCell<BTreeSet<String>>,
    persistent: Cell<bool>,
    turn: Mutex<()>,
}

/// Why the machine ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reason {
    /// In a sentence.
    pub(crate) text: String,
    /// Whether a person or program asked for it.
    pub(crate) asked: bool,
    /// Whether it is only to start again with kernel arguments.
    pub(crate) again: bool,
}

impl Reason {
    /// Someone asked for it.
    pub(crate) fn asked(text: impl Into<String>) -> Reason {
        Reason { text: text.into(), asked: true, again: false }
    }

    /// The machine does it by itself.
    pub(crate) fn own(text: impl Into<String>) -> Reason {
        Reason { text: text.into(), asked: false, again: false }
    }

    /// It is only to start again with kernel arguments.
    pub(crate) fn again(text: impl Into<String>) -> Reason {
        Reason { text: text.into(), asked: false, again: true }
    }
}

impl Boots {
    /// Why this boot is what it is.
    pub(crate) fn started(&self) -> Start {
        self.current.borrow().started.clone()
    }

    /// Nothing that was configured can be used, and nobody is known who could be let in.
    pub(crate) async fn give_up(&self, node: &Node, reason: String) {
        self.change(node, |record| record.started = Start::Safe { reason }).await;
        announce(&self.current.borrow());
    }

    /// The configuration's checks that are known to fail although nobody makes them: those that led to safe mode.
    pub(crate) fn failed_before(&self) -> BTreeSet<String> {
        self.failed_before.borrow().clone()
    }

    /// The generation that this boot should have: the one that its image was healthy with; for an image that never was, the
    /// one of the last boot that had nothing to prove, or had proved it.
    pub(crate) fn wanted_generation(&self, node: &Node) -> Option<u64> {
        let memory = node.images.memory();
        let own = memory.generations.get(&node.release.version).copied();
        own.or_else(|| self.last_good.get())
    }

    /// This generation is in force in this boot.
    pub(crate) async fn configured(&self, node: &Node, generation: u64) {
        self.change(node, |record| record.generation = Some(generation)).await;
    }

    /// The health gate's verdict, and what it was made of.
    pub(crate) async fn judged(
        &self,
        node: &Node,
        health: Health,
        failure: String,
        checks: Vec<CheckRecord>,
    ) {
        self.change(node, |record| {
            record.health = health;
            record.failure = failure;
            record.checks = checks;
        })
        .await;
    }

    /// The machine ends now.
    pub(crate) async fn ended(&self, node: &Node, how: End, reason: Reason) {
        let how = match how {
            End::Restart if reason.again => How::Again,
            End::Restart => How::Reboot,
            End::PowerOff => How::PowerOff,
        };
        let Reason { text: cause, asked, .. } = reason;
        self.change(node, |record| record.ended = Some(Ended { how, cause, asked })).await;
    }

    async fn change(&self, node: &Node, change: impl FnOnce(&mut Record)) {
        let _turn = self.turn.lock().await;
        let record = {
            let mut current = self.current.borrow_mut();
            change(&mut current);
            current.clone()
        };
        publish(node, &record);
        if self.persistent.get() {
            say(tokio::task::spawn_blocking(move || write(&record)).await);
        }
    }
}

fn folder() -> PathBuf {
    Path::new(state::ROOT).join("boots")
}

/// All records, oldest first; one that can't be read is left out, and said.
fn read_all() -> Vec<Record> {
    let mut records: Vec<Record> = fs::read_dir(folder())
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "json"))
        .filter_map(|entry| {
            let read = state::read_json(&entry.path());
            read.map_err(|error| {
                tracing::warn!(error = report::chain(&error), "a boot record can't be read");
            })
            .ok()
        })
        .collect();
    records.sort_by_key(|record: &Record| record.number);
    records
}

fn write(record: &Record) -> Result<(), StateError> {
    let file = folder().join(format!("{}.json", record.number));
    fs::create_dir_all(folder())
        .map_err(|source| StateError::Write { file: file.clone(), source })?;
    state::write_json(&file, record)
}

/// Keeps what was completed, the running boot's record and its number; lets the oldest go.
fn keep(completed: &[Completed], current: &Record, oldest: &[u64]) -> Result<(), StateError> {
    for Completed { record, dump } in completed {
        if let Some(dump) = dump {
            match log_files::keep(record.number, PANIC_LOG, dump.time, &dump.lines) {
                Ok(()) => evidence::forget(std::iter::once(dump)),
                Err(error) => {
                    tracing::error!(error = %error, boot = record.number, "keeping what a kernel wrote down failed")
                }
            }
        }
        write(record)?;
    }
    write(current)?;
    for number in oldest {
        // One that stays is tried again at the next boot.
        let _kept = fs::remove_file(folder().join(format!("{number}.json")));
    }
    Ok(())
}

fn say(kept: Result<Result<(), StateError>, tokio::task::JoinError>) {
    match kept {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::error!(error = report::chain(&error), "keeping a boot record failed");
        }
        Err(lost) => tracing::error!(error = %lost, "keeping a boot record failed"),
    }
}

/// Completes the history of this machine and begins the record of this boot. Returns its number: 0 on a machine that
/// keeps none. Without DATA, what kernels wrote down stays where it is.
pub(crate) async fn begin(
    node: &Rc<Node>,
    persistent: bool,
    data: bool,
    observed: Option<&Observed>,
) -> u64 {
    node.boots.persistent.set(persistent);
    let slots = observed.map(slots::observe).unwrap_or_default();
    let read = tokio::task::spawn_blocking(move || {
        let history = if persistent { read_all() } else { Vec::new() };
        let counted = if persistent { state::last_boot() } else { 0 };
        let last = history.last().map_or(counted, |record| record.number.max(counted));
        let dumps = if persistent && data { evidence::read() } else { Vec::new() };
        let memory = if persistent { images::read() } else { images::Memory::default() };
        let now = clock::now().unwrap_or(0);
        let dumps = dumps.into();
        let attempt = if persistent { arguments::read() } else { None };
        let known = Known { history, last, dumps, watchdog: watchdog::has_restarted() };
        (known, memory, attempt, now)
    });
    let Ok((mut known, memory, attempt, now)) = read.await else { return 0 };
    node.arguments.take_up(attempt);
    node.images.restore(memory, persistent);
    let completed =
        if persistent { complete(node, &mut known, &slots, observed).await } else { Vec::new() };
    let record = first_record(node, &known, &slots, persistent, now);
    announce(&record);
    for record in known.history.iter().chain([&record]) {
        publish(node, record);
    }
    *node.boots.current.borrow_mut() = record.clone();
    node.boots.last_good.set(last_good(&known.history));
    if matches!(record.started, Start::Safe { .. }) {
        *node.boots.failed_before.borrow_mut() = failed_before(&known.history);
    }
    let number = record.number;
    if persistent {
        remember_tries(node, &slots).await;
        let surplus = known.history.len().saturating_sub(KEPT);
        let oldest: Vec<u64> =
            known.history.iter().take(surplus).map(|record| record.number).collect();
        say(tokio::task::spawn_blocking(move || keep(&completed, &record, &oldest)).await);
    }
    number
}

/// Adds what is known of the ends and boots that have no record.
async fn complete(
    node: &Rc<Node>,
    known: &mut Known,
    slots: &[Slot],
    observed: Option<&Observed>,
) -> Vec<Completed> {
    let mut completed: Vec<Completed> = known.end_last().into_iter().collect();
    if let Some(attempt) = node.arguments.failed() {
        let (failure, record) = known.with_arguments(&attempt);
        completed.extend(record);
        arguments::note_failure(node, failure).await;
    }
    let mut looked: BTreeMap<String, Option<String>> = BTreeMap::new();
    for lost in history::lost(slots, &node.images.memory().tries) {
        let name = lost.slot.file.to_string();
        if !looked.contains_key(&name) {
            looked.insert(name.clone(), upgrade::examine(node, &lost.slot).await.err());
        }
        completed.push(known.add(&lost, looked.get(&name).cloned().flatten()));
    }
    for slot in history::passed_over(slots, observed) {
        // One that could be started was not wanted: someone chose another at the machine.
        if let Err(why) = upgrade::examine(node, slot).await {
            completed.push(known.never_started(slot, why));
            upgrade::condemn(node, slot).await;
        }
    }
    completed.extend(known.leftovers());
    completed
}

fn first_record(node: &Node, known: &Known, slots: &[Slot], persistent: bool, now: i64) -> Record {
    let version = node.release.version.as_str();
    let trial = slots.iter().find(|slot| slot.running).and_then(|slot| match slot.state {
        State::Trying { left, done } => Some((left, done)),
        State::Staged | State::Good | State::Bad { .. } => None,
    });
    let others = slots.iter().any(|slot| {
        !slot.running && matches!(slot.state, State::Good | State::Trying { left: 1.., .. })
    });
    let started = boots::start(&known.history, Running { version, trial, others });
    Record {
        number: if persistent { known.last.saturating_add(1) } else { 0 },
        image: version.to_owned(),
        arguments: node.arguments.running().to_vec(),
        time: now,
        health: if started.is_gated() { Health::Pending } else { Health::None },
        started,
        ..Record::default()
    }
}

fn failed_before(history: &[Record]) -> BTreeSet<String> {
    let failed = history.iter().rev().find(|record| record.health == Health::Failed);
    let checks = failed.into_iter().flat_map(|record| &record.checks);
    checks
        .filter(|check| check.state != "passing" && !check.name.starts_with(health::SYSTEM))
        .map(|check| check.name.clone())
        .collect()
}

fn last_good(history: &[Record]) -> Option<u64> {
    let mut good = history.iter().rev().filter(|record| record.settles());
    good.find_map(|record| record.generation)
}

/// Which tries of the loader have a record now.
async fn remember_tries(node: &Node, slots: &[Slot]) {
    let done: BTreeMap<String, u32> = slots
        .iter()
        .filter_map(|slot| match slot.state {
            State::Trying { done, .. } | State::Bad { done } => {
                Some((slot.version().as_str().to_owned(), done))
            }
            State::Staged | State::Good => None,
        })
        .collect();
    if let Err(error) = node.images.change(|memory| memory.tries.extend(done)).await {
        tracing::error!(error = report::chain(&error), "remembering the tries of images failed");
    }
}

fn announce(record: &Record) {
    match &record.started {
        Start::Ordinary | Start::Lost { .. } => {}
        Start::Trial { attempt } => {
            tracing::info!(target: report::CONSOLE, attempt, "image {} is on trial", record.image);
        }
        Start::Fallback { from } => {
            tracing::warn!("image {from} failed; back on {}", record.image);
        }
        Start::Safe { reason } => {
            tracing::error!(
                "SAFE MODE: {reason}. Nothing runs but what it takes to repair this machine: ctl status"
            );
        }
    }
}

/// What `ctl get boot` shows.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    image: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    arguments: &'a [String],
    /// Seconds since the epoch.
    time: i64,
    started: String,
    health: Health,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<&'static str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    cause: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checks: Vec<CheckStatus<'a>>,
}

#[derive(Serialize)]
struct CheckStatus<'a> {
    name: &'a str,
    need: &'a str,
    state: &'a str,
    /// Seconds after boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    passed: Option<f64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
}

fn publish(node: &Node, record: &Record) {
    let cause = match &record.started {
        Start::Safe { reason } if record.ended.is_none() => reason,
        _ => record.cause(),
    };
    let status = Status {
        image: &record.image,
        generation: record.generation,
        arguments: &record.arguments,
        time: record.time,
        started: if record.arguments.is_empty() {
            record.started.describe()
        } else {
            format!("{}, with kernel arguments", record.started.describe())
        },
        health: record.health,
        ended: record.ended.as_ref().map(|ended| ended.how.describe()),
        cause,
        checks: record
            .checks
            .iter()
            .map(|one| CheckStatus {
                name: &one.name,
                need: &one.need,
                state: &one.state,
                passed: one.passed.map(health::seconds),
                reason: &one.reason,
            })
            .collect(),
    };
    node.store.put(Kind::Boot, &record.number.to_string(), &status);
}
