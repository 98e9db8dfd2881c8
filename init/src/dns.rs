// SPDX-License-Identifier: Apache-2.0
//! How names are resolved: by the servers themselves, or by the dns agent, the machine's own stub, which asks them.
//!
//! ```text
//! configuration, leases ─► network ─► /etc/resolv.conf
//!                             └─────► task ─► dns agent ─► reports ─► the resource Resolver
//! ```

use crate::{
    agent::{self, Folder, until},
    convergence::Part,
    node::Node,
    report,
    store::Kind,
    supervisor::Handle,
};
use prost::Message as _;
use serde::Serialize;
use std::{io, rc::Rc, time::Duration};
use stele_config::{NameServer, Resolver as Document};
use stele_machine::network::names::Resolver;
use stele_proto::internal::{DnsReport, DnsServer, DnsServerReport, DnsTask};
use tokio::{sync::mpsc, time::Instant};

const UNIT: &str = "dns";
/// Where the agent finds its task.
const FOLDER: Folder = Folder { path: "/run/stele/dns", user: 212 };
/// Reports that wait; an agent that has more to say waits.
const QUEUE: usize = 4;
/// The longest text of an agent that is kept.
const LONGEST_TEXT: usize = 300;
/// How long listening may take after a configuration asks for it.
const PATIENCE: Duration = Duration::from_secs(10);
/// The first wait after the agent could not be started.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// The longest.
const BACKOFF_LONGEST: Duration = Duration::from_secs(60);
/// The first wait between two changes of servers that no configuration asks for.
const PACE_FIRST: Duration = Duration::from_secs(1);
/// The longest, and for how long they must have stayed as they are for the next change to be the first again.
const PACE_LONGEST: Duration = Duration::from_secs(60);

/// Whom the network says to ask, and the generation that it has seen by then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) generation: Option<u64>,
    pub(crate) resolver: Resolver,
}

/// Why names can't be resolved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DnsError {
    #[error("making the folder {}", FOLDER.path)]
    Folder(#[source] io::Error),
    #[error("writing the dns agent's task")]
    Task(#[source] io::Error),
    #[error("the image has no unit {UNIT}")]
    Unit,
}

/// What `ctl get resolver` shows.
#[derive(Serialize)]
struct Status<'a> {
    state: &'static str,
    servers: Vec<String>,
    search: Vec<String>,
    /// Who says so.
    origin: &'static str,
    #[serde(flatten)]
    stub: Option<Stub<'a>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

/// What there is to say of the stub.
#[derive(Serialize)]
struct Stub<'a> {
    /// Where it is. The document says whether it is wanted.
    stub: String,
    /// Questions that were answered from memory.
    hits: u64,
    /// Questions that servers were asked.
    misses: u64,
    /// Those of them that have no answer.
    failures: u64,
    asked: Vec<Asked<'a>>,
}

/// A server, as the stub sees it.
#[derive(Serialize)]
struct Asked<'a> {
    server: String,
    transport: &'static str,
    answers: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
}

/// Makes the folder that the agent reads.
pub(crate) fn prepare() -> Result<(), DnsError> {
    FOLDER.make().map_err(DnsError::Folder)
}

/// Keeps the agent in step with the network for as long as the machine runs.
pub(crate) async fn keep(node: Rc<Node>) {
    let mut wanted = node.resolver.subscribe();
    let mut configuration = node.configuration.subscribe();
    let mut agent = Agent::new(Rc::clone(&node));
    loop {
        let Wanted { generation, resolver } = wanted.borrow_and_update().clone();
        let later = agent.later(generation, &resolver, Instant::now());
        if later.is_none() {
            let active = node.configuration.active();
            let cause = active.filter(|active| generation == Some(active.stored.number));
            agent.generation = generation;
            let begun = agent.run(resolver).await;
            agent.note(begun);
            match cause {
                Some(active) => active.cause().act(|| agent.publish()),
                None => agent.publish(),
            }
            agent.account();
        }
        loop {
            let (starting, again) = (agent.starting, agent.again());
            tokio::select! {
                // The node has the senders.
                _changed = wanted.changed() => break,
                // One that was in force before changes nothing of what is wanted.
                _changed = configuration.changed() => agent.account(),
                report = agent::said(agent.reports()) => agent.hear(&report),
                () = until(starting) => agent.settle(true),
                () = until(again) => break,
                () = until(later) => break,
            }
        }
    }
}

