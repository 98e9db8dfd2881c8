// SPDX-License-Identifier: Apache-2.0
//! Boots: why this one is what it is, told from what is known of the ones before.
//!
//! ```text
//!             its image has a counter                  gate passed
//!   start ───────────────────────────► Trial ─────────────────────────► Ordinary, from the next start on
//!     │                                  │ gate failed, panic, hang, power cut: the loader tries again, counts down
//!     │       another image failed       ▼                             gate passed
//!     ├───────────────────────────► Fallback ─────────────────────────► Ordinary
//!     │                                  │ gate failed, or three starts without a verdict
//!     │                                  ▼
//!     ├─────────────────────────────► Safe ──── a person restarts it, upgrades, configures ───► Fallback
//!     └─► Ordinary
//! ```
//!
//! Nothing here is a state that could be lost: it is read from the records each time. A record that says a boot passed, or
//! that a person ended it, ends every story before it.

use serde::{Deserialize, Serialize};

/// Fallback boots without a verdict after which the machine stops trying.
const FALLBACKS: usize = 3;

/// Why a boot is what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Start {
    /// An image known to be good, started as always.
    #[default]
    Ordinary,
    /// An image under a boot counter.
    #[serde(rename_all = "camelCase")]
    Trial {
        /// Which try this is, from 1.
        attempt: u32,
    },
    /// The image before, after another one failed.
    #[serde(rename_all = "camelCase")]
    Fallback {
        /// The version that failed.
        from: String,
    },
    /// No image is healthy: only what it takes to be repaired.
    #[serde(rename_all = "camelCase")]
    Safe {
        /// Why, in a sentence.
        reason: String,
    },
    /// A start by the boot loader of which nothing reached the disk.
    #[serde(rename_all = "camelCase")]
    Lost {
        /// Which try this was, from 1; 0 if the loader never took it.
        attempt: u32,
    },
}

impl Start {
    /// In words.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Start::Ordinary => "ordinary".to_owned(),
            Start::Trial { attempt } | Start::Lost { attempt } if *attempt > 0 => {
                format!("try {attempt}")
            }
            Start::Trial { .. } => "trial".to_owned(),
            Start::Lost { .. } => "not at all".to_owned(),
            Start::Fallback { from } => format!("fallback from {from}"),
            Start::Safe { .. } => "safe mode".to_owned(),
        }
    }

    /// Whether this boot has to prove itself.
    #[must_use]
    pub const fn is_gated(&self) -> bool {
        matches!(self, Start::Trial { .. } | Start::Fallback { .. })
    }
}

/// Whether a boot has proved itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Health {
    /// It did not have to.
    #[default]
    None,
    /// Not yet, or never came to it.
    Pending,
    /// It has.
    Passed,
    /// It has not.
    Failed,
}

/// How a boot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum How {
    /// In order, restarting.
    Reboot,
    /// In order, powering off.
    PowerOff,
    /// The kernel panicked.
    Panic,
    /// The watchdog reset the machine.
    Watchdog,
    /// Without a word.
    Lost,
}

impl How {
    /// In words.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            How::Reboot => "reboot",
            How::PowerOff => "power off",
            How::Panic => "panic",
            How::Watchdog => "watchdog",
            How::Lost => "without a word",
        }
    }
}

/// The end of a boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// How.
    pub how: How,
    /// Why, in a sentence.
    pub cause: String,
    /// Whether someone asked for it.
    #[serde(default)]
    pub asked: bool,
}

/// A check as it stood when the boot's verdict fell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckRecord {
    /// Its name.
    pub name: String,
    /// `required`, `wanted`, or `excused`: it failed before the upgrade too.
    pub need: String,
    /// `passing`, `failing` or `unknown`.
    pub state: String,
    /// Milliseconds after boot when it was passing first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed: Option<u64>,
    /// What it saw, in a sentence.
    #[serde(default)]
    pub reason: String,
}

