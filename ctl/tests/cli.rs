// SPDX-License-Identifier: Apache-2.0
//! ctl as a user runs it, against nodes with real TLS.

mod support;

use bytes::Bytes;
use prost::Message as _;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    process::Stdio,
    sync::{Arc, Mutex},
};
use stele_proto::v1::{
    Change, Column, Finding, Findings, Generation, Kind, ListKindsResponse, ListResponse, LogChunk,
    LogEntry, Mode, Progress, Resource, Slot, SlotState, StatusResponse, Step, VersionResponse,
    WatchResponse,
};
use support::{
    User,
    node::{Face, Node, Reply},
};

fn version(name: &str) -> VersionResponse {
    VersionResponse {
        version: "1.0.0".to_owned(),
        kernel: "6.12".to_owned(),
        architecture: "x86-64".to_owned(),
        hostname: name.to_owned(),
        boot_id: "first".to_owned(),
        mode: Mode::Running.into(),
        boot: 3,
    }
}

/// A user and a node that is theirs.
fn fleet(
    name: &str,
    answer: impl Fn(&str, Bytes) -> Reply + Send + Sync + 'static,
) -> (User, Node) {
    let (user, listener) = (User::new(), Node::bind());
    user.fleet(name, &listener.local_addr().unwrap().to_string());
    let node = Node::start(listener, &Face::of(&user.path(name), name), answer);
    (user, node)
}

fn unknown(path: &str) -> Reply {
    Reply::refused(12, &format!("no {path}"), Vec::new())
}

#[test]
fn secrets_are_for_their_owner_and_are_not_lost_by_accident() {
    let user = User::new();
    user.ctl(&["gen", "secrets"]).says(0, &[]);
    let before = fs::read(user.path("secrets.yaml")).unwrap();
    user.ctl(&["gen", "secrets"]).says(2, &["--force"]);
    assert_eq!(fs::read(user.path("secrets.yaml")).unwrap(), before);
    user.fleet("web1", "10.0.0.5");
    for file in
        ["secrets.yaml", "web1/machine.yaml", "web1/client.yaml", ".config/stele/config.yaml"]
    {
        assert_eq!(
            fs::metadata(user.path(file)).unwrap().permissions().mode() & 0o777,
            0o600,
            "{file}"
        );
    }
    let machine = fs::read_to_string(user.path("web1/machine.yaml")).unwrap();
    assert!(
        machine.lines().nth(2) == Some("apiVersion: stele/v1")
            && machine.lines().nth(3) == Some("kind: Identity")
    );
    user.ctl(&["validate", "-f", "web1/machine.yaml"]).says(0, &["is valid"]);
    user.ctl(&["gen", "config", "--hostname", "web1", "-o", "web1"]).says(2, &["--force"]);
    user.ctl(&["gen", "config", "--hostname", "web_1", "-o", "web2"]).says(2, &["web_1"]);
}

#[test]
fn a_static_link_becomes_documents() {
    let user = User::new();
    user.ctl(&["gen", "secrets"]).says(0, &[]);
    let link = [
        "--link",
        "eth0",
        "--address",
        "10.0.0.5/24",
        "--gateway",
        "10.0.0.1",
        "--dns",
        "10.0.0.1",
        "-o",
        "web1",
    ];
    user.ctl(&[&["gen", "config", "--hostname", "web1"][..], &link].concat()).says(0, &[]);
    let machine = fs::read_to_string(user.path("web1/machine.yaml")).unwrap();
    let link = "kind: Link\nname: eth0\naddresses:\n- 10.0.0.5/24\nroutes:\n- to: 0.0.0.0/0\n  via: 10.0.0.1\n";
    assert!(
        machine.contains(link) && machine.contains("kind: Resolver\nservers:\n- 10.0.0.1\n"),
        "{machine}"
    );
    let two = [
        "gen",
        "config",
        "--hostname",
        "a",
        "--link",
        "x",
        "--link",
        "y",
        "--address",
        "10.0.0.5/24",
        "-o",
        "a",
    ];
    user.ctl(&two).says(2, &["one --link"]);
}

