// SPDX-License-Identifier: Apache-2.0
//! The network as a node sees it, and packets of it.

use crate::{fleet, support::node::Reply};
use prost::Message as _;
use std::fs;
use stele_proto::v1::{
    CaptureChunk, CaptureEnd, CaptureRequest, PingReply, PingRequest, Process, ProcessesRequest,
    ProcessesResponse,
};

#[test]
fn each_answer_is_shown_as_it_comes_and_none_at_all_is_a_failure() {
    let (user, _node) = fleet("web1", |path, body| {
        assert_eq!(path, "/stele.v1.DiagnoseService/Ping");
        let PingRequest { host, count, interval_ms, .. } = PingRequest::decode(&body[5..]).unwrap();
        assert_eq!((count, interval_ms), (2, 200));
        let lost = PingReply { sequence: 1, host: host.clone(), ..PingReply::default() };
        let mut second = PingReply { sequence: 2, ..lost.clone() };
        if host == "10.0.0.1" {
            second = PingReply {
                address: host,
                time_us: 1250,
                ttl: 64,
                reason: String::new(),
                ..second
            };
        }
        Reply::one(&lost).and(&second)
    });
    let run = user.ctl(&["ping", "10.0.0.1", "-c", "2", "-i", "200ms"]).says(0, &[]);
    assert_eq!(
        run.out,
        "1: no answer from 10.0.0.1\n\
         2: 10.0.0.1 answers after 1.25 ms, time to live 64\n\
         1 of 2 answered: 1.25 ms at least, 1.25 ms median, 1.25 ms at most\n"
    );
    let run = user.ctl(&["ping", "10.0.0.2", "-c", "2", "-i", "200ms", "-o", "json"]).says(1, &[]);
    assert_eq!(run.out.lines().count(), 2);
    assert!(run.out.contains("\"answered\":false"), "{}", run.out);
}

#[test]
fn packets_go_to_a_file_and_a_refusal_leaves_none() {
    let (user, _node) = fleet("web1", |_, body| {
        let request = CaptureRequest::decode(&body[5..]).unwrap();
        if request.link != "eth0" {
            return Reply::refused(3, "there is no link eth7", Vec::new());
        }
        assert_eq!(request.filter.unwrap().port, 53);
        let end = CaptureEnd { packets: 1, dropped: 2, reason: "duration".to_owned() };
        Reply::one(&CaptureChunk { pcap: b"beginning, ".to_vec(), end: None })
            .and(&CaptureChunk { pcap: b"end".to_vec(), end: Some(end) })
    });
    let file = user.path("a.pcap");
    let name = file.to_str().unwrap();
    let filter = ["--filter", "udp and port 53"];
    user.ctl(&[&["pcap", "eth0", "-w", name], &filter[..]].concat())
        .says(0, &["1 packet, and 2 lost that came too fast: the time is over"]);
    assert_eq!(fs::read(&file).unwrap(), b"beginning, end");
    // Into a program, without a word between the packets.
    let run = user.ctl(&[&["pcap", "eth0"], &filter[..]].concat()).says(0, &[]);
    assert_eq!(run.out, "beginning, end");
    fs::remove_file(&file).unwrap();
    user.ctl(&["pcap", "eth7", "-w", name]).says(1, &["Capturing on eth7", "no link eth7"]);
    assert!(!file.exists());
    user.ctl(&["pcap", "eth0", "-o", "json"]).says(2, &["-w FILE"]);
}

#[test]
fn processes_are_shown_without_the_kernel_s_own() {
    let (user, _node) = fleet("web1", |_, body| {
        let ProcessesRequest { arguments } = ProcessesRequest::decode(&body[5..]).unwrap();
        let init = Process { pid: 1, name: "init".to_owned(), ..Process::default() };
        let thread = Process { pid: 2, kernel_thread: true, ..init.clone() };
        let large = Process { pid: 3, memory_bytes: 1 << 20, ..init.clone() };
        let processes = vec![init, thread, large];
        Reply::one(&ProcessesResponse { processes, left_off: u32::from(arguments) * 7 })
    });
    let pids = |arguments: &[&str]| -> Vec<u64> {
        let run = user.ctl(&[&["ps", "-o", "json"], arguments].concat()).says(0, &[]);
        let list: Vec<serde_json::Value> = serde_json::from_str(&run.out).unwrap();
        list.iter().filter_map(|process| process["pid"].as_u64()).collect()
    };
    assert_eq!(pids(&[]), [1, 3]);
    assert_eq!(pids(&["--kernel", "--sort", "memory"]), [3, 1, 2]);
    user.ctl(&["ps", "--arguments"]).says(0, &["web1: 7 more are not shown"]);
}
