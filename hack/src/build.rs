// SPDX-License-Identifier: Apache-2.0
//! Builds what machines are made of, and reuses what is built.

use crate::artefacts::{Artefacts, top};
use anyhow::{Context as _, Result, bail};
use image::{
    cache::Cache,
    firmware,
    keys::{self, Signer},
    programs,
    progress::Progress,
    recipe::{Parts, Profile, Recipe, write_sums},
    workspace::Workspace,
};
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::SystemTime,
};
use stele_layout::version::Version;

/// What an image is made from. It is built again when one of these is newer.
const INGREDIENTS: [&str; 7] =
    ["Cargo.lock", "Cargo.toml", "apid", "ctl", "image", "init", "proto"];

/// A place to build in: the sources, the cache, and where progress is shown.
#[derive(Debug)]
pub struct Builder {
    /// The sources.
    pub workspace: Workspace,
    /// What was built and fetched before.
    pub cache: Cache,
    /// What a person sees meanwhile.
    pub progress: Progress,
}

impl Builder {
    /// Builds from this tree.
    pub fn new() -> Result<Self> {
        let (workspace, cache) = (Workspace::at(&top())?, Cache::of_user()?);
        Ok(Self { workspace, cache, progress: Progress::on_terminal() })
    }

    /// The image of this tree in `out`, built if it is not there or older than what it is made from.
    pub fn fresh_image(&self, out: &Path) -> Result<Artefacts> {
        let recipe = self.recipe()?;
        let built = fs::metadata(out.join("SHA256SUMS")).and_then(|sums| sums.modified());
        let ingredients = INGREDIENTS.iter().map(|name| top().join(name));
        let changed = newest(ingredients.chain([secret()]))?;
        let artefacts = Artefacts::new(out);
        if built.is_ok_and(|built| built > changed) && artefacts.firmware().is_ok() {
            return Ok(artefacts);
        }
        let parts = self.parts(&recipe)?;
        self.write(&parts, out)
    }

    /// How the image of this tree is made here: as a release, signed with the development key.
    pub fn recipe(&self) -> Result<Recipe> {
        let version = Version::parse(env!("CARGO_PKG_VERSION"))?;
        Ok(Recipe { signer: Some(self.signer()?), ..Recipe::new(version, Profile::Cloud) })
    }

    /// The development key: made once, beside what is built, and no secret worth keeping.
    pub fn signer(&self) -> Result<Signer> {
        let secret = secret();
        if !secret.exists() {
            let folder = secret.parent().context("The key has a folder")?;
            fs::create_dir_all(folder).with_context(|| format!("Making {}", folder.display()))?;
            keys::generate(&secret.with_extension(""))?;
        }
        Signer::read(&secret)
    }

    /// The parts of an image.
    pub fn parts(&self, recipe: &Recipe) -> Result<Parts> {
        let parts = recipe.parts(&self.workspace, &self.cache, &self.progress);
        let _took = self.progress.finish();
        parts
    }

    /// Writes an image, `ctl` and the firmware to `out`.
    pub fn write(&self, parts: &Parts, out: &Path) -> Result<Artefacts> {
        parts.write(out, &self.progress)?;
        let ctl = self.progress.suspend(|| programs::ctl(&self.workspace))?;
        fs::copy(&ctl, out.join("ctl")).with_context(|| format!("Copying {}", ctl.display()))?;
        firmware::write(&self.workspace, &self.cache, &self.progress, &out.join("firmware"))?;
        write_sums(out)?;
        let _took = self.progress.finish();
        Ok(Artefacts::new(out))
    }
}

/// The file of the development key.
#[must_use]
pub fn secret() -> PathBuf {
    top().join("out/keys/development.key")
}

/// Runs a program that shows its own progress.
pub fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status =
        command.stdin(Stdio::null()).status().with_context(|| format!("Running {program}"))?;
    if !status.success() {
        let words: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        bail!("{program} {}: {status}", words.join(" "));
    }
    Ok(())
}

/// When the newest of these files, and of those in these folders, was changed.
fn newest(paths: impl Iterator<Item = PathBuf>) -> Result<SystemTime> {
    let mut newest = SystemTime::UNIX_EPOCH;
    let mut left: Vec<PathBuf> = paths.collect();
    while let Some(path) = left.pop() {
        let metadata =
            fs::metadata(&path).with_context(|| format!("Looking at {}", path.display()))?;
        if metadata.is_dir() {
            for entry in fs::read_dir(&path)? {
                left.push(entry?.path());
            }
        } else {
            newest = newest.max(metadata.modified()?);
        }
    }
    Ok(newest)
}
