// SPDX-License-Identifier: Apache-2.0
//! `hack fuzz`: searches for inputs that break a reader of strangers' bytes. The targets are in `hack/fuzz`.
//!
//! What was found to reach something new is kept in `target/fuzz/corpus/TARGET`, and the next search goes on from there. An
//! input that breaks a target ends the search and is kept in `target/fuzz/broken`.

use crate::{artefacts::top, build};
use anyhow::{Context as _, Result};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// The target that the flags are for: named, so that they do not reach build scripts.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// What a fuzzer learns from: which branches were taken, how often, and what was compared.
const FLAGS: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// The longest input: what matters shows in shorter ones.
const LONGEST: usize = 16 << 10;

/// What is fuzzed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Target {
    /// The configuration parser
    Config,
    /// The patcher
    Patch,
    /// Every method of PID 1
    Calls,
    /// The socket of PID 1
    Socket,
    /// What PID 1 makes of a configuration
    Apply,
    /// The other side of that socket, in apid
    Frames,
    /// Readers of what networks, disks and firmware say
    Readers,
}

impl Target {
    const ALL: [Target; 7] = [
        Target::Config,
        Target::Patch,
        Target::Calls,
        Target::Socket,
        Target::Apply,
        Target::Frames,
        Target::Readers,
    ];

    const fn name(self) -> &'static str {
        match self {
            Target::Config => "config",
            Target::Patch => "patch",
            Target::Calls => "calls",
            Target::Socket => "socket",
            Target::Apply => "apply",
            Target::Frames => "frames",
            Target::Readers => "readers",
        }
    }
}

/// Fuzzes each of these targets, or all of them, one after the other for so long.
pub fn fuzz(targets: &[Target], each: Duration) -> Result<()> {
    let targets = if targets.is_empty() { &Target::ALL } else { targets };
    let fuzzer = build_fuzzer()?;
    targets.iter().try_for_each(|target| search(&fuzzer, *target, each))
}

/// Builds the fuzzer. Everything is built again with the flags, in a folder of its own.
fn build_fuzzer() -> Result<PathBuf> {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let words = "build --locked -p stele-fuzz --features libfuzzer --profile fuzz --target";
    build::run(
        Command::new(program)
            .args(words.split(' '))
            .arg(TRIPLE)
            .env("RUSTFLAGS", FLAGS.join(" "))
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .current_dir(top()),
    )
    .context("Building the fuzzer")?;
    Ok(target_folder().join(TRIPLE).join("fuzz/fuzz"))
}

fn target_folder() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| top().join("target"), |folder| top().join(folder))
}

fn search(fuzzer: &Path, target: Target, time: Duration) -> Result<()> {
    let name = target.name();
    let folder = |what: &str| {
        let folder = target_folder().join("fuzz").join(what).join(name);
        fs::create_dir_all(&folder).with_context(|| format!("Making {}", folder.display()))?;
        anyhow::Ok(folder)
    };
    let (corpus, seeds, broken) = (folder("corpus")?, folder("seeds")?, folder("broken")?);
    println!("\n=== {name}, {} s", time.as_secs());
    build::run(
        Command::new(fuzzer)
            .env("FUZZ_TARGET", name)
            .env("FUZZ_SEEDS", &seeds)
            .arg(format!("-max_total_time={}", time.as_secs()))
            .arg(format!("-max_len={LONGEST}"))
            .arg(format!("-artifact_prefix={}/", broken.display()))
            .args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"])
            .args([corpus, seeds]),
    )
    .with_context(|| format!("{name} breaks; the input is in {}", broken.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_target_can_be_asked_for() {
        let text = |file: &str| fs::read_to_string(top().join("hack/fuzz/src").join(file)).unwrap();
        let files = ["apply.rs", "calls.rs", "config.rs", "frames.rs", "patch.rs", "readers.rs"];
        let all = files.map(text).join("");
        let there = all.split("Target { name: \"").skip(1);
        let there: BTreeSet<&str> = there.filter_map(|rest| rest.split('"').next()).collect();
        assert_eq!(there, Target::ALL.map(Target::name).into());
    }
}
