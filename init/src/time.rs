// SPDX-License-Identifier: Apache-2.0
//! The clock: never before what is known to have passed, and kept right by the time agent.
//!
//! ```text
//! the image's build, /state/clock.json ─► what is known ─┬─► the clock, when it can't be right
//!                                                        └─► the floor, before which no source sets it
//! configuration, leases, platform, /dev/ptpN ─► task ─► time agent ─► reports ─► the resource Time, /state/clock.json
//! ```

use crate::{
    agent::{self, Folder},
    configuration::Causes,
    convergence::Part,
    node::Node,
    platform::Here,
    report,
    state::{self, StateError},
    store::Kind,
    supervisor::Handle,
};
use prost::Message as _;
use serde::{Deserialize, Serialize};
use std::{
    cell::{Cell, RefCell},
    fs, io,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};
use stele_kernel::clock;
use stele_machine::time::{Known, Plan, Server};
use stele_proto::internal::{TimeReport, TimeServer, TimeSource, TimeTask, time_report::State};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

const UNIT: &str = "time";
/// Where the agent finds its task, and has its files.
const FOLDER: Folder = Folder { path: "/run/stele/time", user: 211 };
/// Reports that wait; an agent that has more to say waits.
const QUEUE: usize = 4;
/// The longest text of an agent that is kept, and most of its sources.
const LONGEST_TEXT: usize = 400;
const MOST_SOURCES: usize = 16;
/// How long others are waited for, leases among them, before the server is asked that the image knows.
const GRACE: Duration = Duration::from_secs(10);
/// How often the time is written down.
const WRITE: Duration = Duration::from_secs(3600);
/// By which a guest of KVM knows that it is one.
const CLOCKSOURCES: &str = "/sys/devices/system/clocksource/clocksource0/available_clocksource";
/// Clocks of hypervisors, as the kernel names them: they tell the time of day, which others need not.
const HYPERVISORS: [&str; 3] = ["KVM virtual PTP", "hyperv", "ptp_vmw"];

/// What is known of the clock.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// What was known when the machine started.
    known: Cell<Known>,
    /// Whether it follows sources that all prove who they are.
    proven: Cell<bool>,
    /// Whether it followed its sources since the machine started.
    was_right: watch::Sender<bool>,
    last: RefCell<TimeReport>,
}

/// Why the clock can't be kept right.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TimeError {
    #[error("making the folder {}", FOLDER.path)]
    Folder(#[source] io::Error),
    #[error("writing the time agent's task")]
    Task(#[source] io::Error),
}

/// The last time that the machine knew, as it lies on disk, in seconds since the epoch.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    time: i64,
    /// The last one that sources have proven.
    #[serde(skip_serializing_if = "Option::is_none")]
    proven: Option<i64>,
}

/// What `ctl get time` shows.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    state: &'static str,
    /// By how many seconds the source is ahead of the clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<f64>,
    /// The best source that answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    stratum: u32,
    /// Whether every source that answers proves who it is.
    authenticated: bool,
    /// When the clock was right first, in seconds after boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<f64>,
    /// By how many seconds the clock of the hardware is ahead. The kernel sets it while the clock is synchronized.
    #[serde(skip_serializing_if = "Option::is_none")]
    hardware: Option<i64>,
    /// Who says whom to ask.
    origin: String,
    /// The servers. Named otherwise than in the document, which says more of each.
    asked: Vec<String>,
    sources: Vec<Source<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
}

#[derive(Serialize)]
struct Source<'a> {
    name: &'a str,
    address: &'a str,
    offset: f64,
    uncertainty: f64,
    delay: f64,
    authenticated: bool,
    reachable: bool,
}

/// Makes the folder that the agent works in.
pub(crate) fn prepare() -> Result<(), TimeError> {
    FOLDER.make().map_err(TimeError::Folder)
}

