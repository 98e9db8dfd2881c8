// SPDX-License-Identifier: Apache-2.0
//! Many who watch, as apid's connections bring them, while much changes.

use crate::{
    api::{self, Code},
    lag,
    node::{Node, Release},
    store::Kind,
};
use prost::Message as _;
use std::{collections::BTreeMap, io, rc::Rc, time::Duration};
use stele_proto::{
    internal::{Close, Frame, HalfClose, Open, frame},
    method::Method,
    v1::{Change, WatchRequest, WatchResponse},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    runtime,
    task::{JoinSet, LocalSet},
};

const WATCHERS: usize = 200;
/// Every so many of them read nothing until all is over.
const STUCK: usize = 8;
const CHANGES: u64 = 4000;
const PACE: Duration = Duration::from_millis(1);

fn framed(frame: frame::Frame) -> Vec<u8> {
    let body = Frame { frame: Some(frame) }.encode_to_vec();
    [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat()
}

/// What a client of a watch has read: the numbers that the resource had, and how the call ended.
#[derive(Default)]
struct Seen {
    numbers: Vec<u64>,
    end: Option<Close>,
}

impl Seen {
    fn last(&self) -> u64 {
        self.numbers.last().copied().unwrap_or(0)
    }

    async fn read(&mut self, stream: &mut UnixStream) -> io::Result<()> {
        let mut bytes = vec![0; usize::try_from(stream.read_u32().await?).unwrap()];
        stream.read_exact(&mut bytes).await?;
        match Frame::decode(bytes.as_slice())?.frame {
            Some(frame::Frame::Message(message)) => {
                let response = WatchResponse::decode(message)?;
                if response.change() == Change::Modified {
                    let status = response.resource.and_then(|resource| resource.status).unwrap();
                    let kind = status.fields["number"].kind.clone();
                    let Some(prost_types::value::Kind::NumberValue(number)) = kind else {
                        panic!("{kind:?}")
                    };
                    self.numbers.push(number as u64);
                }
            }
            Some(frame::Frame::Close(close)) => self.end = Some(close),
            other => panic!("{other:?}"),
        }
        Ok(())
    }
}

/// One client: asks, and reads to the last change or the end of the call.
async fn client(mut stream: UnixStream, stuck: bool) -> Seen {
    let open = Open { method: Method::ResourceWatch.path().to_owned(), ..Open::default() };
    let request = WatchRequest { kind: "link".to_owned(), name: String::new() }.encode_to_vec();
    for frame in [
        frame::Frame::Open(open),
        frame::Frame::Message(request.into()),
        frame::Frame::HalfClose(HalfClose {}),
    ] {
        stream.write_all(&framed(frame)).await.unwrap();
    }
    if stuck {
        // Everything is over by then; in PID 1's words, it is somebody who has gone for a coffee.
        let (_, changes) = (PACE, u32::try_from(CHANGES).unwrap());
        tokio::time::sleep(PACE * changes * 2).await;
    }
    let mut seen = Seen::default();
    while seen.last() < CHANGES && seen.end.is_none() {
        seen.read(&mut stream).await.unwrap();
    }
    seen
}

fn megabytes_in_use() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4 / 1024
}

#[test]
fn many_watch_while_much_changes() {
    let (streams, theirs): (Vec<_>, Vec<_>) =
        (0..WATCHERS).map(|_| std::os::unix::net::UnixStream::pair().unwrap()).unzip();
    // The clients have a thread of their own, as they are not PID 1.
    let clients = std::thread::spawn(move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut clients = JoinSet::new();
            for (number, stream) in streams.into_iter().enumerate() {
                stream.set_nonblocking(true).unwrap();
                let stream = UnixStream::from_std(stream).unwrap();
                clients.spawn(client(stream, number % STUCK == 0));
            }
            clients.join_all().await
        })
    });
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let node = Rc::new(Node::new(BTreeMap::new(), Release::default()));
    node.logs.files().abandon();
    let before = megabytes_in_use();
    let (grown, lag) = LocalSet::new().block_on(&runtime, async {
        node.store.put(Kind::Link, "eth0", &serde_json::json!({"number": 0}));
        let calls: Vec<_> = (theirs.into_iter())
            .map(|stream| {
                stream.set_nonblocking(true).unwrap();
                let (node, stream) = (Rc::clone(&node), UnixStream::from_std(stream).unwrap());
                tokio::task::spawn_local(
                    async move { api::converse(&node, api::GATE, stream).await },
                )
            })
            .collect();
        tokio::task::spawn_local(lag::keep(Rc::clone(&node)));
        while node.store.watching() < WATCHERS {
            tokio::time::sleep(PACE).await;
        }
        let mut tick = tokio::time::interval(PACE);
        for number in 1..=CHANGES {
            tick.tick().await;
            let status = serde_json::json!({
                "number": number, "state": "ready", "mac": "52:54:00:12:34:56", "mtu": 1500,
                "addresses": ["192.0.2.10/24", "2001:db8::10/64"],
            });
            node.store.put(Kind::Link, "eth0", &status);
        }
        let grown = megabytes_in_use().saturating_sub(before);
        for call in calls {
            // The client has heard enough, and hangs up.
            let _gone = call.await.unwrap();
        }
        (grown, node.lag.counts().collect::<Vec<_>>())
    });
    let seen = clients.join().unwrap();
    let (told, whole): (Vec<_>, Vec<_>) = seen.into_iter().partition(|seen| seen.end.is_some());
    println!(
        "{} kept up, {} were let go, {grown} MiB more, late: {lag:?}",
        whole.len(),
        told.len()
    );
    for seen in &whole {
        assert!(seen.numbers.iter().copied().eq(1..=CHANGES), "changes were missed");
    }
    for seen in &told {
        let end = seen.end.as_ref().unwrap();
        assert_eq!(end.code, Code::ResourceExhausted as i32, "{end:?}");
        // What it could still have is what came first, without a gap.
        assert!(seen.numbers.iter().copied().eq(1..=seen.last()), "changes were missed");
    }
    assert!(told.len() >= WATCHERS / STUCK, "{} were let go", told.len());
    assert!(grown < 64, "{grown} MiB");
}
