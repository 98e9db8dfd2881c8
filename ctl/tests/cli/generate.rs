// SPDX-License-Identifier: Apache-2.0
//! Files and contexts: what ctl does without a node.

use crate::support::User;
use serde_json::Value;
use std::{fs, os::unix::fs::PermissionsExt as _};

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
fn what_the_image_does_not_have_is_found_without_a_node() {
    let user = User::new();
    user.fleet("web1", "10.0.0.5");
    let config = fs::read_to_string(user.path("web1/machine.yaml")).unwrap();
    let with = |more: &str| {
        fs::write(user.path("more.yaml"), format!("{more}---\n{config}")).unwrap();
        user.ctl(&["validate", "-f", "more.yaml"])
    };
    with("apiVersion: stele/v1\nkind: Environment\nname: a\nservices: [prob]\nvariables: [A=1]\n")
        .says(
            2,
            &[
                "error: this image has no service prob (did you mean \"probe\"?)",
                "more.yaml:4",
                "1 thing is wrong",
            ],
        );
    with("apiVersion: stele/v1\nkind: HealthCheck\nname: a\nservice: {name: apidd}\n").says(
        0,
        &[
            "warning: this image has no service apidd (did you mean \"apid\"?)",
            "more.yaml:4",
            "is valid",
        ],
    );
}

#[test]
fn shells_complete_the_formats_of_resources() {
    let script = User::new().ctl(&["completion", "bash"]).says(0, &[]).out;
    assert!(script.contains("table wide json yaml jsonpath="), "{script}");
}

#[test]
fn contexts_are_chosen_and_removed() {
    let user = User::new();
    user.fleet("web1", "10.0.0.5");
    user.ctl(&["config", "contexts"])
        .says(0, &["*        lab   web1=10.0.0.5:50000  alice", "in 364d23h"]);
    user.ctl(&["config", "use", "prod"]).says(2, &["\"prod\"", "lab"]);
    user.ctl(&["config", "remove", "lab"]).says(0, &[]);
    user.ctl(&["config", "remove", "lab"]).says(2, &["There is no context"]);
    user.ctl(&["version"]).says(2, &["There is no context"]);
}
