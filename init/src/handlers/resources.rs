// SPDX-License-Identifier: Apache-2.0
//! Resources: what there is, and what changes.

use super::{Answer, only};
use crate::{
    api::{Code, Refusal, Requests, Responses, while_connected},
    descriptors, memory,
    node::Node,
    store::{Kind, Watch},
    volumes,
};
use std::time::Duration;
use stele_proto::v1;
use tokio::time::Instant;

/// How often what has no events of its own is looked at while it is watched.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How old a look may be: however many ask, PID 1 looks no more often.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Changes that are sent to a watcher in one go, besides the first.
const STRETCH: usize = 63;

/// Looks at what has no events of its own, unless someone has just looked. Says whether it is such a kind.
fn look(node: &Node, kind: Kind) -> bool {
    let refresh: fn(&Node) = match kind {
        Kind::Descriptor => descriptors::refresh,
        Kind::Memory => memory::refresh,
        Kind::Volume => |node| drop(volumes::refresh(node)),
        _ => return false,
    };
    let now = Instant::now();
    let before = node.looked.borrow_mut().insert(kind, now);
    match before.filter(|before| now.duration_since(*before) < LOOK_AGAIN) {
        Some(before) => drop(node.looked.borrow_mut().insert(kind, before)),
        None => refresh(node),
    }
    true
}

fn parse_kind(name: &str) -> Result<Kind, Refusal> {
    Kind::parse(name).ok_or_else(|| {
        let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        Refusal::new(
            Code::NotFound,
            format!("there is no kind {name:?}; there are: {}", names.join(", ")),
        )
    })
}

pub(super) async fn list(
    node: &Node,
    requests: &mut Requests,
    responses: &mut Responses,
) -> Answer {
    let request: v1::ListRequest = only!(requests);
    let kind = match parse_kind(&request.kind) {
        Ok(kind) => kind,
        Err(refusal) => return Ok(Err(refusal)),
    };
    look(node, kind);
    let resources = node.store.list(kind, &request.name);
    if resources.is_empty() && !request.name.is_empty() {
        let message = format!("there is no {} {:?}", kind.name(), request.name);
        return Ok(Err(Refusal::new(Code::NotFound, message)));
    }
    responses.add(&v1::ListResponse { resources });
    Ok(Ok(()))
}

pub(super) async fn watch(
    node: &Node,
    requests: &mut Requests,
    responses: &mut Responses,
) -> Answer {
    let request: v1::WatchRequest = only!(requests);
    let kind = match parse_kind(&request.kind) {
        Ok(kind) => kind,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let looked = look(node, kind);
    // In one breath, without a wait between: nothing is missed and nothing comes twice.
    let Watch { mut changes, fell_behind } = node.store.watch(kind, &request.name);
    for resource in node.store.list(kind, &request.name) {
        responses
            .add(&v1::WatchResponse { change: v1::Change::Added.into(), resource: Some(resource) });
    }
    responses.add(&v1::WatchResponse { change: v1::Change::Synced.into(), resource: None });
    let following = async {
        responses.flush().await?;
        loop {
            let change = tokio::select! {
                change = changes.recv() => change,
                () = tokio::time::sleep(LOOK_EVERY), if looked => {
                    look(node, kind);
                    continue;
                }
            };
            match change {
                Some(change) => {
                    node.turns.wait().await;
                    responses.add_encoded(&change);
                    // What has come meanwhile goes the same way, a stretch at a time.
                    let more = std::iter::from_fn(|| changes.try_recv().ok());
                    more.take(STRETCH).for_each(|change| responses.add_encoded(&change));
                    responses.flush().await?;
                }
                None if fell_behind.get() => {
                    let message =
                        "this watch fell too far behind and was ended; list again and watch on";
                    return Ok(Err(Refusal::new(Code::ResourceExhausted, message)));
                }
                None => return Ok(Ok(())),
            }
        }
    };
    while_connected(requests, following).await
}

#[cfg(test)]
mod tests;
