// SPDX-License-Identifier: Apache-2.0
//! Log sinks: one agent for each document of the kind LogSink, which reads the logs as anybody does and sends them on.
//!
//! What an agent has done is kept here, so that the next one goes on where it was. The lines that wait for a sink wait in the
//! logs themselves, which are bounded and count what they give up.

use crate::{
    api::{Code, Refusal},
    convergence::Part,
    node::Node,
    report,
    store::Kind,
};
use prost::Message as _;
use serde::Serialize;
use std::{cell::RefCell, collections::BTreeMap, rc::Rc};
use stele_config::{Host, LogSink};
use stele_machine::service::AWAITS_CLOCK;
use stele_proto::internal::{SinkReport, SinkTask};
use tokio::sync::mpsc;

const UNIT: &str = "log-sink";
/// Reports that wait; an agent that has more to say waits.
const QUEUE: usize = 4;
/// The longest text of an agent that is kept.
const LONGEST_TEXT: usize = 300;

/// All sinks.
#[derive(Debug, Default)]
pub(crate) struct Sinks {
    known: RefCell<BTreeMap<String, Sink>>,
}

#[derive(Debug)]
struct Sink {
    document: LogSink,
    /// What its agents have done since the machine started.
    progress: SinkReport,
}

/// What `ctl get logsink` shows.
#[derive(Serialize)]
struct Status<'a> {
    state: &'static str,
    address: String,
    protocol: &'static str,
    format: &'static str,
    sent: u64,
    lost: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
}

impl Sinks {
    /// What the agent of this sink is to do.
    pub(crate) fn task(&self, name: &str) -> Result<SinkTask, Refusal> {
        let known = self.known.borrow();
        let Some(Sink { document, progress }) = known.get(name) else {
            return Err(Refusal::new(Code::NotFound, format!("there is no log sink {name:?}")));
        };
        let host = match document.address().host() {
            Host::Address(address) => address.to_string(),
            Host::Name(name) => name.to_string(),
        };
        Ok(SinkTask {
            host,
            port: document.address().port().into(),
            protocol: document.protocol().to_string(),
            format: document.format().to_string(),
            ca: document.ca().unwrap_or_default().to_owned(),
            logs: document.logs().iter().map(ToString::to_string).collect(),
            progress: Some(progress.clone()),
        })
    }

    /// Those that are not as these documents have them.
    fn outdated(&self, wanted: &BTreeMap<String, LogSink>) -> Vec<String> {
        let known = self.known.borrow();
        let outdated =
            known.iter().filter(|(name, sink)| wanted.get(*name) != Some(&sink.document));
        outdated.map(|(name, _)| name.clone()).collect()
    }

    /// Takes an agent's word for what it has done.
    fn hear(&self, node: &Node, name: &str, report: &[u8]) {
        let mut report = match SinkReport::decode(report) {
            Ok(report) => report,
            Err(error) => {
                tracing::warn!(error = %error, "a report of a log-sink agent makes no sense");
                return;
            }
        };
        report.reason = report::plain(&report.reason, LONGEST_TEXT);
        if let Some(sink) = self.known.borrow_mut().get_mut(name) {
            sink.progress = report;
            sink.publish(node, name);
        }
    }
}

impl Sink {
    fn publish(&self, node: &Node, name: &str) {
        let Sink { document, progress: SinkReport { connected, reason, sent, lost, .. } } = self;
        let state = if *connected { "connected" } else { "waiting" };
        let (protocol, format) = (document.protocol().as_str(), document.format().as_str());
        let address = document.address().to_string();
        let (sent, lost) = (*sent, *lost);
        let status = Status { state, address, protocol, format, sent, lost, reason };
        node.store.put(Kind::LogSink, name, &status);
    }
}

/// Keeps the agents in step with the configuration for as long as the machine runs.
pub(crate) async fn keep(node: Rc<Node>) {
    let mut configuration = node.configuration.subscribe();
    loop {
        let active = configuration.borrow_and_update().clone();
        if let Some(active) = active {
            let sinks = active.config.log_sinks().iter();
            let wanted = sinks.map(|sink| (sink.name().to_string(), sink.clone())).collect();
            let outcome = active.cause().carry(run(&node, wanted)).await;
            node.convergence.report(Part::LogSinks, active.stored.number, outcome);
        }
        if configuration.changed().await.is_err() {
            return;
        }
    }
}

