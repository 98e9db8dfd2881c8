// SPDX-License-Identifier: Apache-2.0
//! Probes: whether what is watched over the network can be reached.
//!
//! ```text
//!             succeeds, `successes` in a row
//!   Unknown ────────────────────────────────► Reachable
//!      │                                        │  ▲
//!      │ fails, `failures` in a row             ▼  │ succeeds, `successes` in a row
//!      └────────────────────────────────────► Unreachable
//! ```
//!
//! A try that ends otherwise than the one before begins a new row, and changes nothing until the row is long enough.

use crate::health::Millis;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use stele_config::Probe;

/// Whether it can be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Not tried often enough yet.
    #[default]
    Unknown,
    /// It can.
    Reachable,
    /// It can't.
    Unreachable,
}

/// What a try found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Try<'a> {
    /// It succeeded, after this time.
    Good(Duration),
    /// It failed: why, in a sentence.
    Failed(&'a str),
}

/// A probe and what it saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    document: Probe,
    state: State,
    since: Millis,
    /// Tries in a row that ended as the last one did.
    row: u32,
    tried: Option<Millis>,
    latency: Option<Duration>,
    /// Whether the last try succeeded.
    good: bool,
    /// Why the last try failed that did.
    complaint: String,
}

/// All probes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    all: BTreeMap<String, Watched>,
}

impl Watched {
    fn new(document: Probe, since: Millis) -> Watched {
        Watched {
            document,
            state: State::Unknown,
            since,
            row: 0,
            tried: None,
            latency: None,
            good: false,
            complaint: String::new(),
        }
    }

    /// As it is configured.
    #[must_use]
    pub const fn document(&self) -> &Probe {
        &self.document
    }

    /// Whether it can be reached.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Since when that has been so.
    #[must_use]
    pub const fn since(&self) -> Millis {
        self.since
    }

    /// When the last try ended.
    #[must_use]
    pub const fn tried(&self) -> Option<Millis> {
        self.tried
    }

    /// How long the last try took that succeeded.
    #[must_use]
    pub const fn latency(&self) -> Option<Duration> {
        self.latency
    }

    /// Why it is not reachable, or why the last try failed although it still counts as that, in a sentence; or nothing.
    #[must_use]
    pub fn complaint(&self) -> &str {
        match self.state {
            _ if self.tried.is_none() => "it was not tried yet",
            State::Unknown if self.good => "it has not succeeded often enough yet",
            State::Reachable if self.good => "",
            State::Unknown | State::Reachable | State::Unreachable => &self.complaint,
        }
    }

    fn see(&mut self, found: Try<'_>, now: Millis) {
        let good = matches!(found, Try::Good(_));
        let as_before = self.tried.is_some() && self.good == good;
        self.row = if as_before { self.row.saturating_add(1) } else { 1 };
        (self.tried, self.good) = (Some(now), good);
        let (state, needed) = match found {
            Try::Good(latency) => {
                self.latency = Some(latency);
                (State::Reachable, self.document.successes())
            }
            Try::Failed(why) => {
                why.clone_into(&mut self.complaint);
                (State::Unreachable, self.document.failures())
            }
        };
        if self.row >= needed && self.state != state {
            (self.state, self.since) = (state, now);
        }
    }
}

impl Probes {
    /// Makes the probes be these. One that stays as it was keeps what it saw; any other begins anew, and is returned.
    pub fn set(&mut self, documents: &[Probe], now: Millis) -> BTreeSet<String> {
        self.all.retain(|_, probe| documents.contains(&probe.document));
        let mut anew = BTreeSet::new();
        for document in documents {
            let name = document.name().to_string();
            self.all.entry(name.clone()).or_insert_with(|| {
                anew.insert(name);
                Watched::new(document.clone(), now)
            });
        }
        anew
    }

    /// Takes what a try found. True if whether it can be reached is another thing now; nothing happens if there is no such
    /// probe any more.
    pub fn see(&mut self, name: &str, found: Try<'_>, now: Millis) -> bool {
        let Some(probe) = self.all.get_mut(name) else { return false };
        let before = probe.state;
        probe.see(found, now);
        probe.state != before
    }

    /// All probes, by name.
    #[must_use]
    pub const fn all(&self) -> &BTreeMap<String, Watched> {
        &self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::tests::config;

    const GATE: &str =
        r#""kind":"Probe","name":"gate","failures":3,"successes":2,"icmp":{"address":"10.0.2.2"}"#;

    fn probes(documents: &[&str]) -> Vec<Probe> {
        config(documents).probes().to_vec()
    }

    fn begun() -> Probes {
        let mut all = Probes::default();
        all.set(&probes(&[GATE]), 5);
        all
    }

    fn good(probes: &mut Probes, now: Millis) -> bool {
        probes.see("gate", Try::Good(Duration::from_millis(2)), now)
    }

    fn failed(probes: &mut Probes, now: Millis) -> bool {
        probes.see("gate", Try::Failed("refused"), now)
    }

    fn state(probes: &Probes) -> (State, Millis) {
        (probes.all()["gate"].state(), probes.all()["gate"].since())
    }

    #[test]
    fn a_state_takes_as_many_tries_in_a_row_as_it_says() {
        let mut probes = begun();
        assert_eq!(probes.all()["gate"].complaint(), "it was not tried yet");
        assert!(!failed(&mut probes, 10) && !good(&mut probes, 20));
        assert_eq!(probes.all()["gate"].complaint(), "it has not succeeded often enough yet");
        assert_eq!(state(&probes), (State::Unknown, 5));
        assert!(good(&mut probes, 30) && !good(&mut probes, 40));
        assert_eq!(state(&probes), (State::Reachable, 30));
        assert!(!failed(&mut probes, 50) && !failed(&mut probes, 60));
        let gate = &probes.all()["gate"];
        assert_eq!((gate.complaint(), gate.tried()), ("refused", Some(60)));
        assert_eq!(gate.latency(), Some(Duration::from_millis(2)), "of the last good one");
        // One good try begins the row anew.
        assert!(!good(&mut probes, 70) && !failed(&mut probes, 80) && !failed(&mut probes, 90));
        assert!(failed(&mut probes, 100) && !failed(&mut probes, 110));
        assert_eq!(state(&probes), (State::Unreachable, 100));
        assert!(!good(&mut probes, 120));
        assert_eq!(probes.all()["gate"].complaint(), "refused", "it is still unreachable");
        assert!(good(&mut probes, 130));
        assert_eq!(
            (state(&probes), probes.all()["gate"].complaint()),
            ((State::Reachable, 130), "")
        );
    }

    #[test]
    fn one_that_stays_as_it_was_keeps_what_it_saw() {
        let mut all = begun();
        good(&mut all, 10);
        good(&mut all, 20);
        let other = GATE.replace("gate", "other");
        all.set(&probes(&[GATE, &other]), 30);
        assert_eq!(state(&all), (State::Reachable, 20));
        assert_eq!(all.all()["other"].state(), State::Unknown);
        all.set(&probes(&[&GATE.replace("10.0.2.2", "10.0.2.3")]), 40);
        assert_eq!((state(&all), all.all().len()), ((State::Unknown, 40), 1));
        assert!(!all.see("other", Try::Failed("refused"), 50), "it is gone");
    }
}
