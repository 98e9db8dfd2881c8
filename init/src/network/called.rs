// SPDX-License-Identifier: Apache-2.0
//! What others than the configuration call the machine: the kernel command line, or else the platform, kept in
//! `/state/hostname` so that a start needs no platform.

use super::{given, publish::tell};
use crate::{node::Node, state};
use std::{fs, path::PathBuf};
use stele_config::Hostname;
use stele_machine::network::names;

fn file() -> PathBuf {
    PathBuf::from(state::ROOT).join("hostname")
}

/// Takes up what the command line says, or an earlier start was told.
pub(super) fn restore(node: &Node) {
    let called = of_command_line(node).or_else(|| {
        let persistent = node.state.get().is_some_and(|state| state.persistent);
        let kept = if persistent { fs::read_to_string(file()).ok() } else { None };
        understood(&kept?, "the platform")
    });
    node.called.send_replace(called);
}

/// Takes the name that the platform has for the machine.
pub(crate) async fn take(node: &Node, name: &str) {
    let Some(name) = understood(name, "the platform") else { return };
    if node.state.get().is_some_and(|state| state.persistent) {
        let text = name.to_string();
        let written =
            tokio::task::spawn_blocking(move || state::write_anew(&file(), text.as_bytes()));
        if let Ok(Err(error)) = written.await {
            tracing::error!(error = %error, "keeping what the platform calls the machine failed");
        }
    }
    let called = of_command_line(node).or(Some(name));
    tell(&node.called, called);
}

/// Forgets what a platform has called another instance.
pub(crate) async fn forget(node: &Node) {
    if node.state.get().is_some_and(|state| state.persistent) {
        let removed = tokio::task::spawn_blocking(|| state::remove(&file())).await;
        if let Ok(Err(error)) = removed {
            tracing::error!(error = %error, "forgetting what the platform called the machine failed");
        }
    }
    node.called.send_replace(of_command_line(node));
}

fn of_command_line(node: &Node) -> Option<Hostname> {
    let name = given::command_line(node).hostname.as_deref()?;
    understood(name, "the kernel command line")
}

/// As much of a name as can be the machine's.
fn understood(given: &str, by: &'static str) -> Option<Hostname> {
    match names::called(given) {
        Ok(name) => {
            if !name.as_str().eq_ignore_ascii_case(given.trim().trim_end_matches('.')) {
                let name = name.as_str();
                tracing::warn!(by, given, name, "a name of the machine is cut to what can be one");
            }
            Some(name)
        }
        Err(error) => {
            let error = error.to_string();
            tracing::warn!(
                by,
                given,
                error,
                "a name of the machine is left out, as it can't be one"
            );
            None
        }
    }
}
