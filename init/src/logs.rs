// SPDX-License-Identifier: Apache-2.0
//! Logs: one format in memory, on the wire and on disk.
//!
//! A log is a row of encoded `stele.v1.LogChunk.entries` fields. Protobuf concatenates: any stretch of whole entries is
//! a `LogChunk` by itself, so a reader is served, and a file is written, by copying bytes.

use crate::log_files::{LogFiles, Write};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    rc::Rc,
    time::{SystemTime, UNIX_EPOCH},
};
use stele_machine::ring::{Position, Ring};
use tokio::sync::watch;

/// Bytes of a log in memory.
const LIMIT: usize = 512 * 1024;
/// The longest line; what is longer is cut into several.
pub(crate) const LONGEST_LINE: usize = 8 * 1024;
/// RFC 5424 severities.
pub(crate) const INFORMATIONAL: u8 = 6;

/// One log.
#[derive(Debug)]
pub(crate) struct Log {
    name: String,
    ring: RefCell<Ring>,
    /// Wakes those who follow.
    grown: watch::Sender<()>,
}

impl Log {
    /// Reads a stretch of entries from a position on; the position moves behind it. Empty when there is nothing new.
    pub(crate) fn read(&self, position: &mut Position) -> Vec<u8> {
        let ring = self.ring.borrow();
        let stretch = ring.read(*position);
        *position = stretch.next;
        let mut bytes = Vec::with_capacity(stretch.bytes.len().saturating_add(16));
        if stretch.lost > 0 {
            encode(&mut bytes, now_us(), 4, &[], stretch.lost);
        }
        bytes.extend_from_slice(stretch.bytes);
        bytes
    }

    /// Where a reader starts that wants the last `tail` entries (0 for all) from `since` (microseconds) on.
    pub(crate) fn start(&self, tail: u64, since: u64) -> Position {
        let ring = self.ring.borrow();
        if since > 0 { ring.since(since) } else { ring.tail(tail) }
    }

    /// Says when there is more to read.
    pub(crate) fn follow(&self) -> watch::Receiver<()> {
        self.grown.subscribe()
    }

    /// Bytes in memory.
    pub(crate) fn size(&self) -> usize {
        self.ring.borrow().size()
    }
}

/// All logs of this boot.
#[derive(Debug)]
pub(crate) struct Logs {
    logs: RefCell<BTreeMap<String, Rc<Log>>>,
    files: Rc<LogFiles>,
}

impl Logs {
    pub(crate) fn new() -> Logs {
        Logs { logs: RefCell::new(BTreeMap::new()), files: Rc::new(LogFiles::new()) }
    }

    /// The files on disk.
    pub(crate) fn files(&self) -> &Rc<LogFiles> {
        &self.files
    }

    /// The log of this name, made if need be.
    pub(crate) fn log(&self, name: &str) -> Rc<Log> {
        if let Some(log) = self.logs.borrow().get(name) {
            return Rc::clone(log);
        }
        let log = Rc::new(Log {
            name: name.to_owned(),
            ring: RefCell::new(Ring::new(LIMIT)),
            grown: watch::Sender::new(()),
        });
        self.logs.borrow_mut().insert(name.to_owned(), Rc::clone(&log));
        log
    }

    /// The log of this name, if there is one.
    pub(crate) fn find(&self, name: &str) -> Option<Rc<Log>> {
        self.logs.borrow().get(name).cloned()
    }

    /// Every log there is.
    pub(crate) fn all(&self) -> Vec<(String, Rc<Log>)> {
        self.logs.borrow().iter().map(|(name, log)| (name.clone(), Rc::clone(log))).collect()
    }

    /// Adds lines to a log, all at this moment.
    pub(crate) fn append<'a>(
        &self,
        log: &Log,
        severity: u8,
        lines: impl Iterator<Item = &'a [u8]>,
    ) {
        self.append_at(log, now_us(), severity, lines);
    }

    /// Adds lines that were written at `time` (microseconds since the epoch).
    pub(crate) fn append_at<'a>(
        &self,
        log: &Log,
        time: u64,
        severity: u8,
        lines: impl Iterator<Item = &'a [u8]>,
    ) {
        let before = log.ring.borrow().end();
        {
            let mut ring = log.ring.borrow_mut();
            for line in lines {
                ring.push(time, |bytes| encode(bytes, time, severity, line, 0));
            }
        }
        self.keep(log, before);
        log.grown.send_replace(());
    }

    /// Hands what was added since a position to the files.
    fn keep(&self, log: &Log, mut position: Position) {
        let ring = log.ring.borrow();
        loop {
            let stretch = ring.read(position);
            if stretch.bytes.is_empty() {
                return;
            }
            position = stretch.next;
            self.files.write(Write { log: log.name.clone(), bytes: stretch.bytes.to_vec() });
        }
    }
}

