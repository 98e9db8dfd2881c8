// SPDX-License-Identifier: Apache-2.0
//! MemTotal − MemAvailable a minute after the boot.

use super::{Figure, guest::Guest, guest::scratch};
use crate::{json, node::Node, vm::Vm};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::{thread, time::Duration};

const MINUTE: Duration = Duration::from_secs(60);

pub(super) fn measure(guest: &Guest, runs: usize) -> Result<Vec<Figure>> {
    // Idle machines do not disturb each other: all floors at once, then all nodes.
    let floors: Result<Vec<Vm>> = (0..runs)
        .map(|_| Vm::start_in(guest.floor()?.append("floor=memory"), scratch()?))
        .collect();
    let mut floor = Vec::new();
    for vm in floors? {
        vm.wait_until_off(3 * MINUTE)?;
        let line = vm.console().text();
        let kib = line
            .lines()
            .find_map(|line| line.split_once("floor: memory "))
            .context("The floor says nothing")?
            .1;
        floor.push(kib.trim().parse::<f64>()? / 1024.0);
    }
    let nodes: Result<Vec<Node>> =
        (0..runs).map(|run| guest.live(&guest.image, &format!("memory-{run}"), |_| ())).collect();
    let nodes = nodes?;
    // What is asked for is the state at a time, so this waits for nothing else.
    thread::sleep(MINUTE);
    let (mut ours, mut agents) = (Vec::new(), Vec::new());
    for node in nodes {
        let memory = node.ctl.json(["get", "memory"])?;
        let bytes = |name: &str| {
            json::number(&memory, name).with_context(|| format!("No {name} in {memory}"))
        };
        ours.push((bytes("total")? - bytes("available")?) / 1048576.0);
        agents.push(of_agents(&node.ctl.json(["cgroups"])?)? / 1048576.0);
    }
    let in_all = Figure::new(
        "of it the agents, by their control groups",
        "MiB",
        (agents, floor.clone()),
        "≤ 12 MiB",
        |agents, _| agents <= 12.0,
    );
    let used = Figure::new(
        "memory in use after 60 s",
        "MiB",
        (ours, floor),
        "≤ 48 MiB over it",
        |ours, floor| ours <= floor + 48.0,
    );
    Ok(vec![used, in_all])
}

/// What all services but the API have in memory: their own, and what the kernel and the page cache hold on their behalf. The
/// agent that looks at it for us is none of them.
fn of_agents(cgroups: &Value) -> Result<f64> {
    let groups = cgroups.as_array().with_context(|| format!("No groups in {cgroups}"))?;
    let agents = groups.iter().filter(|group| {
        let path = json::text(group, "path").unwrap_or_default();
        let name = path.strip_prefix("/stele/").filter(|name| !name.contains('/'));
        name.is_some_and(|name| name != "apid" && !name.starts_with("diagnose-"))
    });
    let bytes = agents.filter_map(|group| json::number(group, "memory"));
    let (count, sum) = bytes.fold((0, 0.0), |(count, sum), bytes| (count + 1, sum + bytes));
    ensure!(count > 0, "There are no agents in {cgroups}");
    Ok(sum)
}
