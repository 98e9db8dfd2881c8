// SPDX-License-Identifier: Apache-2.0
//! Packets of a link, as a file.

use super::{
    Answers, DiagnoseError,
    filter::Filter,
    pcap::{self, Begin},
    plain, read,
    readiness::watch,
};
use std::{path::Path, time::Duration};
use stele_kernel::capture::{CaptureSocket, Received};
use stele_proto::v1::{CaptureChunk, CaptureEnd, CaptureRequest};
use tokio::time::{Instant, sleep_until};

/// The port of the API.
const API: u16 = 50000;
/// Bytes that gather before they are handed over, and for how long.
const GATHER: usize = 32 * 1024;
const PAUSE: Duration = Duration::from_millis(100);
/// The longest name of a link: `IFNAMSIZ` without its end.
const LONGEST_NAME: usize = 15;
/// `ARPHRD_ETHER`, `ARPHRD_LOOPBACK` and `ARPHRD_NONE` of linux/if_arp.h.
const ETHERNET: &str = "1";
const LOOPBACK: &str = "772";
const NONE: &str = "65534";

pub(super) async fn run(
    request: CaptureRequest,
    answers: &mut Answers<'_>,
) -> Result<(), DiagnoseError> {
    let name = &request.link;
    let (index, begin, once) = link(name)?;
    let without = (!request.with_api).then_some(API);
    let filter = request.filter.clone().unwrap_or_default();
    let program = Filter::parse(&filter, without, once)?.program()?;
    let failed = |source| DiagnoseError::Kernel { doing: format!("capturing on {name}"), source };
    let socket = CaptureSocket::open(index, &program).and_then(watch).map_err(failed)?;
    let end = Instant::now() + Duration::from_millis(request.duration_ms.into());
    let mut file = File::new(begin, &request, answers);
    // Who reads sees at once that it has begun.
    file.hand_over()?;
    let mut next = Instant::now() + PAUSE;
    let reason = loop {
        tokio::select! {
            biased;
            () = sleep_until(end) => break "duration",
            () = sleep_until(next) => {
                file.hand_over()?;
                next = Instant::now() + PAUSE;
            }
            ready = socket.readable() => {
                let mut ready = ready.map_err(failed)?;
                match socket.get_ref().receive(&mut file.buffer).map_err(failed)? {
                    None => ready.clear_ready(),
                    Some(received) => {
                        if let Some(reason) = file.take(received)? {
                            break reason;
                        }
                    }
                }
            }
        }
    };
    let dropped = socket.get_ref().dropped().map_err(failed)?;
    file.end(dropped, reason)
}

/// A link's number, what its packets begin with, and whether it sends to itself.
fn link(name: &str) -> Result<(u32, Begin, bool), DiagnoseError> {
    let fits = (1..=LONGEST_NAME).contains(&name.len());
    if !fits || name.starts_with('.') || name.contains('/') {
        return Err(DiagnoseError::Impossible(format!("{} is no name of a link", plain(name))));
    }
    let folder = Path::new("/sys/class/net").join(name);
    if !folder.exists() {
        return Err(DiagnoseError::Impossible(format!("there is no link {}", plain(name))));
    }
    let index = read(folder.join("ifindex"))?;
    let kind = read(folder.join("type"))?;
    let (begin, once) = match kind.trim() {
        ETHERNET => (Begin::Ethernet, false),
        LOOPBACK => (Begin::Ethernet, true),
        NONE => (Begin::Ip, false),
        other => {
            let text = format!("{name} is of the type {other}, which can't be captured");
            return Err(DiagnoseError::Impossible(text));
        }
    };
    Ok((index.trim().parse().unwrap_or_default(), begin, once))
}

/// The file as it comes to be.
struct File<'a, 'w> {
    answers: &'a mut Answers<'w>,
    /// Where packets are received.
    buffer: Vec<u8>,
    /// What was not yet handed over.
    pending: Vec<u8>,
    /// All of it so far.
    bytes: u64,
    packets: u64,
    most_bytes: u64,
    most_packets: u64,
}

impl<'a, 'w> File<'a, 'w> {
    fn new(begin: Begin, request: &CaptureRequest, answers: &'a mut Answers<'w>) -> Self {
        let pending = pcap::header(begin, request.snap_length);
        Self {
            answers,
            buffer: vec![0; usize::try_from(request.snap_length).unwrap_or(0)],
            bytes: u64::try_from(pending.len()).unwrap_or(0),
            pending,
            packets: 0,
            most_bytes: request.bytes,
            most_packets: request.count,
        }
    }

    /// Takes the packet in the buffer. Says why it is the last one, or one too many, if that is so.
    fn take(&mut self, received: Received) -> Result<Option<&'static str>, DiagnoseError> {
        let kept = self.buffer.get(..received.length).unwrap_or(&self.buffer);
        let record = pcap::record(received.time, received.length, kept);
        let bytes = self.bytes.saturating_add(u64::try_from(record.len()).unwrap_or(u64::MAX));
        if bytes > self.most_bytes {
            return Ok(Some("bytes"));
        }
        self.bytes = bytes;
        self.packets = self.packets.saturating_add(1);
        self.pending.extend(record);
        if self.pending.len() >= GATHER {
            self.hand_over()?;
        }
        Ok((self.packets >= self.most_packets).then_some("count"))
    }

    fn hand_over(&mut self) -> Result<(), DiagnoseError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pcap = std::mem::take(&mut self.pending);
        self.answers.send(&CaptureChunk { pcap, end: None })
    }

    fn end(mut self, dropped: u32, reason: &str) -> Result<(), DiagnoseError> {
        let pcap = std::mem::take(&mut self.pending);
        let end = CaptureEnd {
            packets: self.packets,
            dropped: dropped.into(),
            reason: reason.to_owned(),
        };
        self.answers.send(&CaptureChunk { pcap, end: Some(end) })
    }
}
