// SPDX-License-Identifier: Apache-2.0
//! Health, boots, and how a node is.

use crate::{fleet, support::node::Reply, unknown, version};
use bytes::Bytes;
use expect_test::expect;
use prost::Message as _;
use serde_json::{Value, json};
use stele_proto::v1::{
    Change, ListRequest, ListResponse, Mode, Resource, VersionResponse, WatchRequest, WatchResponse,
};

fn proto(value: &Value) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap()),
        Value::String(value) => Kind::StringValue(value.clone()),
        Value::Array(values) => {
            Kind::ListValue(prost_types::ListValue { values: values.iter().map(proto).collect() })
        }
        Value::Object(_) => Kind::StructValue(fields(value)),
    };
    prost_types::Value { kind: Some(kind) }
}

fn fields(value: &Value) -> prost_types::Struct {
    let fields = value.as_object().unwrap().iter();
    prost_types::Struct { fields: fields.map(|(key, value)| (key.clone(), proto(value))).collect() }
}

pub(crate) fn resource(kind: &str, name: &str, status: &Value) -> Resource {
    Resource {
        kind: kind.to_owned(),
        name: name.to_owned(),
        version: 1,
        updated: None,
        status: Some(fields(status)),
    }
}

/// A machine whose upgrade to 1.1.0 has failed, as far as its resources tell.
fn machine(kind: &str) -> Option<Vec<(&'static str, Value)>> {
    let refused = "GET http://127.0.0.1:8080/: tcp connect error: Connection refused";
    Some(match kind {
        "Gate" => vec![("gate", json!({"state": "passed"}))],
        "HealthCheck" => vec![
            (
                "names",
                json!({"state": "failing", "need": "wanted", "reason": "resolving example.com: not done within 5s", "since": 61.5, "system": false}),
            ),
            (
                "system/api",
                json!({"state": "passing", "need": "required", "since": 4.0, "passed": 4.0, "system": true}),
            ),
            (
                "web",
                json!({"state": "failing", "need": "required", "reason": refused, "since": 3600.0, "system": false}),
            ),
        ],
        "Boot" => vec![
            (
                "10",
                json!({"image": "1.0.0", "generation": 2, "time": 1_800_000_600, "started": "fallback from 1.1.0", "health": "passed"}),
            ),
            (
                "8",
                json!({"image": "1.0.0", "generation": 2, "time": 1_800_000_000, "started": "ordinary", "health": "none", "ended": "reboot", "cause": "admin asked for an upgrade"}),
            ),
            (
                "9",
                json!({"image": "1.1.0", "generation": 2, "time": 1_800_000_100, "started": "try 1", "health": "failed", "ended": "reboot", "cause": format!("web: {refused}"),
                "checks": [{"name": "system/api", "need": "required", "state": "passing", "passed": 3.25}, {"name": "web", "need": "required", "state": "failing", "reason": refused}]}),
            ),
        ],
        "Service" => vec![
            ("apid", json!({"state": "running"})),
            ("dhcp-eth0", json!({"state": "waiting", "reason": "ended with exit code 1"})),
        ],
        "Volume" => vec![
            ("STATE", json!({"state": "mounted", "device": "/dev/vda2"})),
            (
                "DATA",
                json!({"state": "mounted", "device": "tmpfs", "reason": "no file system was found on /dev/vda3"}),
            ),
        ],
        "Slot" => {
            vec![("stele_1.0.0.efi", json!({"version": "1.0.0", "state": "good", "running": true}))]
        }
        "Generation" => vec![
            ("1", json!({"active": false, "state": "superseded"})),
            ("2", json!({"active": true, "state": "pending"})),
            ("3", json!({"active": false, "state": "staged"})),
        ],
        "Watchdog" => vec![(
            "watchdog0",
            json!({"state": "fed", "identity": "i6300ESB timer", "timeout": 75}),
        )],
        _ => return None,
    })
}

