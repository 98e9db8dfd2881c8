// SPDX-License-Identifier: Apache-2.0
//! Variants of the image, for tests: the next version, versions that are bad, and one with services that misbehave.

use crate::{artefacts::Artefacts, build::Builder};
use anyhow::{Context as _, Result};
use image::{
    initramfs::Initramfs,
    recipe::{Extra, Parts, Recipe},
    uki::{self, Uki},
};
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
};
use stele_layout::version::Version;

/// The version after that of the tree.
pub const NEXT: &str = "1000.1.0";
/// The version that never comes up.
pub const BROKEN: &str = "1000.2.0";

/// Quick to compress: nobody downloads these.
const LEVEL: u32 = 1;

/// Where the variants are.
#[derive(Clone, Debug)]
pub struct Variants {
    dir: PathBuf,
}

impl Variants {
    /// The variants in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// A UKI of the next version.
    #[must_use]
    pub fn next(&self) -> PathBuf {
        self.dir.join("next.efi")
    }

    /// A UKI of a later version, whose init does not exist: its kernel panics.
    #[must_use]
    pub fn broken(&self) -> PathBuf {
        self.dir.join("broken.efi")
    }

    /// A UKI for another architecture.
    #[must_use]
    pub fn foreign(&self) -> PathBuf {
        self.dir.join("foreign.efi")
    }

    /// An image with a service that ends as soon as it is started, for direct boot.
    #[must_use]
    pub fn crashing(&self) -> Artefacts {
        Artefacts::new(self.dir.join("crashing"))
    }

    /// Builds those that are older than the image.
    pub fn build(&self, builder: &Builder, image: &Artefacts) -> Result<()> {
        let age = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
        let done = self.dir.join("done");
        if age(&done)
            .is_ok_and(|done| age(&image.dir().join("SHA256SUMS")).is_ok_and(|image| image < done))
        {
            return Ok(());
        }
        fs::create_dir_all(&self.dir).with_context(|| format!("Making {}", self.dir.display()))?;
        let signer = builder.signer()?;
        let next = builder.parts(&recipe(builder, NEXT, Vec::new())?)?;
        let write_signed = |path: PathBuf, bytes: &[u8]| -> Result<()> {
            write(&path, bytes)?;
            signer.sign_file(&path).map(drop)
        };
        write_signed(self.next(), &next.uki)?;
        let mut foreign = next.uki.clone();
        uki::set_machine(&mut foreign, uki::ARM64)?;
        write_signed(self.foreign(), &foreign)?;
        write_signed(self.broken(), &broken(&next)?)?;
        let crashing = builder.parts(&recipe(builder, NEXT, vec![crasher()?])?)?;
        bootable(&crashing, self.crashing().dir())?;
        write(&done, b"")
    }
}

/// The image of this tree under another version, with more files.
pub fn recipe(builder: &Builder, version: &str, extra: Vec<Extra>) -> Result<Recipe> {
    let version = Version::parse(version)?;
    Ok(Recipe { extra, version, level: LEVEL, ..builder.recipe()? })
}

/// A UKI around `initramfs`, with everything else as in `parts`.
pub fn uki_around(parts: &Parts, version: &str, initramfs: &[u8]) -> Result<Vec<u8>> {
    let os_release = parts.os_release.replace(&parts.manifest.version, version);
    let uki = Uki {
        stub: &parts.stub,
        os_release: &os_release,
        cmdline: &parts.manifest.cmdline,
        uname: &parts.kernel.release,
        kernel: &parts.kernel.image,
        initramfs,
    };
    uki.build()
}

/// What direct boot takes.
pub fn bootable(parts: &Parts, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("Making {}", dir.display()))?;
    write(&dir.join("vmlinuz"), &parts.kernel.image)?;
    write(&dir.join("initramfs"), &parts.initramfs)?;
    write(&dir.join("cmdline"), parts.manifest.cmdline.as_bytes())
}

fn broken(parts: &Parts) -> Result<Vec<u8>> {
    let initramfs =
        Initramfs { init: b"This is no program.\n", modules: &[], rootfs: None }.pack()?;
    uki_around(parts, BROKEN, &initramfs)
}

/// A service that ends with an error at once: the agent that parses configurations, given nothing to parse.
fn crasher() -> Result<Extra> {
    let unit = json!({
        "description": "Ends as soon as it is started",
        "exec": ["/usr/lib/stele/configure", "--no-such-argument"],
        "sandbox": {"uid": 290, "seccomp": "pure", "memory_max": 16 << 20, "tasks_max": 4},
        "start": "boot",
    });
    let path = "usr/lib/stele/units/crasher.json".to_owned();
    Ok(Extra { path, mode: 0o644, data: serde_json::to_vec_pretty(&unit)? })
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("Writing {}", path.display()))
}