struct Agent {
    node: Rc<Node>,
    resolver: Resolver,
    /// The generation that wants it so.
    generation: Option<u64>,
    running: Option<Running>,
    /// By when it should be listening; none once that has been told.
    starting: Option<Instant>,
    failed: Option<Failed>,
    pace: Pace,
}

/// How often servers change. Anyone on a link can be a router that names some, as often as he likes, and each change is the
/// end of the agent and of all that it remembers.
#[derive(Debug, Default)]
struct Pace {
    wait: Duration,
    /// When the next change may be.
    next: Option<Instant>,
}

impl Pace {
    /// Notes a change: those that follow soon have to wait longer and longer.
    fn changed(&mut self, now: Instant) {
        let calm = self.next.is_none_or(|next| now >= next + PACE_LONGEST);
        let longer = self.wait.saturating_mul(2).min(PACE_LONGEST);
        self.wait = if calm { PACE_FIRST } else { longer };
        self.next = Some(now + self.wait);
    }
}

/// The agent could not be started.
struct Failed {
    reason: String,
    wait: Duration,
    again: Instant,
}

struct Running {
    servers: Vec<NameServer>,
    reports: mpsc::Receiver<Vec<u8>>,
    /// What the agent last said.
    said: Option<DnsReport>,
    /// The service runs for as long as somebody holds it.
    _service: Handle,
}

impl Agent {
    fn new(node: Rc<Node>) -> Agent {
        let resolver = Resolver::default();
        let (starting, failed, pace) = (None, None, Pace::default());
        Agent { node, resolver, generation: None, running: None, starting, failed, pace }
    }

    /// When the agent may be told to ask these, if that is not now. Until then it asks those that it knows.
    fn later(&self, generation: Option<u64>, resolver: &Resolver, now: Instant) -> Option<Instant> {
        let running = self.running.as_ref()?;
        let changes = resolver.stub && running.servers != resolver.servers;
        // What a configuration asks for is done at once.
        let asked = generation != self.generation;
        self.pace.next.filter(|next| changes && !asked && *next > now)
    }

    /// Makes the agent ask these, if there is to be one.
    async fn run(&mut self, resolver: Resolver) -> Result<(), DnsError> {
        let servers = resolver.stub.then(|| resolver.servers.clone());
        self.resolver = resolver;
        if self.running.as_ref().map(|running| &running.servers) == servers.as_ref() {
            return Ok(());
        }
        self.starting = None;
        if self.running.take().is_some() {
            self.pace.changed(Instant::now());
            self.node.supervisor.retire(UNIT).await;
        }
        let Some(servers) = servers else { return Ok(()) };
        let unit = self.node.units.get(UNIT).cloned().ok_or(DnsError::Unit)?;
        FOLDER.give(&task(&servers).encode_to_vec()).map_err(DnsError::Task)?;
        let (sender, reports) = mpsc::channel(QUEUE);
        let service = self.node.supervisor.add(&self.node, UNIT, unit, Some(sender));
        service.start();
        self.running = Some(Running { servers, reports, said: None, _service: service });
        self.starting = Some(Instant::now() + PATIENCE);
        Ok(())
    }

    /// Notes whether it could be started. What fails is tried again, later and later.
    fn note(&mut self, begun: Result<(), DnsError>) {
        let before = self.failed.take();
        let Err(error) = begun else { return };
        let reason = report::chain(&error);
        if before.as_ref().is_none_or(|before| before.reason != reason) {
            tracing::error!(error = reason, "the dns agent could not be started; trying again");
        }
        let wait = before.map_or(BACKOFF_FIRST, |before| before.wait.saturating_mul(2));
        let wait = wait.min(BACKOFF_LONGEST);
        self.failed = Some(Failed { reason, wait, again: Instant::now() + wait });
    }

    /// When it is tried again.
    fn again(&self) -> Option<Instant> {
        self.failed.as_ref().map(|failed| failed.again)
    }

    fn reports(&mut self) -> Option<&mut mpsc::Receiver<Vec<u8>>> {
        self.running.as_mut().map(|running| &mut running.reports)
    }

    /// Takes the agent's word.
    fn hear(&mut self, bytes: &[u8]) {
        let mut report = match DnsReport::decode(bytes) {
            Ok(report) => report,
            Err(error) => {
                tracing::warn!(error = %error, "a report of the dns agent makes no sense");
                return;
            }
        };
        report.reason = report::plain(&report.reason, LONGEST_TEXT);
        for server in &mut report.servers {
            server.reason = report::plain(&server.reason, LONGEST_TEXT);
        }
        if let Some(running) = &mut self.running {
            running.said = Some(report);
        }
        self.publish();
        self.settle(false);
    }

