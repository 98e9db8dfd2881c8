// SPDX-License-Identifier: Apache-2.0
//! Health: what each check last saw, and whether a boot on trial has proved itself.
//!
//! ```text
//!                    passes, `successes` in a row
//!   Unknown ──────────────────────────────────────► Passing
//!      │      ◄─┐                                     │ ▲
//!      │ fails  │ passes, not yet often enough  fails │ │ passes, `successes` in a row
//!      ▼        │                                     ▼ │
//!   Failing ────┴───────────────────────────────────► Failing
//! ```
//!
//! The gate of a boot on trial is passed at the first moment at which every check that counts is Passing, all at once; it
//! has failed when one that counts is not Passing at its deadline or after it. So a check that flaps cannot pass by having
//! been seen in a good moment, and one that takes its time has the time that its deadline gives it.
//!
//! What counts is what is required, but for what failed before the upgrade too: a new image answers for what it changed.

use std::collections::{BTreeMap, BTreeSet};

/// Milliseconds since boot.
pub type Millis = u64;

/// What is asked of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whether a boot on trial must pass it.
    pub required: bool,
    /// Passes in a row until it counts as passing.
    pub successes: u32,
    /// After the start of a boot on trial, by when it must be passing.
    pub deadline: Millis,
}

/// How a check is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Not tried yet, or not often enough.
    #[default]
    Unknown,
    /// It passed as often in a row as it must.
    Passing,
    /// Its last try failed, or it has not passed often enough since one did.
    Failing,
}

/// A check and what it saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    rule: Rule,
    state: State,
    /// Passes in a row.
    run: u32,
    tries: u64,
    passes: u64,
    since: Millis,
    /// What the last try saw, in a sentence.
    said: String,
    /// What the last try that failed saw.
    complaint: String,
    /// When it was passing first.
    passed_at: Option<Millis>,
}

impl Check {
    const fn new(rule: Rule, now: Millis) -> Check {
        Check {
            rule,
            state: State::Unknown,
            run: 0,
            tries: 0,
            passes: 0,
            since: now,
            said: String::new(),
            complaint: String::new(),
            passed_at: None,
        }
    }

    /// What is asked of it.
    #[must_use]
    pub const fn rule(&self) -> Rule {
        self.rule
    }

    /// How it is.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Since when it has been so.
    #[must_use]
    pub const fn since(&self) -> Millis {
        self.since
    }

    /// When it was passing for the first time.
    #[must_use]
    pub const fn passed_at(&self) -> Option<Millis> {
        self.passed_at
    }

    /// Tries, and how many of them passed.
    #[must_use]
    pub const fn tries(&self) -> (u64, u64) {
        (self.tries, self.passes)
    }

    /// What it saw last, in a sentence.
    #[must_use]
    pub fn said(&self) -> &str {
        &self.said
    }

    /// Why it is not passing, in a sentence.
    #[must_use]
    pub fn complaint(&self) -> String {
        let (tries, passes) = (self.tries, self.passes);
        match (tries, passes) {
            (0, _) => "it was not tried yet".to_owned(),
            (_, 0) => self.complaint.clone(),
            _ if passes == tries => {
                format!("it passed {} times of the {} it must", self.run, self.rule.successes)
            }
            _ => format!(
                "{}; it passed {passes} of {tries} tries, and must pass {} in a row",
                self.complaint, self.rule.successes
            ),
        }
    }

    fn see(&mut self, ok: bool, said: &str, now: Millis) {
        self.tries = self.tries.saturating_add(1);
        said.clone_into(&mut self.said);
        let next = if ok {
            self.passes = self.passes.saturating_add(1);
            self.run = self.run.saturating_add(1);
            if self.run >= self.rule.successes { State::Passing } else { self.state }
        } else {
            self.run = 0;
            said.clone_into(&mut self.complaint);
            State::Failing
        };
        if next == State::Passing {
            self.passed_at.get_or_insert(now);
        }
        if next != self.state {
            self.state = next;
            self.since = now;
        }
    }
}

/// All checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    checks: BTreeMap<String, Check>,
}

impl Health {
    /// Makes the checks whose names `mine` takes be exactly these. One that stays as it was keeps what it saw.
    pub fn set(
        &mut self,
        mine: impl Fn(&str) -> bool,
        rules: &BTreeMap<String, Rule>,
        now: Millis,
    ) {
        self.checks.retain(|name, check| {
            !mine(name) || rules.get(name).is_some_and(|rule| *rule == check.rule)
        });
        for (name, rule) in rules {
            self.checks.entry(name.clone()).or_insert_with(|| Check::new(*rule, now));
        }
    }

    /// Forgets what a check saw.
    pub fn forget(&mut self, name: &str) {
        self.checks.remove(name);
    }

    /// Takes what a try of a check saw; nothing if there is no such check any more.
    pub fn see(&mut self, name: &str, ok: bool, said: &str, now: Millis) {
        if let Some(check) = self.checks.get_mut(name) {
            check.see(ok, said, now);
        }
    }

    /// All checks, by name.
    #[must_use]
    pub const fn checks(&self) -> &BTreeMap<String, Check> {
        &self.checks
    }

    /// The names of those that fail.
    #[must_use]
    pub fn failing(&self) -> BTreeSet<String> {
        let failing = |(name, check): (&String, &Check)| {
            (check.state == State::Failing).then(|| name.clone())
        };
        self.checks.iter().filter_map(failing).collect()
    }
}

/// What became of a boot on trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not known before this moment at the latest; these are waited for.
    Pending {
        /// When it is known at the latest.
        until: Millis,
        /// The checks that are waited for.
        waiting: Vec<String>,
    },
    /// It has proved itself.
    Passed,
    /// It has not.
    Failed {
        /// The check that failed.
        check: String,
        /// Why, in a sentence.
        reason: String,
    },
}

