// SPDX-License-Identifier: Apache-2.0
//! The events: what the files have, then what is in memory, then what comes.

use super::{Answer, only};
use crate::{
    api::{Code, Refusal, Requests, Responses, while_connected},
    events::{self, Lost},
    log_files,
    node::Node,
};
use std::{collections::VecDeque, path::Path, rc::Rc};
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
        let memory = match events.read(&mut position) {
            Ok(memory) => memory,
            Err(lost) => return Ok(Err(fell_behind(&lost))),
        };
        let first = memory.first().map_or(u64::MAX, |event| event.number);
        let mut last: VecDeque<Event> = match earlier(Path::new(log_files::FOLDER), first).await {
            Ok(earlier) => earlier.into_iter().chain(memory).filter(|e| filter.takes(e)).collect(),
            Err(refusal) => return Ok(Err(refusal)),
        };
        loop {
            match events.read(&mut position) {
                Ok(more) if more.is_empty() => break,
                Ok(more) => last.extend(more.into_iter().filter(|event| filter.takes(event))),
                Err(lost) => return Ok(Err(fell_behind(&lost))),
            }
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
        loop {
            let more = match events.read(&mut position) {
                Ok(more) => more,
                Err(lost) => return Ok(Err(fell_behind(&lost))),
            };
            if more.is_empty() && grown.changed().await.is_err() {
                return Ok(Ok(()));
            }
            let more: Vec<Event> = more.into_iter().filter(|e| filter.takes(e)).collect();
            if !more.is_empty() {
                responses.send(&EventsChunk { events: more }).await?;
            }
        }
    };
    while_connected(requests, streaming).await
}

/// Said to a follower that reads more slowly than events come.
fn fell_behind(Lost(lost): &Lost) -> Refusal {
    let message = format!(
        "this reader fell too far behind and was let go: {lost} events were given up before they were read; ask again with a time to begin at, as the disk has them"
    );
    Refusal::new(Code::ResourceExhausted, message)
}

/// The events on disk before this number, the last that are kept.
async fn earlier(folder: &Path, first: u64) -> Result<VecDeque<Event>, Refusal> {
    let (sender, mut read) = mpsc::channel(4);
    let folder = folder.to_owned();
    let reading = tokio::task::spawn_blocking(move || {
        events::read_files(&folder, &mut |events| sender.blocking_send(events).is_ok())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api, fixture, node::Release};
    use prost::Message as _;
    use std::collections::BTreeMap;
    use stele_proto::{
        internal::{Close, Frame, HalfClose, Open, frame},
        method::Method,
    };
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::UnixStream,
        runtime,
        task::LocalSet,
    };

    /// A node, and somebody who follows its events.
    async fn follow() -> (Rc<Node>, UnixStream) {
        let node = Rc::new(Node::new(BTreeMap::new(), Release::default()));
        node.logs.files().abandon();
        node.store.events.start(1, 0, Rc::clone(node.logs.files()));
        let (mut stream, theirs) = UnixStream::pair().unwrap();
        let answering = Rc::clone(&node);
        tokio::task::spawn_local(async move {
            // The client hangs up when it has heard enough.
            let _gone = api::converse(&answering, api::GATE, theirs).await;
        });
        let open = Open { method: Method::EventStream.path().to_owned(), ..Open::default() };
        let request = EventsRequest { follow: true, ..EventsRequest::default() };
        for frame in [
            frame::Frame::Open(open),
            frame::Frame::Message(request.encode_to_vec().into()),
            frame::Frame::HalfClose(HalfClose {}),
        ] {
            let body = Frame { frame: Some(frame) }.encode_to_vec();
            stream.write_u32(u32::try_from(body.len()).unwrap()).await.unwrap();
            stream.write_all(&body).await.unwrap();
        }
        (node, stream)
    }

    async fn read(stream: &mut UnixStream) -> Result<Vec<u64>, Close> {
        let mut bytes = vec![0; usize::try_from(stream.read_u32().await.unwrap()).unwrap()];
        stream.read_exact(&mut bytes).await.unwrap();
        match Frame::decode(bytes.as_slice()).unwrap().frame {
            Some(frame::Frame::Message(message)) => {
                let chunk = EventsChunk::decode(message).unwrap();
                Ok(chunk.events.iter().map(|event| event.number).collect())
            }
            Some(frame::Frame::Close(close)) => Err(close),
            other => panic!("{other:?}"),
        }
    }

    fn happen(node: &Node, count: u64) {
        let message = "x".repeat(300);
        (0..count).for_each(|_| node.store.events.happened("Link", "eth0", &message, false));
    }

    fn run(work: impl Future<Output = ()>) {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, work);
    }

    #[test]
    fn what_comes_at_once_is_told_to_the_last() {
        run(async {
            let (node, mut stream) = follow().await;
            happen(&node, 1);
            assert_eq!(read(&mut stream).await.unwrap(), [1]);
            // More than one stretch of memory.
            happen(&node, 999);
            let mut numbers = vec![1];
            while numbers.len() < 1000 {
                numbers.extend(read(&mut stream).await.unwrap());
            }
            assert!(numbers.into_iter().eq(1..=1000));
        });
    }

    #[test]
    fn events_are_there_after_a_restart_as_many_as_are_kept() {
        let folder = fixture::folder("events");
        let folder = folder.as_path();
        let write = |file: &str, numbers: std::ops::RangeInclusive<u64>| {
            let event = |number| Event { number, boot: 1, ..Event::default() };
            let chunk = EventsChunk { events: numbers.map(event).collect() };
            std::fs::write(folder.join(file), chunk.encode_to_vec()).unwrap();
        };
        run(async {
            assert_eq!(events::last_on_disk(folder), 0, "of a new machine");
            assert!(earlier(folder, u64::MAX).await.unwrap().is_empty());
            write("events.log.1", 1..=9000);
            write("events.log", 9001..=15_000);
            // The next boot goes on counting, and its own come from memory.
            let last = events::last_on_disk(folder);
            let numbers = |kept: VecDeque<Event>| kept.iter().map(|e| e.number).collect::<Vec<_>>();
            let kept = numbers(earlier(folder, last + 1).await.unwrap());
            assert!(kept.into_iter().eq(5001..=15_000));
            let kept = numbers(earlier(folder, 14_001).await.unwrap());
            assert!(kept.into_iter().eq(4001..=14_000), "the last thousand are in memory");
        });
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_follower_that_fell_behind_is_told() {
        run(async {
            let (node, mut stream) = follow().await;
            happen(&node, 1);
            assert_eq!(read(&mut stream).await.unwrap(), [1]);
            happen(&node, 5000);
            let close = read(&mut stream).await.unwrap_err();
            assert_eq!(close.code, Code::ResourceExhausted as i32, "{close:?}");
            assert!(close.message.contains("were given up"), "{close:?}");
        });
    }
}
