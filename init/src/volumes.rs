// SPDX-License-Identifier: Apache-2.0
//! The machine's file systems: found or made by the disk agent, mounted here, and watched for room.

use crate::{node::Node, one_shot, report, store::Kind};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs, io, path::Path, rc::Rc, time::Duration};
use stele_kernel::{
    modules,
    mount::{self, Forbid},
    process::Exit,
};

/// How long preparing the disk may take: a large one may need a check of its file systems.
const DEADLINE: Duration = Duration::from_secs(780);
const LARGEST_ANSWER: usize = 64 * 1024;
/// How often the room that is left is looked at.
const WATCH_EVERY: Duration = Duration::from_secs(30);
/// Less than a twentieth free is worth a warning.
const LOW: u64 = 20;

/// The disk agent's answer; see docs/architecture.md.
#[derive(Debug, Default, Deserialize)]
struct Prepared {
    #[serde(default)]
    esp: Option<String>,
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    data: Option<String>,
    #[serde(default)]
    notes: Vec<String>,
}

/// A volume that is mounted.
#[derive(Debug)]
pub(crate) struct Volume {
    target: &'static str,
    state: &'static str,
    device: String,
    reason: String,
}

/// What `ctl get volume` shows.
#[derive(Serialize)]
struct Status<'a> {
    state: &'static str,
    device: &'a str,
    size: u64,
    free: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
}

impl Volume {
    /// Whether less than a twentieth is free.
    fn is_low(usage: mount::Usage) -> bool {
        usage.free < usage.size / LOW
    }

    /// Publishes it with the room that is left now, which is returned.
    fn publish(&self, node: &Node, name: &str) -> io::Result<mount::Usage> {
        let usage = mount::usage(Path::new(self.target))?;
        let full = format!("almost full: {} of {} bytes are free", usage.free, usage.size);
        let (state, reason) =
            if Volume::is_low(usage) { ("full", &full) } else { (self.state, &self.reason) };
        node.store.put(
            Kind::Volume,
            name,
            &Status { state, device: &self.device, size: usage.size, free: usage.free, reason },
        );
        Ok(usage)
    }
}

/// Mounts `/state` and `/var`: from the disk where there is one, else in memory. Returns whether `/state` and `/var`
/// outlive a restart.
pub(crate) async fn mount_all(node: &Node, esp: Option<&str>) -> (bool, bool) {
    let arguments: Vec<String> = match esp {
        Some(partition) => vec!["prepare".to_owned(), "--esp".to_owned(), partition.to_owned()],
        None => vec!["find".to_owned()],
    };
    let mut reason = String::new();
    let prepared =
        match one_shot::run(node, "disk", &arguments, &[], LARGEST_ANSWER, DEADLINE).await {
            Ok(output) if output.exit == Exit::Code(0) => serde_json::from_slice(&output.stdout)
                .unwrap_or_else(|error| {
                    reason = format!("the disk agent's answer makes no sense: {error}");
                    Prepared::default()
                }),
            Ok(output) => {
                reason = if output.complaint.is_empty() {
                    format!("the disk agent {}", output.exit)
                } else {
                    output.complaint
                };
                Prepared::default()
            }
            Err(error) => {
                reason = report::chain(&error);
                Prepared::default()
            }
        };
    if let Some(device) = &prepared.esp {
        node.upgrades.found_esp(device);
    }
    let all_there = prepared.state.is_some() && prepared.data.is_some();
    for note in &prepared.notes {
        if all_there {
            tracing::info!(target: report::CONSOLE, note, "the disk");
        } else {
            tracing::warn!(note, "the disk");
        }
    }
    if esp.is_some() && !reason.is_empty() {
        tracing::error!(
            reason,
            "preparing the disk failed; state and data are in memory and end with this boot"
        );
    }
    if reason.is_empty() {
        reason = prepared.notes.join("; ");
    }
    let state = mount_one(
        node,
        "STATE",
        "/state",
        prepared.state.as_deref(),
        "size=64m,mode=0700",
        &reason,
    );
    let data =
        mount_one(node, "DATA", "/var", prepared.data.as_deref(), "size=25%,mode=0755", &reason);
    (state, data)
}

