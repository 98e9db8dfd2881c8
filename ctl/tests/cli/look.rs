// SPDX-License-Identifier: Apache-2.0
//! Resources, versions and logs.

use crate::{
    fleet,
    support::node::{Face, Node, Reply},
    unknown, version,
};
use bytes::Bytes;
use prost::Message as _;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
};
use stele_proto::v1::{
    Change, Column, Kind, ListKindsResponse, ListResponse, LogChunk, LogEntry, Resource,
    WatchResponse,
};

#[test]
fn a_dead_node_does_not_hide_the_other() {
    let (user, node) = fleet("web1", |_, _| Reply::one(&version("web1")));
    let dead = Node::bind().local_addr().unwrap();
    user.ctl(&["version"]).says(0, &["web1", "1.0.0", "running"]);
    let nodes = format!("web1={},web2={dead}", node.address);
    let run = user.ctl(&["version", "-n", &nodes]).says(1, &["refused", "Is the node up"]);
    assert!(run.out.contains("web1") && run.err.contains("web2"), "{run:?}");
    let run = user.ctl(&["version", "-n", &nodes, "-o", "json"]).says(1, &[]);
    let json: BTreeMap<String, Value> = serde_json::from_str(&run.out).unwrap();
    assert_eq!(json["web1"]["bootId"], "first");
    assert!(json["web2"]["error"].as_str().unwrap().contains("refused"));
    let run = user.ctl(&["version", "-o", "json"]).says(0, &[]);
    assert_eq!(
        serde_json::from_str::<Value>(&run.out).unwrap()["hostname"],
        "web1",
        "one node is not wrapped"
    );
}

fn kinds() -> ListKindsResponse {
    let columns = vec![Column { heading: "STATE".to_owned(), field: "state".to_owned() }];
    ListKindsResponse {
        kinds: vec![Kind {
            name: "Service".to_owned(),
            description: "A program".to_owned(),
            columns,
        }],
    }
}

fn service(name: &str, state: &str) -> Resource {
    let value =
        prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(state.to_owned())) };
    let status = prost_types::Struct { fields: [("state".to_owned(), value)].into() };
    Resource {
        kind: "Service".to_owned(),
        name: name.to_owned(),
        version: 7,
        updated: None,
        status: Some(status),
    }
}

fn resources(path: &str, body: &Bytes) -> Reply {
    match path {
        "/stele.v1.ResourceService/ListKinds" => Reply::one(&kinds()),
        "/stele.v1.ResourceService/List" => {
            let request = stele_proto::v1::ListRequest::decode(&body[5..]).unwrap();
            let all = [service("apid", "running"), service("dhcp-eth0", "waiting")];
            let resources = all
                .into_iter()
                .filter(|one| request.name.is_empty() || one.name == request.name)
                .collect();
            Reply::one(&ListResponse { resources })
        }
        "/stele.v1.ResourceService/Watch" => {
            let event =
                |change: Change, resource| WatchResponse { change: change.into(), resource };
            Reply::one(&event(Change::Added, Some(service("apid", "starting"))))
                .and(&event(Change::Synced, None))
                .and(&event(Change::Modified, Some(service("apid", "running"))))
        }
        _ => unknown(path),
    }
}

#[test]
fn resources_as_table_json_and_yaml() {
    let (user, _node) = fleet("web1", |path, body| resources(path, &body));
    user.ctl(&["get"]).says(0, &["Service", "A program"]);
    let run = user.ctl(&["get", "services"]).says(0, &[]);
    assert_eq!(run.out, "NAME       STATE\napid       running\ndhcp-eth0  waiting\n");
    assert_eq!(user.ctl(&["services"]).out, run.out);
    let run = user.ctl(&["get", "service", "apid", "-o", "json"]).says(0, &[]);
    assert_eq!(serde_json::from_str::<Value>(&run.out).unwrap()["status"]["state"], "running");
    user.ctl(&["get", "SERVICE", "-o", "yaml"]).says(0, &["- kind: Service", "state: waiting"]);
    let run = user.ctl(&["get", "service", "-o", "jsonpath={[*].status.state}"]).says(0, &[]);
    assert_eq!(run.out, "running waiting\n");
    let run = user.ctl(&["get", "service", "apid", "-o", "jsonpath=.version"]).says(0, &[]);
    assert_eq!(run.out, "7\n");
    let run = user.ctl(&["get", "service", "apid", "-o", "wide"]).says(0, &[]);
    assert_eq!(
        run.out,
        "NAME  STATE    VERSION  UPDATED  MORE\napid  running  7        -        -\n"
    );
    user.ctl(&["get", "service", "-o", "jsonpath={.a"]).says(2, &["closing brace"]);
    user.ctl(&["get", "service", "-o", "xml"]).says(2, &["table, wide, json, yaml"]);
    user.ctl(&["get", "service", "nothing"]).says(1, &["no Service \"nothing\""]);
    user.ctl(&["get", "nothing"]).says(1, &["no kind \"nothing\"", "Service"]);
    let run = user.ctl(&["get", "service", "-w"]).says(1, &["ended the stream"]);
    assert_eq!(
        run.out,
        "NAME  STATE     CHANGE\napid  starting  added\napid  running   modified\n"
    );
    let run = user.ctl(&["get", "service", "-w", "-o", "json"]).says(1, &[]);
    assert_eq!(run.out.lines().count(), 3, "{}", run.out);
    let path = "jsonpath={.change} {.resource.status.state}";
    let run = user.ctl(&["get", "service", "-w", "-o", path]).says(1, &[]);
    assert_eq!(run.out, "added starting\nsynced \nmodified running\n");
    let run = user.ctl(&["get", "service", "-w", "-o", "wide"]).says(1, &[]);
    assert!(run.out.starts_with("NAME  STATE     VERSION  UPDATED  MORE  CHANGE\n"), "{}", run.out);
}

