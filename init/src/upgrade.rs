// SPDX-License-Identifier: Apache-2.0
//! Upgrades: what PID 1 does about images and slots.

use crate::{
    api::{Code, Refusal, Requests, Responses},
    handlers::Answer,
    node::Node,
};
use std::rc::Rc;

/// The partition (its UUID) from which the boot loader started this image; none on a direct or network boot.
pub(crate) fn esp_partition() -> Option<String> {
    None
}

/// Removes what an upgrade that was cut off left behind, and publishes the slots.
pub(crate) async fn settle(_node: &Rc<Node>) {}

/// Makes the running image permanent once the machine is healthy.
pub(crate) async fn bless_when_healthy(_node: &Rc<Node>) {}

fn later() -> Answer {
    Ok(Err(Refusal::new(Code::Unimplemented, "not yet")))
}

pub(crate) async fn push(_: &Rc<Node>, _: &mut Requests, _: &mut Responses) -> Answer {
    later()
}
pub(crate) async fn upgrade(_: &Rc<Node>, _: &mut Requests, _: &mut Responses) -> Answer {
    later()
}
pub(crate) async fn rollback(_: &Rc<Node>, _: &mut Requests, _: &mut Responses) -> Answer {
    later()
}
pub(crate) async fn status(_: &Rc<Node>, _: &mut Requests, _: &mut Responses) -> Answer {
    later()
}
