// SPDX-License-Identifier: Apache-2.0
//! QEMU's monitor: one JSON value a line, answers by number, events in between.
//!
//! One thread reads ([`Qmp::pump`]); any thread sends ([`Qmp::run`]).

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long QEMU may take to answer a command.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to the monitor of one running QEMU.
#[derive(Debug)]
pub struct Qmp {
    stream: UnixStream,
    inbox: Mutex<Inbox>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Inbox {
    next: u64,
    answers: HashMap<u64, Value>,
    events: Vec<Value>,
    closed: bool,
}

impl Qmp {
    /// Takes over a connection that QEMU has made.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, inbox: Mutex::default(), arrived: Condvar::new() }
    }

    /// Reads answers and events until QEMU ends. Returns why the machine went off, in QEMU's words, if it said so.
    pub fn pump(&self) -> Option<String> {
        let reader = BufReader::new(&self.stream);
        let mut reason = None;
        for line in reader.lines() {
            let Ok(line) = line else { break };
            let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
            let mut inbox = self.inbox();
            if let Some(id) = message.get("id").and_then(Value::as_u64) {
                inbox.answers.insert(id, message);
            } else if let Some(event) = message.get("event").and_then(Value::as_str) {
                if event == "SHUTDOWN" {
                    reason =
                        message.pointer("/data/reason").and_then(Value::as_str).map(str::to_owned);
                }
                inbox.events.push(message);
            }
            drop(inbox);
            self.arrived.notify_all();
        }
        self.inbox().closed = true;
        self.arrived.notify_all();
        reason
    }

    /// Runs one command and returns what it returned.
    pub fn run(&self, command: &str, arguments: Value) -> Result<Value> {
        let id = {
            let mut inbox = self.inbox();
            inbox.next += 1;
            let mut message = json!({"execute": command, "id": inbox.next});
            if !arguments.is_null() {
                message["arguments"] = arguments;
            }
            let mut line = message.to_string();
            line.push('\n');
            (&self.stream)
                .write_all(line.as_bytes())
                .with_context(|| format!("Sending {command} to QEMU"))?;
            inbox.next
        };
        let answer = self
            .wait(Instant::now() + PATIENCE, |inbox| inbox.answers.remove(&id))
            .with_context(|| format!("Waiting for the answer to {command}"))?;
        match answer.get("error") {
            None => Ok(answer["return"].clone()),
            Some(error) => {
                bail!("{command}: {}", error["desc"].as_str().unwrap_or("unknown error"))
            }
        }
    }

    /// Waits for an event of this name, past or to come.
    pub fn event(&self, name: &str, deadline: Instant) -> Result<Value> {
        self.wait(deadline, |inbox| {
            inbox.events.iter().find(|event| event["event"] == name).cloned()
        })
        .with_context(|| format!("Waiting for the event {name}"))
    }

    fn wait(
        &self,
        deadline: Instant,
        mut found: impl FnMut(&mut Inbox) -> Option<Value>,
    ) -> Result<Value> {
        let mut inbox = self.inbox();
        loop {
            if let Some(value) = found(&mut inbox) {
                return Ok(value);
            }
            if inbox.closed {
                bail!("QEMU has ended");
            }
            let left = deadline
                .checked_duration_since(Instant::now())
                .ok_or_else(|| anyhow!("QEMU is silent"))?;
            inbox =
                self.arrived.wait_timeout(inbox, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::Arc, thread};

    #[test]
    fn answers_and_events_find_their_way() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let qmp = Arc::new(Qmp::new(ours));
        let pump = thread::spawn({
            let qmp = Arc::clone(&qmp);
            move || qmp.pump()
        });
        let qemu = thread::spawn(move || {
            let mut lines = BufReader::new(&theirs).lines();
            let command: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            assert_eq!(command["execute"], "query-status");
            writeln!(&theirs, r#"{{"event":"RESUME"}}"#).unwrap();
            writeln!(&theirs, r#"{{"return":{{"status":"running"}},"id":{}}}"#, command["id"])
                .unwrap();
            let command: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            writeln!(&theirs, r#"{{"error":{{"desc":"no such device"}},"id":{}}}"#, command["id"])
                .unwrap();
            writeln!(&theirs, r#"{{"event":"SHUTDOWN","data":{{"reason":"guest-reset"}}}}"#)
                .unwrap();
        });
        assert_eq!(qmp.run("query-status", Value::Null).unwrap()["status"], "running");
        assert!(
            qmp.run("device_del", json!({"id": "x"}))
                .unwrap_err()
                .to_string()
                .contains("no such device")
        );
        qemu.join().unwrap();
        assert_eq!(pump.join().unwrap().as_deref(), Some("guest-reset"));
        assert_eq!(qmp.event("RESUME", Instant::now()).unwrap()["event"], "RESUME");
        assert!(qmp.event("NEVER", Instant::now() + PATIENCE).is_err());
    }
}
