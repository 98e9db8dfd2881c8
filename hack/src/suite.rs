// SPDX-License-Identifier: Apache-2.0
//! Scenarios on real boots: one boot, many checks.
//!
//! A boot costs seconds and a check costs milliseconds, so a scenario boots once and checks in order. Each check has a
//! name of its own and fails alone; a scenario whose boot fails, fails as a whole. Scenarios run side by side as far as
//! their machines fit.

use anyhow::{Context as _, Result};
use std::{
    sync::{Condvar, Mutex, PoisonError, atomic::AtomicBool, atomic::Ordering},
    thread,
    time::Instant,
};

/// How many machines may run at once.
const MACHINES: u32 = 2;

/// Checks that share boots.
pub struct Scenario<W> {
    /// Its name: the checks' names begin with it.
    pub name: &'static str,
    /// How many machines it runs at once.
    pub machines: u32,
    /// Boots and checks.
    pub run: fn(&W, &Checks) -> Result<()>,
}

impl<W> std::fmt::Debug for Scenario<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scenario").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Where a scenario reports to.
#[derive(Debug)]
pub struct Checks {
    scenario: &'static str,
    results: Mutex<Vec<(String, Option<String>)>>,
}

impl Checks {
    /// One check. A failure is reported, and the scenario goes on.
    pub fn check(&self, name: &str, body: impl FnOnce() -> Result<()>) {
        let started = Instant::now();
        let failure = body().err().map(|error| format!("{error:#}"));
        let verdict = if failure.is_none() { "ok" } else { "FAILED" };
        println!(
            "{} {name} ... {verdict} ({:.1} s)",
            self.scenario,
            started.elapsed().as_secs_f32()
        );
        if let Some(failure) = &failure {
            println!("    {}", failure.replace('\n', "\n    "));
        }
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        results.push((format!("{} {name}", self.scenario), failure));
    }
}

/// Runs every scenario whose name contains one of `filters` (all, if there are none). True if every check held.
pub fn run<'s, W: Sync + 's>(
    world: &W,
    scenarios: impl IntoIterator<Item = &'s Scenario<W>>,
    filters: &[String],
) -> Result<bool> {
    let wanted = |scenario: &&Scenario<W>| {
        filters.is_empty() || filters.iter().any(|filter| scenario.name.contains(filter))
    };
    let scenarios: Vec<&Scenario<W>> = scenarios.into_iter().filter(wanted).collect();
    let slots = Slots { free: Mutex::new(MACHINES), changed: Condvar::new() };
    let results = Mutex::new(Vec::new());
    let sound = AtomicBool::new(true);
    thread::scope(|scope| {
        for scenario in scenarios.iter().copied() {
            // In this order, so that the long ones can be put first.
            slots.take(scenario.machines);
            let (slots, results, sound) = (&slots, &results, &sound);
            scope.spawn(move || {
                let started = Instant::now();
                let checks = Checks { scenario: scenario.name, results: Mutex::default() };
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    (scenario.run)(world, &checks)
                }));
                let outcome = outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("It panicked")));
                if let Err(error) =
                    outcome.with_context(|| format!("{} ended early", scenario.name))
                {
                    checks.check("runs to its end", || Err(error));
                }
                println!("{} took {:.0} s", scenario.name, started.elapsed().as_secs_f32());
                let checks = checks.results.into_inner().unwrap_or_else(PoisonError::into_inner);
                if checks.iter().any(|(_, failure)| failure.is_some()) {
                    sound.store(false, Ordering::Relaxed);
                }
                results.lock().unwrap_or_else(PoisonError::into_inner).extend(checks);
                slots.give(scenario.machines);
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let failures: Vec<_> = results.iter().filter(|(_, failure)| failure.is_some()).collect();
    println!(
        "\n{} checks in {} scenarios, {} failed",
        results.len(),
        scenarios.len(),
        failures.len()
    );
    for (name, _) in failures {
        println!("  FAILED {name}");
    }
    Ok(sound.into_inner())
}

/// Room for machines.
#[derive(Debug)]
struct Slots {
    free: Mutex<u32>,
    changed: Condvar,
}

impl Slots {
    fn take(&self, wanted: u32) {
        let wanted = wanted.min(MACHINES);
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self
            .changed
            .wait_while(free, |free| *free < wanted)
            .unwrap_or_else(PoisonError::into_inner);
        *free -= wanted;
    }

    fn give(&self, taken: u32) {
        *self.free.lock().unwrap_or_else(PoisonError::into_inner) += taken.min(MACHINES);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_check_fails_the_suite_and_not_the_others() {
        let world = Mutex::new(Vec::new());
        let scenario = Scenario {
            name: "pretend",
            machines: 1,
            run: |world: &Mutex<Vec<u32>>, checks| {
                for number in 0..3 {
                    checks.check("is even", || {
                        world.lock().unwrap().push(number);
                        anyhow::ensure!(number % 2 == 0, "odd");
                        Ok(())
                    });
                }
                Ok(())
            },
        };
        assert!(!run(&world, &[scenario], &[]).unwrap());
        assert_eq!(world.into_inner().unwrap(), [0, 1, 2]);
    }

    #[test]
    fn a_filter_leaves_the_others_out() {
        let scenario =
            Scenario { name: "pretend", machines: 3, run: |(): &(), _| anyhow::bail!("never") };
        let scenarios = [scenario];
        assert!(run(&(), &scenarios, &["other".into()]).unwrap());
        assert!(!run(&(), &scenarios, &["pret".into()]).unwrap());
    }
}
