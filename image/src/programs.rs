// SPDX-License-Identifier: Apache-2.0
//! Builds our own programs through cargo.
//!
//! Programs of the node are static and position-independent; `ctl` is an ordinary program of its machine, because a static
//! glibc would look for that machine's name services. Paths of the build machine are mapped away, in Rust and in C alike, so
//! that two folders make the same bytes.

use crate::workspace::Workspace;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The target that everything of the image is built for. Named, so that flags for it do not reach build scripts.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The crates whose programs run on a node.
const NODE: [&str; 3] = ["stele-init", "stele-apid", "stele-agents"];

/// How a program is linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linking {
    /// One file with everything in it.
    Static,
    /// With the libraries of its machine.
    Dynamic,
}

/// The programs of the node by name, static.
pub fn node(workspace: &Workspace, epoch: u64) -> Result<BTreeMap<String, PathBuf>> {
    build(workspace, &NODE, Linking::Static, epoch)
}

/// The client.
pub fn ctl(workspace: &Workspace, epoch: u64) -> Result<PathBuf> {
    let mut built = build(workspace, &["ctl"], Linking::Dynamic, epoch)?;
    built.remove("ctl").context("Building ctl: cargo made no program of that name")
}

/// Builds the programs of some crates of the workspace, reproducibly.
pub fn build(
    workspace: &Workspace,
    crates: &[&str],
    linking: Linking,
    epoch: u64,
) -> Result<BTreeMap<String, PathBuf>> {
    let what = crates.join(", ");
    let maps = maps(workspace)?;
    let mut flags: Vec<String> = maps
        .iter()
        .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
        .collect();
    if linking == Linking::Static {
        flags.push("-Ctarget-feature=+crt-static".to_owned());
        flags.push("-Crelocation-model=pie".to_owned());
    }
    let c_flags: Vec<String> = maps
        .iter()
        .map(|(from, to)| format!("-ffile-prefix-map={}={to}", from.display()))
        .collect();

    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(workspace.root())
        .args([
            "build",
            "--release",
            "--locked",
            "--target",
            TARGET,
            "--message-format=json-render-diagnostics",
        ])
        .arg("--config")
        .arg(format!("target.{TARGET}.rustflags={}", serde_json::to_string(&flags)?))
        .args(crates.iter().flat_map(|name| ["-p", name]))
        .env("SOURCE_DATE_EPOCH", epoch.to_string())
        .env(format!("CFLAGS_{TARGET}"), c_flags.join(" "))
        // These would override the flags above.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .stdout(Stdio::piped());
    let mut child = cargo.spawn().with_context(|| format!("Building {what}: running cargo"))?;
    let stdout = child.stdout.take().context("cargo has an output")?;
    let mut built = BTreeMap::new();
    for line in BufReader::new(stdout).lines() {
        let message: serde_json::Value =
            serde_json::from_str(&line?).context("Reading what cargo says")?;
        if let (Some(path), Some(name)) =
            (message["executable"].as_str(), message["target"]["name"].as_str())
        {
            built.insert(name.to_owned(), PathBuf::from(path));
        }
    }
    let status = child.wait()?;
    ensure!(status.success(), "Building {what}: cargo ended with {status}; what it says is above");
    Ok(built)
}

/// Folders of this machine that a compiler would write into a program, with what it shall write instead. The last that
/// matches wins, so the more special ones come later.
fn maps(workspace: &Workspace) -> Result<Vec<(PathBuf, &'static str)>> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home =
        home.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let sysroot =
        Command::new("rustc").current_dir(workspace.root()).args(["--print", "sysroot"]).output();
    let sysroot = sysroot.context("Asking rustc for its folder")?;
    ensure!(
        sysroot.status.success(),
        "Asking rustc for its folder: {}",
        String::from_utf8_lossy(&sysroot.stderr).trim()
    );
    let mut maps = vec![
        (workspace.root().to_owned(), "/stele"),
        (PathBuf::from(String::from_utf8(sysroot.stdout)?.trim()), "/rust"),
    ];
    if let Some(target) = std::env::var_os("CARGO_TARGET_DIR") {
        maps.push((workspace.root().join(target), "/stele/target"));
    }
    maps.extend(home.map(|home| (home, "/cargo")));
    Ok(maps)
}
