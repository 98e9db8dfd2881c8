// SPDX-License-Identifier: Apache-2.0
//! Log sink: sends the machine's logs to where they are collected, for as long as it runs.
//!
//! ```text
//! PID 1: each log ─► lines ─► messages ─► the sink
//!          ▲                      │ broken, closed, stuck: connect again, and send the same lines once more
//!          └── as fast as the sink takes them
//! ```
//!
//! * A line counts as sent once the kernel has taken all of it for a connection that holds. Syslog has no receipts.
//! * PID 1 is told how far it has come, and tells the next agent.

mod connection;
mod message;
mod reader;

use crate::{
    fetch,
    pid1::{self, CallError, framed},
    probe::{Names, explain},
};
use connection::{Connection, ConnectionError, Framing, Place, Protocol};
use message::Format;
use reader::{Lines, Next, Reading};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};
use stele_proto::{
    internal::{LogPosition, SinkReport, SinkRequest, SinkTask},
    method,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

/// Where PID 1 listens.
pub const SOCKET: &str = "/run/stele/log-sink.sock";

/// Rows of lines that wait for the sink in this process.
const QUEUE: usize = 2;
/// The shortest time between two reports to PID 1.
const QUIET: Duration = Duration::from_millis(250);
/// How long to wait before connecting again: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// What a sink needs of the machine.
#[derive(Debug)]
pub struct Surroundings {
    /// Where PID 1 listens.
    pub socket: PathBuf,
    /// How names are resolved.
    pub names: Names,
    /// The trust roots: files in PEM.
    pub roots: Vec<PathBuf>,
}

/// Why the agent ends.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The runtime could not be made.
    #[error("starting")]
    Start(#[source] io::Error),
    /// PID 1 does not say what to do.
    #[error("asking what to do")]
    Task(#[source] CallError),
    /// What it says makes no sense.
    #[error("there is no {what} {word:?}")]
    Unknown {
        /// What was expected.
        what: &'static str,
        /// What was said.
        word: String,
    },
    /// PID 1 does not give its logs.
    #[error("reading the logs")]
    Read(#[source] CallError),
    /// PID 1 can't be told.
    #[error("reporting to PID 1")]
    Report(#[source] io::Error),
}

/// Sends logs to the sink of this name.
///
/// # Errors
/// When it can't begin, or PID 1 is not there any more.
pub fn run(
    name: &str,
    surroundings: Surroundings,
    reports: &mut impl Write,
) -> Result<Infallible, SinkError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(SinkError::Start)?;
    runtime.block_on(async {
        let request = SinkRequest { name: name.to_owned() };
        let task = pid1::call(&surroundings.socket, method::SINK, &request);
        let task: SinkTask = task.await.map_err(SinkError::Task)?;
        send(task, surroundings, reports).await
    })
}

async fn send(
    task: SinkTask,
    surroundings: Surroundings,
    reports: &mut impl Write,
) -> Result<Infallible, SinkError> {
    let Surroundings { socket, names, roots } = surroundings;
    let (place, format) = understand(&task, &roots)?;
    let framing = match format {
        Format::Rfc5424 => Framing::Counted,
        Format::Json => Framing::Lines,
    };
    let mut progress = Progress::new(task.progress.unwrap_or_default(), reports);
    let positions = progress.positions.clone();
    let (sender, mut lines) = mpsc::channel(QUEUE);
    let reading = Reading { socket, wanted: task.logs.into_iter().collect(), positions };
    tokio::spawn(reading.follow(sender));

    let mut pending: Option<Lines> = None;
    let mut pause = PAUSE.0;
    loop {
        let broken = match place.connect(&names, framing).await {
            Ok(mut connection) => {
                progress.state(true, String::new())?;
                let before = progress.report.sent;
                let broken = feed(&mut connection, format, &mut lines, &mut pending, &mut progress);
                let broken = broken.await?;
                if progress.report.sent > before {
                    pause = PAUSE.0;
                }
                broken
            }
            Err(error) => error,
        };
        progress.state(false, explain(&broken))?;
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// Sends lines over a connection until it breaks. What was not sent by then stays pending.
async fn feed(
    connection: &mut Connection,
    format: Format,
    lines: &mut mpsc::Receiver<Next>,
    pending: &mut Option<Lines>,
    progress: &mut Progress<'_, impl Write>,
) -> Result<ConnectionError, SinkError> {
    loop {
        if pending.is_none() {
            let due = progress.due;
            *pending = tokio::select! {
                error = connection.ended() => return Ok(error),
                () = at(due) => {
                    progress.tell()?;
                    continue;
                }
                next = lines.recv() => match next {
                    Some(Ok(next)) => Some(next),
                    Some(Err(error)) => return Err(SinkError::Read(error)),
                    // It ends with an error.
                    None => return Err(SinkError::Read(CallError::Protocol)),
                },
            };
        }
        if let Some(Lines { log, entries }) = pending.as_ref() {
            let host = rustix::system::uname();
            let host = host.nodename().to_string_lossy();
            let messages: Vec<_> =
                entries.iter().map(|entry| format.message(&host, log, entry)).collect();
            if let Err(error) = connection.send(&messages).await {
                return Ok(error);
            }
        }
        if let Some(sent) = pending.take() {
            progress.sent(&sent);
        }
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn understand(task: &SinkTask, roots: &[PathBuf]) -> Result<(Place, Format), SinkError> {
    let unknown = |what, word: &str| SinkError::Unknown { what, word: word.to_owned() };
    let protocol = match task.protocol.as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "tls" => Protocol::Tls,
        other => return Err(unknown("protocol", other)),
    };
    let format = match task.format.as_str() {
        "rfc5424" => Format::Rfc5424,
        "json" => Format::Json,
        other => return Err(unknown("format", other)),
    };
    let port = u16::try_from(task.port).map_err(|_| unknown("port", &task.port.to_string()))?;
    let roots = if task.ca.is_empty() { fetch::roots(roots) } else { task.ca.clone().into_bytes() };
    Ok((Place { host: task.host.clone(), port, protocol, roots }, format))
}

/// How far the agent has come, and what PID 1 knows of that.
struct Progress<'a, W> {
    report: SinkReport,
    positions: BTreeMap<String, LogPosition>,
    reports: &'a mut W,
    /// When PID 1 is told what it does not know yet.
    due: Option<Instant>,
    told: Instant,
}

impl<'a, W: Write> Progress<'a, W> {
    fn new(report: SinkReport, reports: &'a mut W) -> Progress<'a, W> {
        let positions = report.positions.iter().cloned();
        let positions = positions.map(|position| (position.log.clone(), position)).collect();
        Progress { report, positions, reports, due: None, told: Instant::now() }
    }

    fn state(&mut self, connected: bool, reason: String) -> Result<(), SinkError> {
        (self.report.connected, self.report.reason) = (connected, reason);
        self.tell()
    }

    fn sent(&mut self, Lines { log, entries }: &Lines) {
        let position = self.positions.entry(log.clone());
        let position =
            position.or_insert_with(|| LogPosition { log: log.clone(), time_us: 0, entries: 0 });
        for entry in entries {
            if entry.lost > 0 {
                // No line of the log: it says what is missing there.
                self.report.lost = self.report.lost.saturating_add(entry.lost);
                continue;
            }
            self.report.sent = self.report.sent.saturating_add(1);
            if entry.time_us == position.time_us {
                position.entries = position.entries.saturating_add(1);
            } else {
                (position.time_us, position.entries) = (entry.time_us, 1);
            }
        }
        self.due.get_or_insert(self.told + QUIET);
    }

    fn tell(&mut self) -> Result<(), SinkError> {
        self.report.positions = self.positions.values().cloned().collect();
        (self.due, self.told) = (None, Instant::now());
        self.reports.write_all(&framed(&self.report)).map_err(SinkError::Report)
    }
}

#[cfg(test)]
mod tests;
