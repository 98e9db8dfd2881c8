// SPDX-License-Identifier: Apache-2.0
//! What PID 1 has open, for all to see: above all that no IP socket is among it.

use crate::{node::Node, store::Kind};
use serde::Serialize;
use std::{collections::BTreeMap, fs};

/// What `ctl get descriptor` shows.
#[derive(Serialize)]
struct Status {
    kind: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    family: &'static str,
    target: String,
}

/// Looks, now.
pub(crate) fn refresh(node: &Node) {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        let number = entry.file_name().to_string_lossy().into_owned();
        let (kind, family) = match target.split(':').next() {
            Some("socket") => ("socket", family(&target)),
            Some("pipe") => ("pipe", ""),
            Some("anon_inode") => ("anonymous", ""),
            _ => ("file", ""),
        };
        all.insert(number, Status { kind, family, target });
    }
    node.store.replace(Kind::Descriptor, &all);
}

/// The family of a socket, by the tables in which the kernel lists each: proc_pid_net(5).
fn family(target: &str) -> &'static str {
    let inode = target.trim_start_matches("socket:[").trim_end_matches(']');
    let tables = [
        ("unix", "unix"),
        ("netlink", "netlink"),
        ("packet", "packet"),
        ("tcp", "inet"),
        ("tcp6", "inet6"),
        ("udp", "inet"),
        ("udp6", "inet6"),
        ("raw", "inet"),
        ("raw6", "inet6"),
    ];
    for (table, family) in tables {
        let text = fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        if text.lines().skip(1).any(|line| line.split_whitespace().any(|word| word == inode)) {
            return family;
        }
    }
    "unknown"
}