    /// Says whether the configuration is in force, as far as it is known now.
    fn account(&mut self) {
        match &self.failed {
            Some(failed) => self.tell(Err(failed.reason.clone())),
            None if self.starting.is_some() => self.settle(false),
            // What is missing was missing before.
            None => self.tell(Ok(())),
        }
    }

    /// Tells whether the agent listens, if that is known; at the end of its time it is.
    fn settle(&mut self, end: bool) {
        if self.starting.is_none() {
            return;
        }
        let outcome = match self.running.as_ref().map(|running| running.said.as_ref()) {
            None => Ok(()),
            Some(Some(said)) if said.listening => Ok(()),
            Some(_) if !end => return,
            Some(Some(said)) => Err(said.reason.clone()),
            Some(None) => Err("the dns agent has not said that it listens".to_owned()),
        };
        self.starting = None;
        self.tell(outcome);
    }

    /// Nobody listens who is told of a generation that is not the active one.
    fn tell(&self, outcome: Result<(), String>) {
        let Some(generation) = self.generation else { return };
        let outcome = outcome.map_err(|reason| format!("Resolver: {reason}"));
        self.node.convergence.report(Part::Resolver, generation, outcome);
    }

    fn publish(&self) {
        let said = self.running.as_ref().map(|running| running.said.as_ref());
        let (state, reason) = match &self.failed {
            Some(failed) => ("failed", failed.reason.clone()),
            None => judge(&self.resolver, said),
        };
        let status = Status {
            state,
            servers: self.resolver.servers.iter().map(NameServer::to_string).collect(),
            search: self.resolver.search.iter().map(ToString::to_string).collect(),
            origin: self.resolver.origin.as_str(),
            stub: said.map(|said| describe(&self.resolver, said)),
            reason,
        };
        self.node.store.put(Kind::Resolver, "resolver", &status);
    }
}

fn task(servers: &[NameServer]) -> DnsTask {
    let server = |server: &NameServer| DnsServer {
        address: server.socket().to_string(),
        name: server.name().unwrap_or_default(),
    };
    DnsTask { servers: servers.iter().map(server).collect() }
}

/// The state, and why it is not better. `said` is what the agent said, where there is one.
fn judge(resolver: &Resolver, said: Option<Option<&DnsReport>>) -> (&'static str, String) {
    if resolver.servers.is_empty() {
        return ("none", "no document and no lease names a server".to_owned());
    }
    let said = match said {
        None if resolver.stub => return ("failed", "the stub does not run".to_owned()),
        None => return ("direct", String::new()),
        Some(None) => return ("starting", String::new()),
        Some(Some(said)) => said,
    };
    if !said.listening {
        return ("waiting", said.reason.clone());
    }
    let servers = resolver.servers.iter().zip(&said.servers);
    let silent = servers.filter(|(_, said)| !said.reason.is_empty());
    let reasons: Vec<String> =
        silent.map(|(server, said)| format!("{server}: {}", said.reason)).collect();
    let state = if reasons.len() < resolver.servers.len() { "answering" } else { "failing" };
    (state, reasons.join("; "))
}

