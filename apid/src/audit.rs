// SPDX-License-Identifier: Apache-2.0
//! One line of JSON for each call and for each refused handshake.
//!
//! Lines go to PID 1 over file descriptor 3, which adds the time. A line is written at once, but not more than once in
//! [`QUIET`], so that a busy node pays one write for many calls. A line is never dropped: when PID 1 does not take them, new calls
//! wait ([`Audit::room`]). Only refused handshakes, which any stranger can cause, are limited, and the next line counts those
//! that are missing.

use crate::{authz::Caller, limits, refusal};
use serde::Serialize;
use std::{
    fmt,
    io::Write as _,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{io::AsyncWriteExt as _, net::unix::pipe, sync::Notify};
use tonic::Code;

/// The descriptor on which PID 1 takes the lines.
pub const DESCRIPTOR: i32 = 3;
/// The shortest time between two writes.
pub const QUIET: Duration = Duration::from_millis(20);

/// The audit log.
#[derive(Clone)]
pub struct Audit {
    shared: Arc<Shared>,
}

struct Shared {
    lines: Mutex<Lines>,
    written: Notify,
    drained: Notify,
    prefix: u32,
    next: AtomicU64,
}

struct Lines {
    bytes: Vec<u8>,
    writing: bool,
    tokens: u32,
    refilled: Instant,
    suppressed: u64,
}

/// One line.
#[derive(Debug, Serialize)]
struct Line<'a> {
    request: &'a str,
    source: SocketAddr,
    subject: &'a str,
    serial: &'a str,
    role: &'a str,
    method: &'a str,
    result: &'a str,
    duration_us: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    suppressed: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").finish_non_exhaustive()
    }
}

/// Where the lines go.
#[derive(Debug)]
pub enum Sink {
    /// PID 1's pipe.
    Pipe(pipe::Sender),
    /// Standard error, in development.
    Stderr,
}

impl Sink {
    /// The pipe on file descriptor 3, or standard error if there is none. Call it within a runtime, before anything else opens
    /// a file.
    #[must_use]
    pub fn inherited() -> Self {
        match adopt().ok().and_then(|fd| pipe::Sender::from_owned_fd(fd).ok()) {
            Some(pipe) => Self::Pipe(pipe),
            None => Self::Stderr,
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Pipe(pipe) => pipe.write_all(bytes).await,
            Self::Stderr => std::io::stderr().write_all(bytes),
        }
    }
}

/// A duplicate of the inherited descriptor. pidfd_getfd(2) on ourselves is how to come by an inherited number without `unsafe`;
/// opening /proc/self/fd/3 anew would need permission on root's pipe.
fn adopt() -> rustix::io::Result<OwnedFd> {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    pidfd_getfd(this, DESCRIPTOR, PidfdGetfdFlags::empty())
}

impl Audit {
    /// An empty log. `prefix` tells this process's requests from those of the one before.
    #[must_use]
    pub fn new(prefix: u32) -> Self {
        let lines = Lines {
            bytes: Vec::new(),
            writing: false,
            tokens: limits::REFUSALS_BURST,
            refilled: Instant::now(),
            suppressed: 0,
        };
        Self {
            shared: Arc::new(Shared {
                lines: Mutex::new(lines),
                written: Notify::new(),
                drained: Notify::new(),
                prefix,
                next: AtomicU64::new(1),
            }),
        }
    }

    /// Begins the record of a call, which is written when it is dropped.
    #[must_use]
    pub fn begin(&self, source: SocketAddr, caller: Arc<Caller>, method: Method) -> Record {
        Record {
            audit: self.clone(),
            source,
            caller,
            method,
            begun: Instant::now(),
            result: Code::Cancelled,
        }
    }