/// Makes the agents that run be those of these documents. A sink that is away is none of their failures.
async fn run(node: &Rc<Node>, wanted: BTreeMap<String, LogSink>) -> Result<(), String> {
    for name in node.sinks.outdated(&wanted) {
        node.supervisor.retire(&service(&name)).await;
        if !wanted.contains_key(&name) {
            node.sinks.known.borrow_mut().remove(&name);
            node.store.remove(Kind::LogSink, &name);
        }
    }
    let mut outcome = Ok(());
    for (name, document) in wanted {
        if node.supervisor.find(&service(&name)).is_some() {
            continue;
        }
        {
            let mut known = node.sinks.known.borrow_mut();
            // What was sent to the place before is not sent to the next.
            let progress = known.remove(&name).map(|sink| sink.progress).unwrap_or_default();
            let waits = document.after_clock() && !*node.clock.right().borrow();
            let reason = if waits { AWAITS_CLOCK.to_owned() } else { String::new() };
            let progress = SinkReport { connected: false, reason, ..progress };
            let sink = Sink { document, progress };
            sink.publish(node, &name);
            known.insert(name.clone(), sink);
        }
        if !start(node, &name) {
            outcome = Err(format!("LogSink {name}: the image has no unit {UNIT}"));
        }
    }
    outcome
}

fn service(name: &str) -> String {
    format!("{UNIT}-{name}")
}

fn start(node: &Rc<Node>, name: &str) -> bool {
    let Some(mut unit) = node.units.get(UNIT).cloned() else { return false };
    let after_clock = node.sinks.known.borrow().get(name).map(|sink| sink.document.after_clock());
    unit.description = format!("Sends logs to {name}");
    unit.after_clock = after_clock.unwrap_or_default();
    unit.exec.push(name.to_owned());
    let (sender, mut reports) = mpsc::channel(QUEUE);
    let agent = node.supervisor.add(node, &service(name), unit, Some(sender));
    agent.start();
    let (node, name) = (Rc::clone(node), name.to_owned());
    tokio::task::spawn_local(async move {
        // Until the service is retired.
        while let Some(report) = reports.recv().await {
            node.sinks.hear(&node, &name, &report);
        }
    });
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use stele_proto::internal::LogPosition;

    fn sink(address: &str) -> LogSink {
        let document = format!(
            r#""kind":"LogSink","name":"central","address":"{address}","protocol":"udp","logs":["kernel"]"#
        );
        fixture::config(&[document]).log_sinks().first().cloned().unwrap()
    }

    #[test]
    fn an_agent_is_told_what_to_do_and_what_was_done() {
        let position = LogPosition { log: "kernel".to_owned(), time_us: 5, entries: 2 };
        let progress = SinkReport { sent: 7, positions: vec![position], ..SinkReport::default() };
        let sinks = Sinks::default();
        let known = Sink { document: sink("[2001:db8::1]:514"), progress: progress.clone() };
        sinks.known.borrow_mut().insert("central".to_owned(), known);
        let task = sinks.task("central").unwrap();
        assert_eq!((task.host.as_str(), task.port), ("2001:db8::1", 514));
        assert_eq!((task.protocol.as_str(), task.format.as_str()), ("udp", "rfc5424"));
        assert_eq!((task.logs, task.progress), (vec!["kernel".to_owned()], Some(progress)));
        assert_eq!(sinks.task("other").unwrap_err().code, Code::NotFound);
    }

    #[test]
    fn what_is_as_it_was_goes_on() {
        let sinks = Sinks::default();
        let known = Sink { document: sink("logs:514"), progress: SinkReport::default() };
        sinks.known.borrow_mut().insert("central".to_owned(), known);
        let wanted = |address| BTreeMap::from([("central".to_owned(), sink(address))]);
        assert!(sinks.outdated(&wanted("logs:514")).is_empty());
        assert_eq!(sinks.outdated(&wanted("logs:515")), ["central"]);
        assert_eq!(sinks.outdated(&BTreeMap::new()), ["central"]);
    }
}
