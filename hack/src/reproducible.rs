// SPDX-License-Identifier: Apache-2.0
//! Two builds in two folders give the same bytes.
//!
//! The second one is made from a copy of the tree in another folder, by another set of compiled crates. It shares the
//! cache of Debian packages, which are checked against the lock file in any case.

use crate::{
    artefacts::top,
    build::{self, Builder},
};
use anyhow::{Context as _, Result, bail};
use std::{env, fs, path::Path, process::Command};

/// Builds again, elsewhere, and compares.
pub fn check() -> Result<()> {
    let builder = Builder::new()?;
    let first = builder.fresh_image(&top().join("out"))?;
    let elsewhere = tempfile::Builder::new().prefix("stele-elsewhere-").tempdir()?;
    let tree = elsewhere.path().join("another/place");
    copy_tree(&tree)?;
    let out = elsewhere.path().join("out");
    let mut image = Command::new(env::current_exe()?.with_file_name("image"));
    image.args(["build", "--out"]).arg(&out).current_dir(&tree);
    image.env("CARGO_TARGET_DIR", elsewhere.path().join("compiled"));
    // The copy has no history to take the time from.
    build::run(image.env("SOURCE_DATE_EPOCH", builder.workspace.epoch()?.to_string()))?;
    compare(first.dir(), &out)
}

fn compare(first: &Path, second: &Path) -> Result<()> {
    let read = |dir: &Path| {
        let path = dir.join("SHA256SUMS");
        fs::read_to_string(&path).with_context(|| format!("Reading {}", path.display()))
    };
    let (first, second) = (read(first)?, read(second)?);
    let different: Vec<&str> =
        first.lines().filter(|line| !second.lines().any(|other| other == *line)).collect();
    if !different.is_empty() || first.lines().count() != second.lines().count() {
        bail!("These differ: {different:#?}\nfirst build:\n{first}second build:\n{second}");
    }
    println!("{} files are the same, byte for byte", first.lines().count());
    Ok(())
}

/// Copies what git knows of and what it would add.
fn copy_tree(to: &Path) -> Result<()> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(top())
        .output()
        .context("Running git")?;
    for name in String::from_utf8(listed.stdout)?.split('\0').filter(|name| !name.is_empty()) {
        let (from, to) = (top().join(name), to.join(name));
        if from.is_file() {
            fs::create_dir_all(to.parent().context("A file without a folder")?)?;
            fs::copy(&from, &to).with_context(|| format!("Copying {name}"))?;
        }
    }
    Ok(())
}
