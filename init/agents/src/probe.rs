// SPDX-License-Identifier: Apache-2.0
//! Probe: tries over and over what is to work, and tells PID 1 after each try.
//!
//! * All checks run at once, and each tries at once; the next try begins an interval after the end of the last.
//! * No try takes longer than its time, and none keeps anything: every one makes its connection anew.
//! * What a server says is looked at as far as the check needs it, and no further.

mod api;
pub(crate) mod dns;
pub(crate) mod http;
mod icmp;
mod tcp;

use crate::fetch;
use crate::pid1::framed;
use crate::probe::{api::Api, dns::Dns, http::Http, icmp::Icmp, tcp::Tcp};
use ::time::{self, format_description::well_known::Rfc3339};
use serde::Deserialize;
use std::{
    convert::Infallible,
    error::Error,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use stele_kernel::clock;
use stele_proto::internal::ProbeReport;
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

pub use dns::Names;

/// Reports that wait for PID 1.
const QUEUE: usize = 64;
/// The longest text of a report, in characters.
const LONGEST_TEXT: usize = 500;
/// The shortest pause between two tries, whatever the task says.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// What is to be tried.
#[derive(Debug, Deserialize)]
pub struct Task {
    checks: Vec<Check>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Check {
    name: String,
    interval_ms: u64,
    timeout_ms: u64,
    #[serde(flatten)]
    probe: Probe,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Probe {
    Icmp(Icmp),
    Http(Http),
    Tcp(Tcp),
    Dns(Dns),
    Api(Api),
}

/// What the checks need of the machine.
#[derive(Debug)]
pub struct Surroundings {
    /// How names are resolved.
    pub names: Names,
    /// The trust roots for https: files in PEM.
    pub roots: Vec<PathBuf>,
}

/// Why the agent ends.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// There is no task.
    #[error("reading the task {}", file.display())]
    Read {
        /// Where it should be.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a task.
    #[error("understanding the checks")]
    Task(#[source] serde_json::Error),
    /// The runtime or the client could not be made.
    #[error("starting")]
    Start(#[source] io::Error),
    /// Nothing can be asked by HTTP.
    #[error("preparing the HTTP client")]
    Client(#[source] http::ClientError),
    /// PID 1 can't be told.
    #[error("reporting to PID 1")]
    Report(#[source] io::Error),
}

/// What a try found, in a few words; or why it failed.
type Seen = Result<String, Box<dyn Error + Send + Sync>>;

impl Surroundings {
    /// Those of the machine that this runs on.
    #[must_use]
    pub fn of_this_machine() -> Surroundings {
        Surroundings {
            names: Names {
                hosts: "/etc/hosts".into(),
                resolv_conf: "/etc/resolv.conf".into(),
                port: 53,
            },
            roots: vec![
                "/usr/share/ca-certificates/ca-certificates.crt".into(),
                "/run/stele/trust/roots.pem".into(),
            ],
        }
    }
}

/// Reads the task in a file.
///
/// # Errors
/// When it can't be read, or is none.
pub fn read(file: &Path) -> Result<Task, ProbeError> {
    let text = fs::read_to_string(file)
        .map_err(|source| ProbeError::Read { file: file.to_owned(), source })?;
    parse(&text)
}

/// Understands a task.
///
/// # Errors
/// When it is none.
pub fn parse(text: &str) -> Result<Task, ProbeError> {
    serde_json::from_str(text).map_err(ProbeError::Task)
}

/// Tries everything, over and over.
///
/// # Errors
/// When it can't begin, or PID 1 can't be told any more.
pub fn run(
    task: Task,
    surroundings: Surroundings,
    reports: &mut impl Write,
) -> Result<Infallible, ProbeError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ProbeError::Start)?;
    let names = Arc::new(surroundings.names);
    let roots = fetch::roots(&surroundings.roots);
    let client = http::client(&roots, Arc::clone(&names)).map_err(ProbeError::Client)?;
    runtime.block_on(async {
        let (sender, mut queue) = mpsc::channel(QUEUE);
        let mut checks = JoinSet::new();
        for check in task.checks {
            checks.spawn(watch(check, client.clone(), Arc::clone(&names), sender.clone()));
        }
        loop {
            // `sender` lives as long as `queue`, so there is always another report to wait for.
            let Some(report) = queue.recv().await else { std::future::pending().await };
            reports.write_all(&framed(&report)).map_err(ProbeError::Report)?;
        }
    })
}

/// Makes one check, for ever.
async fn watch(
    check: Check,
    client: reqwest::Client,
    names: Arc<Names>,
    reports: mpsc::Sender<ProbeReport>,
) {
    let limit = Duration::from_millis(check.timeout_ms);
    let pause = Duration::from_millis(check.interval_ms).max(SHORTEST_PAUSE);
    loop {
        let begun = Instant::now();
        let tried = tokio::time::timeout(limit, attempt(&check.probe, &client, &names)).await;
        let took = begun.elapsed();
        let (ok, message) = match tried {
            Ok(Ok(seen)) => (true, format!("{seen} after {} ms", took.as_millis())),
            Ok(Err(error)) => {
                (false, format!("{}: {}", check.probe.what(), explain(error.as_ref())))
            }
            Err(_) => (false, format!("{}: not done within {limit:?}", check.probe.what())),
        };
        let report = ProbeReport {
            check: check.name.clone(),
            ok,
            message: plain(&message),
            took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        };
        if reports.send(report).await.is_err() {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}

async fn attempt(probe: &Probe, client: &reqwest::Client, names: &Names) -> Seen {
    match probe {
        Probe::Icmp(icmp) => icmp.attempt(names).await,
        Probe::Http(http) => http.attempt(client).await,
        Probe::Tcp(tcp) => tcp.attempt(names).await,
        Probe::Dns(dns) => dns.attempt(names).await,
        Probe::Api(api) => api.attempt().await,
    }
}

impl Probe {
    /// What is tried, for a sentence.
    fn what(&self) -> String {
        match self {
            Probe::Icmp(icmp) => icmp.what(),
            Probe::Http(http) => http.what(),
            Probe::Tcp(tcp) => tcp.what(),
            Probe::Dns(dns) => dns.what(),
            Probe::Api(api) => api.what(),
        }
    }
}

/// A text as it can be shown anywhere: it may hold words of strangers.
fn plain(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(LONGEST_TEXT).collect()
}

/// An error and all that caused it, in one line, each thing said once.
#[must_use]
pub fn explain(error: &dyn Error) -> String {
    let mut said = Vec::new();
    let mut cause = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        let text = text.split(" (os error ").next().unwrap_or_default().to_owned();
        // reqwest's outer layers only name the URL again and the kind of what follows.
        let empty = text.contains(" for url (") || text == "client error (Connect)";
        if !empty && !said.iter().any(|earlier: &String| earlier.contains(&text)) {
            said.push(text);
        }
        cause = error.source();
    }
    doubtful(if said.is_empty() { error.to_string() } else { said.join(": ") })
}

/// What was said of a certificate's time, with what this machine knows of the time.
pub(crate) fn doubtful(said: String) -> String {
    let of_time = ["expired", "not valid yet"].iter().any(|word| said.contains(word));
    if !of_time || !said.contains("certificate") {
        return said;
    }
    let now = time::OffsetDateTime::now_utc().replace_nanosecond(0);
    let now = now.ok().and_then(|now| now.format(&Rfc3339).ok()).unwrap_or_default();
    match clock::is_synchronized() {
        Ok(true) => format!("{said}; it is {now}"),
        Ok(false) | Err(_) => {
            format!(
                "{said}; this machine's clock says {now}, and nothing has set it right yet (ctl get time)"
            )
        }
    }
}

#[cfg(test)]
mod tests;
