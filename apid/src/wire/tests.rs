// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::reader::{Reader, Said};
use stele_proto::internal::Close;

fn grpc(message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    bytes.extend(message);
    bytes
}

fn framed(frame: frame::Frame) -> Vec<u8> {
    let body = Frame { frame: Some(frame) }.encode_to_vec();
    let mut bytes = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(body);
    bytes
}

fn fill(reader: &mut Reader, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let mut space = reader.space();
        let count = bytes.len().min(space.len());
        space[..count].copy_from_slice(&bytes[..count]);
        space.filled(count);
        bytes = &bytes[count..];
    }
}

fn drain(outbox: &mut Outbox, step: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !outbox.is_empty() {
        let mut slices = [IoSlice::new(&[]); 3];
        let count = outbox.slices(&mut slices);
        let all: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
        let part = step.min(all.len());
        bytes.extend_from_slice(&all[..part]);
        outbox.written(part);
    }
    bytes
}

#[test]
fn requests_become_frames_however_they_are_cut() {
    let messages = [vec![], vec![7; 3], vec![8; 5_000], vec![9; 300_000]];
    let mut request = Vec::new();
    let mut expected = Vec::new();
    for message in &messages {
        request.extend(grpc(message));
        expected.extend(framed(frame::Frame::Message(message.clone().into())));
    }
    for (cut, step) in [(1_000_000, 1_000_000), (16_384, 7_000), (4_999, 4_096), (13, 64_000)] {
        let (mut inbox, mut outbox) =
            (Inbox::new(Budget::new(limits::ASSEMBLY)), Outbox::default());
        let mut count = 0;
        for chunk in request.chunks(cut) {
            inbox.push(Bytes::copy_from_slice(chunk));
            count += inbox.deliver(&mut outbox).unwrap();
        }
        assert_eq!(count, messages.len());
        assert!(inbox.is_empty());
        assert_eq!(outbox.len(), expected.len());
        assert!(drain(&mut outbox, step) == expected, "cut at {cut}, written by {step}");
    }
}

#[test]
fn too_large_is_refused_by_its_prefix() {
    let (mut inbox, mut outbox) = (Inbox::new(Budget::new(limits::ASSEMBLY)), Outbox::default());
    inbox.push(Bytes::copy_from_slice(&[0, 4, 0, 0, 0]));
    assert!(
        matches!(inbox.deliver(&mut outbox), Err(Refusal::TooLarge { size }) if size == 64 << 20)
    );
}

#[test]
fn the_largest_message_fits_a_frame() {
    let message = vec![1; limits::MESSAGE];
    assert!(framed(frame::Frame::Message(message.into())).len() - LENGTH <= limits::FRAME);
}

#[test]
fn unfinished_messages_are_bounded_together() {
    let budget = Budget::new(1 << 20);
    let start = Bytes::copy_from_slice(&[0, 0, 0x0c, 0, 0]);
    let (mut one, mut other, mut outbox) =
        (Inbox::new(budget.clone()), Inbox::new(budget), Outbox::default());
    one.push(start.clone());
    other.push(start);
    assert_eq!(one.deliver(&mut outbox).unwrap(), 0);
    assert!(matches!(other.deliver(&mut outbox), Err(Refusal::Busy { .. })));
    drop(one);
    assert_eq!(other.deliver(&mut outbox).unwrap(), 0);
}

#[test]
fn answers_become_grpc_however_they_are_cut() {
    let messages = [vec![], vec![7; 3], vec![7; 200], vec![8; 5_000], vec![1; 1], vec![9; 300_000]];
    let mut bytes = Vec::new();
    let mut expected = Vec::new();
    for message in &messages {
        bytes.extend(framed(frame::Frame::Message(message.clone().into())));
        expected.extend(grpc(message));
    }
    let close = Close { code: 5, message: "gone".into(), details: Vec::new() };
    bytes.extend(framed(frame::Frame::Close(close.clone())));
    for cut in [1_000_000, 16_384, 4_999, 13] {
        let mut reader = Reader::default();
        let (mut got, mut end) = (Vec::new(), None);
        for chunk in bytes.chunks(cut) {
            fill(&mut reader, chunk);
            while let Some(said) = reader.said().unwrap() {
                match said {
                    Said::Messages(bytes) => got.extend_from_slice(&bytes),
                    Said::Close(close) => end = Some(close),
                }
            }
        }
        assert!(got == expected, "cut at {cut}");
        assert_eq!(end, Some(close.clone()));
        assert!(reader.is_empty());
    }
}

#[test]
fn small_answers_travel_together() {
    let mut reader = Reader::default();
    for _ in 0..10 {
        fill(&mut reader, &framed(frame::Frame::Message(vec![1; 10].into())));
    }
    fill(&mut reader, &framed(frame::Frame::Close(Close::default())));
    assert!(matches!(reader.said().unwrap(), Some(Said::Messages(bytes)) if bytes.len() == 150));
    assert!(matches!(reader.said().unwrap(), Some(Said::Close(_))));
    assert!(reader.said().unwrap().is_none());
}

#[test]
fn nonsense_is_refused() {
    for bytes in [
        &[0xff, 0xff, 0xff, 0xff, 0][..],
        &[0, 0, 0, 1, 0x99],
        &[0, 0, 0, 2, 0x12, 0x05],
        &[0, 0, 0, 0],
    ] {
        let mut reader = Reader::default();
        fill(&mut reader, bytes);
        assert!(reader.said().is_err(), "{bytes:?}");
    }
}
