// SPDX-License-Identifier: Apache-2.0
//! Variants of the image, for tests: the next version, versions that are bad, one with services that misbehave, and one that
//! believes a service of the tests.

use crate::{
    artefacts::Artefacts,
    broken::{self, Fault, Material},
    build::{self, Builder},
};
use anyhow::{Context as _, Result};
use image::{
    keys::{self, Signer, Trusted},
    recipe::{Extra, Parts, Recipe},
    uki::{self, Uki},
};
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use stele_layout::version::Version;

/// The version after that of the tree.
pub const NEXT: &str = "1000.1.0";
/// The version of images that are broken.
pub const BROKEN: &str = "1000.2.0";
/// The version that trusts a second key.
pub const ROTATING: &str = "1000.0.5";
/// The version whose reader of configurations takes none.
pub const PICKY: &str = "1000.4.0";
/// The version whose reader of configurations knows the first version of documents alone.
pub const ELDER: &str = "1000.5.0";
/// The oldest version from which the demanding image may be moved to.
pub const DEMANDED: &str = "900.0.0";

/// The name of the service that is believed.
pub const BELIEVED: &str = "metadata.platformequinix.com";

/// Where the authorities are that an image believes.
const AUTHORITIES: &str = "usr/share/ca-certificates/ca-certificates.crt";

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

    /// A UKI with this fault, or the next version where the fault is not the image's.
    #[must_use]
    pub fn broken(&self, fault: Fault) -> PathBuf {
        let path = self.dir.join(format!("broken/{}.efi", fault.name()));
        if path.exists() { path } else { self.next() }
    }

    /// A UKI for another architecture.
    #[must_use]
    pub fn foreign(&self) -> PathBuf {
        self.dir.join("foreign.efi")
    }

    /// A UKI that may only be moved to from [`DEMANDED`] on.
    #[must_use]
    pub fn demanding(&self) -> PathBuf {
        self.dir.join("demanding.efi")
    }

    /// A UKI whose reader of configurations refuses every one.
    #[must_use]
    pub fn picky(&self) -> PathBuf {
        self.dir.join("picky.efi")
    }

    /// A UKI whose reader of configurations knows the first version of documents alone.
    #[must_use]
    pub fn elder(&self) -> PathBuf {
        self.dir.join("elder.efi")
    }

    /// A UKI of version [`ROTATING`] that trusts the second key beside the first, which has signed it.
    #[must_use]
    pub fn rotating(&self) -> PathBuf {
        self.dir.join("rotating.efi")
    }

    /// The secret half of the second key.
    #[must_use]
    pub fn second_key(&self) -> PathBuf {
        self.dir.join("second.key")
    }

    /// An image with a service that ends as soon as it is started, for direct boot.
    #[must_use]
    pub fn crashing(&self) -> Artefacts {
        Artefacts::new(self.dir.join("crashing"))
    }

    /// An image in which a resource changes a thousand times a second, when it is told to; for direct boot.
    #[must_use]
    pub fn churning(&self) -> Artefacts {
        Artefacts::new(self.dir.join("churning"))
    }

    /// An image that believes one service, that of [`Variants::certificate`], and no authority; for direct boot.
    #[must_use]
    pub fn believing(&self) -> Artefacts {
        Artefacts::new(self.dir.join("believing"))
    }

    /// The certificate of [`BELIEVED`] with its key, in PEM.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.dir.join("certificate.pem")
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
        fs::create_dir_all(self.dir.join("broken"))
            .with_context(|| format!("Making {}", self.dir.display()))?;
        let signer = builder.signer()?;
        let next = builder.parts(&recipe(builder, NEXT, Vec::new())?)?;
        write_signed(&self.next(), &next.uki, &signer)?;
        let mut foreign = next.uki.clone();
        uki::set_machine(&mut foreign, uki::ARM64)?;
        write_signed(&self.foreign(), &foreign, &signer)?;
        write_signed(&self.demanding(), &demanding(&next)?, &signer)?;
        self.build_rotating(builder, &signer)?;
        self.build_broken(builder, &signer)?;
        for (version, path, source) in [
            (PICKY, self.picky(), include_bytes!("variants/picky.rs").as_slice()),
            (ELDER, self.elder(), include_bytes!("variants/elder.rs").as_slice()),
        ] {
            let reader = vec![program("usr/lib/stele/configure", compile(&self.dir, source)?)];
            let parts = builder.parts(&recipe(builder, version, reader)?)?;
            write_signed(&path, &parts.uki, &signer)?;
        }
        let crashing = builder.parts(&recipe(builder, NEXT, vec![crasher()?])?)?;
        bootable(&crashing, self.crashing().dir())?;
        self.build_believing(builder)?;
        write(&done, b"")
    }

    fn build_believing(&self, builder: &Builder) -> Result<()> {
        let made = rcgen::generate_simple_self_signed([BELIEVED.to_owned()])?;
        let certificate = made.cert.pem();
        let authorities = data(AUTHORITIES, certificate.clone().into_bytes());
        let believing = builder.parts(&recipe(builder, NEXT, vec![authorities])?)?;
        bootable(&believing, self.believing().dir())?;
        let both = certificate + &made.signing_key.serialize_pem();
        write(&self.certificate(), both.as_bytes())
    }

    fn build_rotating(&self, builder: &Builder, signer: &Signer) -> Result<()> {
        let secret = self.second_key();
        if !secret.exists() {
            keys::generate(&secret.with_extension(""))?;
        }
        let trust = vec![Trusted::read(&secret.with_extension("pub"))?];
        let recipe = Recipe { trust, ..recipe(builder, ROTATING, Vec::new())? };
        write_signed(&self.rotating(), &builder.parts(&recipe)?.uki, signer)
    }

    fn build_broken(&self, builder: &Builder, signer: &Signer) -> Result<()> {
        let make = |faults: bool, extra: Vec<Extra>| {
            builder.parts(&Recipe { faults, ..recipe(builder, BROKEN, extra)? })
        };
        let willing = make(true, Vec::new())?;
        bootable(&willing, self.churning().dir())?;
        let unit = data("usr/lib/stele/units/apid.json", ends_at_once("The API", 201)?);
        let driver =
            format!("usr/lib/modules/{}/kernel/drivers/net/virtio_net.ko", willing.kernel.release);
        let no_driver = data(&driver, b"This is no driver.\n".to_vec());
        let (no_api, no_network) = (make(false, vec![unit])?, make(false, vec![no_driver])?);
        let material = Material { willing: &willing, no_api: &no_api, no_network: &no_network };
        for fault in broken::ALL {
            if let Some(image) = fault.make(&material)? {
                let path = self.dir.join(format!("broken/{}.efi", fault.name()));
                write_signed(&path, &image, signer)?;
            }
        }
        Ok(())
    }
}

