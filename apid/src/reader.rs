// SPDX-License-Identifier: Apache-2.0
//! PID 1's bytes on their way to a response's: the other direction of [`wire`](crate::wire).

use crate::{
    limits,
    refusal::Refusal,
    wire::{LENGTH, MESSAGE_TAG, PREFIX, SMALL, wire_length},
};
use bytes::{Buf as _, Bytes, BytesMut};
use prost::Message as _;
use std::ops::{Deref, DerefMut};
use stele_proto::internal::{Close, Frame, frame};

/// Small messages of an answer travel together up to this size.
const BATCH: usize = 16 << 10;
/// What is read at once from PID 1 at least, and at most before a frame asks for more.
const READ: (usize, usize) = (4 << 10, 64 << 10);

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
        let rest = frame.len().checked_sub(PREFIX);
        let skipped = rest.and_then(|rest| rest.checked_sub(length)).ok_or(BROKEN)?;
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
