// SPDX-License-Identifier: Apache-2.0
//! Power on to an address, and to the first authenticated answer.

use super::{
    Figure,
    guest::{Guest, scratch},
    reach,
};
use crate::{
    api::{self, Credentials, Target},
    machine::{Forward, Machine, free_port},
    node::{BOOT, Node},
    vm::Vm,
};
use anyhow::{Context as _, Result};
use rustls::ClientConfig;
use serde_json::json;
use std::{fs, sync::Arc, time::Instant};

/// What the network of these machines would say by DHCP.
const FIXED: &str = "---
apiVersion: stele/v1
kind: Link
name: eth0
addresses: [10.0.2.15/24]
routes: [{to: 0.0.0.0/0, via: 10.0.2.2}]
";

pub(super) fn measure(guest: &Guest, runs: usize) -> Result<Vec<Figure>> {
    let (mut direct, mut floor) = (Vec::new(), Vec::new());
    let (mut leased, mut fixed, mut fixed_answer) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        floor.push(until_off(guest.floor()?)?);
        for (more, addresses, answers) in
            [("", &mut leased, &mut direct), (FIXED, &mut fixed, &mut fixed_answer)]
        {
            let (address, answer) = Live::new(guest, more)?.measure()?;
            addresses.push(address);
            answers.push(answer);
        }
    }
    let (mut disk, mut disk_floor) = (Vec::new(), Vec::new());
    let mut node = installed(guest)?;
    let credentials = node.credentials()?;
    let closed = free_port()?;
    let forward = format!("hostfwd_add net0 tcp:127.0.0.1:{closed}-:{}", reach::CLOSED);
    for _ in 0..runs {
        let dir = scratch()?;
        disk_floor.push(until_off(guest.floor_on_disk(dir.path())?)?);
        node.ctl.run(["shutdown"])?;
        node.vm.wait_until_off(BOOT)?;
        let target = node.target()?;
        let tls = api::tls(&credentials.ca, Some(&credentials))?;
        let power_on = || {
            node.vm.power_on()?;
            node.vm.qmp("human-monitor-command", json!({ "command-line": forward })).map(drop)
        };
        disk.push(from(power_on, async |started| {
            reach::first(reach::AT_ADDRESS, || reach::address(closed)).await?;
            answer(&target, tls, started).await
        })?);
    }
    let figure = |name: &str, ours, floor, goal, times: f64| {
        Figure::new(name, "s", (ours, floor), goal, move |ours, floor| ours <= times * floor)
    };
    Ok(vec![
        figure("boot, kernel loaded directly", direct, floor.clone(), "≤ 1.6 ×", 1.6),
        figure("the same, with a fixed address", fixed_answer, floor.clone(), "≤ 1.6 ×", 1.6),
        figure("the same, to an address by DHCP", leased, floor.clone(), "≤ 1.6 ×", 1.6),
        figure("the same, to a fixed address", fixed, floor, "≤ 1.6 ×", 1.6),
        figure("boot, from disk", disk, disk_floor, "≤ 1.4 ×", 1.4),
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

/// A machine without a disk that is configured, and what it takes to ask it.
struct Live {
    machine: Machine,
    target: Target,
    credentials: Credentials,
    /// Leads to a port where nobody listens.
    closed: u16,
}

impl Live {
    /// With what else its configuration has.
    fn new(guest: &Guest, more: &str) -> Result<Self> {
        let mut machine = Machine::live(&guest.image)?;
        let address = format!("127.0.0.1:{}", machine.api_port().context("No network")?);
        let closed = free_port()?;
        let network = machine.networks.first_mut().context("No network")?;
        network.push(Forward { host: closed, guest: reach::CLOSED });
        let files = guest.operator.files("bench", &address)?;
        let mut text = fs::read_to_string(&files.machine)?;
        text += more;
        fs::write(&files.machine, text)?;
        let credentials = Credentials::read(&files.client)?;
        let target = Target { address, name: "bench".into() };
        Ok(Self {
            machine: machine.configured_by_fw_cfg(&files.machine),
            target,
            credentials,
            closed,
        })
    }

    /// Seconds from power on to the address, and to an answer.
    fn measure(self) -> Result<(f64, f64)> {
        let Self { machine, target, credentials, closed } = self;
        let scratch = scratch()?;
        let mut vm = None;
        let power_on = || {
            vm = Some(Vm::start(machine, scratch.path())?);
            Ok(())
        };
        let tls = api::tls(&credentials.ca, Some(&credentials))?;
        // One after the other: attempts at both at once leave an emulated machine no time to answer either.
        let measured = from(power_on, async |started| {
            reach::first(reach::AT_ADDRESS, || reach::address(closed)).await?;
            let address = started.elapsed().as_secs_f64();
            Ok((address, answer(&target, tls, started).await?))
        });
        drop(vm);
        measured
    }
}

/// Seconds to the first answer to an authenticated call.
async fn answer(target: &Target, tls: Arc<ClientConfig>, started: Instant) -> Result<f64> {
    reach::first(reach::AT_API, || reach::api(target.clone(), Arc::clone(&tls))).await?;
    Ok(started.elapsed().as_secs_f64())
}

/// What is measured from `power_on` on.
fn from<T>(
    power_on: impl FnOnce() -> Result<()>,
    measure: impl AsyncFnOnce(Instant) -> Result<T>,
) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let started = Instant::now();
    power_on()?;
    runtime.block_on(measure(started))
}

fn installed(guest: &Guest) -> Result<Node> {
    let scratch = scratch()?;
    let machine = Machine::installed(&guest.image, scratch.path(), 4)?;
    let node = Node::start(&guest.operator, "bench-disk", machine, scratch)?;
    node.apply()?;
    node.wait_until_it_answers()?;
    Ok(node)
}
