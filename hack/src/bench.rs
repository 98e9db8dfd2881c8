// SPDX-License-Identifier: Apache-2.0
//! `hack bench`: the figures, each beside what it is measured against, in the same run.
//!
//! * [`boot`]: power on to an address and to the first authenticated answer, against an init that does nothing.
//! * [`memory`]: what is in use a minute after the boot, against the kernel alone, and what of it the agents use.
//! * [`upgrade`]: how long an upgrade takes the API away, against two boots of that init.
//! * [`calls`]: calls and log bytes a second, against a bare server in the same guest.
//! * [`changes`]: how long one takes, applied, reachable and watched, against a round trip.
//! * [`inside`]: the store and the parser, in this process.
//! * [`network`]: much network, against `ip -batch`.

mod boot;
mod calls;
mod changes;
mod guest;
mod inside;
mod memory;
mod network;
mod reach;
mod upgrade;

pub use network::converge;

use crate::{artefacts::top, build::Builder};
use anyhow::{Context as _, Result};
use serde::Serialize;
use std::fs;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Subject {
    /// Seconds from power on to the first answer
    Boot,
    /// Bytes of the image
    Image,
    /// Memory in use
    Memory,
    /// Calls a second, and log bytes a second
    Calls,
    /// Seconds without an API in an upgrade
    Upgrade,
    /// Milliseconds that a change takes, applied and watched
    Changes,
    /// Memory of the store
    Store,
    /// Bytes of configuration a second
    Parser,
    /// Milliseconds until many links and routes are there
    Network,
}

impl Subject {
    /// Whether it takes no machine.
    const fn is_inside(self) -> bool {
        matches!(self, Subject::Store | Subject::Parser | Subject::Network)
    }
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// In what unit.
    pub unit: &'static str,
    /// The median of ours.
    pub ours: f64,
    /// The median of what it is measured against.
    pub floor: f64,
    /// How many times each was measured.
    pub runs: usize,
    /// The goal, in words.
    pub goal: &'static str,
    /// Whether it is met.
    pub met: bool,
}

impl Figure {
    /// Judges measurements: `met` is told both medians.
    fn new(
        name: impl Into<String>,
        unit: &'static str,
        (ours, floor): (Vec<f64>, Vec<f64>),
        goal: &'static str,
        met: impl Fn(f64, f64) -> bool,
    ) -> Self {
        let runs = ours.len().min(floor.len());
        let (ours, floor) = (median(ours), median(floor));
        Self { name: name.into(), unit, ours, floor, runs, goal, met: met(ours, floor) }
    }
}

/// Measures, and prints a table or JSON.
pub fn bench(subjects: &[Subject], runs: usize, json: bool) -> Result<()> {
    let all = [
        Subject::Store,
        Subject::Parser,
        Subject::Network,
        Subject::Image,
        Subject::Boot,
        Subject::Upgrade,
        Subject::Calls,
        Subject::Changes,
        Subject::Memory,
    ];
    let subjects = if subjects.is_empty() { &all[..] } else { subjects };
    let (inside, outside): (Vec<Subject>, Vec<Subject>) =
        subjects.iter().partition(|subject| subject.is_inside());
    let mut figures = Vec::new();
    for subject in inside {
        eprintln!("measuring {subject:?} …");
        figures.push(match subject {
            Subject::Store => inside::store(runs)?,
            Subject::Network => network::measure(runs)?,
            _ => inside::parser(runs)?,
        });
    }
    if !outside.is_empty() {
        let builder = Builder::new()?;
        let image = builder.fresh_image(&top().join("out"))?;
        let guest = guest::Guest::build(&builder, &image)?;
        for subject in outside {
            eprintln!("measuring {subject:?} …");
            figures.extend(of_a_machine(&guest, subject, runs)?);
        }
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&figures)?);
    } else {
        print!("{}", table(&figures));
    }
    Ok(())
}

fn of_a_machine(guest: &guest::Guest, subject: Subject, runs: usize) -> Result<Vec<Figure>> {
    Ok(match subject {
        Subject::Boot => boot::measure(guest, runs)?,
        Subject::Image => vec![size(guest)?],
        Subject::Memory => memory::measure(guest, runs)?,
        Subject::Calls => calls::measure(guest, runs)?,
        Subject::Changes => changes::measure(guest, runs)?,
        Subject::Upgrade => vec![upgrade::measure(guest, runs)?],
        Subject::Store | Subject::Parser | Subject::Network => Vec::new(),
    })
}

fn size(guest: &guest::Guest) -> Result<Figure> {
    let mib = |path| -> Result<f64> {
        Ok(fs::metadata(path).context("Looking at the image")?.len() as f64 / 1048576.0)
    };
    let measured = (vec![mib(guest.image.uki()?)?], vec![mib(guest.image.kernel()?)?]);
    Ok(Figure::new(
        "image, against the kernel alone",
        "MiB",
        measured,
        "≤ 3 ×, < 40 MiB",
        |ours, floor| ours <= 3.0 * floor && ours < 40.0,
    ))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), values.len() % 2) {
        (Some(value), 1) => *value,
        (Some(value), _) => (value + values.get(middle - 1).unwrap_or(value)) / 2.0,
        (None, _) => f64::NAN,
    }
}

fn table(figures: &[Figure]) -> String {
    let mut table = format!(
        "{:<46} {:>10} {:>10} {:>7}  {:<18} {}\n",
        "FIGURE (median)", "OURS", "FLOOR", "RATIO", "GOAL", "MET"
    );
    for figure in figures {
        let name = format!("{} [{}]", figure.name, figure.unit);
        let met = if figure.met { "yes" } else { "NO" };
        let ratio = figure.ours / figure.floor;
        table += &format!(
            "{name:<46} {:>10.2} {:>10.2} {ratio:>7.2}  {:<18} {met}\n",
            figure.ours, figure.floor, figure.goal
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_not_moved_by_one_slow_run() {
        assert_eq!(median(vec![1.0, 9.0, 2.0]), 2.0);
        assert_eq!(median(vec![1.0, 9.0, 2.0, 4.0]), 3.0);
    }

    #[test]
    fn a_goal_that_is_missed_is_shown_as_missed() {
        let figure =
            Figure::new("boot", "s", (vec![3.0], vec![1.0]), "≤ 1.6 ×", |ours, floor| {
                ours <= 1.6 * floor
            });
        assert!(table(&[figure]).contains("3.00  ≤ 1.6 ×"));
    }
}
