// SPDX-License-Identifier: Apache-2.0
//! The events: what the files have, then what is in memory, then what comes.

use super::{Answer, only};
use crate::{
    api::{Refusal, Requests, Responses, while_connected},
    events,
    node::Node,
};
use std::{collections::VecDeque, rc::Rc};
use stele_proto::v1::{Event, EventsChunk, EventsRequest};
use tokio::sync::mpsc;

/// Events that are kept; also the most that are looked through for the last few.
const KEPT: usize = 10_000;

/// What someone wants to see.
struct Filter {
    since_us: u64,
    request: String,
}

impl Filter {
    fn takes(&self, event: &Event) -> bool {
        event.time_us >= self.since_us && (self.request.is_empty() || self.request == event.request)
    }
}

pub(super) async fn stream(
    node: &Rc<Node>,
    requests: &mut Requests,
    responses: &mut Responses,
) -> Answer {
    let EventsRequest { follow, since, request, tail } = only!(requests);
    let since_us = super::micros(since.as_ref());
    let filter = Filter { since_us, request };
    let streaming = async {
        let events = &node.store.events;
        let mut grown = events.follow();
        let mut position = events.start_of_memory();
        grown.borrow_and_update();
        let memory = events.read(&mut position);
        let first = memory.first().map_or(u64::MAX, |event| event.number);
        let mut last: VecDeque<Event> = match earlier(first).await {
            Ok(earlier) => earlier.into_iter().chain(memory).filter(|e| filter.takes(e)).collect(),
            Err(refusal) => return Ok(Err(refusal)),
        };
        loop {
            let more = events.read(&mut position);
            if more.is_empty() {
                break;
            }
            last.extend(more.into_iter().filter(|event| filter.takes(event)));
        }
        let wanted = usize::try_from(tail).unwrap_or(KEPT);
        let wanted = if wanted == 0 { KEPT } else { wanted };
        last.drain(..last.len().saturating_sub(wanted));
        while !last.is_empty() {
            let chunk = last.drain(..last.len().min(256)).collect();
            responses.add(&EventsChunk { events: chunk });
            responses.flush().await?;
        }
        if !follow {
            return Ok(Ok(()));
        }
        // The sender lives as long as the node.
        while grown.changed().await.is_ok() {
            let more: Vec<Event> =
                events.read(&mut position).into_iter().filter(|e| filter.takes(e)).collect();
            if !more.is_empty() {
                responses.send(&EventsChunk { events: more }).await?;
            }
        }
        Ok(Ok(()))
    };
    while_connected(requests, streaming).await
}

/// The events on disk before this number, the last that are kept.
async fn earlier(first: u64) -> Result<VecDeque<Event>, Refusal> {
    let (sender, mut read) = mpsc::channel(4);
    let reading = tokio::task::spawn_blocking(move || {
        events::read_files(&mut |events| sender.blocking_send(events).is_ok())
    });
    let mut last = VecDeque::new();
    while let Some(events) = read.recv().await {
        last.extend(events.into_iter().filter(|event| event.number < first));
        last.drain(..last.len().saturating_sub(KEPT));
    }
    match reading.await {
        Ok(Ok(())) => Ok(last),
        Ok(Err(error)) => Err(Refusal::internal(&error)),
        Err(error) => Err(Refusal::internal(&error)),
    }
}
