// SPDX-License-Identifier: Apache-2.0
//! What the daemon says of itself, on its socket: a length as eight bytes, the highest first, then JSON.

use serde::Deserialize;
use std::{
    io::{self, Read as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};
use stele_proto::internal::{TimeReport, TimeSource, time_report::State};

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest answer.
const LONGEST: u64 = 256 * 1024;
/// A source that has not answered so often in a row is away.
const AWAY: u32 = 3;
/// The stratum of a clock that follows nothing.
const NOWHERE: u32 = 16;
/// An uncertainty above this stands for none known.
const UNKNOWN: f64 = 1e6;

/// The daemon's view, as far as it is of use here.
#[derive(Debug, Deserialize)]
pub(super) struct Snapshot {
    system: System,
    sources: Vec<Source>,
}

#[derive(Debug, Deserialize)]
struct System {
    stratum: u32,
    leap_indicator: String,
}

#[derive(Debug, Deserialize)]
struct Source {
    offset: f64,
    uncertainty: f64,
    delay: f64,
    unanswered_polls: u32,
    nts_cookies: Option<u32>,
    name: String,
    address: String,
}

/// Asks the daemon.
pub(super) fn ask(socket: &Path) -> io::Result<Snapshot> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut length = [0; 8];
    stream.read_exact(&mut length)?;
    let length = u64::from_be_bytes(length);
    if length > LONGEST {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let mut text = Vec::new();
    stream.take(length).read_to_end(&mut text)?;
    serde_json::from_slice(&text).map_err(io::Error::other)
}

impl Snapshot {
    /// Whether the clock was set by the sources.
    pub(super) fn is_synchronized(&self) -> bool {
        ["NoWarning", "Leap59", "Leap61"].contains(&self.system.leap_indicator.as_str())
    }

    pub(super) fn stratum(&self) -> u32 {
        self.system.stratum
    }

    /// Those that have answered.
    pub(super) fn sources(&self) -> Vec<TimeSource> {
        let known = self.sources.iter().filter(|source| source.uncertainty < UNKNOWN);
        let mut sources: Vec<TimeSource> = known.map(Source::describe).collect();
        sources.sort_by(|a, b| a.name.cmp(&b.name));
        sources
    }
}

impl Source {
    fn describe(&self) -> TimeSource {
        TimeSource {
            name: self.name.clone(),
            address: self.address.clone(),
            offset: microseconds(self.offset),
            uncertainty: microseconds(self.uncertainty),
            delay: if self.delay < UNKNOWN { microseconds(self.delay) } else { 0.0 },
            authenticated: self.nts_cookies.is_some(),
            reachable: self.unanswered_polls < AWAY,
        }
    }
}

/// A report without sources.
pub(super) fn nothing(state: State, reason: String) -> TimeReport {
    TimeReport { state: state.into(), reason, stratum: NOWHERE, sources: Vec::new() }
}

fn microseconds(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e6
}
