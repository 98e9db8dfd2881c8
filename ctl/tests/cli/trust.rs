// SPDX-License-Identifier: Apache-2.0
//! Who is talked to, and who is not.

use crate::{
    fleet,
    support::{
        User,
        node::{Face, Node, Reply},
    },
    unknown, version,
};
use prost::Message as _;
use std::{
    fs,
    sync::{Arc, Mutex},
};
use stele_proto::v1::{Finding, Findings, Generation};

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
fn a_stolen_node_is_no_other() {
    let user = User::new();
    user.fleet("web1", "127.0.0.1:1");
    let stolen = Node::start(Node::bind(), &Face::of(&user.path("web1"), "web2"), |_, _| {
        Reply::one(&version("web2"))
    });
    user.ctl(&["version", "-n", &format!("web2={}", stolen.address)])
        .says(1, &["has the identity \"web1\"", "claims to be \"web2\"", "stolen"]);
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
            changes: vec![stele_proto::v1::ConfigChange {
                document: "Link eth0".to_owned(),
                what: "configured, DHCP".to_owned(),
                ..Default::default()
            }],
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
        .says(0, &["generation 1", "Link eth0: configured, DHCP, live"]);
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
            warning: false,
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

#[test]
fn a_role_too_low_is_told_as_the_node_tells_it() {
    let (user, _node) = fleet("web1", |_, _| {
        Reply::refused(7, "Reboot needs os:operator, and alice has os:reader", Vec::new())
    });
    user.ctl(&["reboot"])
        .says(1, &["alice has os:reader (PERMISSION_DENIED)", "ctl config contexts"]);
}
