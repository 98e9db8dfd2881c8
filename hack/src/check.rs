// SPDX-License-Identifier: Apache-2.0
//! `hack test`: everything that must hold, in the order in which it fails fastest.

use crate::{
    artefacts::top,
    build::{self, Builder},
    tools::Tools,
    variants::Variants,
};
use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use std::{env, process::Command, time::Instant};

/// What cargo looks at: always the whole workspace in one form, so that nothing in it is built twice.
const WHOLE: [&str; 5] = ["--locked", "--quiet", "--workspace", "--features", "hack/bench"];

/// What tells the end-to-end tests that there is time for all of them.
pub const THOROUGH: &str = "--thorough";

/// A part of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Formatting and lints
    Lint,
    /// Unit and property tests
    Unit,
    /// Two builds in two folders give the same bytes
    Reproducible,
    /// End to end, on real boots
    E2e,
}

impl Part {
    /// What runs when no part is named. The second build is asked for by its name: against a target folder that older
    /// trees have warmed, it finds their objects, not a difference between the two folders.
    const ALL: [Part; 3] = [Part::Lint, Part::Unit, Part::E2e];

    fn title(self) -> &'static str {
        match self {
            Part::Lint => "Formatting and lints",
            Part::Unit => "Unit and property tests",
            Part::Reproducible => "A second build gives the same bytes",
            Part::E2e => "End to end, on real boots",
        }
    }

    fn run(self, filters: &[String], thorough: bool) -> Result<()> {
        match self {
            Part::Lint => {
                cargo(&["fmt", "--all", "--check"])?;
                // The end-to-end tests are no test of cargo's, so it takes them only by their name.
                for what in ["--all-targets", "--test=e2e"] {
                    cargo(&[&["clippy"], &WHOLE[..], &[what, "--", "-D", "warnings"]].concat())?;
                }
                Ok(())
            }
            Part::Unit => cargo(&[&["test"], &WHOLE[..], &["--no-fail-fast"]].concat()),
            Part::E2e => {
                let builder = Builder::new()?;
                let image = builder.fresh_image(&top().join("out"))?;
                Variants::new(image.dir().join("e2e")).build(&builder, &image)?;
                Tools::new(image.dir().join("tools")).prepare(&builder)?;
                let filters = filters.iter().map(String::as_str);
                let filters: Vec<&str> = filters.chain(thorough.then_some(THOROUGH)).collect();
                cargo(&[&["test"], &WHOLE[..], &["--test=e2e", "--"], &filters].concat())
            }
            Part::Reproducible => crate::reproducible::check(),
        }
    }
}

/// Runs the parts that are named, or all of them.
pub fn test(parts: &[Part], filters: &[String], thorough: bool) -> Result<()> {
    let parts = if parts.is_empty() { &Part::ALL } else { parts };
    let mut failed = Vec::new();
    let started = Instant::now();
    for part in parts {
        println!("\n=== {} ({:.0} s)", part.title(), started.elapsed().as_secs_f32());
        if let Err(error) = part.run(filters, thorough) {
            println!("=== FAILED: {error:#}");
            failed.push(part.title());
        }
    }
    println!("\n=== {:.0} s in all", started.elapsed().as_secs_f32());
    if !failed.is_empty() {
        bail!("{} failed", failed.join(", "));
    }
    println!("Everything holds.");
    Ok(())
}

fn cargo(args: &[&str]) -> Result<()> {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    build::run(Command::new(program).args(args).current_dir(top())).context("cargo")
}