/// The clock is never earlier than what is known to have passed: a dead battery must not make every certificate one from the
/// future. Nor is it so late that no image would still be in use.
pub(crate) fn keep_sane(known: Known) {
    let now = clock::now().unwrap_or(0);
    let Some(last) = known.corrected(now) else {
        if now < known.last() {
            tracing::warn!(
                clock.is = now,
                clock.known = known.last(),
                "the clock is well behind the last time that is known, which nobody has proven; it stays as it is"
            );
        }
        return;
    };
    match clock::set(last) {
        Ok(()) => tracing::warn!(
            clock.was = now,
            clock.is = last,
            "the clock can't be right; set to the last time that is known"
        ),
        Err(error) => {
            tracing::error!(error = %error, "setting the clock to the last time that is known failed");
        }
    }
}

fn file() -> PathBuf {
    Path::new(state::ROOT).join("clock.json")
}

/// Takes the image's build and what is on disk for what has passed.
pub(crate) fn remember(node: &Node, state_kept: bool) {
    let mut known = Known::of_image(node.release.build_time);
    if state_kept && file().exists() {
        match state::read_json::<Record>(&file()) {
            Ok(Record { time, proven }) => {
                known = known.with(time, proven);
                if known.last() < time {
                    tracing::warn!(
                        clock.known = time,
                        "the last known time is too late to be right, and is not believed"
                    );
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = report::chain(&error),
                    "the last known time is not readable"
                );
            }
        }
    }
    node.clock.known.set(known);
    keep_sane(known);
}

impl Clock {
    /// The time, if it is known, in seconds since the epoch.
    pub(crate) fn known(&self) -> Option<i64> {
        let right = *self.was_right.borrow() && self.last.borrow().state() != State::Refused;
        right.then(clock::now)?.ok()
    }

    /// What there is to write down, if the time is known.
    pub(crate) fn record(&self) -> Option<Record> {
        let time = self.known()?;
        let before = self.known.get().proven();
        Some(Record { time, proven: if self.proven.get() { Some(time) } else { before } })
    }

    /// Whether it followed its sources since the machine started.
    pub(crate) fn right(&self) -> watch::Receiver<bool> {
        self.was_right.subscribe()
    }
}

/// Writes the time down.
pub(crate) fn write_down(record: &Record) -> Result<(), StateError> {
    state::write_json(&file(), record)
}

/// Keeps the clock right for as long as the machine runs.
pub(crate) async fn keep(node: Rc<Node>, here: Rc<Here>) {
    // Nothing that the kernel finds by itself is a sign of this clock.
    if fs::read_to_string(CLOCKSOURCES).is_ok_and(|known| known.contains("kvm-clock")) {
        node.load_module("ptp_kvm").await;
    }
    let mut configuration = node.configuration.subscribe();
    let mut leased = node.time_servers.subscribe();
    let mut agent = Agent { node: Rc::clone(&node), running: None, since: None };
    let mut causes = Causes::default();
    let mut write = Instant::now();
    let last_resort = Instant::now() + GRACE;
    loop {
        let active = configuration.borrow_and_update().clone();
        let servers = leased.borrow_and_update().clone();
        let config = active.as_deref().map(|active| &active.config);
        let late = Instant::now() >= last_resort;
        let may = late && hypervisor().is_none();
        let plan = Plan::derive(config, &servers, here.time_servers(), may);
        let outcome = causes.of(active.as_deref()).carry(agent.run(plan)).await;
        if let Some(active) = &active {
            let outcome = outcome.map_err(|error| format!("Time: {}", report::chain(&error)));
            node.convergence.report(Part::Time, active.stored.number, outcome);
        }
        loop {
            tokio::select! {
                changed = configuration.changed() => match changed {
                    Ok(()) => break,
                    Err(_ended) => return,
                },
                // The node has the sender.
                _changed = leased.changed() => break,
                report = agent::said(agent.reports()) => {
                    if agent.hear(&report) {
                        write = Instant::now();
                    }
                }
                () = tokio::time::sleep_until(last_resort), if !late => break,
                () = tokio::time::sleep_until(write) => {
                    write_if_known(&node).await;
                    write = Instant::now() + WRITE;
                }
            }
        }
    }
}

async fn write_if_known(node: &Node) {
    let kept = node.state.get().is_some_and(|state| state.persistent);
    let Some(record) = node.clock.record().filter(|_| kept) else { return };
    // It fails only by panicking.
    if let Ok(Err(error)) = tokio::task::spawn_blocking(move || write_down(&record)).await {
        tracing::warn!(error = report::chain(&error), "writing the time down failed");
    }
}

