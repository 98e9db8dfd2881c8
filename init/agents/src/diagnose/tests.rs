// SPDX-License-Identifier: Apache-2.0
//! How questions are read and answers written. What they say is tested against a real network, in `tests/diagnose_network/`.

use super::*;
use stele_proto::v1::{DisksRequest, MemoryRequest, MemoryResponse, Mount};

fn ask(action: &str, request: &[u8]) -> Result<Vec<u8>, DiagnoseError> {
    let mut output = Vec::new();
    run(action, request, Surroundings::of_this_machine(), &mut output).map(|()| output)
}

#[test]
fn an_answer_is_behind_its_length() {
    let output = ask("memory", &MemoryRequest {}.encode_to_vec()).unwrap();
    let (length, message) = output.split_first_chunk().unwrap();
    assert_eq!(u32::from_be_bytes(*length) as usize, message.len());
    assert!(MemoryResponse::decode(message).unwrap().total > 0);
    ask("disks", &DisksRequest {}.encode_to_vec()).unwrap();
}

#[test]
fn what_is_no_question() {
    for (action, request) in [("dance", &b""[..]), ("ping", b"\xff"), ("processes", b"\x08")] {
        assert!(ask(action, request).unwrap_err().is_of_the_request(), "{action}");
    }
}

#[test]
fn what_has_no_room_is_counted() {
    let mount = Mount { source: "x".repeat(LONGEST / 3), ..Mount::default() };
    let (kept, left_off) = fitting(vec![mount; 5]);
    assert_eq!((kept.len(), left_off), (2, 3));
}
