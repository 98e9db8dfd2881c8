// SPDX-License-Identifier: Apache-2.0
//! Time: keeps the machine's clock right, by NTP, NTS and the clock of the hypervisor.
//!
//! The work is that of ntpd-rs, whose code has been audited, unchanged: its daemon is this program, run once more.
//!
//! ```text
//! PID 1: task ─► this agent ─► ntp.toml ─► the daemon ─► servers, the clock
//!                  │   ▲  └── samples of the hypervisor's clock ──┘ │
//!                  │   └── what it sees, once a second ─────────────┘
//!                  └─► PID 1: reports
//! ```
//!
//! * The daemon ends when it would have to set the clock further than it may. It is started again after a while, with the
//!   same limits: a clock that was right once stays within them, whatever ends.
//! * A certificate that is not valid yet, and is good otherwise, is proof that the clock is behind: see [`proof`].

mod config;
mod daemon;
mod proof;
mod snapshot;

use crate::{pid1::framed, probe::explain};
use daemon::{Daemon, Ended};
use prost::Message as _;
use snapshot::Snapshot;
use std::{
    convert::Infallible,
    fs,
    io::{self, Write},
    path::PathBuf,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use stele_kernel::phc::Phc;
use stele_proto::internal::{TimeReport, TimeTask, time_report::State};

/// Where PID 1 says what is to be done, and where this agent has its files.
pub const FOLDER: &str = "/run/stele/time";
/// What is to be done.
const TASK: &str = "task";

/// Between two looks at the daemon.
const LOOK: Duration = Duration::from_secs(1);
/// Between two reports in which only figures differ.
const QUIET: Duration = Duration::from_secs(10);
/// Before the daemon is started again.
const PAUSE: Duration = Duration::from_secs(5);
/// The same after it would not set the clock: its servers are asked again from the beginning.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// What the agent needs of the machine.
#[derive(Debug)]
pub struct Surroundings {
    /// Where its files are.
    pub folder: PathBuf,
    /// The trust roots: files in PEM.
    pub roots: Vec<PathBuf>,
    /// The daemon: a program and its first arguments.
    pub daemon: Vec<String>,
}

/// Why the agent ends.
#[derive(Debug, thiserror::Error)]
pub enum TimeError {
    /// Not a task.
    #[error("reading the task {}", file.display())]
    Task {
        /// Where it is.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The daemon can't be configured.
    #[error("writing {}", file.display())]
    Write {
        /// Where.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The daemon can't be started.
    #[error("starting the daemon")]
    Start(#[source] io::Error),
    /// The daemon can't be waited for.
    #[error("waiting for the daemon")]
    Wait(#[source] io::Error),
    /// PID 1 can't be told.
    #[error("reporting to PID 1")]
    Report(#[source] io::Error),
}

/// Keeps the clock right, and tells PID 1 how it is.
///
/// # Errors
/// When there is nothing to do, the daemon can't be started, or PID 1 can't be told any more.
pub fn run(surroundings: &Surroundings, reports: &mut impl Write) -> Result<Infallible, TimeError> {
    let file = surroundings.folder.join(TASK);
    let bytes = fs::read(&file);
    let task = bytes.and_then(|bytes| TimeTask::decode(&*bytes).map_err(io::Error::other));
    let task = task.map_err(|source| TimeError::Task { file, source })?;
    let phc = open(&task.ptp);
    let mut teller = Teller { reports, told: None, at: Instant::now() };
    let mut was_right = task.was_right;
    loop {
        if !was_right {
            proof::apply(&task, &roots(surroundings));
        }
        let daemon = Daemon::start(surroundings, &task, was_right, now())?;
        let ended = watch(daemon, phc.as_ref(), &mut was_right, &mut teller)?;
        let state = if ended.refused { State::Refused } else { State::Waiting };
        let reason = match ended.refused {
            true => refusal(&task, was_right),
            false => ended.reason,
        };
        teller.tell(snapshot::nothing(state, reason))?;
        thread::sleep(if ended.refused { REFUSED_PAUSE } else { PAUSE });
    }
}

/// Follows the daemon to its end.
fn watch(
    mut daemon: Daemon,
    phc: Option<&Phc>,
    was_right: &mut bool,
    teller: &mut Teller<impl Write>,
) -> Result<Ended, TimeError> {
    let mut held = false;
    loop {
        thread::sleep(LOOK);
        if let Some(ended) = daemon.ended().map_err(TimeError::Wait)? {
            return Ok(ended);
        }
        if let Some(offset) = phc.and_then(|phc| phc.offset().ok()) {
            daemon.sample(offset);
        }
        let Ok(seen) = daemon.observe() else { continue };
        let report = report(&seen, &daemon.complaint(), held);
        held |= report.state() == State::Synchronized;
        *was_right |= held;
        teller.tell(report)?;
    }
}

/// What the daemon's view means.
fn report(seen: &Snapshot, complaint: &str, held: bool) -> TimeReport {
    let sources = seen.sources();
    let answered = sources.iter().any(|source| source.reachable);
    let (state, reason) = match (seen.is_synchronized(), answered) {
        (true, true) => (State::Synchronized, String::new()),
        (true, false) => (State::Holding, "no source answers any more".to_owned()),
        (false, true) if held => (State::Holding, "the sources do not agree".to_owned()),
        (false, true) => (State::Waiting, "the sources are being compared".to_owned()),
        (false, false) => (State::Waiting, "no source has answered yet".to_owned()),
    };
    let reason = match (state, complaint) {
        (State::Synchronized, _) | (_, "") => reason,
        (_, complaint) => format!("{reason}: {complaint}"),
    };
    let stratum = if state == State::Synchronized { seen.stratum() } else { 16 };
    TimeReport { state: state.into(), reason, stratum, sources }
}

fn refusal(task: &TimeTask, was_right: bool) -> String {
    if was_right {
        let limit = task.step_seconds;
        format!(
            "the sources say that the clock is off by more than {limit} s, which is how far it may be stepped \
             (stepUpTo of the Time document); it stays as it is"
        )
    } else {
        "the sources say that it is before the image was built, or before a time that servers with NTS have proven; the \
         clock stays as it is"
            .to_owned()
    }
}

/// The clock of the hypervisor; without it, the servers are enough.
fn open(path: &str) -> Option<Phc> {
    if path.is_empty() {
        return None;
    }
    let phc = Phc::open(path.as_ref());
    phc.inspect_err(|error| eprintln!("time: opening {path}: {}", explain(error))).ok()
}

fn roots(surroundings: &Surroundings) -> Vec<u8> {
    crate::fetch::roots(&surroundings.roots)
}

/// Seconds since the epoch.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The way to PID 1.
struct Teller<'a, W> {
    reports: &'a mut W,
    told: Option<TimeReport>,
    at: Instant,
}

impl<W: Write> Teller<'_, W> {
    /// Tells what is new: at once, or when it is only figures, after a while.
    fn tell(&mut self, report: TimeReport) -> Result<(), TimeError> {
        let known = self.told.as_ref().is_some_and(|told| {
            let same = told.state == report.state && told.reason == report.reason;
            same && (*told == report || self.at.elapsed() < QUIET)
        });
        if known {
            return Ok(());
        }
        self.reports.write_all(&framed(&report)).map_err(TimeError::Report)?;
        (self.told, self.at) = (Some(report), Instant::now());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
