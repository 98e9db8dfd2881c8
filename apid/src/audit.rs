// SPDX-License-Identifier: Apache-2.0
//! One line of JSON for each call and for each refused handshake.
//!
//! ```json
//! {"request":"9f0c2b11-42","source":"10.0.2.2:40112","subject":"ada","serial":"1da16e","role":"os:admin",
//!  "method":"/stele.v1.MachineService/Version","result":"OK","duration_us":412}
//! {"request":"9f0c2b11-43","source":"10.0.2.2:40113","subject":"","serial":"","role":"","method":"handshake",
//!  "result":"UNAUTHENTICATED","duration_us":812,"reason":"no client certificate","suppressed":17}
//! ```
//!
//! Lines go to PID 1 over file descriptor 3, which adds the time. A line is written at once, but not more than once in
//! [`QUIET`], so that a busy node pays one write for many calls. A line is never dropped: when PID 1 does not take them, new calls
//! wait ([`Audit::room`]). Only refused handshakes, which any stranger can cause, are limited, and the next line counts those
//! that are missing.

use crate::{authz::Caller, limits, refusal};
use std::{
    fmt,
    io::Write as _,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{io::AsyncWriteExt as _, net::unix::pipe, sync::Notify};
use tonic::Code;

/// The descriptor on which PID 1 takes the lines.
pub const DESCRIPTOR: &str = "/proc/self/fd/3";
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

/// Who is at the other end of a connection: the part of a line that is the same for all of its calls, made once.
#[derive(Debug)]
pub struct Who {
    fields: String,
}

impl Who {
    /// Of a connection from this address by this caller.
    #[must_use]
    pub fn new(source: SocketAddr, caller: &Caller) -> Self {
        Self::fields(source, caller.subject(), caller.serial(), &caller.role())
    }

    /// Of a connection that has not got so far.
    #[must_use]
    pub fn unknown(source: SocketAddr) -> Self {
        Self::fields(source, "", "", "")
    }

    fn fields(source: SocketAddr, subject: &str, serial: &str, role: &str) -> Self {
        let [subject, serial, role] = [subject, serial, role].map(quoted);
        Self {
            fields: format!(
                r#""source":"{source}","subject":{subject},"serial":{serial},"role":{role}"#
            ),
        }
    }
}

/// A text as JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
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
    /// The pipe on file descriptor 3, or standard error if there is none. Call it within a runtime.
    ///
    /// It is opened anew by its name, because a number alone cannot be made a descriptor without `unsafe`; PID 1 gives the
    /// pipe to this process's user for that.
    #[must_use]
    pub fn inherited() -> Self {
        match pipe::OpenOptions::new().open_sender(DESCRIPTOR) {
            Ok(pipe) => Self::Pipe(pipe),
            Err(error) => {
                tracing::warn!(%error, "There is no audit log, its lines go to standard error");
                Self::Stderr
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Pipe(pipe) => pipe.write_all(bytes).await,
            Self::Stderr => std::io::stderr().write_all(bytes),
        }
    }
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
    pub fn begin(&self, who: Arc<Who>, method: Method) -> Record {
        let (audit, request) = (self.clone(), self.next_request());
        Record { audit, who, method, request, begun: Instant::now(), result: Code::Cancelled }
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
        let more = match suppressed {
            0 => format!(r#","reason":{}"#, quoted(reason)),
            _ => format!(r#","reason":{},"suppressed":{suppressed}"#, quoted(reason)),
        };
        let request = self.next_request();
        let who = Who::unknown(source);
        self.push(lines, &request, &who, "handshake", Code::Unauthenticated, begun, &more);
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

    /// The name of the next request.
    fn next_request(&self) -> String {
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        format!("{:08x}-{number}", self.shared.prefix)
    }

    #[expect(clippy::too_many_arguments, reason = "one for each field of the line")]
    fn push(
        &self,
        mut lines: MutexGuard<'_, Lines>,
        request: &str,
        who: &Who,
        method: &str,
        result: Code,
        begun: Instant,
        more: &str,
    ) {
        let was_empty = lines.bytes.is_empty();
        let (fields, result, duration) =
            (&who.fields, refusal::name(result), begun.elapsed().as_micros());
        // Writing to memory cannot fail.
        let _ = writeln!(
            lines.bytes,
            r#"{{"request":"{request}",{fields},"method":"{method}","result":"{result}","duration_us":{duration}{more}}}"#
        );
        drop(lines);
        if was_empty {
            self.shared.written.notify_one();
        }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was called, as far as it is known.
#[derive(Clone, Debug)]
pub enum Method {
    /// One of ours.
    Known(stele_proto::method::Method),
    /// A path that is not in the table, cut and with what JSON would have to escape replaced.
    Unknown(String),
}

impl Method {
    /// The method with this path.
    #[must_use]
    pub fn parse(path: &str) -> Self {
        match stele_proto::method::Method::parse(path) {
            Some(method) => Self::Known(method),
            None => {
                let plain = |char: char| {
                    if char.is_ascii_graphic() && !matches!(char, '"' | '\\') { char } else { '?' }
                };
                Self::Unknown(path.chars().take(128).map(plain).collect())
            }
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
    who: Arc<Who>,
    method: Method,
    request: String,
    begun: Instant,
    result: Code,
}

impl Record {
    /// The request's name.
    #[must_use]
    pub fn request(&self) -> &str {
        &self.request
    }

    /// Notes how the call ended.
    pub fn result(&mut self, code: Code) {
        self.result = code;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.audit.push(
            self.audit.lines(),
            &self.request,
            &self.who,
            self.method.path(),
            self.result,
            self.begun,
            "",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(audit: &Audit) -> Vec<serde_json::Value> {
        let bytes = std::mem::take(&mut audit.lines().bytes);
        bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    fn source() -> SocketAddr {
        "[2001:db8::1]:5".parse().unwrap()
    }

    #[test]
    fn a_line_is_json_whatever_strangers_write() {
        let audit = Audit::new(7);
        let client = crate::authz::Client {
            subject: "a\"b\n\u{1b}".into(),
            serial: "01".into(),
            role: Some(stele_proto::method::Role::Reader),
            own: Vec::new(),
            not_after: std::time::UNIX_EPOCH,
        };
        let who = Arc::new(Who::new(source(), &Caller::Client(client)));
        let mut record = audit.begin(Arc::clone(&who), Method::parse("/x\"\n\\ü"));
        record.result(Code::Unimplemented);
        drop(record);
        drop(audit.begin(who, Method::parse("/stele.v1.MachineService/Version")));
        let lines = lines(&audit);
        assert_eq!(lines[0]["subject"], "a\"b\n\u{1b}");
        assert_eq!(lines[0]["method"], "/x????");
        assert_eq!(lines[0]["result"], "UNIMPLEMENTED");
        assert_eq!(lines[0]["source"], "[2001:db8::1]:5");
        assert_eq!(lines[0]["request"], "00000007-1");
        assert_eq!(
            (&lines[1]["result"], &lines[1]["role"]),
            (&"CANCELLED".into(), &"os:reader".into())
        );
    }

    #[test]
    fn a_flood_of_strangers_is_counted() {
        let audit = Audit::new(0);
        let begun = Instant::now();
        for _ in 0..1000 {
            audit.refused(source(), "no \"TLS\"", begun);
        }
        let flood = lines(&audit).len();
        assert!(
            (limits::REFUSALS_BURST as usize..limits::REFUSALS_BURST as usize + 8).contains(&flood),
            "{flood}"
        );
        audit.lines().refilled = begun.checked_sub(Duration::from_secs(1)).unwrap();
        audit.refused(source(), "no \"TLS\"", begun);
        let lines = lines(&audit);
        assert_eq!(
            (&lines[0]["reason"], &lines[0]["method"]),
            (&"no \"TLS\"".into(), &"handshake".into())
        );
        assert_eq!(lines[0]["suppressed"].as_u64().unwrap() as usize + flood, 1000);
    }
}