#[test]
fn findings_come_at_once_and_nothing_is_sent() {
    let user = User::new();
    fs::write(
        user.path("bad.yaml"),
        "apiVersion: stele/v1\nkind: Hostname\nhostname: -\n---\nkind: Nothing\n",
    )
    .unwrap();
    user.ctl(&["validate", "-f", "bad.yaml"]).says(2, &["bad.yaml:3", "bad.yaml:5", "expected"]);
    user.ctl(&["apply-config", "-f", "bad.yaml"]).says(2, &["bad.yaml:3", "Nothing was sent"]);
    user.ctl(&["validate", "-f", "missing.yaml"]).says(2, &["missing.yaml"]);
    let json = user.ctl(&["validate", "-f", "bad.yaml", "-o", "json"]).says(2, &[]);
    assert!(serde_json::from_str::<Value>(&json.out).unwrap().as_array().unwrap().len() >= 2);
}

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

#[test]
fn strangers_are_told_apart() {
    let (user, node) = fleet("web1", |_, _| Reply::one(&version("web1")));
    let at = format!("web1={}", node.address);

    let stranger = User::new();
    stranger.fleet("web1", &node.address.to_string());
    stranger.ctl(&["version"]).says(1, &["not from this context's CA", "--context"]);

    // The right CA to verify the node with, and a certificate of another: the node refuses.
    let ours = fs::read_to_string(user.path(".config/stele/config.yaml")).unwrap();
    let theirs = fs::read_to_string(stranger.path(".config/stele/config.yaml")).unwrap();
    let certificate = theirs.find("    certificate:").unwrap();
    let mixed =
        format!("{}{}", &ours[..ours.find("    certificate:").unwrap()], &theirs[certificate..]);
    fs::write(user.path("mixed.yaml"), mixed).unwrap();
    user.ctl(&["--config", "mixed.yaml", "version"])
        .says(1, &["UnknownCA", "does not know the CA"]);

    user.ctl(&["version", "-n", &at]).says(0, &[]);
    user.ctl(&["version", "-n", &format!("web2={}", node.address)]).says(1, &["NAME=ADDRESS"]);
    user.ctl(&["version", "-n", &format!("localhost:{}", node.address.port())])
        .says(1, &["NAME=ADDRESS"]);
}

#[test]
fn an_expired_certificate_is_refused_here() {
    let user = User::new();
    user.fleet("web1", "127.0.0.1:1");
    user.ctl(&[
        "gen",
        "client",
        "--lifetime",
        "1s",
        "--role",
        "os:reader",
        "--name",
        "bob",
        "-o",
        "bob.yaml",
    ])
    .says(0, &["os:reader"]);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    user.ctl(&["--config", "bob.yaml", "version"])
        .says(2, &["bob, os:reader", "expired", "ctl gen client"]);
}

#[test]
fn maintenance_mode_needs_the_right_fingerprint() {
    let user = User::new();
    user.fleet("web1", "127.0.0.1:1");
    let taken = Arc::new(Mutex::new(Vec::new()));
    let heap = Arc::clone(&taken);
    let node = Node::start(Node::bind(), &Face::Maintenance, move |path, body| {
        heap.lock().unwrap().push((path.to_owned(), body));
        let generation = Generation { number: 1, persistent: true, ..Generation::default() };
        Reply::one(&stele_proto::v1::ApplyResponse {
            generation: Some(generation),
            actions: vec!["Bring eth0 up".to_owned()],
            warnings: Vec::new(),
        })
    });
    let at = node.address.to_string();
    let apply = |more: &[&str]| {
        user.ctl(&[&["apply-config", "-f", "web1/machine.yaml", "-n", &at], more].concat())
    };

    apply(&[]).says(1, &["--insecure --fingerprint"]);
    let shown = node.fingerprint.replace(':', "").to_lowercase();
    apply(&["--insecure"]).says(2, &[&format!("SHA256:{shown}"), "console"]);
    apply(&["--insecure", "--fingerprint", &"ab".repeat(32)])
        .says(1, &["not the node that was meant", &shown]);
    assert!(taken.lock().unwrap().is_empty(), "nothing was sent");
    apply(&["--insecure", "--fingerprint", &node.fingerprint])
        .says(0, &["generation 1", "Bring eth0 up"]);
    assert_eq!(taken.lock().unwrap()[0].0, "/stele.v1.ConfigService/Apply");
}