fn answer(path: &str, body: &Bytes, version: &VersionResponse) -> Reply {
    match path {
        "/stele.v1.MachineService/Version" => Reply::one(version),
        "/stele.v1.ResourceService/List" => {
            let request = ListRequest::decode(&body[5..]).unwrap();
            let Some(all) = machine(&request.kind) else {
                return Reply::refused(5, "there is no such kind", Vec::new());
            };
            let resources =
                all.iter().map(|(name, status)| resource(&request.kind, name, status)).collect();
            Reply::one(&ListResponse { resources })
        }
        "/stele.v1.ResourceService/Watch" => {
            let request = WatchRequest::decode(&body[5..]).unwrap();
            let event = |change: Change, status: Value| WatchResponse {
                change: change.into(),
                resource: Some(resource(
                    &request.kind,
                    if request.kind == "Gate" { "gate" } else { "web" },
                    &status,
                )),
            };
            if request.kind == "Gate" {
                return Reply::one(&event(
                    Change::Added,
                    json!({"state": "pending", "reason": "waiting for web", "deadline": 180.0}),
                ))
                .and(&WatchResponse { change: Change::Synced.into(), resource: None })
                .and(&event(Change::Modified, json!({"state": "passed"})));
            }
            let web = |state: &str, reason: &str| json!({"state": state, "need": "required", "reason": reason, "since": 1.0});
            Reply::one(&event(Change::Added, web("unknown", "it was not tried yet")))
                .and(&event(Change::Modified, web("failing", "it passed 4 of 5 tries: refused")))
                .and(&event(Change::Modified, web("failing", "it passed 4 of 6 tries: refused")))
                .and(&event(Change::Modified, web("passing", "")))
                .and(&event(Change::Removed, web("passing", "")))
        }
        _ => unknown(path),
    }
}

