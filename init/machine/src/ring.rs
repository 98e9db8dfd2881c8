// SPDX-License-Identifier: Apache-2.0
//! A log in memory: records in the order in which they came, the oldest given up when it is full.
//!
//! Records are opaque bytes that concatenate, so a reader takes whole stretches of them without looking inside. They
//! lie in segments; giving up the oldest means giving up one segment. A position is the number of bytes ever written
//! before it, which stays true for as long as the machine runs.

use std::collections::VecDeque;

/// Bytes of a segment; also the longest stretch that a reader gets at once, but for a single longer record.
const SEGMENT: usize = 64 * 1024;

/// Where in the log a reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Position {
    byte: u64,
    record: u64,
}

#[derive(Debug)]
struct Segment {
    start: Position,
    bytes: Vec<u8>,
    /// Where each record begins, and its time.
    records: Vec<(u32, u64)>,
}

impl Segment {
    fn end(&self) -> Position {
        Position {
            byte: self.start.byte.saturating_add(self.bytes.len() as u64),
            record: self.start.record.saturating_add(self.records.len() as u64),
        }
    }
}

/// What a reader gets.
#[derive(Debug, PartialEq, Eq)]
pub struct Stretch<'a> {
    /// Whole records, one after the other; empty when there is nothing new.
    pub bytes: &'a [u8],
    /// How many records between the position asked for and these were given up.
    pub lost: u64,
    /// Where to read on.
    pub next: Position,
}

/// A log in memory.
#[derive(Debug)]
pub struct Ring {
    segments: VecDeque<Segment>,
    limit: usize,
    size: usize,
    end: Position,
}

impl Ring {
    /// An empty log that holds about `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Ring {
        Ring { segments: VecDeque::new(), limit, size: 0, end: Position::default() }
    }

    /// Bytes held.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Where the next record will be.
    #[must_use]
    pub fn end(&self) -> Position {
        self.end
    }

    /// Adds a record, written by `write`, that has this time.
    pub fn push(&mut self, time: u64, write: impl FnOnce(&mut Vec<u8>)) {
        if self.segments.back().is_none_or(|segment| segment.bytes.len() >= SEGMENT) {
            self.segments.push_back(Segment {
                start: self.end,
                bytes: Vec::new(),
                records: Vec::new(),
            });
        }
        let Some(segment) = self.segments.back_mut() else { return };
        let before = segment.bytes.len();
        segment.records.push((u32::try_from(before).unwrap_or(u32::MAX), time));
        write(&mut segment.bytes);
        self.size = self.size.saturating_add(segment.bytes.len().saturating_sub(before));
        self.end = segment.end();
        while self.size > self.limit && self.segments.len() > 1 {
            if let Some(oldest) = self.segments.pop_front() {
                self.size = self.size.saturating_sub(oldest.bytes.len());
            }
        }
    }

    /// Reads on from a position.
    #[must_use]
    pub fn read(&self, from: Position) -> Stretch<'_> {
        let index = self.segments.partition_point(|segment| segment.end().byte <= from.byte);
        let Some(segment) = self.segments.get(index) else {
            return Stretch { bytes: &[], lost: 0, next: self.end };
        };
        let skip =
            usize::try_from(from.byte.saturating_sub(segment.start.byte)).unwrap_or(usize::MAX);
        Stretch {
            bytes: segment.bytes.get(skip..).unwrap_or_default(),
            lost: segment.start.record.saturating_sub(from.record),
            next: segment.end(),
        }
    }

    /// The position from which the last `count` records follow; all of them for 0.
    #[must_use]
    pub fn tail(&self, count: u64) -> Position {
        if count == 0 { self.oldest() } else { self.at(self.end.record.saturating_sub(count)) }
    }

    /// The position of the first record that has this time or a later one.
    #[must_use]
    pub fn since(&self, time: u64) -> Position {
        for segment in &self.segments {
            for (index, (_, at)) in segment.records.iter().enumerate() {
                if *at >= time {
                    return self.at(segment.start.record.saturating_add(index as u64));
                }
            }
        }
        self.end
    }

    fn oldest(&self) -> Position {
        self.segments.front().map_or(self.end, |segment| segment.start)
    }

    fn at(&self, record: u64) -> Position {
        let index = self.segments.partition_point(|segment| segment.end().record <= record);
        let Some(segment) = self.segments.get(index) else { return self.end };
        let Some(offset) = record.checked_sub(segment.start.record) else { return segment.start };
        let Some((byte, _)) =
            usize::try_from(offset).ok().and_then(|offset| segment.records.get(offset))
        else {
            return segment.start;
        };
        Position { byte: segment.start.byte.saturating_add(u64::from(*byte)), record }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filled(records: u64, size: usize, limit: usize) -> Ring {
        let mut ring = Ring::new(limit);
        for number in 0..records {
            ring.push(number, |bytes| {
                bytes.extend(std::iter::repeat_n(u8::try_from(number % 251).unwrap(), size))
            });
        }
        ring
    }

    fn drain(ring: &Ring, mut from: Position) -> (Vec<u8>, u64) {
        let (mut all, mut lost) = (Vec::new(), 0);
        loop {
            let stretch = ring.read(from);
            lost += stretch.lost;
            from = stretch.next;
            if stretch.bytes.is_empty() {
                return (all, lost);
            }
            all.extend_from_slice(stretch.bytes);
        }
    }

    #[test]
    fn what_was_given_up_is_counted() {
        let ring = filled(10_000, 100, 256 * 1024);
        assert!(ring.size() <= 256 * 1024);
        let (bytes, lost) = drain(&ring, Position::default());
        assert_eq!(bytes.len() as u64 / 100 + lost, 10_000);
    }

    #[test]
    fn the_tail_is_exact() {
        let ring = filled(5_000, 100, 1024 * 1024);
        assert_eq!(
            drain(&ring, ring.tail(3)),
            ([vec![228; 100], vec![229; 100], vec![230; 100]].concat(), 0)
        );
        assert_eq!(drain(&ring, ring.tail(0)).0.len(), 500_000);
        assert_eq!(drain(&ring, ring.since(4_999)).0.len(), 100);
        assert_eq!(drain(&ring, ring.since(5_000)).0.len(), 0);
    }

    proptest! {
        #[test]
        fn a_reader_that_keeps_up_misses_nothing(sizes in prop::collection::vec(1_usize..9_000, 1..200)) {
            let mut ring = Ring::new(128 * 1024);
            let (mut position, mut got, mut sent) = (ring.end(), 0, 0);
            for size in sizes {
                ring.push(0, |bytes| bytes.extend(std::iter::repeat_n(7, size)));
                sent += size;
                loop {
                    let stretch = ring.read(position);
                    prop_assert_eq!(stretch.lost, 0);
                    position = stretch.next;
                    if stretch.bytes.is_empty() { break; }
                    got += stretch.bytes.len();
                }
            }
            prop_assert_eq!(got, sent);
        }
    }
}
