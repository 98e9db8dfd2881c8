// SPDX-License-Identifier: Apache-2.0
//! Builds our own programs through cargo.
//!
//! Programs of the node are static and position-independent, and paths of the build machine are mapped away in them, in Rust
//! and in C alike, so that two folders make the same bytes. `ctl` is an ordinary program of the machine that builds it,
//! because a static glibc would look for that machine's name services; it is built with the
//! other tools, so whoever has those has it already.

use crate::workspace::Workspace;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The target that everything of the image is built for. Named, so that flags for it do not reach build scripts.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The crates whose programs run on a node.
const NODE: [&str; 3] = ["stele-init", "stele-apid", "stele-agents"];

/// The crates whose programs run where they are built. Together: cargo chooses the features of what they share by what is built
/// together, and builds it again for others.
const HOST: [&str; 3] = ["hack", "image", "ctl"];

/// What makes PID 1 fail on request.
const FAULTS: &str = "stele-init/faults";

/// The programs of the node by name. With `faults`, PID 1 fails when the kernel command line tells it to.
pub fn node(workspace: &Workspace, faults: bool) -> Result<BTreeMap<String, PathBuf>> {
    let features: &[&str] = if faults { &[FAULTS] } else { &[] };
    reproducible(workspace, &NODE, features)
}

/// The client.
pub fn ctl(workspace: &Workspace) -> Result<PathBuf> {
    let mut built = run(cargo(workspace, &HOST), "ctl")?;
    built.remove("ctl").context("Building ctl: cargo made no program of that name")
}

/// Builds the programs of some crates of the workspace as those of a node are built: static, and the same in every folder.
pub fn reproducible(
    workspace: &Workspace,
    crates: &[&str],
    features: &[&str],
) -> Result<BTreeMap<String, PathBuf>> {
    let maps = maps(workspace)?;
    let mut flags: Vec<String> = maps
        .iter()
        .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
        .collect();
    flags.push("-Ctarget-feature=+crt-static".to_owned());
    flags.push("-Crelocation-model=pie".to_owned());
    let c_flags: Vec<String> = maps
        .iter()
        .map(|(from, to)| format!("-ffile-prefix-map={}={to}", from.display()))
        .collect();

    let mut cargo = cargo(workspace, crates);
    cargo
        .args(features.iter().flat_map(|feature| ["--features", feature]))
        .args(["--target", TARGET, "--config"])
        .arg(format!("target.{TARGET}.rustflags={}", serde_json::to_string(&flags)?))
        // Not that of the commit: no program has its time of build in it, and with each commit all C would be built again.
        .env("SOURCE_DATE_EPOCH", "1")
        .env(format!("CFLAGS_{TARGET}"), c_flags.join(" "))
        // ntpd-rs would write down of which commit it is, or of which commit whatever it lies in is.
        .env("NTPD_RS_GIT_REV", "-")
        .env("NTPD_RS_GIT_DATE", "-")
        // These would override the flags above.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    run(cargo, &crates.join(", "))
}

fn cargo(workspace: &Workspace, crates: &[&str]) -> Command {
    // By its plain name and from the workspace: the toolchain is the one that rust-toolchain.toml pins, whoever asks.
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(workspace.root())
        .env_remove("RUSTUP_TOOLCHAIN")
        .args(["build", "--release", "--locked", "--message-format=json-render-diagnostics"])
        .args(crates.iter().flat_map(|name| ["-p", name]));
    if !std::io::stderr().is_terminal() {
        cargo.arg("--quiet");
    }
    cargo
}

/// Runs cargo; the programs that it made, by name.
fn run(mut cargo: Command, what: &str) -> Result<BTreeMap<String, PathBuf>> {
    let child = cargo.stdout(Stdio::piped()).spawn();
    let mut child = child.with_context(|| format!("Building {what}: running cargo"))?;
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