#[test]
fn a_configured_node_is_not_taken_for_one_in_maintenance() {
    let (user, node) = fleet("web1", |path, _| unknown(path));
    let at = node.address.to_string();
    let args = [
        "apply-config",
        "-f",
        "web1/machine.yaml",
        "-n",
        &at,
        "--insecure",
        "--fingerprint",
        &node.fingerprint,
    ];
    user.ctl(&args).says(1, &["configured already"]);
}

#[test]
fn the_nodes_findings_are_shown_like_our_own() {
    let (user, _node) = fleet("web1", |_, _| {
        let finding = Finding {
            document: 2,
            kind: "Hostname".to_owned(),
            path: "hostname".to_owned(),
            line: 4,
            message: "taken".to_owned(),
            expected: "another".to_owned(),
        };
        let value = Findings { findings: vec![finding] }.encode_to_vec();
        Reply::refused(
            3,
            "1 finding",
            vec![prost_types::Any {
                type_url: "type.googleapis.com/stele.v1.Findings".to_owned(),
                value,
            }],
        )
    });
    user.ctl(&["apply-config", "-f", "web1/machine.yaml"])
        .says(1, &["error: taken", ":4", "expected another", "INVALID_ARGUMENT"]);
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
    user.ctl(&["get", "service", "nothing"]).says(1, &["no Service ‘nothing’"]);
    user.ctl(&["get", "nothing"]).says(1, &["no kind ‘nothing’", "Service"]);
    let run = user.ctl(&["get", "service", "-w"]).says(1, &["ended the stream"]);
    assert_eq!(
        run.out,
        "NAME  STATE     CHANGE\napid  starting  added\napid  running   modified\n"
    );
    let run = user.ctl(&["get", "service", "-w", "-o", "json"]).says(1, &[]);
    assert_eq!(run.out.lines().count(), 3, "{}", run.out);
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
fn a_role_too_low_is_told_as_the_node_tells_it() {
    let (user, _node) = fleet("web1", |_, _| {
        Reply::refused(7, "Reboot needs os:operator, and alice has os:reader", Vec::new())
    });
    user.ctl(&["reboot"])
        .says(1, &["alice has os:reader (PERMISSION_DENIED)", "ctl config contexts"]);
}

#[test]
fn a_silent_node_is_given_up() {
    let (user, _node) = fleet("web1", |_, _| Reply::default().stays());
    user.ctl(&["version", "--timeout", "1s"]).says(1, &["no answer within 1 s"]);
    let silent = Node::bind();
    let at = silent.local_addr().unwrap().to_string();
    user.ctl(&["version", "--timeout", "1s", "-n", &at]).says(1, &["no answer within 1 s"]);
}

/// A machine with two slots, as far as an upgrade sees it.
#[derive(Clone, Debug)]
struct Machine {
    boots: u32,
    running: &'static str,
    new: Option<SlotState>,
    looks: u32,
    fails: bool,
    image: usize,
}

impl Machine {
    fn answer(&mut self, path: &str, body: &Bytes) -> Reply {
        let new = "stele_1.1.0";
        match path {
            "/stele.v1.MachineService/Version" => Reply::one(&VersionResponse {
                boot_id: format!("boot {}", self.boots),
                version: self.running.trim_start_matches("stele_").to_owned(),
                ..version("web1")
            }),
            "/stele.v1.UpgradeService/Push" => {
                self.image = body.len();
                self.new = Some(SlotState::Staged);
                Reply::one(&Progress { step: Step::Verifying.into(), ..Progress::default() }).and(
                    &Progress {
                        step: Step::Staged.into(),
                        slot: new.to_owned(),
                        ..Progress::default()
                    },
                )
            }
            "/stele.v1.UpgradeService/Upgrade" => {
                self.boots += 1;
                self.running = if self.fails { "stele_1.0.0" } else { new };
                self.new = Some(if self.fails { SlotState::Bad } else { SlotState::Trying });
                Reply::one(&Progress {
                    step: Step::Rebooting.into(),
                    slot: new.to_owned(),
                    ..Progress::default()
                })
            }
            "/stele.v1.UpgradeService/Status" => {
                self.looks += 1;
                if self.looks > 2 && self.new == Some(SlotState::Trying) {
                    self.new = Some(SlotState::Good);
                }
                let slot = |id: &str, state: SlotState| Slot {
                    id: id.to_owned(),
                    version: id.trim_start_matches("stele_").to_owned(),
                    state: state.into(),
                    running: self.running == id,
                    size: 40 << 20,
                    ..Slot::default()
                };
                let mut slots = vec![slot("stele_1.0.0", SlotState::Good)];
                slots.extend(self.new.map(|state| slot(new, state)));
                Reply::one(&StatusResponse { slots, esp_free: 400 << 20, esp_size: 512 << 20 })
            }
            _ => unknown(path),
        }
    }
}

fn machine(fails: bool) -> (User, Node, Arc<Mutex<Machine>>) {
    let state = Arc::new(Mutex::new(Machine {
        boots: 1,
        running: "stele_1.0.0",
        new: None,
        looks: 0,
        fails,
        image: 0,
    }));
    let shared = Arc::clone(&state);
    let (user, node) = fleet("web1", move |path, body| shared.lock().unwrap().answer(path, &body));
    fs::write(user.path("stele.efi"), [b"MZ".as_slice(), &vec![7; 3_000_000]].concat()).unwrap();
    (user, node, state)
}

#[test]
fn an_upgrade_is_followed_until_the_image_is_good() {
    let (user, _node, state) = machine(false);
    user.ctl(&["upgrade", "--image", "stele.efi"])
        .says(0, &["uploading 2.9 MiB", "runs 1.1.0 (was 1.0.0); stele_1.1.0 is good"]);
    assert!(state.lock().unwrap().image > 3_000_000);
    user.ctl(&["slots"]).says(0, &["stele_1.1.0  1.1.0    good   yes", "400.0 MiB of 512.0 MiB"]);
}

#[test]
fn an_image_that_went_back_is_a_failure() {
    let (user, _node, _state) = machine(true);
    user.ctl(&["upgrade", "--image", "stele.efi"])
        .says(1, &["went back", "runs 1.0.0", "it is bad", "--boot -1"]);
}

#[test]
fn staging_is_not_upgrading() {
    let (user, _node, state) = machine(false);
    user.ctl(&["upgrade", "--image", "stele.efi", "--stage-only"])
        .says(0, &["ctl upgrade --slot stele_1.1.0"]);
    assert_eq!(state.lock().unwrap().boots, 1);
    user.ctl(&["upgrade", "--slot", "stele_1.1.0"]).says(0, &["is good"]);
    fs::write(user.path("text"), "hello").unwrap();
    user.ctl(&["upgrade", "--image", "text"]).says(2, &["is no UKI"]);
}

#[test]
fn contexts_are_chosen_and_removed() {
    let user = User::new();
    user.fleet("web1", "10.0.0.5");
    user.ctl(&["config", "contexts"])
        .says(0, &["*        lab   web1=10.0.0.5:50000  alice", "in 364d23h"]);
    user.ctl(&["config", "use", "prod"]).says(2, &["‘prod’", "lab"]);
    user.ctl(&["config", "remove", "lab"]).says(0, &[]);
    user.ctl(&["config", "remove", "lab"]).says(2, &["There is no context"]);
    user.ctl(&["version"]).says(2, &["There is no context"]);
}
