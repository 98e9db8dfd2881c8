// SPDX-License-Identifier: Apache-2.0
//! What others than the configuration say of the network: the platform, kept in `/state/network.json` so that a start needs
//! no platform, or else the kernel command line.

use super::arguments::{self, Read};
use crate::{configuration, node::Node, report, state};
use std::{fs, path::PathBuf, rc::Rc};
use stele_config::{NetworkDocuments, canonical};

fn file() -> PathBuf {
    PathBuf::from(state::ROOT).join("network.json")
}

/// Takes up what an earlier start was given, or the command line says.
pub(super) fn restore(node: &Node) {
    let persistent = node.state.get().is_some_and(|state| state.persistent);
    let kept = if persistent { fs::read(file()).ok() } else { None };
    let kept = kept.and_then(|bytes| understood(&bytes, "the platform"));
    if let Some(documents) = kept.or_else(of_command_line) {
        node.given.send_replace(Some(Rc::new(documents)));
    }
}

/// Takes what a platform says of the network, as a JSON array of documents; an empty one says nothing.
pub(crate) async fn take(node: &Node, documents: Vec<u8>) {
    let Some(given) = understood(&documents, "the platform") else { return };
    if given == NetworkDocuments::default() {
        return;
    }
    if node.state.get().is_some_and(|state| state.persistent) {
        let written = tokio::task::spawn_blocking(move || state::write(&file(), &documents)).await;
        if let Ok(Err(error)) = written {
            tracing::error!(error = %error, "keeping what the platform says of the network failed");
        }
    }
    node.given.send_if_modified(|before| {
        let new = before.as_deref() != Some(&given);
        *before = Some(Rc::new(given));
        new
    });
}

/// The same of a file of the platform's, in a form that the configure agent reads.
pub(crate) async fn take_file(node: &Node, form: &str, bytes: &[u8]) {
    match configuration::understand_network(node, form, bytes).await {
        Ok(documents) => take(node, documents).await,
        Err(error) => {
            let error = report::chain(&error);
            tracing::error!(error, "what the platform says of the network can't be read");
        }
    }
}

/// Forgets what a platform has said of the network of another instance.
pub(crate) async fn forget(node: &Node) {
    if node.state.get().is_some_and(|state| state.persistent) {
        let removed = tokio::task::spawn_blocking(|| state::remove(&file())).await;
        if let Ok(Err(error)) = removed {
            tracing::error!(error = %error, "forgetting what the platform said of the network failed");
        }
    }
    node.given.send_replace(of_command_line().map(Rc::new));
}

fn of_command_line() -> Option<NetworkDocuments> {
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let Read { documents, complaints } = arguments::read(&line);
    for complaint in complaints {
        tracing::error!(target: report::CONSOLE, "{complaint}");
    }
    if documents.is_empty() {
        return None;
    }
    understood(&serde_json::to_vec(&documents).unwrap_or_default(), "the kernel command line")
}

fn understood(bytes: &[u8], by: &'static str) -> Option<NetworkDocuments> {
    match canonical::read_network(bytes) {
        Ok(documents) => {
            let links = documents.links().len();
            tracing::info!(by, links, "the network is described by others than the configuration");
            Some(documents)
        }
        Err(findings) => {
            let findings: Vec<_> = findings.iter().map(ToString::to_string).collect();
            let findings = findings.join("; ");
            tracing::error!(target: report::CONSOLE, by, findings, "a description of the network can't be followed");
            None
        }
    }
}
