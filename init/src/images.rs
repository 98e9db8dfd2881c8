// SPDX-License-Identifier: Apache-2.0
//! What the machine remembers of its images, in `/state/images.json`: the floor below which it does not go back, the
//! generation that each image ran with when it was healthy, and what held before the upgrade that is under way.

use crate::{
    health,
    node::Node,
    state::{self, StateError},
    store::Kind,
};
use serde::{Deserialize, Serialize};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    path::Path,
    rc::Rc,
};
use stele_layout::version::Version;
use tokio::sync::Mutex;

/// Images that are remembered.
const REMEMBERED: usize = 16;

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Memory {
    /// The newest version that was healthy here.
    pub(crate) floor: Option<String>,
    /// By version, the generation that it ran with when it was healthy.
    pub(crate) generations: BTreeMap<String, u64>,
    /// By version, the tries of the loader that have a boot record.
    pub(crate) tries: BTreeMap<String, u32>,
    /// The networks that were up when the machine was last healthy.
    pub(crate) networks: Vec<Network>,
    /// What held before the upgrade that is under way.
    pub(crate) trial: Option<Trial>,
}

/// A network that was up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Network {
    /// The link's name, for people.
    pub(crate) link: String,
    /// Its hardware address, by which it is found again.
    pub(crate) mac: String,
    /// Whether a default route led over it.
    #[serde(default)]
    pub(crate) gateway: bool,
}

/// What held before an upgrade.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Trial {
    /// The version that was left.
    pub(crate) from: String,
    /// The version on trial.
    pub(crate) to: String,
    /// The checks that failed before.
    pub(crate) failing: BTreeSet<String>,
}

/// The images' memory.
#[derive(Debug, Default)]
pub(crate) struct Images {
    memory: RefCell<Memory>,
    persistent: Cell<bool>,
    turn: Mutex<()>,
}

fn file() -> std::path::PathBuf {
    Path::new(state::ROOT).join("images.json")
}

/// Reads what is remembered. May block.
pub(crate) fn read() -> Memory {
    if !file().exists() {
        return Memory::default();
    }
    state::read_json(&file()).unwrap_or_else(|error| {
        tracing::error!(
            error = crate::report::chain(&error),
            "what was remembered of the images is lost"
        );
        Memory::default()
    })
}

impl Images {
    /// Takes up what was remembered; on a machine that keeps anything, what changes is kept from now on.
    pub(crate) fn restore(&self, memory: Memory, persistent: bool) {
        self.persistent.set(persistent);
        *self.memory.borrow_mut() = memory;
    }

    /// What is remembered.
    pub(crate) fn memory(&self) -> Memory {
        self.memory.borrow().clone()
    }

    /// The newest version that was healthy here.
    pub(crate) fn floor(&self) -> Option<Version> {
        self.memory.borrow().floor.as_deref().and_then(|version| Version::parse(version).ok())
    }

    /// Changes what is remembered, on disk first.
    pub(crate) async fn change(&self, change: impl FnOnce(&mut Memory)) -> Result<(), StateError> {
        let _turn = self.turn.lock().await;
        let mut memory = self.memory();
        change(&mut memory);
        forget_oldest(&mut memory);
        if memory == *self.memory.borrow() {
            return Ok(());
        }
        if self.persistent.get() {
            let kept = memory.clone();
            let written =
                tokio::task::spawn_blocking(move || state::write_json(&file(), &kept)).await;
            written.unwrap_or_else(|lost| {
                let source = std::io::Error::other(lost);
                Err(StateError::Write { file: file(), source })
            })?;
        }
        *self.memory.borrow_mut() = memory;
        Ok(())
    }

    /// The running image is healthy: it is the floor from now on, unless a newer one was it before, and the machine's own
    /// configuration is its own. With `proved`, the upgrade that was under way is over.
    pub(crate) async fn healthy(&self, node: &Node, proved: bool) -> Result<(), StateError> {
        let version = &node.release.version;
        let generation = node.configuration.own().map(|own| own.stored.number);
        // A machine that has lost its memory has at least the images that it has.
        let known = match self.floor() {
            Some(floor) => vec![floor],
            None => good_versions(node),
        };
        let newest = Version::parse(version)
            .into_iter()
            .chain(known)
            .max_by(Version::compare)
            .map(|newest| newest.as_str().to_owned());
        self.change(|memory| {
            memory.floor = newest;
            if let Some(generation) = generation {
                memory.generations.insert(version.clone(), generation);
            }
            if proved {
                memory.trial = None;
            }
            // What is configured while another image waits for the next start is for that one too.
            if let (Some(trial), Some(generation)) = (&memory.trial, generation)
                && trial.from == *version
            {
                memory.generations.insert(trial.to.clone(), generation);
            }
        })
        .await
    }

    /// An image is about to be put on trial: what it is measured against is kept. Called before its boot counter is set.
    pub(crate) async fn begin_trial(
        &self,
        node: &Rc<Node>,
        version: &Version,
    ) -> Result<(), StateError> {
        let mut failing = node.health.failing();
        failing.extend(node.boots.failed_before());
        let from = node.release.version.clone();
        let trial = Trial { from, to: version.as_str().to_owned(), failing };
        let generation = node.configuration.own().map(|own| own.stored.number);
        let networks = health::networks(node);
        self.change(|memory| {
            memory.tries.remove(version.as_str());
            memory.generations.remove(version.as_str());
            if let Some(generation) = generation {
                memory.generations.insert(version.as_str().to_owned(), generation);
            }
            memory.networks = networks;
            memory.trial = Some(trial);
        })
        .await
    }
}

/// The versions on the ESP that are known to be good.
fn good_versions(node: &Node) -> Vec<Version> {
    let text = |status: &serde_json::Value, field: &str| {
        status.get(field).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
    };
    node.store
        .names(Kind::Slot)
        .iter()
        .filter_map(|name| node.store.status(Kind::Slot, name))
        .filter(|status| text(status, "state") == "good")
        .filter_map(|status| Version::parse(&text(&status, "version")).ok())
        .collect()
}

/// What there is about images that are long gone.
fn forget_oldest(memory: &mut Memory) {
    let mut versions: Vec<String> =
        memory.generations.keys().chain(memory.tries.keys()).cloned().collect();
    versions.sort_by(|left, right| match (Version::parse(left), Version::parse(right)) {
        (Ok(left), Ok(right)) => right.compare(&left),
        _ => left.cmp(right),
    });
    versions.dedup();
    for version in versions.iter().skip(REMEMBERED) {
        memory.generations.remove(version);
        memory.tries.remove(version);
    }
}
