// SPDX-License-Identifier: Apache-2.0
//! What needs no machine: the store of PID 1 and the reader of configurations, in this process.

use super::Figure;
use anyhow::{Context as _, Result, ensure};
use serde::Deserialize as _;
use std::{fs, time::Instant};
use stele_config::{MAX_BYTES, yaml};
use stele_init::rig::Rig;

/// Resources that are put into the store for one measurement.
const RESOURCES: usize = 50_000;
/// An Identity whose certificates and key fit each other.
pub(super) const IDENTITY: &str = include_str!("../../fuzz/seeds/identity.yaml");

/// KiB of memory for 1,000 resources, against their statuses as text.
pub(super) fn store(runs: usize) -> Result<Figure> {
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let rig = Rig::new().context("Making a node")?;
        // What the first ones cost alone is not theirs.
        rig.fill(1);
        let before = resident()?;
        let text = rig.fill(RESOURCES);
        let thousands = RESOURCES as f64 / 1000.0;
        ours.push((resident()? - before) / 1024.0 / thousands);
        floor.push(text as f64 / 1024.0 / thousands);
        // The next one shall not find its memory there already.
        std::mem::forget(rig);
    }
    Ok(Figure::new(
        "store, 1,000 resources, against JSON",
        "KiB",
        (ours, floor),
        "≤ 2048",
        |ours, _| ours <= 2048.0,
    ))
}

/// Bytes of memory that this process has: proc_pid_statm(5).
fn resident() -> Result<f64> {
    let text = fs::read_to_string("/proc/self/statm").context("Reading /proc/self/statm")?;
    let pages: f64 = text.split(' ').nth(1).context("statm has no second field")?.parse()?;
    Ok(pages * rustix::param::page_size() as f64)
}

/// MiB of configuration a second, read and judged whole, against YAML that is read and not looked at.
pub(super) fn parser(runs: usize) -> Result<Figure> {
    let text = large();
    let size = text.len() as f64 / 1048576.0;
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let started = Instant::now();
        let read = yaml::parse(text.as_bytes());
        ours.push(size / started.elapsed().as_secs_f64());
        if let Err(findings) = read {
            ensure!(findings.is_empty(), "{}", findings.first().context("No finding")?);
        }
        let started = Instant::now();
        for document in serde_yaml::Deserializer::from_str(&text) {
            serde_yaml::Value::deserialize(document).context("Reading YAML")?;
        }
        floor.push(size / started.elapsed().as_secs_f64());
    }
    Ok(Figure::new(
        "configuration of 1 MiB, against YAML alone",
        "MiB/s",
        (ours, floor),
        "≥ 0.5 ×",
        |ours, floor| ours >= 0.5 * floor,
    ))
}

/// A good configuration that is as large as one may be.
fn large() -> String {
    let mut text = IDENTITY.to_owned();
    for number in 0.. {
        let addresses: Vec<String> =
            (0..32).map(|host| format!("10.{}.{}.{host}/24", number / 256, number % 256)).collect();
        let link = format!(
            "---\napiVersion: stele/v1\nkind: Link\nname: link{number}\nmtu: 1500\naddresses: [{}]\n# {}\n",
            addresses.join(", "),
            "What it is for. ".repeat(40)
        );
        if text.len() + link.len() > MAX_BYTES {
            break;
        }
        text.push_str(&link);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_large_configuration_is_large_and_good() {
        let text = large();
        assert!(text.len() > MAX_BYTES - 2048, "{} bytes", text.len());
        assert_eq!(yaml::parse(text.as_bytes()).err().unwrap_or_default(), []);
    }
}
