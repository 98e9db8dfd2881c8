// SPDX-License-Identifier: Apache-2.0
//! `image`: builds the operating system image. See the library for how.

#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use image::cache::Cache;
use image::keys::{self, Signer, Trusted};
use image::manifest::Manifest;
use image::progress::Progress;
use image::recipe::{Profile, Recipe, write_sums};
use image::workspace::Workspace;
use image::{firmware, programs, push, resolve, squashfs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use stele_layout::version::Version;

/// Builds Stele's images.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build an image and everything that goes with it.
    Build {
        /// The folder for the artefacts.
        #[arg(long, default_value = "out")]
        out: PathBuf,
        /// The version in the image's name.
        #[arg(long, default_value = env!("CARGO_PKG_VERSION"), value_parser = Version::parse)]
        version: Version,
        /// What kind of machine it is for.
        #[arg(long, value_enum, default_value = "cloud")]
        profile: Profile,
        /// How hard to compress the root, 1 to 22; less is quicker.
        #[arg(long, default_value_t = squashfs::RELEASE_LEVEL, value_parser = clap::value_parser!(u32).range(1..=22))]
        level: u32,
        /// Sign the image with this key, and make it trust it.
        #[arg(long, value_name = "NAME.key")]
        sign: Option<PathBuf>,
        /// Make the image trust this key too, and so take images that its owner signs.
        #[arg(long, value_name = "NAME.pub")]
        trust: Vec<PathBuf>,
        /// The oldest version that may move to this one.
        #[arg(long, value_name = "VERSION", value_parser = Version::parse)]
        upgrades_from: Option<Version>,
    },
    /// Make a key pair to sign images with: NAME.key, which stays secret, and NAME.pub.
    Keygen {
        /// Where to: a path without the .key and .pub.
        #[arg(long, value_name = "NAME", default_value = "stele")]
        out: PathBuf,
    },
    /// Sign files: FILE.sig beside each, as `cosign sign-blob --key` would make it.
    Sign {
        /// The key.
        #[arg(long, value_name = "NAME.key")]
        key: PathBuf,
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Publish an image in an OCI registry, from where nodes take it (`ctl upgrade --registry REF`).
    Push {
        /// HOST[:PORT]/NAME[:TAG]; http:// before it for a registry without TLS. The tag is by default the image's version.
        reference: String,
        /// The image.
        #[arg(long, default_value = "out/stele.efi")]
        image: PathBuf,
        /// Sign it there with this key, as `cosign sign --key` would; without, someone else must.
        #[arg(long, value_name = "NAME.key")]
        sign: Option<PathBuf>,
    },
    /// Renew the lock file: the newest packages, their signatures checked by apt.
    Lock,
    /// Fetch UEFI for virtual machines (no part of the image).
    Firmware {
        /// The folder for it.
        #[arg(long, default_value = "out/firmware")]
        out: PathBuf,
    },
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
            eprintln!("image: {}", causes.join("\n  because: "));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments = Arguments::parse();
    let progress = Progress::on_terminal();
    match arguments.command {
        Command::Build { out, version, profile, level, sign, trust, upgrades_from } => {
            let signer = sign.as_deref().map(Signer::read).transpose()?;
            let trust = trust.iter().map(|path| Trusted::read(path)).collect::<Result<Vec<_>>>()?;
            let recipe = Recipe::new(version, profile);
            let recipe = Recipe { level, signer, trust, upgrades_from, ..recipe };
            build(&Workspace::find()?, &recipe, &out, &progress)
        }
        Command::Keygen { out } => {
            let (secret, public) = keys::generate(&out)?;
            println!("{} signs; keep it to yourself", secret.display());
            println!("{} verifies; image build --sign puts it into the image", public.display());
            Ok(())
        }
        Command::Sign { key, files } => {
            let signer = Signer::read(&key)?;
            for file in files {
                println!("{}", signer.sign_file(&file)?.display());
            }
            Ok(())
        }
        Command::Push { reference, image, sign } => {
            let signer = sign.as_deref().map(Signer::read).transpose()?;
            let pushed = push::push(&reference, &image, signer.as_ref(), &progress)?;
            let _ = progress.finish();
            println!("{pushed}");
            match signer {
                Some(signer) => println!("  signed by {}", signer.public()),
                None => println!(
                    "  not signed: nodes take it once it is (cosign sign --key, or --sign)"
                ),
            }
            Ok(())
        }
        Command::Lock => {
            let lock = resolve::resolve(&progress)?;
            lock.write(&Workspace::find()?.lock())?;
            let _ = progress.finish();
            for package in &lock.packages {
                println!("{:<40} {:<20} {}", package.name, package.version, package.suite);
            }
            Ok(())
        }
        Command::Firmware { out } => {
            firmware::write(&Workspace::find()?, &Cache::of_user()?, &progress, &out)?;
            let _ = progress.finish();
            Ok(())
        }
    }
}

fn build(workspace: &Workspace, recipe: &Recipe, out: &Path, progress: &Progress) -> Result<()> {
    let parts = recipe.parts(workspace, &Cache::of_user()?, progress)?;
    parts.write(out, progress)?;
    progress.step("Building ctl");
    let ctl = progress.suspend(|| programs::ctl(workspace))?;
    std::fs::copy(&ctl, out.join("ctl"))
        .with_context(|| format!("Copying {} to {}", ctl.display(), out.display()))?;
    write_sums(out)?;
    summarize(&parts.manifest, out, progress.finish());
    match &recipe.signer {
        Some(signer) => println!("  signed by {}", signer.public()),
        None => println!(
            "  not signed: no machine takes it as an upgrade (image keygen, image build --sign KEY)"
        ),
    }
    if recipe.signer.is_none() && recipe.trust.is_empty() {
        println!("  trusts no key: a machine that runs it takes no upgrade");
    }
    Ok(())
}

fn summarize(manifest: &Manifest, out: &Path, took: Duration) {
    let mib = |size: u64| format!("{:.1} MiB", size as f64 / 1024.0 / 1024.0);
    println!(
        "Stele {} ({}, Linux {}) in {}, after {:.1} s",
        manifest.version,
        manifest.profile,
        manifest.kernel,
        out.display(),
        took.as_secs_f64()
    );
    for (name, size) in &manifest.parts {
        println!("  {name:<12} {:>10}", mib(*size));
    }
}
