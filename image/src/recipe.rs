// SPDX-License-Identifier: Apache-2.0
//! A recipe for an image, and how it is made.
//!
//! ```text
//! packages ─┐
//! programs ─┼─► root ─policy─► squashfs ─► initramfs ─┐
//! units    ─┘                     kernel, cmdline ────┴─► UKI ─► disk
//! ```

use crate::apt::Apt;
use crate::cache::{Cache, write_atomically};
use crate::disk::Disk;
use crate::initramfs::Initramfs;
use crate::kernel::Kernel;
use crate::keys::{self, Signer, Trusted};
use crate::lock::{Lock, Package, Purpose};
use crate::manifest::{self, Manifest};
use crate::policy::{self, AllowList};
use crate::progress::Progress;
use crate::tree::{Tree, digest, sha256_of_file};
use crate::uki::Uki;
use crate::workspace::Workspace;
use crate::{cmdline, deb, programs, root, squashfs};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use stele_layout::slot::{SlotFile, Stage};
use stele_layout::version::Version;

/// What kind of machine an image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// Virtual machines: Debian's cloud kernel.
    Cloud,
    /// Real ones too: the generic kernel with a choice of drivers.
    Metal,
}

impl Profile {
    /// Its name, which is also that of its list in `image/modules/`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cloud => "cloud",
            Self::Metal => "metal",
        }
    }

    const fn kernel(self) -> Purpose {
        match self {
            Self::Cloud => Purpose::KernelCloud,
            Self::Metal => Purpose::KernelMetal,
        }
    }
}

/// A file that a variant of the image has on top.
#[derive(Debug, Clone)]
pub struct Extra {
    /// Where, without the leading slash: `usr/lib/stele/echo`, `usr/lib/stele/units/echo.json`.
    pub path: String,
    /// Its permission bits; with `x` it is a program, which the policy then takes as listed.
    pub mode: u32,
    /// Its content.
    pub data: Vec<u8>,
}

/// What to build.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The version in the image's name.
    pub version: Version,
    /// The profile.
    pub profile: Profile,
    /// Files on top; none for a release.
    pub extra: Vec<Extra>,
    /// The zstd level of the squashfs: [`squashfs::RELEASE_LEVEL`], or less for a variant that is made often.
    pub level: u32,
    /// Who signs the image; its public key is trusted by the image. Without one the image is unsigned.
    pub signer: Option<Signer>,
    /// Whose images it takes besides: the next key beside this one, for a rotation.
    pub trust: Vec<Trusted>,
    /// The oldest version that may move to this one.
    pub upgrades_from: Option<Version>,
    /// Whether PID 1 can be told to fail (`stele.fault=` on the kernel command line): for tests alone.
    pub faults: bool,
}

/// The parts of an image, from which others can be made (see [`Uki`] and [`Disk`]).
#[derive(Debug)]
pub struct Parts {
    /// What is in it.
    pub manifest: Manifest,
    /// `os-release`, which names the version.
    pub os_release: String,
    /// The kernel.
    pub kernel: Kernel,
    /// The root, packed.
    pub rootfs: Vec<u8>,
    /// The initramfs with the root in it.
    pub initramfs: Vec<u8>,
    /// The stub.
    pub stub: Vec<u8>,
    /// The boot loader.
    pub loader: Vec<u8>,
    /// The UKI.
    pub uki: Vec<u8>,
    /// The text of `stele.efi.sig`, if there is a signer.
    pub signature: Option<String>,
    /// The time of every file.
    pub epoch: u64,
}

impl Recipe {
    /// A release build.
    #[must_use]
    pub fn new(version: Version, profile: Profile) -> Self {
        Self {
            version,
            profile,
            extra: Vec::new(),
            level: squashfs::RELEASE_LEVEL,
            signer: None,
            trust: Vec::new(),
            upgrades_from: None,
            faults: false,
        }
    }

