// SPDX-License-Identifier: Apache-2.0
//! The logs as they come from PID 1.
//!
//! Each log has a call of its own. Nobody reads ahead of the sink: while it is away, the lines wait in PID 1's memory, which
//! counts what it gives up.

use crate::pid1::{self, Call, CallError};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};
use stele_proto::{
    internal::LogPosition,
    method::Method,
    v1::{ListLogsRequest, ListLogsResponse, LogChunk, LogEntry, LogRequest},
};
use tokio::{sync::mpsc, time::sleep};

/// How often is looked for logs that are new.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Lines of a log; or why there will be none any more.
pub(super) type Next = Result<Lines, CallError>;

/// Lines of a log.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) log: String,
    pub(super) entries: Vec<LogEntry>,
}

/// Which logs are read, and from where on.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) socket: PathBuf,
    /// All of them for none.
    pub(super) wanted: BTreeSet<String>,
    pub(super) positions: BTreeMap<String, LogPosition>,
}

impl Reading {
    /// Follows all that there are, for ever.
    pub(super) async fn follow(self, lines: mpsc::Sender<Next>) {
        let mut known = BTreeSet::new();
        loop {
            let listed = pid1::call(&self.socket, Method::LogListLogs.path(), &ListLogsRequest {});
            let logs = match listed.await {
                Ok(ListLogsResponse { logs }) => logs,
                // Who listens has gone, or ends with this.
                Err(error) => return drop(lines.send(Err(error)).await),
            };
            for log in logs.into_iter().filter(|log| log.boot == 0).map(|log| log.name) {
                let wanted = self.wanted.is_empty() || self.wanted.contains(&log);
                if wanted && known.insert(log.clone()) {
                    let from = self.positions.get(&log).cloned();
                    tokio::spawn(read(self.socket.clone(), log, from, lines.clone()));
                }
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

/// Follows one log.
async fn read(socket: PathBuf, log: String, from: Option<LogPosition>, lines: mpsc::Sender<Next>) {
    let ended = pass_on(&socket, &log, from, &lines).await;
    let error = match ended {
        Ok(()) => CallError::Protocol,
        Err(error) => error,
    };
    // Who listens has gone, or ends with this.
    let _gone = lines.send(Err(error)).await;
}

async fn pass_on(
    socket: &Path,
    log: &str,
    from: Option<LogPosition>,
    lines: &mpsc::Sender<Next>,
) -> Result<(), CallError> {
    let since = from.as_ref().map(|from| timestamp(from.time_us));
    let request = LogRequest { name: log.to_owned(), follow: true, since, ..LogRequest::default() };
    let mut call = Call::open(socket, Method::LogStream.path(), &request).await?;
    let mut rest = from;
    while let Some(LogChunk { mut entries }) = call.next().await? {
        if let Some(from) = &mut rest {
            skip(from, &mut entries);
            if !entries.is_empty() {
                rest = None;
            }
        }
        if !entries.is_empty() {
            let next = Lines { log: log.to_owned(), entries };
            if lines.send(Ok(next)).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Takes away what was sent before: the entries of the position's very moment.
fn skip(from: &mut LogPosition, entries: &mut Vec<LogEntry>) {
    let sent = entries.iter().take_while(|entry| entry.lost == 0 && entry.time_us == from.time_us);
    let sent = sent.count().min(usize::try_from(from.entries).unwrap_or(usize::MAX));
    entries.drain(..sent);
    from.entries = from.entries.saturating_sub(u64::try_from(sent).unwrap_or(u64::MAX));
}

fn timestamp(time_us: u64) -> prost_types::Timestamp {
    let (seconds, rest) = (time_us / 1_000_000, time_us % 1_000_000);
    prost_types::Timestamp {
        seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
        nanos: i32::try_from(rest * 1000).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_before_is_not_sent_again() {
        let entry = |time_us| LogEntry { time_us, severity: 6, message: Vec::new(), lost: 0 };
        let times =
            |entries: &[LogEntry]| entries.iter().map(|entry| entry.time_us).collect::<Vec<_>>();
        for (entries, left) in [
            (vec![5, 5, 5, 6], vec![5, 6]),
            (vec![5], vec![]),
            // What was sent is not there any more.
            (vec![7, 8], vec![7, 8]),
            (vec![], vec![]),
        ] {
            let mut from = LogPosition { log: String::new(), time_us: 5, entries: 2 };
            let mut entries: Vec<_> = entries.into_iter().map(entry).collect();
            skip(&mut from, &mut entries);
            assert_eq!(times(&entries), left);
        }
    }
}