/// Mounts one volume; what can't be mounted from the disk is memory, and says why. Returns whether it is on the disk.
fn mount_one(
    node: &Node,
    name: &'static str,
    target: &'static str,
    device: Option<&str>,
    memory: &str,
    reason: &str,
) -> bool {
    let mut reason = reason.to_owned();
    if let Some(device) = device {
        match mount::mount(device, Path::new(target), "ext4", Forbid::DATA, "errors=remount-ro") {
            Ok(()) => {
                remember(
                    node,
                    name,
                    Volume {
                        target,
                        state: "mounted",
                        device: device.to_owned(),
                        reason: String::new(),
                    },
                );
                return true;
            }
            Err(error) => {
                reason = format!("mounting {device} failed: {error}");
                tracing::error!(
                    volume.name = name,
                    reason,
                    "a volume is in memory and ends with this boot"
                );
            }
        }
    }
    if let Err(error) = mount::mount("tmpfs", Path::new(target), "tmpfs", Forbid::DATA, memory) {
        tracing::error!(volume.name = name, error = %error, "mounting memory in place of a volume failed");
        reason = format!("{reason}; mounting memory in its place failed: {error}");
    }
    if reason.is_empty() {
        "no disk of ours was found".clone_into(&mut reason);
    }
    remember(node, name, Volume { target, state: "memory", device: "tmpfs".to_owned(), reason });
    false
}

fn remember(node: &Node, name: &'static str, volume: Volume) {
    node.volumes.borrow_mut().insert(name, volume);
    refresh(node);
}

/// Looks at the room that is left, now. Returns the volumes that have little.
pub(crate) fn refresh(node: &Node) -> BTreeMap<&'static str, mount::Usage> {
    let mut low = BTreeMap::new();
    for (name, volume) in node.volumes.borrow().iter() {
        match volume.publish(node, name) {
            Ok(usage) if Volume::is_low(usage) => {
                low.insert(*name, usage);
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(volume.name = name, error = %error, "asking a volume for its room failed")
            }
        }
    }
    low
}

/// Watches the room that is left, and says it once when it becomes little.
pub(crate) async fn watch(node: Rc<Node>) {
    let mut told = BTreeMap::new();
    loop {
        let low = refresh(&node);
        for (name, usage) in low.iter().filter(|(name, _)| !told.contains_key(*name)) {
            tracing::warn!(
                volume.name = name,
                bytes.free = usage.free,
                bytes.size = usage.size,
                "a volume is almost full"
            );
        }
        told = low;
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

/// The kernel's own file systems and those in memory, with the strictest flags that hold.
pub(crate) fn mount_base() -> Vec<(&'static str, io::Error)> {
    let mut failed = Vec::new();
    let root_only = Forbid::DATA;
    for (source, target, fstype, forbid, options) in [
        ("tmpfs", "/run", "tmpfs", root_only, "mode=0755,size=20%"),
        ("tmpfs", "/tmp", "tmpfs", root_only, "mode=1777,size=10%"),
        ("tmpfs", "/etc", "tmpfs", root_only, "mode=0755,size=4m"),
        ("cgroup2", "/sys/fs/cgroup", "cgroup2", root_only, "nsdelegate,memory_recursiveprot"),
        ("tmpfs", "/dev/shm", "tmpfs", root_only, "mode=1777,size=10%"),
        (
            "devpts",
            "/dev/pts",
            "devpts",
            Forbid { dev: false, ..root_only },
            "mode=0600,ptmxmode=0000",
        ),
    ] {
        // What is there already is fine; mounting says so when it is not.
        let _exists = fs::create_dir(target);
        if let Err(error) = mount::mount(source, Path::new(target), fstype, forbid, options) {
            failed.push((target, error));
        }
    }
    failed
}

/// The firmware's variables, on a machine that has them.
pub(crate) fn mount_efivarfs(release: &str) {
    if !Path::new("/sys/firmware/efi/efivars").exists() {
        return;
    }
    let module = format!("/usr/lib/modules/{release}/kernel/fs/efivarfs/efivarfs.ko");
    if Path::new(&module).exists()
        && let Err(error) = modules::load(Path::new(&module), "")
    {
        tracing::warn!(error = %error, "loading efivarfs failed");
    }
    if let Err(error) = mount::mount(
        "efivarfs",
        Path::new("/sys/firmware/efi/efivars"),
        "efivarfs",
        Forbid::DATA,
        "",
    ) {
        tracing::warn!(error = %error, "mounting efivarfs failed");
    }
}