#[test]
fn health_as_table_and_json() {
    let (user, _node) = fleet("web1", |path, body| answer(path, &body, &version("web1")));
    let run = user.ctl(&["health"]).says(1, &[]);
    expect![[r#"
        The running image has proved itself: its health gate is passed.
        CHECK       STATE    NEED      SINCE                 REASON
        system/api  passing  required  2027-01-15T08:10:04Z  -
        names       failing  wanted    2027-01-15T08:11:01Z  resolving example.com: not done within 5s
        web         failing  required  2027-01-15T09:10:00Z  GET http://127.0.0.1:8080/: tcp connect error: Connection refused
    "#]].assert_eq(&run.out);
    let run = user.ctl(&["health", "-o", "json"]).says(1, &[]);
    let json: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(json["gate"]["state"], "passed");
    assert_eq!(json["checks"][0]["name"], "system/api");
    assert_eq!(json["checks"][2]["need"], "required");
}

#[test]
fn health_as_it_changes() {
    let (user, _node) = fleet("web1", |path, body| answer(path, &body, &version("web1")));
    let run = user.ctl(&["health", "-w"]).says(1, &["ended the stream"]);
    let mut lines: Vec<&str> = run.out.lines().collect();
    lines.sort_unstable();
    expect![[r#"
        The running image has proved itself: its health gate is passed.
        The running image is on trial: waiting for web, until 180 s after its start at the latest.
        web (required) is unknown: it was not tried yet
        web is failing: it passed 4 of 5 tries: refused
        web is no longer checked
        web is passing"#]]
    .assert_eq(&lines.join("\n"));
    let run = user.ctl(&["health", "-w", "-o", "json"]).says(1, &[]);
    assert_eq!(run.out.lines().count(), 7, "{}", run.out);
}

#[test]
fn boots_from_the_newest() {
    let (user, _node) = fleet("web1", |path, body| answer(path, &body, &version("web1")));
    let run = user.ctl(&["boots"]).says(0, &[]);
    expect![[r#"
        BOOT  IMAGE  GENERATION  WHEN                  STARTED              HEALTH  ENDED   CAUSE
        10    1.0.0  2           2027-01-15T08:10:00Z  fallback from 1.1.0  passed  -       -
        9     1.1.0  2           2027-01-15T08:01:40Z  try 1                failed  reboot  web: GET http://127.0.0.1:8080/: tcp connect error: Connection refused
        8     1.0.0  2           2027-01-15T08:00:00Z  ordinary             -       reboot  admin asked for an upgrade
    "#]].assert_eq(&run.out);
    let run = user.ctl(&["boots", "-1"]).says(0, &[]);
    expect![[r#"
        Boot 9
          image       1.1.0
          generation  2
          when        2027-01-15T08:01:40Z
          started     try 1
          health      failed
          ended       reboot
          cause       web: GET http://127.0.0.1:8080/: tcp connect error: Connection refused

        CHECK       STATE    NEED      PASSED       REASON
        system/api  passing  required  after 3.2 s  -
        web         failing  required  -            GET http://127.0.0.1:8080/: tcp connect error: Connection refused

        What it left behind: ctl logs kernel --boot 9
    "#]].assert_eq(&run.out);
    assert_eq!(user.ctl(&["boots", "9"]).out, run.out);
    user.ctl(&["boots", "7"]).says(1, &["no boot 7", "from 8 to 10"]);
    let run = user.ctl(&["boots", "-o", "json"]).says(0, &[]);
    let json: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((&json[0]["boot"], &json[1]["checks"][0]["passed"]), (&json!(10), &json!(3.25)));
    let run = user.ctl(&["boots", "8", "-o", "yaml"]).says(0, &[]);
    assert!(run.out.contains("cause: admin asked for an upgrade"), "{}", run.out);
}

#[test]
fn status_in_one_look() {
    let (user, node) = fleet("web1", |path, body| answer(path, &body, &version("web1")));
    let run = user.ctl(&["status"]).says(1, &[]);
    expect![[r#"
        web1: running
          image       1.0.0, good
          boot        3, fallback from 1.1.0
          generation  2, goes back unless it is confirmed; 3 with the next start
          gate        passed
          checks      1 of 3 pass
                      web (required): GET http://127.0.0.1:8080/: tcp connect error: Connection refused
                      names (wanted): resolving example.com: not done within 5s
          services    1 of 2 are as they should be
                      dhcp-eth0 is waiting: ended with exit code 1
          volume      DATA is in memory, and lost at a restart: no file system was found on /dev/vda3
    "#]].assert_eq(&run.out);
    let run = user.ctl(&["status", "-o", "json"]).says(1, &[]);
    let json: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((&json["mode"], &json["generation"]), (&json!("running"), &json!(2)));
    assert_eq!(json["failingChecks"][0]["name"], "web");
    assert_eq!(json["servicesDown"][0]["name"], "dhcp-eth0");
    assert_eq!(json["volumesInMemory"][0]["name"], "DATA");
    let two = format!("web1={0},127.0.0.1={0}", node.address);
    let run = user.ctl(&["status", "-n", &two]);
    assert!(run.out.contains("web1") && run.out.contains("web fails; names fails"), "{run:?}");
}

#[test]
fn safe_mode_is_loud() {
    let safe = VersionResponse {
        mode: Mode::Safe.into(),
        reason: "1.1.0 failed (web: refused), and so did 1.0.0 after it (kernel panic)".to_owned(),
        ..version("web1")
    };
    let (user, _node) = fleet("web1", move |path, body| answer(path, &body, &safe));
    let run = user.ctl(&["status"]).says(1, &[]);
    expect![[r#"
        !!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!
        web1 IS IN SAFE MODE: no image on it has been healthy, and it waits for a person.
          why         1.1.0 failed (web: refused), and so did 1.0.0 after it (kernel panic)
          what runs   the system's own services, its network and its API, and nothing else
          what to do  ctl boots -n web1                    which boots failed, and why
                      ctl logs kernel --boot 9 -n web1     what the last one left behind
                      ctl upgrade --image FILE -n web1     a better image
                      ctl apply-config -f FILE -n web1     a better configuration
                      ctl reboot -n web1                   another try of what there is
        !!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!
          image       1.0.0, good
          boot        3, fallback from 1.1.0
          generation  2, goes back unless it is confirmed; 3 with the next start
          gate        passed
          checks      1 of 3 pass
                      web (required): GET http://127.0.0.1:8080/: tcp connect error: Connection refused
                      names (wanted): resolving example.com: not done within 5s
          services    1 of 2 are as they should be
                      dhcp-eth0 is waiting: ended with exit code 1
          volume      DATA is in memory, and lost at a restart: no file system was found on /dev/vda3
    "#]].assert_eq(&run.out);
}
