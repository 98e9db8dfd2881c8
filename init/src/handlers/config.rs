// SPDX-License-Identifier: Apache-2.0
//! The methods about configurations.

use super::{Answer, only};
use crate::{
    api::{Caller, Code, Refusal, Requests, Responses},
    configuration::Intent,
    node::Node,
};
use std::rc::Rc;
use stele_config::canonical;
use stele_proto::{method::Role, v1};

/// The value of a result, or the call is answered with why there is none.
macro_rules! or_refuse {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(error) => return Ok(Err(error.into())),
        }
    };
}

pub(super) async fn apply(
    node: &Rc<Node>,
    caller: &Caller,
    requests: &mut Requests,
    responses: &mut Responses,
) -> Answer {
    let request: v1::ApplyRequest = only!(requests);
    let (mode, within) = (request.mode(), request.confirm_within);
    let intent = Intent::of_caller(caller, request.dry_run, request.base, mode, within);
    let intent = or_refuse!(intent);
    let accepted = node.configuration.accept(node, &request.documents, &intent).await;
    responses.add(&or_refuse!(accepted));
    Ok(Ok(()))
}

pub(super) async fn restore(
    node: &Rc<Node>,
    caller: &Caller,
    requests: &mut Requests,
    responses: &mut Responses,
) -> Answer {
    let request: v1::RestoreRequest = only!(requests);
    let (mode, within) = (request.mode(), request.confirm_within);
    let intent = Intent::of_caller(caller, request.dry_run, request.base, mode, within);
    let intent = or_refuse!(intent);
    let accepted = node.configuration.go_back_to(node, request.generation, &intent).await;
    responses.add(&or_refuse!(accepted));
    Ok(Ok(()))
}

pub(super) async fn confirm(
    node: &Rc<Node>,
    caller: &Caller,
    requests: &mut Requests,
    responses: &mut Responses,
) -> Answer {
    let v1::ConfirmRequest { generation } = only!(requests);
    let (connected, subject) = (caller.connected, &caller.subject);
    let confirmed = node.configuration.confirm(node, generation, connected, subject).await;
    responses.add(&v1::ConfirmResponse { generation: Some(or_refuse!(confirmed)) });
    Ok(Ok(()))
}

pub(super) async fn get(
    node: &Rc<Node>,
    caller: &Caller,
    requests: &mut Requests,
    responses: &mut Responses,
) -> Answer {
    let v1::GetRequest { generation } = only!(requests);
    let Some(active) = node.configuration.active() else {
        return Ok(Err(Refusal::new(
            Code::NotFound,
            "the node has no configuration yet; it is in maintenance mode",
        )));
    };
    let number = if generation == 0 { active.stored.number } else { generation };
    let stored = or_refuse!(node.configuration.read(number).await);
    // An older image may have kept it in older versions of its documents.
    let read = canonical::read(stored.documents.as_bytes());
    let documents = match (read, caller.role == Some(Role::Admin)) {
        (Ok(config), true) => canonical::write(&config),
        (Ok(config), false) => canonical::redact(&config),
        (Err(_), true) => stored.documents.clone().into_bytes(),
        (Err(_), false) => {
            let message = format!(
                "generation {number} is of another image's making and can't be shown without its secrets"
            );
            return Ok(Err(Refusal::new(Code::FailedPrecondition, message)));
        }
    };
    let generation = Some(node.configuration.tell(&stored));
    responses.add(&v1::GetResponse { generation, documents });
    Ok(Ok(()))
}