/// What is known of a boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    /// Its number on this machine.
    pub number: u64,
    /// The image's version.
    pub image: String,
    /// The configuration's generation, once one was in force.
    pub generation: Option<u64>,
    /// When it began, in seconds since the epoch; 0 if nobody knows.
    pub time: i64,
    /// Why it was what it was.
    pub started: Start,
    /// Whether it proved itself.
    pub health: Health,
    /// Why it failed, in a sentence.
    pub failure: String,
    /// The checks when the verdict fell.
    pub checks: Vec<CheckRecord>,
    /// How it ended; nothing while it runs.
    pub ended: Option<Ended>,
}

impl Record {
    /// Why it failed or ended as it did, in a sentence.
    #[must_use]
    pub fn cause(&self) -> &str {
        match &self.ended {
            _ if !self.failure.is_empty() => &self.failure,
            Some(ended) => &ended.cause,
            None => "",
        }
    }

    /// Whether a person ended it.
    fn asked(&self) -> bool {
        self.ended.as_ref().is_some_and(|ended| ended.asked)
    }

    /// Whether nothing before it matters any more.
    fn settles(&self) -> bool {
        self.health == Health::Passed || self.started == Start::Ordinary
    }

    /// Whether it should have proved itself and has not.
    fn failed(&self) -> bool {
        match self.started {
            Start::Ordinary | Start::Safe { .. } => false,
            Start::Trial { .. } | Start::Fallback { .. } | Start::Lost { .. } => {
                self.health != Health::Passed && !self.asked()
            }
        }
    }
}

/// The image that is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running<'a> {
    /// Its version.
    pub version: &'a str,
    /// Under a counter: the tries left and done, this one included.
    pub trial: Option<(u32, u32)>,
    /// Whether the loader has another image that is not known to be bad.
    pub others: bool,
}

