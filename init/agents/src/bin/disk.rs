// SPDX-License-Identifier: Apache-2.0
//! `disk prepare --esp PARTUUID [--wait SECONDS]`: makes or finds STATE and DATA on the disk with this ESP.
//! `disk find [--wait SECONDS]`: finds them on the first disk that has them, and changes nothing.
//!
//! Standard output: a report in JSON. Exit 1, and a line on standard error, when there is no such disk.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use stele_agents::disk::{DiskError, Report, find, prepare};
use stele_layout::gpt::Guid;

const USAGE: &str = "disk prepare --esp PARTUUID [--wait SECONDS] | disk find [--wait SECONDS]";

/// How long the disk that the machine was started from may take to appear.
const PREPARE_WAIT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let Some(task) = arguments(std::env::args().skip(1)) else {
        eprintln!("usage: {USAGE}");
        return ExitCode::from(64);
    };
    let result = match task {
        Task::Prepare { esp, wait } => prepare(&esp, wait),
        Task::Find { wait } => find(wait),
    };
    match result.as_ref().map(report) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => fail(&error),
        Err(error) => fail(error as &DiskError),
    }
}

enum Task {
    Prepare { esp: Guid, wait: Duration },
    Find { wait: Duration },
}

fn arguments(mut words: impl Iterator<Item = String>) -> Option<Task> {
    let task = words.next()?;
    let (mut esp, mut wait) = (None, None);
    while let Some(word) = words.next() {
        let value = words.next()?;
        match word.as_str() {
            "--esp" => esp = Some(stele_layout::gpt::parse(&value)?),
            "--wait" => wait = Some(Duration::from_secs(value.parse().ok()?)),
            _ => return None,
        }
    }
    match (task.as_str(), esp) {
        ("prepare", Some(esp)) => Some(Task::Prepare { esp, wait: wait.unwrap_or(PREPARE_WAIT) }),
        ("find", None) => Some(Task::Find { wait: wait.unwrap_or_default() }),
        _ => None,
    }
}

fn report(report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    io::stdout().write_all(&line)
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    eprintln!("{line}");
    ExitCode::from(1)
}
