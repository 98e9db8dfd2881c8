// SPDX-License-Identifier: Apache-2.0
//! How long a good upgrade takes the API away: from the last answer of one image to the first of the next.

use super::{
    Figure, boot,
    guest::{Guest, scratch},
};
use crate::{
    api::{self, Target},
    machine::Machine,
    node::{BOOT, Node},
    variants::NEXT,
};
use anyhow::{Context as _, Result, ensure};
use rustls::ClientConfig;
use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};
use stele_proto::v1::{VersionRequest, machine_service_client::MachineServiceClient};
use tokio::{task::JoinSet, time};

/// Between two attempts, and for one.
const EVERY: Duration = Duration::from_millis(25);
const ATTEMPT: Duration = Duration::from_secs(1);

pub(super) fn measure(guest: &Guest, runs: usize) -> Result<Figure> {
    let node = installed(guest)?;
    let images = [(guest.next.clone(), NEXT), (guest.image.uki()?, env!("CARGO_PKG_VERSION"))];
    let (mut gaps, mut floors) = (Vec::new(), Vec::new());
    for (image, version) in images.iter().cycle().take(runs) {
        let dir = scratch()?;
        floors.push(2.0 * boot::until_off(guest.floor_on_disk(dir.path())?)?);
        node.ctl.run(["upgrade", "--stage-only", "--image", &image.to_string_lossy()])?;
        gaps.push(gap(&node, &format!("stele_{version}.efi"))?);
        settle(&node)?;
    }
    let measured = (gaps, floors);
    Ok(Figure::new(
        "API gap of an upgrade, two boots",
        "s",
        measured,
        "≤ 1.5 ×",
        |ours, floor| ours <= 1.5 * floor,
    ))
}

fn installed(guest: &Guest) -> Result<Node> {
    let scratch = scratch()?;
    let machine = Machine::installed(&guest.image, scratch.path(), 4)?;
    let node = Node::start(&guest.operator, "bench-upgrade", machine, scratch)?;
    // Back and forth takes steps below the floor.
    let mut text = fs::read_to_string(&node.files.machine)?;
    text.push_str("---\napiVersion: stele/v1\nkind: UpgradePolicy\noldest: 0.0.1\n");
    fs::write(&node.files.machine, text)?;
    node.apply()?;
    node.wait_until_it_answers()?;
    Ok(node)
}

/// Waits until the image has proved itself.
fn settle(node: &Node) -> Result<()> {
    node.wait_until("nothing is on trial any more", BOOT, || {
        Ok(node.ctl.json(["get", "gate"]).is_ok_and(|gate| {
            crate::json::text(&gate["status"], "state")
                .or_else(|| crate::json::text(&gate, "state"))
                .is_some_and(|state| state == "passed" || state == "none")
        }))
    })
}

/// Moves to a staged image; seconds from the last answer of this boot to the first of the next.
fn gap(node: &Node, slot: &str) -> Result<f64> {
    let credentials = node.credentials()?;
    let tls = api::tls(&credentials.ca, Some(&credentials))?;
    let target = node.target()?;
    let before = node.boot_id()?;
    let upgrade = node.ctl.follow(["upgrade", "--no-wait", "--slot", slot])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let gap = runtime.block_on(async {
        let mut attempts = JoinSet::new();
        let mut tick = time::interval(EVERY);
        let deadline = Instant::now() + BOOT;
        let mut last = Instant::now();
        while Instant::now() < deadline {
            tokio::select! {
                _ = tick.tick() => {
                    let (target, tls) = (target.clone(), Arc::clone(&tls));
                    attempts.spawn(time::timeout(ATTEMPT, async move { ask(&target, tls).await }));
                }
                Some(Ok(Ok(Ok(boot)))) = attempts.join_next() => {
                    if boot != before {
                        return Ok(last.elapsed().as_secs_f64());
                    }
                    last = Instant::now();
                }
            }
        }
        anyhow::bail!("No answer of another boot within {BOOT:?}")
    })?;
    let said = upgrade.text();
    ensure!(upgrade.wait().context("ctl upgrade")?, "ctl upgrade: {said}");
    Ok(gap)
}

/// The boot that answers.
async fn ask(target: &Target, tls: Arc<ClientConfig>) -> Result<String> {
    let channel = api::connect(target, tls, ATTEMPT).await?;
    let version = MachineServiceClient::new(channel).version(VersionRequest {}).await?;
    Ok(version.into_inner().boot_id)
}
