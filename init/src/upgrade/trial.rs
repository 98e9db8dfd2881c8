// SPDX-License-Identifier: Apache-2.0
//! What the machine does with its slots on its own: at the start of a boot, and when an image has proved itself or can't.

use super::{change, esp::Esp, esp_partition};
use crate::{node::Node, one_shot, report};
use serde::Deserialize;
use std::{rc::Rc, time::Duration};
use stele_kernel::process::Exit;
use stele_machine::slots::{self, Effect, Observed, Slot};

/// How long looking at an image may take.
const LOOKING: Duration = Duration::from_secs(60);
const LARGEST_ANSWER: usize = 64 * 1024;

/// Removes what an upgrade that was cut off left behind, publishes the slots, and takes up an upgrade that waits for its
/// time. Returns what is on the ESP, where there is one.
pub(crate) async fn settle(node: &Rc<Node>) -> Option<Observed> {
    esp_partition()?;
    let mut seen = None;
    let looked = change(node, "looking at the slots", |observed| {
        seen = Some(observed.clone());
        Ok(slots::clean(observed))
    });
    // What could not be cleaned has been said.
    let _said = looked.await;
    seen
}

/// Makes the running image permanent: it has proved itself.
pub(crate) async fn bless(node: &Rc<Node>) -> Result<(), String> {
    if esp_partition().is_none() {
        return Ok(());
    }
    let blessed = change(node, "making the running image permanent", slots::bless).await?;
    if blessed.iter().any(|effect| matches!(effect, Effect::Rename { .. })) {
        let version = &node.release.version;
        tracing::info!(target: report::CONSOLE, version, "this image is permanent now");
    }
    Ok(())
}

/// Takes an image that can't be started out of the loader's way.
pub(crate) async fn condemn(node: &Rc<Node>, slot: &Slot) {
    let decide = |observed: &Observed| Ok(slots::condemn(&slot.id, observed));
    let _said = change(node, "putting a broken image aside", decide).await;
}

/// The answer of `stage examine`; see docs/architecture.md.
#[derive(Debug, Default, Deserialize)]
struct Answer {
    error: Option<String>,
}

/// Says whether an image could be started at all, or why not; nothing is known when looking fails.
pub(crate) async fn examine(node: &Rc<Node>, slot: &Slot) -> Result<(), String> {
    let esp = match Esp::look(node, "looking at an image").await {
        Ok(esp) => esp,
        Err(refusal) => {
            tracing::warn!(error = refusal.message, "looking at an image failed");
            return Ok(());
        }
    };
    let path = Esp::directory().join(slot.file.to_string());
    let arguments =
        ["examine".to_owned(), "--file".to_owned(), path.to_string_lossy().into_owned()];
    let output = one_shot::run(node, "stage", &arguments, &[], LARGEST_ANSWER, LOOKING).await;
    esp.close().await;
    let fault = match output {
        Ok(output) if matches!(output.exit, Exit::Code(0 | 2)) => {
            serde_json::from_slice(&output.stdout)
                .map(|Answer { error }| error)
                .map_err(|error| error.to_string())
        }
        Ok(output) => Err(format!("the stage agent {}: {}", output.exit, output.complaint)),
        Err(error) => Err(report::chain(&error)),
    };
    match fault {
        Ok(None) => Ok(()),
        Ok(Some(fault)) => Err(fault),
        Err(reason) => {
            tracing::warn!(reason, "looking at an image failed");
            Ok(())
        }
    }
}
