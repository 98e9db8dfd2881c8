// SPDX-License-Identifier: Apache-2.0
//! What happened on a node, and all that it tells of itself.

use crate::{fleet, support::node::Reply, unknown, version};
use bytes::Bytes;
use flate2::read::GzDecoder;
use prost::Message as _;
use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    process::{Command, Stdio},
};
use stele_config::{canonical, yaml};
use stele_proto::v1::{
    Event, EventsChunk, EventsRequest, Generation, GetResponse, Kind, ListKindsResponse,
    ListLogsResponse, ListResponse, Log, LogChunk, LogEntry, LogRequest, MemoryResponse, Resource,
};

fn happened() -> EventsChunk {
    let event = |number, severity, message: &str, request: &str| Event {
        number,
        severity,
        time_us: 1_800_000_000_000_000 + number * 1_000_000,
        kind: "Link".to_owned(),
        name: "eth0".to_owned(),
        message: message.to_owned(),
        request: request.to_owned(),
        subject: if request.is_empty() { String::new() } else { "alice".to_owned() },
        ..Event::default()
    };
    EventsChunk {
        events: vec![
            event(1, 4, "no-carrier: nothing is plugged in", ""),
            event(2, 6, "ready", "6265de1d-9"),
        ],
    }
}

#[test]
fn events_say_who_and_by_which_request() {
    let (user, _node) = fleet("web1", |path, body| {
        assert_eq!(path, "/stele.v1.EventService/Stream");
        let request = EventsRequest::decode(&body[5..]).unwrap();
        let mut chunk = happened();
        chunk.events.retain(|event| request.request.is_empty() || event.request == request.request);
        Reply::one(&chunk)
    });
    let run = user.ctl(&["events"]).says(0, &[]);
    assert_eq!(
        run.out,
        "2027-01-15T08:00:01Z warning Link eth0: no-carrier: nothing is plugged in\n\
         2027-01-15T08:00:02Z info    Link eth0: ready (alice, request 6265de1d-9)\n"
    );
    let run = user.ctl(&["events", "--request", "6265de1d-9", "-o", "json"]).says(0, &[]);
    let value: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((value["number"].as_u64(), value["subject"].as_str()), (Some(2), Some("alice")));
    user.ctl(&["events", "-f"]).says(1, &["ready", "the node ended the stream"]);
}

fn answer(path: &str, body: &Bytes, documents: &[u8]) -> Reply {
    match path {
        "/stele.v1.MachineService/Version" => Reply::one(&version("web1")),
        "/stele.v1.ConfigService/Get" => Reply::one(&GetResponse {
            generation: Some(Generation { number: 6, ..Generation::default() }),
            documents: documents.to_vec(),
        }),
        "/stele.v1.EventService/Stream" => Reply::one(&happened()),
        "/stele.v1.ResourceService/ListKinds" => Reply::one(&ListKindsResponse {
            kinds: vec![Kind { name: "Link".to_owned(), ..Kind::default() }],
        }),
        "/stele.v1.ResourceService/List" => Reply::one(&ListResponse {
            resources: vec![Resource { name: "eth0".to_owned(), ..Resource::default() }],
        }),
        "/stele.v1.LogService/ListLogs" => Reply::one(&ListLogsResponse {
            logs: vec![
                Log { name: "kernel".to_owned(), boot: -1, size: 9 },
                Log { name: "init".to_owned(), boot: 0, size: 9 },
            ],
        }),
        "/stele.v1.LogService/Stream" => {
            let request = LogRequest::decode(&body[5..]).unwrap();
            assert!(request.boot == 0 || request.tail == 500);
            let entry = LogEntry { message: b"Linux version 6.12".to_vec(), ..LogEntry::default() };
            Reply::one(&LogChunk { entries: vec![entry] })
        }
        "/stele.v1.DiagnoseService/Memory" => Reply::one(&MemoryResponse::default()),
        _ => unknown(path),
    }
}

#[test]
fn the_dashboard_takes_a_terminal_over_and_gives_it_back() {
    let (user, _node) = fleet("web1", |path, body| answer(path, &body, b"[]"));
    user.ctl(&["dashboard"]).says(2, &["needs a terminal"]);
    // What script runs has a terminal of its own.
    let line = format!(
        "stty cols 100 rows 30; {} dashboard",
        user.command(&[]).get_program().to_string_lossy()
    );
    let mut command = Command::new("timeout");
    command.args(["60", "script", "-qec", &line, "/dev/null"]).env_clear();
    command.env("HOME", user.home()).env("TERM", "xterm").env("PATH", "/usr/bin:/bin");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut shown = String::new();
    let mut read_until = |needle: &str| {
        let mut buffer = [0; 4096];
        while !shown.contains(needle) {
            let count = screen.read(&mut buffer).unwrap();
            assert!(count > 0, "the dashboard ended: {shown}");
            shown.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    };
    read_until("Health");
    keys.write_all(b"5").unwrap();
    read_until("init");
    keys.write_all(b"q").unwrap();
    read_until("\x1b[?1049l");
    assert!(child.wait().unwrap().success());
}

#[test]
fn an_archive_holds_what_could_be_read_and_no_secret() {
    let documents = std::sync::Arc::new(std::sync::OnceLock::<Vec<u8>>::new());
    let kept = std::sync::Arc::clone(&documents);
    let (user, _node) = fleet("web1", move |path, body| answer(path, &body, kept.get().unwrap()));
    let text = fs::read(user.path("web1/machine.yaml")).unwrap();
    documents.set(canonical::write(&yaml::parse(&text).unwrap())).unwrap();
    fs::create_dir(user.path("out")).unwrap();
    let run = ["support", "-o", "out", "--tail", "500"];
    user.ctl(&run).says(0, &["out/stele-support-web1-", "without 8 parts"]);
    let path = fs::read_dir(user.path("out")).unwrap().next().unwrap().unwrap().path();
    let mut archive = tar::Archive::new(GzDecoder::new(fs::File::open(&path).unwrap()));
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        files.insert(entry.path().unwrap().display().to_string(), text);
    }
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "web1/README",
            "web1/configuration.yaml",
            "web1/events.jsonl",
            "web1/logs/boot-1/kernel.log",
            "web1/logs/boot0/init.log",
            "web1/machine/memory.json",
            "web1/resources/Link.json",
            "web1/version.json",
        ]
    );
    assert!(files["web1/README"].contains("Missing: slots.json"), "{}", files["web1/README"]);
    assert!(files["web1/configuration.yaml"].contains("key: (secret Identity key)"));
    assert!(files["web1/logs/boot-1/kernel.log"].contains("Linux version 6.12"));
    assert!(files.values().all(|text| !text.contains("PRIVATE KEY")));

    let recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    user.ctl(&[&run[..], &["--age", recipient]].concat()).says(0, &[".tar.gz.age"]);
    user.ctl(&[&run[..], &["--age", "age1x"]].concat()).says(2, &["no public key of age's"]);
    user.ctl(&["support", "-o", "nowhere"]).says(2, &["no folder nowhere"]);
}