/// The image of this tree under another version, with more files.
pub fn recipe(builder: &Builder, version: &str, extra: Vec<Extra>) -> Result<Recipe> {
    let version = Version::parse(version)?;
    Ok(Recipe { extra, version, level: LEVEL, ..builder.recipe()? })
}

/// A UKI around `initramfs`, with everything else as in `parts`.
pub fn uki_around(parts: &Parts, version: &str, initramfs: &[u8]) -> Result<Vec<u8>> {
    uki_of(parts, version, &parts.manifest.cmdline, &parts.kernel.image, initramfs)
}

/// A UKI of these, with everything else as in `parts`.
pub fn uki_of(
    parts: &Parts,
    version: &str,
    cmdline: &str,
    kernel: &[u8],
    initramfs: &[u8],
) -> Result<Vec<u8>> {
    let os_release = parts.os_release.replace(&parts.manifest.version, version);
    let uki = Uki {
        stub: &parts.stub,
        os_release: &os_release,
        cmdline,
        uname: &parts.kernel.release,
        kernel,
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

fn demanding(parts: &Parts) -> Result<Vec<u8>> {
    let uki = Uki {
        stub: &parts.stub,
        os_release: &format!("{}UPGRADES_FROM={DEMANDED}\n", parts.os_release),
        cmdline: &parts.manifest.cmdline,
        uname: &parts.kernel.release,
        kernel: &parts.kernel.image,
        initramfs: &parts.initramfs,
    };
    uki.build()
}

/// A program without dependencies, static as all programs of a node are.
fn compile(dir: &Path, text: &[u8]) -> Result<Vec<u8>> {
    let (source, program) = (dir.join("reader.rs"), dir.join("reader"));
    write(&source, text)?;
    let mut rustc = Command::new("rustc");
    rustc
        .current_dir(crate::artefacts::top())
        .args(["--edition", "2024", "-O", "-Ctarget-feature=+crt-static", "-Cstrip=symbols"])
        .args(["-Crelocation-model=pie", "-Cpanic=abort", "--target", "x86_64-unknown-linux-gnu"])
        .arg("-o")
        .args([&program, &source]);
    build::run(&mut rustc)?;
    fs::read(&program).with_context(|| format!("Reading {}", program.display()))
}

/// A service that ends with an error at once: the agent that parses configurations, given nothing to parse.
fn crasher() -> Result<Extra> {
    let unit = ends_at_once("Ends as soon as it is started", 290)?;
    Ok(data("usr/lib/stele/units/crasher.json", unit))
}

fn ends_at_once(description: &str, uid: u32) -> Result<Vec<u8>> {
    let unit = json!({
        "description": description,
        "exec": ["/usr/lib/stele/configure", "--no-such-argument"],
        "sandbox": {"uid": uid, "seccomp": "pure", "memory_max": 16 << 20, "tasks_max": 4},
        "start": "boot",
    });
    Ok(serde_json::to_vec_pretty(&unit)?)
}

fn data(path: &str, data: Vec<u8>) -> Extra {
    Extra { path: path.to_owned(), mode: 0o644, data }
}

fn program(path: &str, data: Vec<u8>) -> Extra {
    Extra { path: path.to_owned(), mode: 0o755, data }
}

fn write_signed(path: &Path, bytes: &[u8], signer: &Signer) -> Result<()> {
    write(path, bytes)?;
    signer.sign_file(path).map(drop)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("Writing {}", path.display()))
}
