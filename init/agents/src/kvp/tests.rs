// SPDX-License-Identifier: Apache-2.0

use super::*;
use crate::probe::explain;
use proptest::prelude::*;
use std::{os::unix::net::UnixStream, thread};

const HASTE: Patience = Patience {
    first: Duration::from_millis(500),
    quiet: Duration::from_millis(100),
    all: Duration::from_secs(5),
};

fn message(operation: u8, pool: u8) -> [u8; SIZE] {
    let mut message = [0; SIZE];
    message[0] = operation;
    message[1] = pool;
    message
}

/// As the kernel passes on that a host sets something.
fn set(pool: u8, key: &str, value: &str) -> [u8; SIZE] {
    let mut message = message(SET, pool);
    message[4] = 1;
    for (size_at, at, text) in [(8, 16, key), (12, 528, value)] {
        let size = u32::try_from(text.len() + 1).unwrap();
        message[size_at..size_at + 4].copy_from_slice(&size.to_le_bytes());
        message[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    message
}

fn delete(pool: u8, key: &str) -> [u8; SIZE] {
    let mut message = message(DELETE, pool);
    message[4] = u8::try_from(key.len() + 1).unwrap();
    message[8..8 + key.len()].copy_from_slice(key.as_bytes());
    message
}

/// Plays the kernel with a host that sends these, one after the other as each is answered. Returns the answers' codes.
fn collected(messages: Vec<[u8; SIZE]>) -> (Result<Values, KvpError>, Vec<u32>) {
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    let kernel = thread::spawn(move || {
        let mut answer = [0; SIZE];
        theirs.read_exact(&mut answer).unwrap();
        assert_eq!(answer[..4], [REGISTER, 0, 0, 0]);
        let mut registered = message(REGISTER, 0);
        registered[4..7].copy_from_slice(b"3.1");
        theirs.write_all(&registered).unwrap();
        let mut codes = Vec::new();
        for message in messages {
            theirs.write_all(&message).unwrap();
            theirs.read_exact(&mut answer).unwrap();
            assert_eq!(answer[4..], message[4..], "what the host asked goes back to it");
            codes.push(u32::from_le_bytes(*answer.first_chunk().unwrap()));
        }
        (codes, theirs)
    });
    let values = collect(&mut ours, HASTE);
    (values, kernel.join().unwrap().0)
}

fn said(messages: Vec<[u8; SIZE]>) -> Result<Said, String> {
    collected(messages).0.and_then(Values::said).map_err(|error| explain(&error))
}

#[test]
fn what_a_host_sets_is_heard() {
    let messages = vec![
        message(3, 2),
        set(OF_THE_HOST, "VirtualMachineId", "0AB1C2D3-0000-0000-0000-000000000001"),
        set(OF_THE_HOST, "VirtualMachineName", "web\n1"),
        set(FOR_GUESTS, "stele.config", "kind: Link\n"),
        set(FOR_GUESTS, "other", "x"),
        set(1, "stele.config", "of the guest's own"),
        message(0, 0),
        message(GET_ADDRESSES, 0),
    ];
    let (values, codes) = collected(messages);
    assert_eq!(codes, [NO_MORE, DONE, DONE, DONE, DONE, DONE, NO_MORE, FAILED]);
    let said = values.unwrap().said().unwrap();
    assert_eq!(said.user_data.as_deref(), Some(&b"kind: Link\n"[..]));
    assert_eq!(said.attributes["instanceId"], "0AB1C2D3-0000-0000-0000-000000000001");
    assert_eq!(said.attributes["hostname"], "web1");
}

#[test]
fn pieces_are_put_together_by_their_numbers() {
    let long = "x".repeat(1023);
    let user_data = |messages| said(messages).map(|said| said.user_data.unwrap_or_default());
    let mut pieces = vec![set(0, "stele.config.10", "end")];
    pieces.extend((0..10).rev().map(|piece| set(0, &format!("stele.config.{piece}"), &long)));
    assert_eq!(user_data(pieces.clone()).unwrap().len(), 10 * 1023 + 3);
    pieces.push(delete(0, "stele.config.3"));
    let error = user_data(pieces.clone()).unwrap_err();
    assert_eq!(error, "the host has set stele.config.10, and no stele.config.3");
    pieces.push(set(0, "stele.config", "whole"));
    assert_eq!(user_data(pieces).unwrap(), b"whole");
    let odd = ["stele.config.", "stele.config.01", "stele.config.+1", "stele.config.99999999"];
    assert_eq!(said(odd.map(|key| set(0, key, "x")).to_vec()), Ok(Said::default()));
    let taken_back = vec![set(0, "stele.config", "x"), delete(0, "stele.config")];
    assert_eq!(said(taken_back), Ok(Said::default()));
}

#[test]
fn a_host_without_anything_to_say_is_waited_for_and_left() {
    assert_eq!(said(Vec::new()), Ok(Said::default()));
}

#[test]
fn a_driver_that_does_not_do_its_part_is_told_of() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    assert!(matches!(collect(&mut ours, HASTE), Err(KvpError::Silent)));
    drop(theirs);
    assert!(matches!(collect(&mut ours, HASTE), Err(KvpError::Talk(_))));
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(&[REGISTER; 100]).unwrap();
    assert!(matches!(collect(&mut ours, HASTE), Err(KvpError::Size(100))));
}

#[test]
fn a_host_that_never_ends_is_left_all_the_same() {
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    let host = thread::spawn(move || {
        let mut answer = [0; SIZE];
        let mut next = message(REGISTER, 0);
        let mut count = 0;
        while theirs.write_all(&next).is_ok() && theirs.read_exact(&mut answer).is_ok() {
            count += 1;
            next = set(0, "stele.config", "again");
        }
        count
    });
    let patience = Patience { all: Duration::from_millis(300), ..HASTE };
    let begun = Instant::now();
    assert!(collect(&mut ours, patience).is_ok());
    assert!(begun.elapsed() < Duration::from_secs(4));
    drop(ours);
    assert!(host.join().unwrap() > 1);
}

proptest! {
    #[test]
    fn whatever_a_host_sends_nothing_panics(
        messages in proptest::collection::vec((0_u8..8, 0_u8..5, any::<[u32; 3]>(), "(stele.config(.[0-9]{1,4})?|[a-z]{0,8})", any::<Vec<u8>>()), 0..32),
    ) {
        let mut values = Values::default();
        for (operation, pool, sizes, key, value) in messages {
            let mut message = message(operation, pool);
            for (place, size) in message[4..16].chunks_mut(4).zip(sizes) {
                // Some of them fit.
                let size = if size % 2 == 0 { size % 3000 } else { size };
                place.copy_from_slice(&size.to_le_bytes());
            }
            message[16..16 + key.len()].copy_from_slice(key.as_bytes());
            message[528..528 + value.len()].copy_from_slice(&value);
            let _code = values.hear(&message);
        }
        let _said = values.said();
    }
}