#[test]
fn who_falls_behind_in_a_watch_begins_anew() {
    let watches = AtomicU32::new(0);
    let (user, _node) = fleet("web1", move |path, body| {
        if path.ends_with("/Watch") && watches.fetch_add(1, Ordering::Relaxed) == 0 {
            let synced = WatchResponse { change: Change::Synced.into(), resource: None };
            return Reply::refused(8, "this watch fell too far behind", Vec::new()).and(&synced);
        }
        resources(path, &body)
    });
    let path = "jsonpath={.change} {.resource.status.state}";
    let run = user
        .ctl(&["get", "service", "-w", "-o", path])
        .says(1, &["fell too far behind", "ended the stream"]);
    assert_eq!(run.out, "synced \nadded starting\nsynced \nmodified running\n");
}

#[test]
fn the_two_nodes_stand_in_columns() {
    let (user, one) = fleet("web1", |path, body| resources(path, &body));
    let listener = Node::bind();
    user.fleet("web2", &listener.local_addr().unwrap().to_string());
    let two = Node::start(listener, &Face::of(&user.path("web2"), "web2"), |path, body| {
        resources(path, &body)
    });
    let run = user.ctl(&["get", "service", "apid"]).says(0, &[]);
    assert_eq!(run.out, "NODE  NAME  STATE\nweb1  apid  running\nweb2  apid  running\n");
    user.ctl(&["reboot"]).says(2, &["-n web1,web2"]);
    two.go_down();
    let run = user
        .ctl(&["get", "service", "apid"])
        .says(1, &["web2", "closes connections without a word"]);
    assert_eq!(run.out, "NODE  NAME  STATE\nweb1  apid  running\n");
    drop(one);
}

fn entries() -> LogChunk {
    let entry = |time_us, message: &str| LogEntry {
        time_us,
        severity: 6,
        message: message.into(),
        lost: 0,
    };
    LogChunk {
        entries: vec![entry(1_800_000_000_000_000, "one"), entry(1_800_000_000_000_001, "two")],
    }
}

#[test]
fn logs_in_every_form() {
    let (user, _node) = fleet("web1", |_, _| Reply::one(&entries()).and(&entries()));
    let run = user.ctl(&["logs", "apid", "--raw"]).says(0, &[]);
    assert_eq!(run.out, "one\ntwo\none\ntwo\n");
    user.ctl(&["logs", "apid"]).says(0, &["2027-01-15T08:00:00.000001Z two\n"]);
    user.ctl(&["dmesg"]).says(0, &["2027-01-15T08:00:00.000000Z info    one\n"]);
    user.ctl(&["logs", "apid", "-o", "json"]).says(0, &["\"message\":\"two\""]);
    user.ctl(&["logs", "apid", "-f"]).says(1, &["two", "the node ended the stream"]);
}

#[test]
fn what_is_followed_is_seen_at_once_and_a_reader_may_go() {
    let (user, _node) = fleet("web1", |_, _| Reply::one(&entries()).stays());
    let mut child =
        user.command(&["logs", "apid", "-f", "--raw"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "one");
    assert_eq!(lines.next().unwrap().unwrap(), "two");
    child.kill().unwrap();
    child.wait().unwrap();

    let (user, _node) =
        fleet("web1", |_, _| (0..20_000).fold(Reply::default(), |reply, _| reply.and(&entries())));
    let mut child = user
        .command(&["logs", "apid"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    reader.read_line(&mut String::new()).unwrap();
    drop(reader);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_silent_node_is_given_up() {
    let (user, _node) = fleet("web1", |_, _| Reply::default().stays());
    user.ctl(&["version", "--timeout", "1s"]).says(1, &["no answer within 1 s"]);
    let silent = Node::bind();
    let at = silent.local_addr().unwrap().to_string();
    user.ctl(&["version", "--timeout", "1s", "-n", &at]).says(1, &["no answer within 1 s"]);
}
