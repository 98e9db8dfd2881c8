// SPDX-License-Identifier: Apache-2.0
//! ctl as a user runs it, against nodes with real TLS.

mod arrive;
mod configuration;
mod diagnosis;
mod generate;
mod health;
mod look;
mod network;
mod support;
mod trust;
mod upgrade;

use bytes::Bytes;
use stele_proto::v1::{Mode, VersionResponse};
use support::{
    User,
    node::{Face, Node, Reply},
};

pub(crate) fn version(name: &str) -> VersionResponse {
    VersionResponse {
        version: "1.0.0".to_owned(),
        kernel: "6.12".to_owned(),
        architecture: "x86-64".to_owned(),
        hostname: name.to_owned(),
        boot_id: "first".to_owned(),
        mode: Mode::Running.into(),
        boot: 3,
        reason: String::new(),
    }
}

/// A user and a node that is theirs.
pub(crate) fn fleet(
    name: &str,
    answer: impl Fn(&str, Bytes) -> Reply + Send + Sync + 'static,
) -> (User, Node) {
    let (user, listener) = (User::new(), Node::bind());
    user.fleet(name, &listener.local_addr().unwrap().to_string());
    let node = Node::start(listener, &Face::of(&user.path(name), name), answer);
    (user, node)
}

pub(crate) fn unknown(path: &str) -> Reply {
    Reply::refused(12, &format!("no {path}"), Vec::new())
}