/// Splits what a service writes into lines, across reads.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Takes what was read and gives the whole lines in it; the rest is kept for the next time.
    pub(crate) fn take<'a>(&mut self, read: &'a [u8], mut line: impl FnMut(&[u8])) {
        let mut rest: &'a [u8] = read;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (head, tail) = rest.split_at(end);
            if self.partial.is_empty() {
                cut(head, &mut line);
            } else {
                self.partial.extend_from_slice(head);
                cut(&std::mem::take(&mut self.partial), &mut line);
            }
            rest = tail.get(1..).unwrap_or_default();
        }
        self.partial.extend_from_slice(rest);
        if self.partial.len() >= LONGEST_LINE {
            cut(&std::mem::take(&mut self.partial), &mut line);
        }
    }

    /// Gives what is left when nothing more will come.
    pub(crate) fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            cut(&std::mem::take(&mut self.partial), &mut line);
        }
    }
}

fn cut(line: &[u8], give: &mut impl FnMut(&[u8])) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        give(line);
    }
    line.chunks(LONGEST_LINE).for_each(give);
}

/// Encodes a `LogEntry` as one `entries` field of a `LogChunk`; see proto/stele/v1/log.proto. By hand, because a
/// message type would allocate for each line.
fn encode(bytes: &mut Vec<u8>, time: u64, severity: u8, message: &[u8], lost: u64) {
    let length =
        |value: u64| prost::length_delimiter_len(usize::try_from(value).unwrap_or(usize::MAX));
    let mut size = 9 + 2;
    if !message.is_empty() {
        size += 1 + length(message.len() as u64) + message.len();
    }
    if lost > 0 {
        size += 1 + length(lost);
    }
    bytes.push(0x0a); // LogChunk.entries
    varint(bytes, size as u64);
    bytes.push(0x09); // time_us, fixed64
    bytes.extend_from_slice(&time.to_le_bytes());
    bytes.push(0x10); // severity
    bytes.push(severity & 7);
    if !message.is_empty() {
        bytes.push(0x1a); // message
        varint(bytes, message.len() as u64);
        bytes.extend_from_slice(message);
    }
    if lost > 0 {
        bytes.push(0x20); // lost
        varint(bytes, lost);
    }
}

fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Microseconds since the epoch.
pub(crate) fn now_us() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use stele_proto::v1::LogChunk;

    #[test]
    fn entries_are_what_the_protocol_says() {
        let mut bytes = Vec::new();
        encode(&mut bytes, 1_700_000_000_000_000, 3, b"it failed", 0);
        encode(&mut bytes, 2, 4, b"", 300);
        encode(&mut bytes, 3, 6, &[0xff; 5000], 0);
        let chunk = LogChunk::decode(bytes.as_slice()).unwrap();
        let first = &chunk.entries[0];
        assert_eq!(
            (first.time_us, first.severity, first.message.as_slice()),
            (1_700_000_000_000_000, 3, &b"it failed"[..])
        );
        assert_eq!((chunk.entries[1].lost, chunk.entries[1].message.len()), (300, 0));
        assert_eq!(chunk.entries[2].message, vec![0xff; 5000]);
        assert_eq!(chunk.encode_to_vec(), bytes);
    }

    #[test]
    fn lines_are_joined_across_reads_and_cut_when_too_long() {
        let mut lines = Lines::default();
        let mut got = Vec::new();
        for part in [&b"one\ntw"[..], b"o\r\n\nthree"] {
            lines.take(part, |line| got.push(line.to_vec()));
        }
        lines.finish(|line| got.push(line.to_vec()));
        assert_eq!(got, [&b"one"[..], b"two", b"", b"three"]);
        got.clear();
        lines.take(&vec![b'x'; LONGEST_LINE * 2 + 10], |line| got.push(line.to_vec()));
        lines.finish(|line| got.push(line.to_vec()));
        assert_eq!(got.iter().map(Vec::len).collect::<Vec<_>>(), [LONGEST_LINE, LONGEST_LINE, 10]);
    }
}