    /// Makes the parts.
    pub fn parts(
        &self,
        workspace: &Workspace,
        cache: &Cache,
        progress: &Progress,
    ) -> Result<Parts> {
        let epoch = workspace.epoch()?;
        let lock = Lock::read(&workspace.lock())?;
        let purposes = [self.profile.kernel(), Purpose::Tools, Purpose::Trust, Purpose::Boot];
        let wanted = lock.packages.iter().filter(|package| purposes.contains(&package.purpose));
        let packages = Apt::new()?.files(wanted, cache, progress)?;

        progress.step("Building the programs of the node");
        let programs = progress.suspend(|| programs::node(workspace, self.faults))?;

        progress.step("Unpacking the kernel");
        let (package, file) = packages
            .iter()
            .find(|(package, _)| package.purpose == self.profile.kernel())
            .with_context(|| {
                format!("The lock names no kernel for {}; run `image lock`", self.profile.name())
            })?;
        let lists = ["common", self.profile.name()]
            .map(|name| workspace.read(&format!("image/modules/{name}")));
        let lists = lists.into_iter().collect::<Result<Vec<_>>>()?;
        let kernel = Kernel::load(file, &package.sha256, &lists, cache)?;

        progress.step("Laying out the root");
        let os_release = self.os_release(epoch);
        let mut tree = root::skeleton();
        tree.merge(kernel.modules.clone());
        tree.merge(root::from_packages(&packages)?);
        tree.merge(root::from_programs(&programs)?);
        tree.merge(root::from_units(workspace)?);
        tree.merge(root::from_keys(&self.keys()?)?);
        tree.file("usr/lib/os-release", 0o644, os_release.clone().into_bytes());
        let mut allowed = AllowList::parse(&workspace.read("image/allowlist")?)?;
        for extra in &self.extra {
            tree.file(&extra.path, extra.mode, extra.data.clone());
            if extra.mode & 0o111 != 0 {
                allowed.allow(&extra.path, "a variant of the image");
            }
        }
        policy::check(&tree, &allowed)?;
        root::check_units(&tree)?;

        let mut manifest = Manifest {
            version: self.version.as_str().to_owned(),
            profile: self.profile.name().to_owned(),
            build_time: epoch,
            kernel: kernel.release.clone(),
            cmdline: cmdline::image(),
            packages: packages.iter().map(|(package, _)| (*package).clone()).collect(),
            files: manifest::files(&tree),
            parts: BTreeMap::new(),
        };
        tree.file("usr/share/stele/manifest.json", 0o444, manifest.to_json()?);

        progress.step("Packing the root");
        let rootfs = self.pack(&tree, epoch, cache)?;

        progress.step("Assembling the image");
        let init = tree.data("sbin/init").context("The root has no /sbin/init")?;
        let initramfs =
            Initramfs { init, modules: &kernel.stage_one, rootfs: Some(&rootfs) }.pack()?;
        let boot = boot_files(&packages)?;
        let part =
            |name: &str| boot.data(&format!("usr/lib/systemd/boot/efi/{name}")).map(<[u8]>::to_vec);
        let stub = part("linuxx64.efi.stub")
            .context("The package systemd-boot-efi has no linuxx64.efi.stub")?;
        let loader = part("systemd-bootx64.efi")
            .context("The package systemd-boot-efi has no systemd-bootx64.efi")?;
        let uki = Uki {
            stub: &stub,
            os_release: &os_release,
            cmdline: &manifest.cmdline,
            uname: &kernel.release,
            kernel: &kernel.image,
            initramfs: &initramfs,
        }
        .build()?;
        for (name, size) in [
            ("vmlinuz", kernel.image.len()),
            ("rootfs.sqsh", rootfs.len()),
            ("initramfs", initramfs.len()),
            ("stele.efi", uki.len()),
        ] {
            manifest.parts.insert(name.to_owned(), size as u64);
        }
        let signature = self.signer.as_ref().map(|signer| signer.sign(&digest(&uki)));
        let signature = signature.transpose()?;
        Ok(Parts {
            manifest,
            os_release,
            kernel,
            rootfs,
            initramfs,
            stub,
            loader,
            uki,
            signature,
            epoch,
        })
    }