/// Why this boot is what it is; `history` are the records before it, oldest first.
#[must_use]
pub fn start(history: &[Record], running: Running<'_>) -> Start {
    let mine = |record: &&Record| record.image == running.version && !record.settles();
    let story: Vec<&Record> = history.iter().rev().take_while(mine).collect();
    // What a person has ended since is forgiven: they know, and want it tried.
    let recent: Vec<&Record> = story.iter().take_while(|record| !record.asked()).copied().collect();
    let verdict = recent.iter().find(|record| record.health == Health::Failed);
    if let Some((left, done)) = running.trial {
        if left == 0
            && !running.others
            && let Some(record) = verdict
        {
            let reason = format!(
                "{} is out of tries ({}), and there is no other image to go back to",
                running.version,
                record.cause()
            );
            return Start::Safe { reason };
        }
        return Start::Trial { attempt: done };
    }
    let before = history.iter().rev().find(|record| !mine(record));
    let Some(before) = before.filter(|before| before.image != running.version && before.failed())
    else {
        return Start::Ordinary;
    };
    let failed = match verdict {
        Some(record) => Some(record.cause().to_owned()),
        None if recent.len() >= FALLBACKS => {
            let last = recent.first().map(|record| record.cause()).unwrap_or_default();
            Some(format!("{} starts without a verdict, the last one: {last}", recent.len()))
        }
        None => None,
    };
    match failed {
        Some(cause) => Start::Safe {
            reason: format!(
                "{} failed ({}), and so did {} after it ({cause})",
                before.image,
                before.cause(),
                running.version
            ),
        },
        None => Start::Fallback { from: before.image.clone() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(image: &str, started: Start, health: Health) -> Record {
        let failure = if health == Health::Failed { "web fails" } else { "" };
        let ended = Ended { how: How::Reboot, cause: "it ended".to_owned(), asked: false };
        Record {
            image: image.to_owned(),
            started,
            health,
            failure: failure.to_owned(),
            ended: Some(ended),
            ..Record::default()
        }
    }

    fn asked(mut record: Record) -> Record {
        record.ended =
            Some(Ended { how: How::Reboot, cause: "admin asked".to_owned(), asked: true });
        record
    }

    const A: Running<'_> = Running { version: "1", trial: None, others: true };
    const B: Running<'_> = Running { version: "2", trial: Some((0, 3)), others: true };

    fn trial(attempt: u32, health: Health) -> Record {
        record("2", Start::Trial { attempt }, health)
    }

    fn fallback(health: Health) -> Record {
        record("1", Start::Fallback { from: "2".to_owned() }, health)
    }

    fn ordinary() -> Record {
        record("1", Start::Ordinary, Health::None)
    }

    #[test]
    fn an_ordinary_life() {
        assert_eq!(start(&[], A), Start::Ordinary);
        assert_eq!(start(&[ordinary(), ordinary()], A), Start::Ordinary);
        let passed = [ordinary(), trial(1, Health::Passed)];
        let two = Running { version: "2", trial: None, others: true };
        assert_eq!(start(&passed, two), Start::Ordinary);
        // Back by hand, from an image that was good.
        assert_eq!(start(&passed, A), Start::Ordinary);
    }

    #[test]
    fn a_new_image_is_on_trial_and_the_old_one_falls_back() {
        assert_eq!(start(&[ordinary()], B), Start::Trial { attempt: 3 });
        let fell = Start::Fallback { from: "2".to_owned() };
        assert_eq!(start(&[ordinary(), trial(3, Health::Failed)], A), fell);
        let lost = record("2", Start::Lost { attempt: 3 }, Health::Pending);
        assert_eq!(start(&[ordinary(), lost], A), fell);
        // A power cut while it proves itself.
        let cut = [ordinary(), trial(3, Health::Failed), fallback(Health::Pending)];
        assert_eq!(start(&cut, A), fell);
        let proved = [ordinary(), trial(3, Health::Failed), fallback(Health::Passed)];
        assert_eq!(start(&proved, A), Start::Ordinary);
    }

    #[test]
    fn a_person_who_rolls_back_does_not_make_a_fallback() {
        let history = [ordinary(), asked(trial(1, Health::Pending))];
        assert_eq!(start(&history, A), Start::Ordinary);
    }

    #[test]
    fn both_bad_is_safe_mode_until_a_person_acts() {
        let mut history = vec![ordinary(), trial(3, Health::Failed), fallback(Health::Failed)];
        let Start::Safe { reason } = start(&history, A) else { panic!("both failed") };
        assert_eq!(reason, "2 failed (web fails), and so did 1 after it (web fails)");
        // A power cut in safe mode changes nothing.
        let safe = record("1", Start::Safe { reason }, Health::None);
        history.push(safe.clone());
        assert!(matches!(start(&history, A), Start::Safe { .. }));
        // Someone restarts it: it is tried again, once.
        history.push(asked(safe));
        assert_eq!(start(&history, A), Start::Fallback { from: "2".to_owned() });
        history.push(fallback(Health::Failed));
        assert!(matches!(start(&history, A), Start::Safe { .. }));
    }

    #[test]
    fn three_fallbacks_without_a_verdict_are_enough() {
        let mut history = vec![ordinary(), trial(3, Health::Failed)];
        for _ in 0..2 {
            history.push(fallback(Health::Pending));
            assert!(matches!(start(&history, A), Start::Fallback { .. }));
        }
        history.push(fallback(Health::Pending));
        assert!(matches!(start(&history, A), Start::Safe { .. }));
    }

    #[test]
    fn out_of_tries_with_nothing_to_go_back_to_is_safe_mode() {
        let alone = Running { others: false, ..B };
        assert!(matches!(start(&[trial(2, Health::Failed)], alone), Start::Safe { .. }));
        assert_eq!(start(&[trial(2, Health::Pending)], alone), Start::Trial { attempt: 3 });
        assert_eq!(start(&[trial(2, Health::Failed)], B), Start::Trial { attempt: 3 });
    }

    #[test]
    fn records_are_kept_as_json() {
        let mut record = fallback(Health::Failed);
        record.checks.push(CheckRecord {
            name: "web".to_owned(),
            need: "required".to_owned(),
            state: "failing".to_owned(),
            passed: Some(1500),
            reason: "refused".to_owned(),
        });
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
        assert_eq!(serde_json::from_str::<Record>("{}").unwrap(), Record::default());
    }
}
