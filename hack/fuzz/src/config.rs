// SPDX-License-Identifier: Apache-2.0
//! Configurations: YAML as the configure agent and `ctl` read it, and the canonical form as PID 1 does.
//!
//! What is accepted means the same in every form, and printing undoes reading.

use crate::Target;
use std::{fs, path::Path};
use stele_config::{MachineConfig, canonical, yaml};

/// Configurations.
pub const TARGET: Target = Target { name: "config", run, seeds };

/// An Identity whose certificates and key fit each other.
pub const IDENTITY: &str = include_str!("../seeds/identity.yaml");

fn run(bytes: &[u8]) {
    if let Ok(config) = canonical::read(bytes) {
        holds(&config);
    }
    read(bytes);
    // Most of what mutation makes of an Identity is none, and without one nothing is a configuration.
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.contains("kind: Identity")
    {
        read(format!("{IDENTITY}---\n{text}").as_bytes());
    }
}

fn read(bytes: &[u8]) {
    match yaml::parse(bytes) {
        Ok(config) => {
            holds(&config);
            let printed = yaml::print(&canonical::write(&config));
            assert_eq!(yaml::parse(printed.as_bytes()).as_ref(), Ok(&config), "{printed}");
        }
        Err(findings) => {
            assert!(!findings.is_empty(), "refused without a reason");
            serde_json::to_vec(&findings).expect("findings are written as JSON");
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
            for finding in findings {
                // A carriage return of its own ends a line in YAML as well.
                let returns = bytes.iter().filter(|byte| **byte == b'\r').count();
                assert!(finding.line as usize <= lines + returns, "{finding} of {lines} lines");
            }
        }
    }
}

fn holds(config: &MachineConfig) {
    let written = canonical::write(config);
    let again = canonical::read(&written).expect("the canonical form reads back");
    assert_eq!(&again, config);
    assert_eq!(canonical::write(&again), written);
    let redacted = canonical::redact(config);
    let key = serde_json::to_string(config.identity().key()).expect("text");
    assert!(
        !String::from_utf8_lossy(&redacted).contains(key.trim_matches('"')),
        "the key is told in the redacted form"
    );
}

/// The examples of all kinds but the Identity.
fn examples() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/config/examples");
    let mut examples: Vec<String> = fs::read_dir(folder)
        .expect("the examples")
        .map(|entry| fs::read_to_string(entry.expect("an example").path()).expect("an example"))
        .filter(|text| !text.contains("kind: Identity") && !text.contains('…'))
        .collect();
    examples.sort();
    examples
}

/// A configuration of all of them, in the canonical form.
pub(crate) fn everything() -> Vec<u8> {
    let all = format!("{IDENTITY}---\n{}", examples().join("---\n"));
    canonical::write(&yaml::parse(all.as_bytes()).expect("the examples are a configuration"))
}

/// The examples, each by itself and all in one; and a key behind whose line there is nothing.
fn seeds() -> Vec<Vec<u8>> {
    let all = [IDENTITY.as_bytes().to_vec(), everything(), b"\t? ".to_vec()];
    examples().into_iter().map(String::into_bytes).chain(all).collect()
}
