// SPDX-License-Identifier: Apache-2.0
//! What the machine does with its slots on its own: at the start of a boot, and when an image has proved itself or can't.

use super::{change, esp::Esp, esp_partition, invalid, refuse, schedule, staging::admit};
use crate::{api::Refusal, node::Node, one_shot, report};
use serde::Deserialize;
use std::{rc::Rc, time::Duration};
use stele_kernel::process::Exit;
use stele_layout::{slot::SlotId, version::Version};
use stele_machine::slots::{self, Effect, Observed, Slot};

/// How long looking at an image may take.
const LOOKING: Duration = Duration::from_secs(60);
/// What it is called to prepare a start with kernel arguments.
const STARTING: &str = "preparing a start with kernel arguments";
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
    schedule::resume(node);
    seen
}

/// Puts an image under a boot counter: the next boot tries it.
pub(super) async fn activate(node: &Rc<Node>, slot: &str) -> Result<(), Refusal> {
    let esp = Esp::open(node, "an upgrade").await?;
    let activated = async {
        let (effects, version) = decide(node, &esp, slot).await?;
        // What it will be measured against is kept before the loader may start it.
        let kept = node.images.begin_trial(node, &version).await;
        kept.map_err(|error| Refusal::internal(&error))?;
        esp.apply(effects).await?;
        Ok(())
    };
    let activated = activated.await;
    esp.close().await;
    if activated.is_ok() {
        // Whatever was to happen later has happened now, or is overtaken.
        schedule::forget(node).await?;
    }
    activated
}

/// Whether an image could be activated as things stand; changes nothing.
pub(super) async fn could_activate(node: &Rc<Node>, slot: &str) -> Result<(), Refusal> {
    let esp = Esp::look(node, "an upgrade").await?;
    let decided = decide(node, &esp, slot).await.map(drop);
    esp.close().await;
    decided
}

async fn decide(node: &Rc<Node>, esp: &Esp, slot: &str) -> Result<(Vec<Effect>, Version), Refusal> {
    let (observed, _) = esp.observe().await?;
    let effects = slots::activate(slot, &observed).map_err(refuse)?;
    let version = SlotId::parse(slot).and_then(|slot| slot.version());
    let version = version.ok_or_else(|| invalid(&format!("{slot} is not the name of a slot")))?;
    admit(node, &version, None)?;
    Ok((effects, version))
}

/// Has the loader make the next start of the running image with this command line.
pub(crate) async fn start_once(node: &Rc<Node>, options: &str) -> Result<(), String> {
    let started = change(node, STARTING, |observed| slots::start_once(options, observed));
    started.await.map(drop)
}

/// The same if the loader would start the running image anyway; says whether it would.
pub(crate) async fn start_once_if_same(node: &Rc<Node>, options: &str) -> Result<bool, String> {
    let effects = change(node, STARTING, |observed| {
        if slots::stays(observed) { slots::start_once(options, observed) } else { Ok(Vec::new()) }
    });
    effects.await.map(|effects| !effects.is_empty())
}

/// Takes the boot counter from an image that the next reboot was to try. Returns its slot, if there was one.
pub(super) async fn withdraw(node: &Rc<Node>) -> Result<Option<String>, Refusal> {
    let esp = Esp::look(node, "taking an upgrade back").await?;
    let withdrawn = async {
        let (observed, _) = esp.observe().await?;
        let Some((id, effects)) = slots::withdraw(&observed) else { return Ok(None) };
        esp.apply(effects).await?;
        Ok(Some(id.to_string()))
    };
    let withdrawn = withdrawn.await;
    esp.close().await;
    withdrawn
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
    let arguments = [path.to_string_lossy().into_owned()];
    let output = one_shot::run(node, "examine", &arguments, &[], LARGEST_ANSWER, LOOKING).await;
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
