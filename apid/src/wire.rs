// SPDX-License-Identifier: Apache-2.0
//! The bytes between gRPC and PID 1's frames.
//!
//! A gRPC message is `flag, u32 length, message`; a frame with a message is `u32 length, 0x12, varint length, message`. So one
//! becomes the other by its first bytes, and messages are passed on without being copied or decoded:
//!
//! * [`Inbox`] takes a request's bytes as HTTP/2 delivers them and moves whole messages to the [`Outbox`];
//! * [`Outbox`] holds what waits to be written to PID 1;
//! * [`Reader`](crate::reader::Reader) takes PID 1's bytes and gives the response's. A frame's first bytes are always longer than gRPC's, which
//!   are written over their end.

use crate::{
    limits::{self, Budget, Share},
    refusal::Refusal,
};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use std::{collections::VecDeque, io::IoSlice};
use stele_proto::internal::{Frame, HalfClose, Open, frame};

/// Bytes of a gRPC message before the message itself.
pub(crate) const PREFIX: usize = 5;
/// Bytes of a frame's length.
pub(crate) const LENGTH: usize = 4;
/// `Frame.message`: field 2, length-delimited.
pub(crate) const MESSAGE_TAG: u8 = 0x12;
/// Up to this size a message is copied, which costs less than to carry it apart.
pub(crate) const SMALL: usize = 4 << 10;

/// A request's bytes on their way to whole messages.
#[derive(Debug)]
pub struct Inbox {
    chunks: VecDeque<Bytes>,
    length: usize,
    budget: Budget,
    share: Option<Share>,
}

impl Inbox {
    /// An empty inbox, whose large messages are counted against `budget`.
    #[must_use]
    pub fn new(budget: Budget) -> Self {
        Self { chunks: VecDeque::new(), length: 0, budget, share: None }
    }

    /// Takes bytes as they come.
    pub fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.length += bytes.len();
            self.chunks.push_back(bytes);
        }
    }

    /// True when nothing waits for its rest.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Moves all whole messages to the outbox. Returns how many.
    pub fn deliver(&mut self, outbox: &mut Outbox) -> Result<usize, Refusal> {
        let mut count = 0;
        while let Some((flag, size)) = self.prefix() {
            if flag != 0 {
                return Err(Refusal::Malformed("This node takes no compressed messages"));
            }
            if size > limits::MESSAGE {
                return Err(Refusal::TooLarge { size });
            }
            if self.length < PREFIX + size {
                if size > limits::LARGE_MESSAGE && self.share.is_none() {
                    let busy = || Refusal::Busy {
                        what: "bytes of unfinished messages",
                        max: limits::ASSEMBLY,
                    };
                    self.share = Some(self.budget.take(size, 0).ok_or_else(busy)?);
                }
                break;
            }
            self.skip(PREFIX);
            outbox.begin_message(size);
            self.give(size, outbox);
            self.share = None;
            count += 1;
        }
        Ok(count)
    }

    fn prefix(&self) -> Option<(u8, usize)> {
        let mut prefix = [0; PREFIX];
        let mut bytes = self.chunks.iter().flat_map(|chunk| chunk.iter());
        for byte in &mut prefix {
            *byte = *bytes.next()?;
        }
        let [flag, length @ ..] = prefix;
        Some((flag, usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX)))
    }

    fn skip(&mut self, mut count: usize) {
        self.length -= count;
        while count > 0
            && let Some(chunk) = self.chunks.front_mut()
        {
            let part = count.min(chunk.len());
            chunk.advance(part);
            count -= part;
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
        }
    }

    fn give(&mut self, mut count: usize, outbox: &mut Outbox) {
        self.length -= count;
        while count > 0
            && let Some(chunk) = self.chunks.front_mut()
        {
            let part = count.min(chunk.len());
            outbox.put(chunk.split_to(part));
            count -= part;
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
        }
    }
}

/// What waits to be written to PID 1.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: VecDeque<Bytes>,
    tail: BytesMut,
    length: usize,
}

impl Outbox {
    /// Bytes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// True when nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Opens a call.
    pub fn open(&mut self, open: Open) {
        self.frame(frame::Frame::Open(open));
    }

    /// Ends the request.
    pub fn half_close(&mut self) {
        self.frame(frame::Frame::HalfClose(HalfClose {}));
    }

    /// Puts a whole message.
    pub fn message(&mut self, message: Bytes) {
        self.begin_message(message.len());
        self.put(message);
    }

    /// What to write next, in pieces.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let pieces = self
            .queue
            .iter()
            .map(|piece| piece.as_ref())
            .chain(std::iter::once(self.tail.as_ref()));
        slices.iter_mut().zip(pieces).map(|(slice, piece)| *slice = IoSlice::new(piece)).count()
    }

    /// Forgets what was written.
    pub fn written(&mut self, mut count: usize) {
        self.length = self.length.saturating_sub(count);
        while let Some(piece) = self.queue.front_mut() {
            if count < piece.len() {
                piece.advance(count);
                return;
            }
            count -= piece.len();
            self.queue.pop_front();
        }
        if count >= self.tail.len() {
            self.tail.clear();
        } else {
            self.tail.advance(count);
        }
    }

    fn frame(&mut self, frame: frame::Frame) {
        let frame = Frame { frame: Some(frame) };
        let size = frame.encoded_len();
        self.tail.reserve(LENGTH + size);
        self.tail.put_u32(wire_length(size));
        // A BytesMut grows: encoding into it cannot fail.
        let _ = frame.encode(&mut self.tail);
        self.length += LENGTH + size;
    }

    fn begin_message(&mut self, size: usize) {
        let head = 1 + prost::length_delimiter_len(size);
        self.tail.reserve(LENGTH + head + if size <= SMALL { size } else { 0 });
        self.tail.put_u32(wire_length(head + size));
        self.tail.put_u8(MESSAGE_TAG);
        let _ = prost::encode_length_delimiter(size, &mut self.tail);
        self.length += LENGTH + head;
    }

    fn put(&mut self, bytes: Bytes) {
        self.length += bytes.len();
        if bytes.len() <= SMALL {
            self.tail.extend_from_slice(&bytes);
            return;
        }
        if !self.tail.is_empty() {
            self.queue.push_back(self.tail.split().freeze());
        }
        self.queue.push_back(bytes);
    }
}

pub(crate) fn wire_length(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
