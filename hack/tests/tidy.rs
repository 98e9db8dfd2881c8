// SPDX-License-Identifier: Apache-2.0
//! The walls between the rooms hold: what docs/architecture.md says of them is true of the tree.

#![forbid(unsafe_code)]

use hack::artefacts::top;
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Everything that is on a node.
const ON_A_NODE: [&str; 3] = ["stele-init", "stele-agents", "stele-apid"];

/// Crates that read what strangers wrote, or speak to them.
const YAML_TLS_HTTP: [&str; 14] = [
    "yaml_serde",
    "serde_yaml",
    "libyaml-rs",
    "rustls",
    "tokio-rustls",
    "aws-lc-rs",
    "rcgen",
    "x509-parser",
    "http",
    "hyper",
    "h2",
    "reqwest",
    "tonic",
    "tower",
];

/// The names of the crates that end up in `package`, without those that only build or test it.
fn linked_into(package: &str) -> BTreeSet<String> {
    let tree = cargo(&[
        "tree",
        "--locked",
        "-p",
        package,
        "-e",
        "normal,no-proc-macro",
        "--prefix",
        "none",
    ]);
    tree.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

fn cargo(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(args).current_dir(top()).output().unwrap();
    assert!(output.status.success(), "cargo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The packages of the workspace, as cargo describes them.
fn packages() -> Vec<Value> {
    let metadata: Value = serde_json::from_str(&cargo(&[
        "metadata",
        "--locked",
        "--no-deps",
        "--format-version",
        "1",
    ]))
    .unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// Every file of the tree that people write.
fn files() -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(top())
        .output()
        .unwrap();
    assert!(output.status.success(), "git ls-files");
    let names = String::from_utf8(output.stdout).unwrap();
    names
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(|name| top().join(name))
        .filter(|path| path.is_file())
        .collect()
}

fn is(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

#[test]
fn pid_1_reads_no_yaml_and_speaks_neither_tls_nor_http() {
    let linked = linked_into("stele-init");
    let strangers: Vec<&str> =
        YAML_TLS_HTTP.into_iter().filter(|name| linked.contains(*name)).collect();
    assert!(strangers.is_empty(), "stele-init links {strangers:?}");
}

#[test]
fn decisions_cannot_reach_the_kernel() {
    let linked = linked_into("stele-machine");
    for name in ["rustix", "nix", "libc", "tokio", "stele-kernel", "stele-proto"] {
        assert!(!linked.contains(name), "stele-machine links {name}");
    }
}

#[test]
fn the_kernel_room_knows_no_other_room() {
    let rooms: Vec<String> = linked_into("stele-kernel")
        .into_iter()
        .filter(|name| name.starts_with("stele-") && name != "stele-kernel")
        .collect();
    assert!(rooms.is_empty(), "stele-kernel links {rooms:?}");
}

#[test]
fn nothing_of_the_workshop_is_on_a_node() {
    for package in ON_A_NODE {
        let linked = linked_into(package);
        for name in ["image", "hack", "ctl", "stele-fuzz", "libfuzzer-sys", "anyhow", "clap"] {
            assert!(!linked.contains(name), "{package} links {name}");
        }
    }
}

#[test]
fn there_is_one_crypto_provider() {
    let linked = cargo(&["tree", "--locked", "--workspace", "-e", "normal", "--prefix", "none"]);
    let linked: BTreeSet<&str> =
        linked.lines().filter_map(|line| line.split_whitespace().next()).collect();
    for name in ["ring", "openssl-sys", "native-tls", "serde_yml", "libyml"] {
        assert!(!linked.contains(name), "something links {name}");
    }
}

#[test]
fn unsafe_code_is_forbidden_everywhere_but_in_the_kernel_room() {
    let mut open = Vec::new();
    for package in packages().into_iter().filter(|package| package["name"] != "stele-kernel") {
        for target in package["targets"].as_array().unwrap() {
            let root = target["src_path"].as_str().unwrap();
            let ours = target["kind"]
                .as_array()
                .unwrap()
                .iter()
                .any(|kind| kind == "lib" || kind == "bin");
            if ours && !fs::read_to_string(root).unwrap().contains("#![forbid(unsafe_code)]") {
                open.push(root.to_owned());
            }
        }
    }
    assert!(open.is_empty(), "these crate roots do not forbid unsafe code: {open:#?}");
}

#[test]
fn only_the_gate_the_metrics_agent_and_the_stub_listen() {
    for path in files().into_iter().filter(|path| is(path, "rs")) {
        let name = path.strip_prefix(top()).unwrap().to_string_lossy().into_owned();
        let on_a_node = name.starts_with("init/") && !name.contains("/tests");
        // The operator asks for it, and it holds no key of the machine.
        let metrics = name == "init/agents/src/metrics.rs";
        // On the loopback alone, for the machine's own programs.
        let stub = name.starts_with("init/agents/src/dns");
        if on_a_node && !metrics && !stub {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            assert!(!code.contains("TcpListener"), "{name} opens a TCP listener");
        }
    }
}

#[test]
fn every_file_names_its_licence() {
    for path in files() {
        let script = path.extension().is_none()
            && fs::read(&path).is_ok_and(|bytes| bytes.starts_with(b"#!"));
        if script
            || ["rs", "proto", "sh"].iter().any(|extension| is(&path, extension))
            || path.ends_with("Cargo.toml")
        {
            let text = fs::read_to_string(&path).unwrap();
            let named = text
                .lines()
                .take(3)
                .any(|line| line.contains("SPDX-License-Identifier: Apache-2.0"));
            assert!(named, "{} has no SPDX line", path.display());
        }
    }
}

#[test]
fn every_crate_of_the_workspace_is_a_room_of_the_plan() {
    let plan = fs::read_to_string(top().join("docs/architecture.md")).unwrap();
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        assert!(
            plan.contains(&format!("| `{name}` |")),
            "docs/architecture.md does not say what {name} is"
        );
    }
}
