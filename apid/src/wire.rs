// SPDX-License-Identifier: Apache-2.0
//! The bytes between gRPC and PID 1's frames.
//!
//! A gRPC message is `flag, u32 length, message`; a frame with a message is `u32 length, 0x12, varint length, message`. So one
//! becomes the other by its first bytes, and messages are passed on without being copied or decoded:
//!
//! * [`Inbox`] takes a request's bytes as HTTP/2 delivers them and moves whole messages to the [`Outbox`];
//! * [`Outbox`] holds what waits to be written to PID 1;
//! * [`Reader`] takes PID 1's bytes and gives the response's. A frame's first bytes are always longer than gRPC's, which
//!   are written over their end.

use crate::{
    limits::{self, Budget, Share},
    refusal::Refusal,
};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use std::{
    collections::VecDeque,
    io::IoSlice,
    ops::{Deref, DerefMut},
};
use stele_proto::internal::{Close, Frame, HalfClose, Open, frame};

/// Bytes of a gRPC message before the message itself.
const PREFIX: usize = 5;
/// Bytes of a frame's length.
const LENGTH: usize = 4;
/// `Frame.message`: field 2, length-delimited.
const MESSAGE_TAG: u8 = 0x12;
/// Up to this size a message is copied, which costs less than to carry it apart.
const SMALL: usize = 4 << 10;
/// Small messages of an answer travel together up to this size.
const BATCH: usize = 16 << 10;
/// What is read at once from PID 1 at least, and at most before a frame asks for more.
const READ: (usize, usize) = (4 << 10, 64 << 10);

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
                    self.share = Some(self.budget.take(size).ok_or_else(busy)?);
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
    pub fn open(&mut self, method: &str, subject: &str, role: &str) {
        self.frame(frame::Frame::Open(Open {
            method: method.into(),
            subject: subject.into(),
            role: role.into(),
        }));
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

fn wire_length(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

/// What PID 1 says.
#[derive(Debug, PartialEq)]
pub enum Said {
    /// One or more messages, as gRPC frames them.
    Messages(Bytes),
    /// The end of the call.
    Close(Close),
}

/// PID 1's bytes on their way to a response's.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: BytesMut,
    usual: usize,
    close: Option<Close>,
}

impl Reader {
    /// Where to read to: never empty.
    pub fn space(&mut self) -> Space<'_> {
        let begun = self.buffer.len();
        let missing =
            self.next_size().map_or(0, |size| size.saturating_sub(begun)).min(limits::FRAME);
        // As much as the last time filled, so that a busy stream is read in few turns and a single answer costs little.
        let wanted = missing.max(self.usual).max(READ.0);
        self.buffer.resize(begun + wanted, 0);
        Space { reader: self, begun }
    }

    /// True when nothing was read that was not asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.close.is_none()
    }

    /// Gives back memory that only a busy stream needs.
    pub fn shrink(&mut self) {
        self.usual = 0;
        if self.buffer.capacity() > BATCH {
            self.buffer = BytesMut::new();
        }
    }

    /// The next thing that was said, if it has wholly arrived.
    pub fn said(&mut self) -> Result<Option<Said>, Refusal> {
        if let Some(close) = self.close.take() {
            return Ok(Some(Said::Close(close)));
        }
        let Some(first) = self.take()? else { return Ok(None) };
        let Taken::Message(first) = first else { return Ok(Some(first.said())) };
        if first.len() > SMALL || !self.small_one_follows() {
            return Ok(Some(Said::Messages(first.freeze())));
        }
        let mut batch =
            BytesMut::with_capacity((first.len() + self.buffer.len()).min(BATCH + SMALL));
        batch.extend_from_slice(&first);
        while batch.len() < BATCH && self.small_one_follows() {
            match self.take()? {
                Some(Taken::Message(message)) => batch.extend_from_slice(&message),
                Some(Taken::Close(close)) => {
                    self.close = Some(close);
                    break;
                }
                None => break,
            }
        }
        Ok(Some(Said::Messages(batch.freeze())))
    }

    /// The size of the next frame with its length, as soon as the length is there.
    fn next_size(&self) -> Option<usize> {
        let length = self.buffer.first_chunk::<LENGTH>()?;
        Some(
            usize::try_from(u32::from_be_bytes(*length))
                .unwrap_or(usize::MAX)
                .saturating_add(LENGTH),
        )
    }

    fn small_one_follows(&self) -> bool {
        self.next_size().is_some_and(|size| size <= SMALL && size <= self.buffer.len())
    }

    fn take(&mut self) -> Result<Option<Taken>, Refusal> {
        let Some(size) = self.next_size() else { return Ok(None) };
        if size > limits::FRAME + LENGTH {
            return Err(Refusal::Broken("it sent a frame that is too large"));
        }
        if self.buffer.len() < size {
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(size);
        let (_, body) = frame.split_at_checked(LENGTH).ok_or(BROKEN)?;
        if body.first() != Some(&MESSAGE_TAG) {
            return match Frame::decode(body).ok().and_then(|frame| frame.frame) {
                Some(frame::Frame::Close(close)) => Ok(Some(Taken::Close(close))),
                Some(
                    frame::Frame::Open(_) | frame::Frame::Message(_) | frame::Frame::HalfClose(_),
                )
                | None => Err(BROKEN),
            };
        }
        let length = body
            .get(1..)
            .and_then(|rest| prost::decode_length_delimiter(rest).ok())
            .ok_or(BROKEN)?;
        // The frame's length and head are at least six bytes, and gRPC's prefix is five.
        let skipped = frame.len().checked_sub(length + PREFIX).ok_or(BROKEN)?;
        if skipped != LENGTH + 1 + prost::length_delimiter_len(length) - PREFIX {
            return Err(BROKEN);
        }
        frame.advance(skipped);
        if let Some((flag, rest)) = frame.split_first_mut()
            && let Some(size) = rest.first_chunk_mut()
        {
            *flag = 0;
            *size = wire_length(length).to_be_bytes();
        }
        Ok(Some(Taken::Message(frame)))
    }
}

const BROKEN: Refusal = Refusal::Broken("it sent a frame that cannot be read");

/// Where the next bytes of PID 1 go. What is not filled when it is dropped was never there.
#[derive(Debug)]
pub struct Space<'a> {
    reader: &'a mut Reader,
    begun: usize,
}

impl Space<'_> {
    /// Keeps the first `count` bytes.
    pub fn filled(mut self, count: usize) {
        let full = count >= self.len();
        self.reader.usual = if full { (count * 2).min(READ.1) } else { count };
        self.begun += count;
    }
}

impl Deref for Space<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.reader.buffer.get(self.begun..).unwrap_or_default()
    }
}

impl DerefMut for Space<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.reader.buffer.get_mut(self.begun..).unwrap_or_default()
    }
}

impl Drop for Space<'_> {
    fn drop(&mut self) {
        self.reader.buffer.truncate(self.begun);
    }
}

enum Taken {
    Message(BytesMut),
    Close(Close),
}

impl Taken {
    fn said(self) -> Said {
        match self {
            Self::Message(message) => Said::Messages(message.freeze()),
            Self::Close(close) => Said::Close(close),
        }
    }
}

#[cfg(test)]
mod tests;
