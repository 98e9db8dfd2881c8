// SPDX-License-Identifier: Apache-2.0
//! MemTotal − MemAvailable a minute after the boot.

use super::{Figure, guest::Guest, guest::scratch};
use crate::{json, node::Node, vm::Vm};
use anyhow::{Context as _, Result};
use std::{thread, time::Duration};

const MINUTE: Duration = Duration::from_secs(60);

pub(super) fn measure(guest: &Guest, runs: usize) -> Result<Figure> {
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
    let mut ours = Vec::new();
    for node in nodes {
        let memory = node.ctl.json(["get", "memory"])?;
        let bytes = |name: &str| {
            json::number(&memory, name).with_context(|| format!("No {name} in {memory}"))
        };
        ours.push((bytes("total")? - bytes("available")?) / 1048576.0);
    }
    Ok(Figure::new(
        "memory in use after 60 s",
        "MiB",
        (ours, floor),
        "≤ 48 MiB over it",
        |ours, floor| ours <= floor + 48.0,
    ))
}
