// SPDX-License-Identifier: Apache-2.0
//! The lock file, `image/packages.lock`: exactly which Debian packages an image is made of.
//!
//! `image lock` writes it from package lists whose signatures apt has checked; `image build` downloads these bytes and no
//! others. A path has no host in it: that comes from the build machine's own apt sources.

use crate::cache::write_atomically;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What a package is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// The kernel of the profile `cloud`.
    KernelCloud,
    /// The kernel of the profile `metal`.
    KernelMetal,
    /// Programs and libraries of the root.
    Tools,
    /// The trust roots.
    Trust,
    /// The boot loader and the stub.
    Boot,
    /// UEFI for virtual machines; of the test harness, never of the image.
    Firmware,
    /// Programs of the test harness, never of the image.
    Harness,
}

/// One package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub purpose: Purpose,
    /// Its version.
    pub version: String,
    /// Its architecture.
    pub architecture: String,
    /// The suite that lists it.
    pub suite: String,
    /// Where it is in the archive of that suite.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256 digest.
    pub sha256: String,
}

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Every package, by purpose and name.
    pub packages: Vec<Package>,
}

impl Lock {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path)
            .with_context(|| format!("Reading {}; run `image lock` to make it", path.display()))?;
        serde_json::from_slice(&text).with_context(|| {
            format!("Reading {}; run `image lock` to make it anew", path.display())
        })
    }

    /// Writes the file.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        write_atomically(path, &text)
    }

    /// The packages for a purpose.
    pub fn of(&self, purpose: Purpose) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(move |package| package.purpose == purpose)
    }
}
