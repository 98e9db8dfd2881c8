// SPDX-License-Identifier: Apache-2.0
//! Configurations: what differs, what is sent, and what comes of it.

use crate::{
    fleet,
    support::{
        User,
        node::{Node, Reply},
    },
    unknown,
};
use prost::Message as _;
use std::{
    fs,
    sync::{Arc, Mutex},
};
use stele_config::{canonical, yaml};
use stele_proto::v1::{ApplyRequest, ApplyResponse, Generation, GetResponse};

/// A node with a configuration, and what it was sent last.
struct Configured {
    user: User,
    _node: Node,
    kept: Arc<Mutex<Vec<u8>>>,
    sent: Arc<Mutex<Option<ApplyRequest>>>,
}

impl Configured {
    fn start() -> Configured {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let sent = Arc::new(Mutex::new(None));
        let (documents, last) = (Arc::clone(&kept), Arc::clone(&sent));
        let generation = |number| Some(Generation { number, ..Generation::default() });
        let (user, node) = fleet("web1", move |path, body| match path {
            "/stele.v1.ConfigService/Get" => Reply::one(&GetResponse {
                generation: generation(6),
                documents: documents.lock().unwrap().clone(),
            }),
            "/stele.v1.ConfigService/Apply" => {
                *last.lock().unwrap() = Some(ApplyRequest::decode(&body[5..]).unwrap());
                Reply::one(&ApplyResponse { generation: generation(7), ..ApplyResponse::default() })
            }
            _ => unknown(path),
        });
        let configured = Configured { user, _node: node, kept, sent };
        let text = configured.text();
        *configured.kept.lock().unwrap() = canonical::write(&yaml::parse(text.as_bytes()).unwrap());
        configured
    }

    fn text(&self) -> String {
        fs::read_to_string(self.user.path("web1/machine.yaml")).unwrap()
    }

    /// What was sent last.
    fn sent(&self) -> String {
        let request = self.sent.lock().unwrap().take().expect("nothing was sent");
        let text = String::from_utf8(request.documents).unwrap();
        yaml::parse(text.as_bytes()).unwrap();
        text
    }
}

#[test]
fn a_dry_run_shows_what_differs_and_no_secret() {
    let Configured { user, .. } = &Configured::start();
    let dry_run = ["apply-config", "-f", "web1/machine.yaml", "--dry-run"];
    let run = user.ctl(&dry_run).says(0, &["generation 7"]);
    assert!(!run.out.contains("---"), "{}", run.out);
    let file = user.path("web1/machine.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("hostname: web1", "hostname: web2")).unwrap();
    let run = user.ctl(&dry_run).says(
        0,
        &[
            "--- Hostname (generation 6)\n+++ Hostname (web1/machine.yaml)",
            "-hostname: web1\n+hostname: web2\n",
        ],
    );
    assert!(!run.out.contains("PRIVATE KEY"), "{}", run.out);
}

#[test]
fn a_patch_changes_what_it_names_and_leaves_the_rest() {
    let node = Configured::start();
    let run = node.user.ctl(&["patch", "-p", "{kind: Link, name: eth0, dhcp4: true}"]);
    run.says(0, &["+++ Link eth0", "+dhcp4: true", "generation 7"]);
    let sent = node.sent();
    assert_eq!(
        sent.split_once("\n---\n").unwrap().1,
        "apiVersion: stele/v1\nkind: Hostname\nhostname: web1\n---\n\
         apiVersion: stele/v1\nkind: Link\nname: eth0\ndhcp4: true\n"
    );
    let operation = r#"[{"op": "replace", "path": "/Hostname/hostname", "value": "web2"}]"#;
    node.user.ctl(&["patch", "--type", "json", "-p", operation]).says(0, &["+hostname: web2"]);
    assert!(node.sent().contains("hostname: web2"));
    for (patch, code, why) in [
        ("{kind: Hostname, hostname: -}", 2, "Nothing was sent"),
        ("{kind: Hostnam, hostname: a}", 2, "Hostname"),
        ("{kind: Link, name: eth7, $patch: delete}", 1, "no Link eth7"),
    ] {
        node.user.ctl(&["patch", "-p", patch]).says(code, &[why]);
        assert!(node.sent.lock().unwrap().is_none(), "{patch}");
    }
    let redacted = canonical::redact(&yaml::parse(node.text().as_bytes()).unwrap());
    *node.kept.lock().unwrap() = redacted;
    node.user.ctl(&["patch", "-p", "{kind: Hostname, hostname: a}"]).says(1, &["os:admin"]);
}