fn describe<'a>(resolver: &Resolver, said: Option<&'a DnsReport>) -> Stub<'a> {
    let server = |(server, said): (&NameServer, &'a DnsServerReport)| Asked {
        server: server.to_string(),
        transport: if server.name().is_some() { "tls" } else { "udp" },
        answers: said.answers,
        reason: &said.reason,
    };
    let servers = said.map(|said| said.servers.as_slice()).unwrap_or_default();
    Stub {
        stub: Document::STUB.to_string(),
        hits: said.map_or(0, |said| said.hits),
        misses: said.map_or(0, |said| said.misses),
        failures: said.map_or(0, |said| said.failures),
        asked: resolver.servers.iter().zip(servers).map(server).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{node::Release, unit::Unit};
    use std::collections::BTreeMap;

    fn said(listening: bool, reasons: &[&str]) -> DnsReport {
        let server = |reason: &&str| DnsServerReport { answers: 1, reason: (*reason).to_owned() };
        let reason = if listening { String::new() } else { "in use".to_owned() };
        let servers = reasons.iter().map(server).collect();
        DnsReport { listening, reason, servers, ..DnsReport::default() }
    }

    #[tokio::test]
    async fn an_agent_that_can_not_be_started_is_told_of_each_time_and_tried_again() {
        let node = Rc::new(Node::new(BTreeMap::new(), Release::default()));
        let mut agent = Agent::new(Rc::clone(&node));
        agent.generation = Some(1);
        let wanted = Resolver { stub: true, ..Resolver::default() };
        let begun = agent.run(wanted.clone()).await;
        agent.note(begun);
        // The second time the configuration goes back to it, and nothing else is wanted.
        for _ in 0..2 {
            node.convergence.begin(1);
            agent.account();
            let told = Err("Resolver: the image has no unit dns".to_owned());
            assert_eq!(node.convergence.reached().await, told);
        }
        let begun = agent.run(wanted).await;
        agent.note(begun);
        assert_eq!(agent.failed.as_ref().map(|failed| failed.wait), Some(BACKOFF_FIRST * 2));
        let begun = agent.run(Resolver::default()).await;
        agent.note(begun);
        assert_eq!(agent.again(), None);
    }

    #[test]
    fn servers_that_come_and_go_change_less_and_less_often_and_one_change_is_at_once() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let changes = |pace: &mut Pace, seconds: std::ops::Range<u64>| {
            seconds
                .filter(|second| {
                    let may = pace.next.is_none_or(|next| next <= at(*second));
                    if may {
                        pace.changed(at(*second));
                    }
                    may
                })
                .count()
        };
        let mut pace = Pace::default();
        assert_eq!(changes(&mut pace, 0..1), 1);
        assert_eq!(changes(&mut pace, 1..64), 6);
        assert_eq!(changes(&mut pace, 64..664), 10);
        // After a while without any, the next is the first again.
        let calm = 664 + 2 * PACE_LONGEST.as_secs();
        assert_eq!(changes(&mut pace, calm..calm + 1), 1);
        assert_eq!(pace.wait, PACE_FIRST);
    }

    #[tokio::test]
    async fn servers_wait_for_their_turn_unless_a_configuration_asks_for_them() {
        let node = Rc::new(Node::new(BTreeMap::new(), Release::default()));
        let mut agent = Agent::new(Rc::clone(&node));
        let now = Instant::now();
        let plain = |text: &str| vec![text.parse::<NameServer>().unwrap()];
        let stub = |text| Resolver { stub: true, servers: plain(text), ..Resolver::default() };
        agent.pace.changed(now);
        // Nothing is lost where nothing runs.
        assert_eq!(agent.later(None, &stub("192.0.2.1"), now), None);
        let unit = serde_json::from_str::<Unit>(r#"{"description":"dns","exec":["/dns"],"sandbox":{"uid":212,"seccomp":"network","memory_max":1,"tasks_max":1}}"#).unwrap();
        let local = tokio::task::LocalSet::new();
        let _in_it = local.enter();
        let service = node.supervisor.add(&node, UNIT, unit, None);
        let (_sender, reports) = mpsc::channel(QUEUE);
        let servers = plain("192.0.2.1");
        agent.running = Some(Running { servers, reports, said: None, _service: service });
        let next = Some(now + PACE_FIRST);
        assert_eq!(agent.later(None, &stub("192.0.2.2"), now), next);
        assert_eq!(agent.later(None, &stub("192.0.2.2"), now + PACE_FIRST), None);
        assert_eq!(agent.later(None, &stub("192.0.2.1"), now), None);
        assert_eq!(agent.later(None, &Resolver::default(), now), None);
        assert_eq!(agent.later(Some(1), &stub("192.0.2.2"), now), None);
    }

    #[test]
    fn the_state_says_who_resolves_names_and_why_not() {
        let servers = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        let direct = Resolver { servers: servers.to_vec(), ..Resolver::default() };
        let stub = Resolver { stub: true, ..direct.clone() };
        assert_eq!(judge(&Resolver::default(), None).0, "none");
        assert_eq!(judge(&direct, None), ("direct", String::new()));
        assert_eq!(judge(&stub, None).0, "failed");
        assert_eq!(judge(&stub, Some(None)).0, "starting");
        let judged = |report: &DnsReport| {
            let (state, reason) = judge(&stub, Some(Some(report)));
            format!("{state} {reason}")
        };
        assert_eq!(judged(&said(false, &[])), "waiting in use");
        assert_eq!(judged(&said(true, &["", ""])), "answering ");
        assert_eq!(judged(&said(true, &["", "gone"])), "answering 192.0.2.2: gone");
        assert_eq!(judged(&said(true, &["a", "b"])), "failing 192.0.2.1: a; 192.0.2.2: b");
    }
}
