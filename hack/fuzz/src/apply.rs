// SPDX-License-Identifier: Apache-2.0
//! What PID 1 makes of a configuration that its agent has read: whether it takes it, what it would change, and whether it can
//! be gone back from.
//!
//! The first two bytes say how it is applied; the rest is the canonical form, applied twice to a node that has the Identity
//! alone.

use crate::{Target, config};
use prost::Message as _;
use std::sync::LazyLock;
use stele_config::{canonical, yaml};
use stele_init::rig::Rig;
use stele_proto::{method::Role, v1};

/// Configurations that are applied.
pub const TARGET: Target = Target { name: "apply", run, seeds };

static IDENTITY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    canonical::write(&yaml::parse(config::IDENTITY.as_bytes()).expect("a configuration"))
});

const DRY: u8 = 1;
const WITHIN: u8 = 2;
const BASE: u8 = 4;

fn run(bytes: &[u8]) {
    let [how, seconds, documents @ ..] = bytes else { return };
    let rig = Rig::new().expect("an event loop");
    let first = v1::ApplyRequest { documents: IDENTITY.clone(), ..v1::ApplyRequest::default() };
    assert_eq!(rig.apply(&first.encode_to_vec(), Some(Role::Admin), "0a"), 0);
    let seconds = prost_types::Duration { seconds: i64::from(*seconds), nanos: 0 };
    let request = v1::ApplyRequest {
        documents: documents.to_vec(),
        dry_run: how & DRY != 0,
        confirm_within: (how & WITHIN != 0).then_some(seconds),
        base: u64::from(how & BASE != 0),
        mode: i32::from(how >> 6),
    };
    let bytes = request.encode_to_vec();
    let dry = v1::ApplyRequest { dry_run: true, ..request }.encode_to_vec();
    let told = rig.apply(&dry, Some(Role::Admin), "0a");
    let done = rig.apply(&bytes, Some(Role::Admin), "0a");
    // What can be done live was said before; what takes a restart is refused, as this node keeps nothing.
    assert!(done == told || told == 0 && done == 9, "{told} was said, and {done} came of it");
    rig.apply(&first.encode_to_vec(), Some(Role::Admin), "0a");
    rig.apply(&bytes, Some(Role::Admin), "0a");
}

fn seeds() -> Vec<Vec<u8>> {
    [[0, 0], [DRY, 0], [WITHIN, 60], [BASE | 0x80, 0]]
        .into_iter()
        .flat_map(|how| {
            [config::everything(), IDENTITY.clone()].map(|form| [&how[..], &form].concat())
        })
        .collect()
}
