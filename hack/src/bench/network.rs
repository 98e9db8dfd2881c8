// SPDX-License-Identifier: Apache-2.0
//! How long much network takes: 500 links with 5,000 routes, from a configuration, against `ip -batch` with the same; each in
//! a network namespace of its own, from the start of the process to its end.

use super::{Figure, inside::IDENTITY};
use anyhow::{Context as _, Result, ensure};
use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};
use stele_config::yaml;

const LINKS: usize = 500;
/// Of each link.
const ROUTES: usize = 10;

/// Makes the network of this process's namespace what a configuration says.
pub fn converge(file: &Path) -> Result<()> {
    let text = fs::read(file).with_context(|| format!("Reading {}", file.display()))?;
    let config = match yaml::parse(&text) {
        Ok(config) => config,
        Err(findings) => anyhow::bail!("{}", findings.first().context("No finding")?),
    };
    let steps = stele_init::rig::converge(&config).context("Changing the network")?;
    ensure!(steps >= LINKS * (ROUTES + 2), "only {steps} steps");
    Ok(())
}

pub(super) fn measure(runs: usize) -> Result<Figure> {
    let folder = crate::scratch::folder("bench-network")?;
    let (ours, floor) = (folder.path().join("machine.yaml"), folder.path().join("batch"));
    let (mut documents, mut batch) = (IDENTITY.to_owned(), String::new());
    for link in 0..LINKS {
        // Both ends of cables that lead nowhere.
        let name = format!("v{link}");
        if link % 2 == 0 {
            let peer = link + 1;
            documents +=
                &format!("---\napiVersion: stele/v1\nkind: Veth\nname: {name}\npeer: v{peer}\n");
            batch += &format!("link add {name} type veth peer name v{peer}\n");
        }
        let (high, low) = (link / 250, link % 250);
        let address = format!("10.{high}.{low}.1/24");
        documents += &format!(
            "---\napiVersion: stele/v2\nkind: Link\nname: {name}\naddresses: [{address}]\nroutes:\n"
        );
        batch += &format!("address add {address} dev {name}\nlink set {name} up\n");
        for route in 0..ROUTES {
            let to = format!("172.{}.{low}.{route}/32", 16 + high);
            documents += &format!("- {{to: {to}}}\n");
            batch += &format!("route add {to} dev {name}\n");
        }
    }
    fs::write(&ours, documents)?;
    fs::write(&floor, batch)?;
    let (mut converged, mut batched) = (Vec::new(), Vec::new());
    let this = env::current_exe().context("Asking for the path of this program")?;
    for _ in 0..runs {
        converged.push(timed(
            Command::new("unshare").arg("--net").arg(&this).arg("converge").arg(&ours),
        )?);
        batched.push(timed(Command::new("unshare").args(["--net", "ip", "-batch"]).arg(&floor))?);
    }
    Ok(Figure::new(
        "500 links and 5,000 routes, against ip -batch",
        "ms",
        (converged, batched),
        "≤ 1.5 ×",
        |ours, floor| ours <= 1.5 * floor,
    ))
}

fn timed(command: &mut Command) -> Result<f64> {
    let started = Instant::now();
    let status = command.stdin(Stdio::null()).status().context("Running unshare")?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(started.elapsed().as_secs_f64() * 1000.0)
}
