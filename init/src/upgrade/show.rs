// SPDX-License-Identifier: Apache-2.0
//! The slots as others see them: resources in the store, messages of the API.

use super::Upgrades;
use crate::{node::Node, store::Kind};
use serde::Serialize;
use std::collections::BTreeMap;
use stele_kernel::mount::Usage;
use stele_machine::slots::{self, Observed, Slot, State};
use stele_proto::v1::{self, SlotState};

/// What `ctl get slot` shows.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    version: &'a str,
    state: &'static str,
    running: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tries_left: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tries_done: Option<u32>,
    size: u64,
    file: String,
    /// When it is moved to, in seconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduled_at: Option<i64>,
}

/// Publishes what is on the ESP.
pub(crate) fn publish(node: &Node, observed: &Observed, usage: Usage) {
    node.upgrades.seen.replace(Some((observed.clone(), usage)));
    refresh(node);
}

/// Publishes what was last seen once more: something else about it has changed.
pub(super) fn refresh(node: &Node) {
    let slots = node.upgrades.slots();
    let scheduled = node.upgrades.scheduled.borrow();
    let resources: BTreeMap<String, Status<'_>> = slots
        .iter()
        .map(|slot| {
            let waits =
                scheduled.as_ref().filter(|it| it.slot == slot.id.as_str() && !slot.running);
            (name(slot), Status { scheduled_at: waits.map(|it| it.at), ..status_of(slot) })
        })
        .collect();
    node.store.replace(Kind::Slot, &resources);
}

/// What the API says of all slots.
pub(super) fn status(node: &Node) -> v1::StatusResponse {
    let usage = node.upgrades.seen.borrow().as_ref().map(|(_, usage)| *usage);
    let scheduled = node.upgrades.scheduled.borrow();
    v1::StatusResponse {
        slots: node.upgrades.slots().iter().map(to_proto).collect(),
        esp_free: usage.map_or(0, |usage| usage.free),
        esp_size: usage.map_or(0, |usage| usage.size),
        scheduled: scheduled.as_ref().map(|scheduled| v1::Scheduled {
            slot: scheduled.slot.clone(),
            at: Some(prost_types::Timestamp { seconds: scheduled.at, nanos: 0 }),
        }),
        floor: node.images.floor().map(|floor| floor.to_string()).unwrap_or_default(),
    }
}

impl Upgrades {
    /// The slots as they were last seen.
    fn slots(&self) -> Vec<Slot> {
        self.seen
            .borrow()
            .as_ref()
            .map(|(observed, _)| slots::observe(observed))
            .unwrap_or_default()
    }
}

/// The name of the resource: the slot's id, unless a new image of the same version is staged beside it.
fn name(slot: &Slot) -> String {
    if slot.state == State::Staged { slot.file.to_string() } else { slot.id.to_string() }
}

fn status_of(slot: &Slot) -> Status<'_> {
    let (state, tries_left, tries_done) = match slot.state {
        State::Staged => ("staged", None, None),
        State::Trying { left, done } => ("trying", Some(left), Some(done)),
        State::Good => ("good", None, None),
        State::Bad { done } => ("bad", Some(0), Some(done)),
    };
    let (version, file) = (slot.version().as_str(), slot.file.to_string());
    Status {
        version,
        state,
        running: slot.running,
        tries_left,
        tries_done,
        size: slot.size,
        file,
        scheduled_at: None,
    }
}

fn to_proto(slot: &Slot) -> v1::Slot {
    let Status { version, running, tries_left, tries_done, size, file, .. } = status_of(slot);
    let state = match slot.state {
        State::Staged => SlotState::Staged,
        State::Trying { .. } => SlotState::Trying,
        State::Good => SlotState::Good,
        State::Bad { .. } => SlotState::Bad,
    };
    v1::Slot {
        id: slot.id.to_string(),
        version: version.to_owned(),
        state: state.into(),
        running,
        tries_left: tries_left.unwrap_or(0),
        tries_done: tries_done.unwrap_or(0),
        size,
        file,
    }
}
