// SPDX-License-Identifier: Apache-2.0
//! Two builds in two folders give the same bytes.
//!
//! The second one is made from a clone of the tree in another folder, which compiles everything again. It shares the
//! cache of Debian packages, which are checked against the lock file in any case. `ctl` is no part of it: it is an
//! ordinary program of its machine.

use crate::{
    artefacts::top,
    build::{self, Builder},
    scratch,
};
use anyhow::{Context as _, Result, bail};
use image::{recipe::write_sums, workspace::Workspace};
use std::{collections::BTreeMap, fs, path::Path, process::Command};

/// Builds again, elsewhere, and compares.
pub fn check() -> Result<()> {
    let here = Builder::new()?;
    let first = here.fresh_image(&top().join("out"))?;
    let elsewhere = scratch::folder("elsewhere")?;
    let tree = elsewhere.path().join("another/place");
    copy_tree(&tree)?;
    // One key for both: signatures repeat like everything else.
    let recipe = here.recipe()?;
    let there = Builder { workspace: Workspace::at(&tree)?, ..here };
    let second = elsewhere.path().join("out");
    there.parts(&recipe)?.write(&second, &there.progress)?;
    write_sums(&second)?;
    compare(first.dir(), &second)
}

fn compare(first: &Path, second: &Path) -> Result<()> {
    let (first, second) = (sums(first)?, sums(second)?);
    let different: Vec<&str> = second
        .iter()
        .filter(|(name, sum)| first.get(*name) != Some(*sum))
        .map(|(name, _)| name.as_str())
        .collect();
    if !different.is_empty() {
        bail!(
            "These differ: {}\nfirst build: {first:#?}\nsecond build: {second:#?}",
            different.join(", ")
        );
    }
    println!("{} files are the same, byte for byte", second.len());
    Ok(())
}

fn sums(dir: &Path) -> Result<BTreeMap<String, String>> {
    let path = dir.join("SHA256SUMS");
    let text = fs::read_to_string(&path).with_context(|| format!("Reading {}", path.display()))?;
    Ok(text
        .lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(sum, name)| (name.into(), sum.into()))
        .collect())
}

/// Clones the repository, and brings over what is not committed.
fn copy_tree(to: &Path) -> Result<()> {
    build::run(Command::new("git").args(["clone", "--quiet", "--shared"]).arg(top()).arg(to))?;
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
