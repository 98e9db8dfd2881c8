// SPDX-License-Identifier: Apache-2.0
//! The source tree that an image is built from, and where in it things are.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the source tree.
#[derive(Debug, Clone)]
pub struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The tree around the working folder.
    pub fn find() -> Result<Self> {
        let here = std::env::current_dir().context("Reading the working folder")?;
        let root = here.ancestors().find(|folder| folder.join("image/allowlist").is_file());
        let root = root.with_context(|| {
            format!("Looking for Stele's sources: neither {} nor a folder above it holds them; run this inside of them", here.display())
        })?;
        Self::at(root)
    }

    /// The tree at a folder.
    pub fn at(root: &Path) -> Result<Self> {
        let root = root
            .canonicalize()
            .with_context(|| format!("Looking for Stele's sources at {}", root.display()))?;
        Ok(Self { root })
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A file of the tree, read.
    pub fn read(&self, path: &str) -> Result<String> {
        let path = self.root.join(path);
        std::fs::read_to_string(&path).with_context(|| format!("Reading {}", path.display()))
    }

    /// The lock file.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.root.join("image/packages.lock")
    }

    /// The time of a build: `SOURCE_DATE_EPOCH`, or that of the commit it is built from. Never the clock.
    pub fn epoch(&self) -> Result<u64> {
        if let Ok(value) = std::env::var("SOURCE_DATE_EPOCH") {
            return value.parse().with_context(|| {
                format!(
                    "Reading SOURCE_DATE_EPOCH, which is {value:?}: it takes seconds since 1970"
                )
            });
        }
        let ask = || -> Result<u64> {
            let output = Command::new("git")
                .arg("-C")
                .arg(&self.root)
                .args(["log", "-1", "--format=%ct"])
                .output()?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
            Ok(String::from_utf8(output.stdout)?.trim().parse()?)
        };
        ask().context("Asking git for the time of the last commit; outside of a git checkout, set SOURCE_DATE_EPOCH")
    }
}