    /// The keys that the image trusts: its signer's, and those it was told to.
    fn keys(&self) -> Result<Vec<Trusted>> {
        let signer = self.signer.as_ref().map(Signer::public);
        let keys: Vec<Trusted> = signer.into_iter().chain(self.trust.iter().cloned()).collect();
        Trusted::check(&keys)?;
        Ok(keys)
    }

    fn pack(&self, tree: &Tree, epoch: u64, cache: &Cache) -> Result<Vec<u8>> {
        let time = u32::try_from(epoch).context("A build time after 2106")?;
        let inputs = [tree.digest(), self.level.to_string(), epoch.to_string()];
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        cache.bytes("rootfs", &inputs, || squashfs::pack(tree, self.level, time))
    }

    fn os_release(&self, epoch: u64) -> String {
        let (version, profile) = (self.version.as_str(), self.profile.name());
        let mut text = format!(
            "ID=stele\nNAME=Stele\nPRETTY_NAME=\"Stele {version}\"\nVERSION_ID={version}\nVARIANT_ID={profile}\n\
             IMAGE_ID=stele\nIMAGE_VERSION={version}\nBUILD_TIME={epoch}\n"
        );
        if let Some(oldest) = &self.upgrades_from {
            text.push_str(&format!("UPGRADES_FROM={oldest}\n"));
        }
        text
    }
}

impl Parts {
    /// Writes every artefact but `ctl` to a folder, and their digests to `SHA256SUMS`.
    pub fn write(&self, out: &Path, progress: &Progress) -> Result<()> {
        fs::create_dir_all(out).with_context(|| format!("Making the folder {}", out.display()))?;
        let mut manifest = self.manifest.clone();
        let slot = SlotFile::new(Version::parse(&manifest.version)?, Stage::Plain).to_string();
        progress.step("Writing the disk image");
        let raw = out.join("stele.raw");
        Disk { loader: &self.loader, slots: &[(slot, &self.uki)], epoch: self.epoch }
            .write(&raw)?;
        manifest.parts.insert("stele.raw".to_owned(), fs::metadata(&raw)?.len());

        progress.step("Writing artefacts");
        let cmdline = format!("{}\n", manifest.cmdline);
        let manifest = manifest.to_json()?;
        let files: [(&str, &[u8]); 5] = [
            ("stele.efi", &self.uki),
            ("vmlinuz", &self.kernel.image),
            ("initramfs", &self.initramfs),
            ("cmdline", cmdline.as_bytes()),
            ("manifest.json", &manifest),
        ];
        for (name, data) in files {
            write_atomically(&out.join(name), data)?;
        }
        let signed = keys::beside(&out.join("stele.efi"));
        match &self.signature {
            Some(signature) => write_atomically(&signed, signature.as_bytes()),
            // One that is left from an earlier build would be that of another image.
            None if signed.exists() => {
                fs::remove_file(&signed).with_context(|| format!("Removing {}", signed.display()))
            }
            None => Ok(()),
        }
    }
}

/// Writes the digests of what is in `out`, for `sha256sum --check`.
pub fn write_sums(out: &Path) -> Result<()> {
    let mut sums = String::new();
    for name in [
        "cmdline",
        "ctl",
        "initramfs",
        "manifest.json",
        "stele.efi",
        "stele.efi.sig",
        "stele.raw",
        "vmlinuz",
    ] {
        if out.join(name).exists() {
            sums.push_str(&format!("{}  {name}\n", sha256_of_file(&out.join(name))?));
        }
    }
    write_atomically(&out.join("SHA256SUMS"), sums.as_bytes())
}

fn boot_files(packages: &[(&Package, std::path::PathBuf)]) -> Result<Tree> {
    let mut files = Tree::default();
    for (package, file) in packages {
        if package.purpose == Purpose::Boot {
            files.merge(deb::unpack(file, |path| path.starts_with("usr/lib/systemd/boot/efi/"))?);
        }
    }
    Ok(files)
}