struct Agent {
    node: Rc<Node>,
    running: Option<Running>,
    /// When the clock was right first, after boot.
    since: Option<Duration>,
}

struct Running {
    plan: Plan,
    /// The clock of the hypervisor, where it is wanted and there is one.
    ptp: Option<PathBuf>,
    reports: Option<mpsc::Receiver<Vec<u8>>>,
    /// The service runs for as long as somebody holds it.
    service: Option<Handle>,
}

impl Running {
    /// Whether everything that is asked proves who it is.
    fn authenticated(&self) -> bool {
        self.ptp.is_none() && self.plan.authenticated()
    }
}

impl Agent {
    /// Makes the agent do this.
    async fn run(&mut self, plan: Plan) -> Result<(), TimeError> {
        if self.running.as_ref().is_some_and(|running| running.plan == plan) {
            return Ok(());
        }
        if self.running.take().is_some_and(|running| running.service.is_some()) {
            self.node.supervisor.retire(UNIT).await;
        }
        let ptp = if plan.ptp { hypervisor() } else { None };
        let mut running = Running { plan, ptp, reports: None, service: None };
        let mut written = Ok(());
        *self.node.clock.last.borrow_mut() = TimeReport { stratum: 16, ..TimeReport::default() };
        self.node.clock.proven.set(false);
        if !running.plan.servers.is_empty() || running.ptp.is_some() {
            written = self.write(&running).map_err(TimeError::Task);
            match self.node.units.get(UNIT).cloned() {
                Some(mut unit) => {
                    if let (Some(landlock), Some(ptp)) = (&mut unit.sandbox.landlock, &running.ptp)
                    {
                        landlock.read.push(ptp.clone());
                    }
                    let (sender, reports) = mpsc::channel(QUEUE);
                    let service = self.node.supervisor.add(&self.node, UNIT, unit, Some(sender));
                    service.start();
                    (running.reports, running.service) = (Some(reports), Some(service));
                }
                None => tracing::error!(unit.name = UNIT, "the image has no such unit"),
            }
        }
        self.running = Some(running);
        self.publish();
        written
    }

    /// Writes the task, for the agent alone.
    fn write(&self, Running { plan, ptp, .. }: &Running) -> io::Result<()> {
        let task = TimeTask {
            servers: plan.servers.iter().map(server).collect(),
            ptp: ptp.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
            slew_milliseconds: plan
                .slew
                .map_or(0, |slew| u32::try_from(slew.as_millis()).unwrap_or(u32::MAX)),
            step_seconds: u32::try_from(plan.step.as_secs()).unwrap_or(u32::MAX),
            was_right: *self.node.clock.was_right.borrow(),
            floor: self.node.clock.known.get().floor(),
        };
        if let Some(ptp) = ptp {
            chown(ptp, Some(FOLDER.user), None)?;
        }
        FOLDER.give(&task.encode_to_vec())
    }

    fn reports(&mut self) -> Option<&mut mpsc::Receiver<Vec<u8>>> {
        self.running.as_mut()?.reports.as_mut()
    }

    /// Takes the agent's word. True when the clock has become right for the first time.
    fn hear(&mut self, bytes: &[u8]) -> bool {
        let mut report = match TimeReport::decode(bytes) {
            Ok(report) => report,
            Err(error) => {
                tracing::warn!(error = %error, "a report of the time agent makes no sense");
                return false;
            }
        };
        let plain = |text: &str| report::plain(text, LONGEST_TEXT);
        report.reason = plain(&report.reason);
        report.sources.truncate(MOST_SOURCES);
        for source in &mut report.sources {
            (source.name, source.address) = (plain(&source.name), plain(&source.address));
        }
        let (state, before) = (report.state(), self.node.clock.last.borrow().state());
        let reason = report.reason.clone();
        *self.node.clock.last.borrow_mut() = report;
        let authenticated = self.running.as_ref().is_some_and(Running::authenticated);
        self.node.clock.proven.set(authenticated && state == State::Synchronized);
        if state != before {
            match state {
                State::Synchronized => tracing::info!("the clock follows its sources"),
                State::Waiting => {}
                State::Holding | State::Refused => {
                    tracing::warn!(reason, "the clock does not follow its sources");
                }
            }
        }
        let first = state == State::Synchronized && !self.node.clock.was_right.send_replace(true);
        if first {
            self.since = clock::since_boot().ok();
            // An agent that starts again keeps within the limits of a clock that was right.
            if let Some(running) = &self.running
                && let Err(error) = self.write(running)
            {
                tracing::warn!(error = %error, "writing the time agent's task failed");
            }
        }
        self.publish();
        first
    }

