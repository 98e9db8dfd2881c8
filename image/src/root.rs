// SPDX-License-Identifier: Apache-2.0
//! Lays the root out: which file of which package, and which program of ours, stands where. The list of paths is the
//! contract in docs/architecture.md.

use crate::deb;
use crate::keys::{TRUSTED, Trusted};
use crate::lock::{Package, Purpose};
use crate::tree::{Node, Tree};
use crate::workspace::Workspace;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Files that we take from Debian's packages, by path. A library comes as what its links lead to.
const TOOLS: [&str; 9] = [
    "usr/sbin/mke2fs",
    "usr/sbin/e2fsck",
    "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    "usr/lib/x86_64-linux-gnu/libc.so.6",
    "usr/lib/x86_64-linux-gnu/libext2fs.so.2",
    "usr/lib/x86_64-linux-gnu/libe2p.so.2",
    "usr/lib/x86_64-linux-gnu/libblkid.so.1",
    "usr/lib/x86_64-linux-gnu/libcom_err.so.2",
    "usr/lib/x86_64-linux-gnu/libuuid.so.1",
];

/// Folders that are there to be mounted on.
const MOUNT_POINTS: [&str; 9] = ["boot", "dev", "etc", "proc", "run", "state", "sys", "tmp", "var"];

/// Programs of ours that do not go to `/usr/lib/stele`.
const ELSEWHERE: [(&str, &str); 1] = [("init", "sbin/init")];

/// Where units are.
pub const UNITS: &str = "usr/lib/stele/units";

/// The folders and links that every root has.
#[must_use]
pub fn skeleton() -> Tree {
    let mut root = Tree::default();
    for folder in MOUNT_POINTS.into_iter().chain(["usr/lib/stele", UNITS, "usr/share/stele"]) {
        root.folder(folder);
    }
    // The merged /usr of Debian, as far as its programs look for things in the old places.
    root.link("lib", "usr/lib");
    root.link("lib64", "usr/lib64");
    root.link("usr/lib64/ld-linux-x86-64.so.2", "../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2");
    root
}

/// The files that packages give to the root.
pub fn from_packages(packages: &[(&Package, PathBuf)]) -> Result<Tree> {
    let mut unpacked = Tree::default();
    let mut root = Tree::default();
    for (package, file) in packages {
        match package.purpose {
            Purpose::Tools => unpacked.merge(deb::unpack(file, |path| {
                path.starts_with("usr/sbin/") || path.contains(".so")
            })?),
            Purpose::Trust => {
                let bundle = certificates(&deb::unpack(file, |path| path.ends_with(".crt"))?)?;
                root.file("usr/share/ca-certificates/ca-certificates.crt", 0o644, bundle);
            }
            Purpose::KernelCloud
            | Purpose::KernelMetal
            | Purpose::Boot
            | Purpose::Firmware
            | Purpose::Harness => {}
        }
    }
    for path in TOOLS {
        let found =
            unpacked.resolve(path).and_then(|real| unpacked.data(&real).map(<[u8]>::to_vec));
        let data = found.with_context(|| {
            format!("None of the locked packages has /{path}; look at image/src/resolve.rs")
        })?;
        root.file(path, 0o755, data);
    }
    Ok(root)
}

/// All certificates in one file, in the order of their names.
fn certificates(package: &Tree) -> Result<Vec<u8>> {
    let mut bundle = Vec::new();
    for (path, node) in package.iter() {
        let Node::File { data, .. } = node else { continue };
        let text = std::str::from_utf8(data).with_context(|| format!("/{path} is no PEM text"))?;
        ensure!(text.contains("-----BEGIN CERTIFICATE-----"), "/{path} holds no certificate");
        bundle.extend_from_slice(text.trim_end().as_bytes());
        bundle.push(b'\n');
    }
    ensure!(!bundle.is_empty(), "The package ca-certificates holds no certificates");
    Ok(bundle)
}

