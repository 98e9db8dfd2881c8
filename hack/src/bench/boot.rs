// SPDX-License-Identifier: Apache-2.0
//! Power on to the first authenticated answer.

use super::{
    Figure,
    guest::{Guest, scratch},
};
use crate::{
    api::{self, Credentials, Target},
    machine::Machine,
    node::{BOOT, Node},
    vm::Vm,
};
use anyhow::{Context as _, Result};
use rustls::ClientConfig;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use stele_proto::v1::{VersionRequest, machine_service_client::MachineServiceClient};
use tokio::{task::JoinSet, time};

/// Between two attempts, and for one.
const EVERY: Duration = Duration::from_millis(25);
const ATTEMPT: Duration = Duration::from_secs(1);

pub(super) fn measure(guest: &Guest, runs: usize) -> Result<Vec<Figure>> {
    let (mut direct, mut direct_floor) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        direct_floor.push(until_off(guest.floor()?)?);
        direct.push(from_power_on(guest)?);
    }
    let (mut disk, mut disk_floor) = (Vec::new(), Vec::new());
    let mut node = installed(guest)?;
    let credentials = node.credentials()?;
    for _ in 0..runs {
        let dir = scratch()?;
        disk_floor.push(until_off(guest.floor_on_disk(dir.path())?)?);
        node.ctl.run(["shutdown"])?;
        node.vm.wait_until_off(BOOT)?;
        let target = node.target()?;
        disk.push(first_answer(&target, &credentials, || node.vm.power_on())?);
    }
    let within = |times: f64| move |ours: f64, floor: f64| ours <= times * floor;
    Ok(vec![
        Figure::new(
            "boot, kernel loaded directly",
            "s",
            (direct, direct_floor),
            "≤ 1.6 ×",
            within(1.6),
        ),
        Figure::new("boot, from disk", "s", (disk, disk_floor), "≤ 1.4 ×", within(1.4)),
    ])
}

/// How long a machine takes that powers off at once.
pub(super) fn until_off(machine: Machine) -> Result<f64> {
    let scratch = scratch()?;
    let started = Instant::now();
    let vm = Vm::start(machine, scratch.path())?;
    vm.wait_until_off(BOOT)?;
    Ok(started.elapsed().as_secs_f64())
}

fn from_power_on(guest: &Guest) -> Result<f64> {
    let machine = Machine::live(&guest.image)?;
    let address = format!("127.0.0.1:{}", machine.api_port().context("No network")?);
    let files = guest.operator.files("bench", &address)?;
    let credentials = Credentials::read(&files.client)?;
    let target = Target { address, name: "bench".into() };
    let machine = machine.configured_by_fw_cfg(&files.machine);
    let scratch = scratch()?;
    let mut vm = None;
    let seconds = first_answer(&target, &credentials, || {
        vm = Some(Vm::start(machine, scratch.path())?);
        Ok(())
    });
    drop(vm);
    seconds
}

fn installed(guest: &Guest) -> Result<Node> {
    let scratch = scratch()?;
    let machine = Machine::installed(&guest.image, scratch.path(), 4)?;
    let node = Node::start(&guest.operator, "bench-disk", machine, scratch)?;
    node.apply()?;
    node.wait_until_it_answers()?;
    Ok(node)
}

/// Seconds from `power_on` to the first answer to an authenticated call.
///
/// A connection that was made before the guest has its address is lost until TCP sends again, seconds later. So a new
/// attempt begins every few milliseconds, whatever has become of the ones before.
fn first_answer(
    target: &Target,
    credentials: &Credentials,
    power_on: impl FnOnce() -> Result<()>,
) -> Result<f64> {
    let tls = api::tls(&credentials.ca, Some(credentials))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let started = Instant::now();
    power_on()?;
    runtime.block_on(async {
        let mut attempts = JoinSet::new();
        let mut tick = time::interval(EVERY);
        let deadline = time::Instant::now() + BOOT;
        while time::Instant::now() < deadline {
            tokio::select! {
                _ = tick.tick() => {
                    let (target, tls) = (target.clone(), Arc::clone(&tls));
                    attempts.spawn(time::timeout(ATTEMPT, async move { ask(&target, tls).await }));
                }
                Some(Ok(Ok(Ok(())))) = attempts.join_next() => return Ok(started.elapsed().as_secs_f64()),
            }
        }
        anyhow::bail!("No answer within {BOOT:?}")
    })
}

async fn ask(target: &Target, tls: Arc<ClientConfig>) -> Result<()> {
    let channel = api::connect(target, tls, ATTEMPT).await?;
    MachineServiceClient::new(channel).version(VersionRequest {}).await?;
    Ok(())
}
