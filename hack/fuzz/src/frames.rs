// SPDX-License-Identifier: Apache-2.0
//! apid's side of the socket to PID 1: requests as HTTP/2 delivers them, and what PID 1 says.
//!
//! The first byte says how the rest is cut into pieces, which must make no difference.

use crate::Target;
use apid::{
    limits::{self, Budget},
    reader::{Reader, Said},
    wire::{Inbox, Outbox},
};
use bytes::Bytes;
use prost::Message as _;
use std::io::IoSlice;
use stele_proto::internal::{Close, Frame, frame};

/// Frames.
pub const TARGET: Target = Target { name: "frames", run, seeds };

fn run(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else { return };
    let cut = usize::from(*cut).max(1);
    let whole = bytes.len().max(1);
    assert_eq!(forwarded(bytes, cut), forwarded(bytes, whole), "a request, cut at {cut}");
    let (pieces, at_once) = (said(bytes, cut), said(bytes, whole));
    if pieces.2 {
        // What was said before the break may have been passed on already, and need not be.
        assert!(at_once.2 && pieces.0.starts_with(&at_once.0), "an answer, cut at {cut}");
    } else {
        assert_eq!(pieces, at_once, "an answer, cut at {cut}");
    }
}

/// The frames that a request becomes; nothing more after what is refused.
fn forwarded(bytes: &[u8], cut: usize) -> (Vec<u8>, bool) {
    let mut inbox = Inbox::new(Budget::new(limits::ASSEMBLY));
    let mut outbox = Outbox::default();
    let refused = bytes.chunks(cut).any(|chunk| {
        inbox.push(Bytes::copy_from_slice(chunk));
        inbox.deliver(&mut outbox).is_err()
    });
    let mut written = Vec::new();
    while !outbox.is_empty() {
        let mut slices = [IoSlice::new(&[]); 8];
        let count = outbox.slices(&mut slices);
        let before = written.len();
        for slice in &slices[..count] {
            written.extend_from_slice(slice);
        }
        assert!(written.len() > before, "nothing is left to write, and something waits");
        outbox.written(written.len() - before);
    }
    let mut rest = &written[..];
    while let Some((length, body)) = rest.split_first_chunk::<4>() {
        let (body, more) = body.split_at(u32::from_be_bytes(*length) as usize);
        let frame = Frame::decode(body).expect("apid writes frames");
        assert!(matches!(frame.frame, Some(frame::Frame::Message(_))), "{frame:?}");
        rest = more;
    }
    assert!(rest.is_empty(), "half a frame is written");
    (written, refused)
}

/// What is understood of PID 1's words: messages as gRPC has them, the end of the call, and whether it broke the protocol.
fn said(bytes: &[u8], cut: usize) -> (Vec<u8>, Vec<Close>, bool) {
    let mut reader = Reader::default();
    let (mut messages, mut ends) = (Vec::new(), Vec::new());
    for mut chunk in bytes.chunks(cut) {
        while !chunk.is_empty() {
            let mut space = reader.space();
            let count = chunk.len().min(space.len());
            space[..count].copy_from_slice(&chunk[..count]);
            space.filled(count);
            chunk = &chunk[count..];
        }
        loop {
            match reader.said() {
                Ok(Some(Said::Messages(more))) => messages.extend_from_slice(&more),
                Ok(Some(Said::Close(close))) => ends.push(close),
                Ok(None) => break,
                Err(_) => return (messages, ends, true),
            }
        }
    }
    (messages, ends, false)
}

fn seeds() -> Vec<Vec<u8>> {
    let framed = |frame| {
        let body = Frame { frame: Some(frame) }.encode_to_vec();
        [&(body.len() as u32).to_be_bytes()[..], &body].concat()
    };
    let close = Close { code: 5, message: "gone".to_owned(), details: Vec::new() };
    let answer = [
        framed(frame::Frame::Message(Bytes::from_static(b"one"))),
        framed(frame::Frame::Message(Bytes::new())),
        framed(frame::Frame::Close(close)),
    ];
    let request = [&[0, 0, 0, 0, 3][..], b"abc", &[0, 0, 0, 0, 0]].concat();
    // A message as long as there are numbers.
    let endless = [&[0, 0, 0, 11, 18][..], &[255; 9], &[1]].concat();
    vec![
        [&[3][..], &answer.concat()].concat(),
        [&[4][..], &request].concat(),
        [&[3][..], &endless].concat(),
    ]
}