/// The gate of a boot on trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    start: Millis,
    /// Checks that failed before the upgrade.
    excused: BTreeSet<String>,
}

impl Gate {
    /// Opens the gate of a boot; `excused` failed before it.
    #[must_use]
    pub const fn new(start: Millis, excused: BTreeSet<String>) -> Gate {
        Gate { start, excused }
    }

    /// Whether this check failed before the upgrade.
    #[must_use]
    pub fn excuses(&self, name: &str) -> bool {
        self.excused.contains(name)
    }

    /// What is known now.
    #[must_use]
    pub fn verdict(&self, health: &Health, now: Millis) -> Verdict {
        let counts = |(name, check): &(&String, &Check)| check.rule.required && !self.excuses(name);
        let missing = || {
            health
                .checks
                .iter()
                .filter(counts)
                .filter(|(_, check)| check.state != State::Passing)
                .map(|(name, check)| (name, check, self.start.saturating_add(check.rule.deadline)))
        };
        // The one whose time was up first is the reason.
        match missing().filter(|(_, _, until)| *until <= now).min_by_key(|(_, _, until)| *until) {
            Some((name, check, _)) => {
                Verdict::Failed { check: name.clone(), reason: check.complaint() }
            }
            None => match missing().map(|(_, _, until)| until).min() {
                None => Verdict::Passed,
                Some(until) => Verdict::Pending {
                    until,
                    waiting: missing().map(|(name, _, _)| name.clone()).collect(),
                },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULE: Rule = Rule { required: true, successes: 2, deadline: 1000 };

    fn health(rules: &[(&str, Rule)]) -> Health {
        let mut health = Health::default();
        let rules = rules.iter().map(|(name, rule)| ((*name).to_owned(), *rule)).collect();
        health.set(|_| true, &rules, 0);
        health
    }

    fn gate(excused: &[&str]) -> Gate {
        Gate::new(100, excused.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn every_check_must_pass_at_once() {
        let mut health = health(&[("a", RULE), ("b", RULE)]);
        let gate = gate(&[]);
        for now in [200, 300] {
            health.see("a", true, "fine", now);
        }
        assert_eq!(
            gate.verdict(&health, 300),
            Verdict::Pending { until: 1100, waiting: vec!["b".to_owned()] }
        );
        health.see("a", false, "gone", 400);
        for now in [500, 600] {
            health.see("b", true, "fine", now);
        }
        assert!(matches!(gate.verdict(&health, 600), Verdict::Pending { .. }));
        for now in [700, 800] {
            health.see("a", true, "fine", now);
        }
        assert_eq!(gate.verdict(&health, 800), Verdict::Passed);
        assert_eq!(health.checks()["a"].passed_at(), Some(300));
    }

    #[test]
    fn a_check_that_flaps_does_not_pass() {
        let mut health = health(&[("a", RULE)]);
        for now in 0..20 {
            health.see("a", now % 2 == 0, "refused", now);
        }
        let Verdict::Failed { check, reason } = gate(&[]).verdict(&health, 1100) else {
            panic!("it flaps")
        };
        assert_eq!(
            (check.as_str(), reason.as_str()),
            ("a", "refused; it passed 10 of 20 tries, and must pass 2 in a row")
        );
    }

    #[test]
    fn what_failed_before_or_is_only_wanted_does_not_count() {
        let wanted = Rule { required: false, ..RULE };
        let mut health = health(&[("before", RULE), ("wanted", wanted)]);
        health.see("before", false, "refused", 200);
        assert_eq!(gate(&["before"]).verdict(&health, 5000), Verdict::Passed);
        assert!(matches!(gate(&[]).verdict(&health, 5000), Verdict::Failed { .. }));
        assert_eq!(health.failing().into_iter().collect::<Vec<_>>(), ["before"]);
    }

    #[test]
    fn a_check_that_was_never_tried_fails_too() {
        let health = health(&[("a", RULE)]);
        let failed =
            Verdict::Failed { check: "a".to_owned(), reason: "it was not tried yet".to_owned() };
        assert_eq!(gate(&[]).verdict(&health, 1100), failed);
    }

    #[test]
    fn a_check_that_stays_as_it_was_keeps_what_it_saw() {
        let mut health = health(&[("a", RULE), ("system/api", RULE)]);
        health.see("a", true, "fine", 1);
        let again = BTreeMap::from([("a".to_owned(), RULE)]);
        health.set(|name| !name.starts_with("system/"), &again, 2);
        assert_eq!(health.checks()["a"].tries(), (1, 1));
        assert!(health.checks().contains_key("system/api"));
        let other = BTreeMap::from([("a".to_owned(), Rule { successes: 1, ..RULE })]);
        health.set(|name| !name.starts_with("system/"), &other, 3);
        assert_eq!(health.checks()["a"].tries(), (0, 0));
    }

    proptest! {
        /// However checks come and go, the gate is not pending after the last deadline.
        #[test]
        fn the_gate_always_ends(seen in prop::collection::vec((0..3usize, any::<bool>(), 0..2000u64), 0..60)) {
            let mut health = health(&[("a", RULE), ("b", Rule { deadline: 1500, ..RULE }), ("c", Rule { required: false, ..RULE })]);
            for (check, ok, now) in seen {
                health.see(["a", "b", "c"][check], ok, "said", now);
            }
            let pending = matches!(gate(&[]).verdict(&health, 1600), Verdict::Pending { .. });
            prop_assert!(!pending);
        }
    }
}
