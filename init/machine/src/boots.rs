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
    /// In order, for a start with kernel arguments, of which this was only the first half.
    Again,
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
            How::Again => "start again",
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
    /// The arguments of the configuration with which its kernel was started.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
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
    #[must_use]
    pub fn settles(&self) -> bool {
        self.health == Health::Passed || self.started == Start::Ordinary
    }

    /// Whether it ended only to start again with arguments.
    fn began_anew(&self) -> bool {
        self.ended.as_ref().is_some_and(|ended| ended.how == How::Again)
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
    let whole: Vec<&&Record> = recent.iter().filter(|record| !record.began_anew()).collect();
    let failed = match verdict {
        Some(record) => Some(record.cause().to_owned()),
        None if whole.len() >= FALLBACKS => {
            let last = whole.first().map(|record| record.cause()).unwrap_or_default();
            Some(format!("{} starts without a verdict, the last one: {last}", whole.len()))
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
mod tests;
