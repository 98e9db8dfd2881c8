// SPDX-License-Identifier: Apache-2.0
//! Files of packets, as draft-ietf-opsawg-pcap has them: little-endian, with nanoseconds.

use std::time::Duration;

const MAGIC: u32 = 0xa1b2_3c4d;
/// Bytes in front of each packet.
const RECORD: usize = 16;

/// What a packet begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// A header of Ethernet.
    Ethernet = 1,
    /// One of IPv4 or IPv6.
    Ip = 101,
}

/// The beginning of a file.
pub(super) fn header(begin: Begin, snap_length: u32) -> Vec<u8> {
    let mut bytes = MAGIC.to_le_bytes().to_vec();
    // Version 2.4.
    bytes.extend([2, 0, 4, 0]);
    bytes.extend([0; 8]);
    bytes.extend(snap_length.to_le_bytes());
    bytes.extend((begin as u32).to_le_bytes());
    bytes
}

/// A packet: when it passed, how long it was, and what was kept of it.
pub(super) fn record(time: Duration, length: usize, kept: &[u8]) -> Vec<u8> {
    let word = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = Vec::with_capacity(RECORD.saturating_add(kept.len()));
    // The format ends in 2106.
    bytes.extend(u32::try_from(time.as_secs()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend(time.subsec_nanos().to_le_bytes());
    bytes.extend(word(kept.len()));
    bytes.extend(word(length));
    bytes.extend(kept);
    bytes
}
