// SPDX-License-Identifier: Apache-2.0
//! What others than the configuration say of the network: the kernel command line, or else the platform, kept in
//! `/state/network.json` so that a start needs no platform.

use super::{
    arguments::{self, Read},
    kernel,
};
use crate::{configuration, node::Node, report, state};
use std::{collections::BTreeMap, fs, path::PathBuf, rc::Rc};
use stele_config::{NetworkDocuments, canonical};
use stele_kernel::net::{NetError, Netlink};
use stele_machine::network::given::{Given, Giver};

fn file() -> PathBuf {
    PathBuf::from(state::ROOT).join("network.json")
}

/// Takes up what the command line says, or an earlier start was given.
pub(super) fn restore(node: &Node) {
    let given = of_command_line().or_else(|| {
        let persistent = node.state.get().is_some_and(|state| state.persistent);
        let kept = if persistent { fs::read(file()).ok() } else { None };
        understood(&kept?, Giver::Platform)
    });
    node.given.send_replace(given.map(Rc::new));
}

/// Takes what a platform says of the network, as a JSON array of documents; an empty one says nothing.
pub(crate) async fn take(node: &Node, documents: Vec<u8>) {
    let Some(given) = understood(&documents, Giver::Platform) else { return };
    if given.documents == NetworkDocuments::default() {
        return;
    }
    if node.state.get().is_some_and(|state| state.persistent) {
        let written = tokio::task::spawn_blocking(move || state::write(&file(), &documents)).await;
        if let Ok(Err(error)) = written {
            tracing::error!(error = %error, "keeping what the platform says of the network failed");
        }
    }
    node.given.send_if_modified(|before| {
        if before.as_ref().is_some_and(|before| before.by == Giver::CommandLine) {
            tracing::warn!(
                "the network is as the kernel command line says, whatever the platform does"
            );
            return false;
        }
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
    node.given
        .send_if_modified(|before| before.take_if(|before| before.by == Giver::Platform).is_some());
}

fn of_command_line() -> Option<Given> {
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let physical = physical().unwrap_or_else(|error| {
        let error = report::chain(&error);
        tracing::warn!(error, "which links the command line can mean is not known");
        Vec::new()
    });
    let Read { documents, hostname: _, complaints } = arguments::read(&line, &physical);
    for complaint in complaints {
        tracing::error!(target: report::CONSOLE, "{complaint}");
    }
    if documents.is_empty() {
        return None;
    }
    understood(&serde_json::to_vec(&documents).unwrap_or_default(), Giver::CommandLine)
}

/// The links with a device behind them: all of those that are there from the start have been found by now.
fn physical() -> Result<Vec<String>, NetError> {
    let observed = kernel::observe(&mut Netlink::new(), &mut BTreeMap::new())?;
    let physical = observed.links.into_iter().filter(|link| link.physical);
    Ok(physical.map(|link| link.name).collect())
}

fn understood(bytes: &[u8], giver: Giver) -> Option<Given> {
    let by = match giver {
        Giver::Platform => "the platform",
        Giver::CommandLine => "the kernel command line",
    };
    match canonical::read_network(bytes) {
        Ok(documents) => {
            let links = documents.links().len();
            tracing::info!(by, links, "the network is described by others than the configuration");
            Some(Given { by: giver, documents })
        }
        Err(findings) => {
            let findings: Vec<_> = findings.iter().map(ToString::to_string).collect();
            let findings = findings.join("; ");
            tracing::error!(target: report::CONSOLE, by, findings, "a description of the network can't be followed");
            None
        }
    }
}
