// SPDX-License-Identifier: Apache-2.0
//! Patches: documents that are merged by kind and name, and RFC 6902. What is patched is a configuration with every kind.
//!
//! Whatever a patch makes of it can be printed, reads back as the same documents, and is read without an end by those who judge
//! it.

use crate::{Target, config};
use ctl::{documents::Documents, patch};
use std::sync::LazyLock;
use stele_config::yaml;

/// Patches.
pub const TARGET: Target = Target { name: "patch", run, seeds };

static PATCHED: LazyLock<Documents> =
    LazyLock::new(|| Documents::read(&config::everything()).expect("documents"));

fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for apply in [patch::merge, patch::operations] {
        let mut patched = PATCHED.clone();
        if apply(&mut patched, text).is_ok() {
            let printed = patched.print().expect("documents are printed");
            let restored = patched.restore(&printed).expect("secrets come back");
            let _findings = yaml::parse(restored.as_bytes());
            // YAML has keys that JSON has not; who judges refuses them.
            let Ok(json) = serde_json::to_vec(&patched.list) else { continue };
            let again = Documents::read(&json).expect("documents of documents");
            assert_eq!(again.list.len(), patched.list.len());
            again.print().expect("documents are printed");
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    [
        "kind: Link\nname: eth0\nmtu: 9000\naddresses: null\n",
        "kind: Hostname\n$patch: delete\n---\nkind: Link\nname: eth9\n$patch: replace\ndhcp4: true\n",
        r#"[{"op":"add","path":"/Sysctl/vm.swappiness","value":{"value":1}},{"op":"remove","path":"/Link/eth0/mtu"}]"#,
        r#"[{"op":"test","path":"/Hostname/hostname","value":"a"},{"op":"move","from":"/Link/eth0","path":"/Link/eth1"},{"op":"copy","from":"/Link","path":"/Link~1"},{"op":"replace","path":"","value":{"a":{"b":{}}}}]"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