    /// Records a handshake that was refused, or counts it when there are too many.
    pub fn refused(&self, source: SocketAddr, reason: &str, begun: Instant) {
        let mut lines = self.lines();
        let now = Instant::now();
        let earned = now.duration_since(lines.refilled).as_millis()
            * u128::from(limits::REFUSALS_PER_SECOND)
            / 1000;
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            lines.tokens = lines.tokens.saturating_add(earned).min(limits::REFUSALS_BURST);
            lines.refilled = now;
        }
        let Some(tokens) = lines.tokens.checked_sub(1) else {
            lines.suppressed += 1;
            return;
        };
        lines.tokens = tokens;
        let suppressed = std::mem::take(&mut lines.suppressed);
        self.push(
            lines,
            Line {
                request: &self.request(),
                source,
                subject: "",
                serial: "",
                role: "",
                method: "handshake",
                result: refusal::name(Code::Unauthenticated),
                duration_us: micros(begun),
                reason,
                suppressed,
            },
        );
    }

    /// Waits until the log takes more lines.
    pub async fn room(&self) {
        while self.lines().bytes.len() > limits::AUDIT {
            self.shared.drained.notified().await;
        }
    }

    /// Writes the lines as they come, for ever. When the sink is gone they go to standard error.
    pub async fn write(self, mut sink: Sink) {
        let mut bytes = Vec::new();
        loop {
            let empty = {
                let mut lines = self.lines();
                std::mem::swap(&mut lines.bytes, &mut bytes);
                lines.writing = !bytes.is_empty();
                bytes.is_empty()
            };
            if empty {
                self.shared.written.notified().await;
                continue;
            }
            if let Err(error) = sink.write(&bytes).await {
                tracing::error!(%error, "The audit log cannot be written, it goes to standard error");
                sink = Sink::Stderr;
                // When standard error is gone as well, nobody is left to tell.
                drop(sink.write(&bytes).await);
            }
            bytes.clear();
            self.lines().writing = false;
            self.shared.drained.notify_waiters();
            tokio::time::sleep(QUIET).await;
        }
    }

    /// Waits until all lines are written or `deadline` has passed.
    pub async fn flush(&self, deadline: Duration) {
        let end = Instant::now() + deadline;
        while Instant::now() < end {
            {
                let lines = self.lines();
                if lines.bytes.is_empty() && !lines.writing {
                    return;
                }
            }
            tokio::time::sleep(QUIET / 4).await;
        }
    }

    fn request(&self) -> String {
        format!("{:08x}-{}", self.shared.prefix, self.shared.next.fetch_add(1, Ordering::Relaxed))
    }

    fn push(&self, mut lines: MutexGuard<'_, Lines>, line: Line<'_>) {
        let was_empty = lines.bytes.is_empty();
        // Writing numbers and strings to memory cannot fail.
        if serde_json::to_writer(&mut lines.bytes, &line).is_ok() {
            lines.bytes.push(b'\n');
        }
        drop(lines);
        if was_empty {
            self.shared.written.notify_one();
        }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// What was called, as far as it is known.
#[derive(Clone, Debug)]
pub enum Method {
    /// One of ours.
    Known(stele_proto::method::Method),
    /// A path that is not in the table, cut to 128 bytes.
    Unknown(String),
}

impl Method {
    /// The method with this path.
    #[must_use]
    pub fn parse(path: &str) -> Self {
        match stele_proto::method::Method::parse(path) {
            Some(method) => Self::Known(method),
            None => Self::Unknown(path.chars().take(128).collect()),
        }
    }

    fn path(&self) -> &str {
        match self {
            Self::Known(method) => method.path(),
            Self::Unknown(path) => path,
        }
    }
}

/// The record of one call. A call that ends without a result was cancelled.
#[derive(Debug)]
pub struct Record {
    audit: Audit,
    source: SocketAddr,
    caller: Arc<Caller>,
    method: Method,
    begun: Instant,
    result: Code,
}

impl Record {
    /// Notes how the call ended.
    pub fn result(&mut self, code: Code) {
        self.result = code;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let request = self.audit.request();
        self.audit.push(
            self.audit.lines(),
            Line {
                request: &request,
                source: self.source,
                subject: self.caller.subject(),
                serial: self.caller.serial(),
                role: self.caller.role(),
                method: self.method.path(),
                result: refusal::name(self.result),
                duration_us: micros(self.begun),
                reason: "",
                suppressed: 0,
            },
        );
    }
}
