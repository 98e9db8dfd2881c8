// SPDX-License-Identifier: Apache-2.0
//! The slots as others see them: resources in the store, messages of the API.

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
}

/// Publishes what is on the ESP.
pub(crate) fn publish(node: &Node, observed: &Observed, usage: Usage) {
    let slots = slots::observe(observed);
    let resources: BTreeMap<String, Status<'_>> =
        slots.iter().map(|slot| (name(slot), status_of(slot))).collect();
    node.store.replace(Kind::Slot, &resources);
    *node.upgrades.seen.borrow_mut() = v1::StatusResponse {
        slots: slots.iter().map(to_proto).collect(),
        esp_free: usage.free,
        esp_size: usage.size,
    };
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
    Status { version, state, running: slot.running, tries_left, tries_done, size: slot.size, file }
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