/// Our own programs.
pub fn from_programs(programs: &BTreeMap<String, PathBuf>) -> Result<Tree> {
    let mut root = Tree::default();
    for (name, path) in programs {
        let data = std::fs::read(path).with_context(|| format!("Reading {}", path.display()))?;
        let elsewhere = ELSEWHERE
            .iter()
            .find(|(program, _)| program == name)
            .map(|(_, path)| (*path).to_owned());
        root.file(&elsewhere.unwrap_or_else(|| format!("usr/lib/stele/{name}")), 0o755, data);
    }
    Ok(root)
}

/// The units of the tree.
pub fn from_units(workspace: &Workspace) -> Result<Tree> {
    let folder = workspace.root().join("init/units");
    let mut root = Tree::default();
    let entries = std::fs::read_dir(&folder)
        .with_context(|| format!("Reading the units in {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.ends_with(".json") {
            root.file(
                &format!("{UNITS}/{name}"),
                0o644,
                std::fs::read(&path).with_context(|| format!("Reading {}", path.display()))?,
            );
        }
    }
    Ok(root)
}

/// The keys whose images the root takes.
pub fn from_keys(keys: &[Trusted]) -> Result<Tree> {
    let mut root = Tree::default();
    root.folder(TRUSTED);
    for key in keys {
        root.file(&key.path(), 0o644, key.key.to_pem()?.into_bytes());
    }
    Ok(root)
}

/// What of a unit the image can judge.
#[derive(Deserialize)]
struct Unit {
    exec: Vec<String>,
}

/// Checks that each unit runs a program that is there.
pub fn check_units(root: &Tree) -> Result<()> {
    for (path, node) in root.iter().filter(|(path, _)| path.starts_with(UNITS)) {
        let Node::File { data, .. } = node else { continue };
        let unit: Unit =
            serde_json::from_slice(data).with_context(|| format!("Reading the unit /{path}"))?;
        let program = unit
            .exec
            .first()
            .with_context(|| format!("The unit /{path} runs nothing: `exec` is empty"))?;
        let found = root.resolve(program);
        let runs = found.and_then(|real| root.get(&real).cloned());
        ensure!(
            program.starts_with('/')
                && matches!(runs, Some(Node::File { mode, .. }) if mode & 0o111 != 0),
            "The unit /{path} runs {program}, which is no program of the root"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root_with_unit(unit: &str) -> Tree {
        let mut root = skeleton();
        root.file("usr/lib/stele/apid", 0o755, *b"x");
        root.file("usr/lib/stele/data", 0o644, *b"x");
        root.file(&format!("{UNITS}/a.json"), 0o644, unit.as_bytes().to_vec());
        root
    }

    #[test]
    fn a_unit_runs_what_is_there() {
        check_units(&root_with_unit(r#"{"exec":["/usr/lib/stele/apid"],"uid":201}"#)).unwrap();
        check_units(&root_with_unit(r#"{"exec":["/lib/stele/apid","--x"]}"#)).unwrap();
    }

    #[test]
    fn a_unit_that_runs_nothing_is_refused() {
        for unit in [
            r#"{"exec":[]}"#,
            r#"{"exec":["/usr/lib/stele/none"]}"#,
            r#"{"exec":["usr/lib/stele/apid"]}"#,
            r#"{"exec":["/usr/lib/stele/data"]}"#,
            r#"{}"#,
            "exec",
        ] {
            let error = format!("{:#}", check_units(&root_with_unit(unit)).unwrap_err());
            assert!(error.contains("a.json"), "{unit}: {error}");
        }
    }

    #[test]
    fn certificates_make_one_file() {
        let pem =
            |name: &str| format!("-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----");
        let mut package = Tree::default();
        package.file("m/b.crt", 0o644, pem("b").into_bytes());
        package.file("m/a.crt", 0o644, format!("{}\n", pem("a")).into_bytes());
        assert_eq!(
            certificates(&package).unwrap(),
            format!("{}\n{}\n", pem("a"), pem("b")).into_bytes()
        );
        package.file("m/c.crt", 0o644, *b"junk");
        assert!(certificates(&package).is_err());
    }
}