    fn publish(&self) {
        let Some(running) = &self.running else { return };
        let report = self.node.clock.last.borrow();
        let state = match report.state() {
            _ if running.service.is_none() => "none",
            State::Waiting => "waiting",
            State::Synchronized => "synchronized",
            State::Holding => "holding",
            State::Refused => "refused",
        };
        let answering = || report.sources.iter().filter(|source| source.reachable);
        let best = answering().min_by(|a, b| a.uncertainty.total_cmp(&b.uncertainty));
        let reason = match state {
            "none" => {
                "no configuration, no lease and no platform names a server, and there is no clock of a hypervisor"
            }
            "waiting" if report.reason.is_empty() => "no source has answered yet",
            _ => &report.reason,
        };
        let servers = running.plan.servers.iter();
        let status = Status {
            state,
            offset: best.map(|source| source.offset),
            source: best.map(|source| source.name.as_str()),
            stratum: report.stratum,
            authenticated: best.is_some() && answering().all(|source| source.authenticated),
            since: self.since.map(|since| since.as_secs_f64()),
            hardware: hardware(),
            origin: running.plan.origin.to_string(),
            asked: servers.map(|one| format!("{}:{}", one.host, one.port)).collect(),
            sources: report.sources.iter().map(describe).collect(),
            reason,
        };
        self.node.store.put(Kind::Time, "time", &status);
    }
}

fn server(server: &Server) -> TimeServer {
    TimeServer {
        host: server.host.clone(),
        port: server.port.into(),
        nts: server.nts,
        ca: server.ca.clone(),
    }
}

fn describe(source: &TimeSource) -> Source<'_> {
    Source {
        name: &source.name,
        address: &source.address,
        offset: source.offset,
        uncertainty: source.uncertainty,
        delay: source.delay,
        authenticated: source.authenticated,
        reachable: source.reachable,
    }
}

/// By how many seconds the clock of the hardware is ahead, where there is one.
fn hardware() -> Option<i64> {
    let there = fs::read_to_string("/sys/class/rtc/rtc0/since_epoch").ok()?;
    there.trim().parse::<i64>().ok()?.checked_sub(clock::now().ok()?)
}

/// The clock of the hypervisor, where there is one.
fn hypervisor() -> Option<PathBuf> {
    let clocks = fs::read_dir("/sys/class/ptp").ok()?.flatten();
    let mut known = clocks.filter(|clock| {
        let name = fs::read_to_string(clock.path().join("clock_name")).unwrap_or_default();
        HYPERVISORS.contains(&name.trim())
    });
    Some(Path::new("/dev").join(known.next()?.file_name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_proven_is_written_down_as_proven() {
        let clock = Clock::default();
        assert_eq!(clock.record(), None);
        clock.was_right.send_replace(true);
        let record = clock.record().unwrap();
        assert_eq!(record.proven, None);
        clock.proven.set(true);
        let record = clock.record().unwrap();
        assert_eq!(record.proven, Some(record.time));
        // Other sources since then prove nothing, and take nothing back.
        clock.known.set(Known::of_image(1_000).with(2_000, Some(1_500)));
        clock.proven.set(false);
        assert_eq!(clock.record().unwrap().proven, Some(1_500));
        clock.last.borrow_mut().set_state(State::Refused);
        assert_eq!(clock.record(), None);
    }

    #[test]
    fn a_time_that_was_written_down_by_an_older_image_is_not_proven() {
        let record: Record = serde_json::from_str(r#"{"time":1700000000}"#).unwrap();
        assert_eq!(record, Record { time: 1_700_000_000, proven: None });
    }
}
