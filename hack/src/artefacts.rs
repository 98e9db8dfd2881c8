// SPDX-License-Identifier: Apache-2.0
//! The files that `image build --out DIR` wrote, by name.

use anyhow::{Context as _, Result, bail};
use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// One folder of artefacts: one version of the image.
#[derive(Clone, Debug)]
pub struct Artefacts {
    dir: PathBuf,
}

impl Artefacts {
    /// The artefacts in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The folder named by `STELE_OUT`, or `out/` at the top of the tree.
    #[must_use]
    pub fn default_location() -> Self {
        Self::new(env::var_os("STELE_OUT").map_or_else(|| top().join("out"), PathBuf::from))
    }

    /// The folder itself.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The UKI.
    pub fn uki(&self) -> Result<PathBuf> {
        self.file("stele.efi")
    }

    /// The kernel, for direct boot.
    pub fn kernel(&self) -> Result<PathBuf> {
        self.file("vmlinuz")
    }

    /// The initramfs, for direct boot.
    pub fn initramfs(&self) -> Result<PathBuf> {
        self.file("initramfs")
    }

    /// The disk image.
    pub fn disk(&self) -> Result<PathBuf> {
        self.file("stele.raw")
    }

    /// The client.
    pub fn ctl(&self) -> Result<PathBuf> {
        self.file("ctl")
    }

    /// The kernel command line of the image.
    pub fn cmdline(&self) -> Result<String> {
        let path = self.file("cmdline")?;
        let text =
            fs::read_to_string(&path).with_context(|| format!("Reading {}", path.display()))?;
        Ok(text.trim().to_owned())
    }

    /// The UEFI firmware, as it is and with its empty variable store.
    pub fn firmware(&self) -> Result<Firmware> {
        Ok(Firmware {
            code: self.file("firmware/OVMF_CODE_4M.fd")?,
            variables: self.file("firmware/OVMF_VARS_4M.fd")?,
        })
    }

    fn file(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        if !path.exists() {
            bail!(
                "{} is not there: run `./hack/up`, or `image build --out {}`",
                path.display(),
                self.dir.display()
            );
        }
        Ok(path)
    }
}

/// The two halves of the UEFI firmware.
#[derive(Clone, Debug)]
pub struct Firmware {
    /// The program, read-only.
    pub code: PathBuf,
    /// An empty variable store: each machine gets a copy.
    pub variables: PathBuf,
}

/// The top of the source tree.
#[must_use]
pub fn top() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or_else(|| here.clone(), Path::to_path_buf)
}
