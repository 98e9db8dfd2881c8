// SPDX-License-Identifier: Apache-2.0
//! The metrics agent: one process that gives the figures to everyone, on the address of the document.

use crate::{
    agent::{said, until},
    convergence::Part,
    events::Cause,
    node::Node,
    report,
    store::Kind,
    supervisor::Handle,
};
use prost::Message as _;
use serde::Serialize;
use std::{net::SocketAddr, rc::Rc, time::Duration};
use stele_config::Metrics;
use stele_proto::internal::ListenReport;
use tokio::{sync::mpsc, time::Instant};

const UNIT: &str = "metrics";
/// Reports that wait; an agent that has more to say waits.
const QUEUE: usize = 4;
/// The longest text of an agent that is kept.
const LONGEST_TEXT: usize = 300;

/// How long listening may take after a configuration asks for it: the address may come with the same configuration.
const PATIENCE: Duration = Duration::from_secs(10);

/// What `ctl get metrics` shows.
#[derive(Serialize)]
struct Status<'a> {
    state: &'static str,
    address: SocketAddr,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
}

/// Keeps the agent in step with the configuration for as long as the machine runs.
pub(crate) async fn keep(node: Rc<Node>) {
    let mut configuration = node.configuration.subscribe();
    let mut agent = Agent { node: Rc::clone(&node), running: None, owed: None };
    let mut cause = Cause::default();
    loop {
        let active = configuration.borrow_and_update().clone();
        if let Some(active) = active {
            let generation = active.stored.number;
            cause = active.cause();
            let address = active.config.metrics().map(Metrics::address);
            if cause.clone().carry(agent.run(address)).await {
                agent.owed = Some((generation, Instant::now() + PATIENCE));
                agent.settle(false);
            } else {
                // What is missing was missing before.
                node.convergence.report(Part::Metrics, generation, Ok(()));
            }
        }
        loop {
            let owed = agent.owed;
            tokio::select! {
                changed = configuration.changed() => match changed {
                    Ok(()) => break,
                    Err(_ended) => return,
                },
                // What it says of a configuration that is not yet in force is that one's doing.
                report = said(agent.reports()) => match owed {
                    Some(_) => cause.clone().act(|| agent.tell(&report)),
                    None => agent.tell(&report),
                },
                () = until(owed.map(|(_, end)| end)) => agent.settle(true),
            }
        }
    }
}

struct Agent {
    node: Rc<Node>,
    running: Option<Running>,
    /// The generation of which it has yet to be told whether it is in force, and by when.
    owed: Option<(u64, Instant)>,
}

struct Running {
    address: SocketAddr,
    reports: mpsc::Receiver<Vec<u8>>,
    /// What the agent last said: whether it listens, or why not.
    said: Result<(), String>,
    /// The service runs for as long as somebody holds it.
    _service: Handle,
}

impl Agent {
    /// Tells whether the configuration is in force, if that is known; at the end of its time it is.
    fn settle(&mut self, end: bool) {
        let Some((generation, _)) = self.owed else { return };
        let outcome = match &self.running {
            None => Ok(()),
            Some(Running { said: Ok(()), .. }) => Ok(()),
            Some(Running { said: Err(reason), .. }) if end => Err(format!("Metrics: {reason}")),
            Some(Running { said: Err(_), .. }) => return,
        };
        self.owed = None;
        self.node.convergence.report(Part::Metrics, generation, outcome);
    }

    /// Makes the agent listen there. False if that is what it does already.
    async fn run(&mut self, address: Option<SocketAddr>) -> bool {
        if self.running.as_ref().map(|running| running.address) == address {
            return false;
        }
        if self.running.take().is_some() {
            self.node.supervisor.retire(UNIT).await;
        }
        let Some(address) = address else {
            self.node.store.remove(Kind::Metrics, UNIT);
            return true;
        };
        let Some(mut unit) = self.node.units.get(UNIT).cloned() else {
            tracing::error!(unit.name = UNIT, "the image has no such unit");
            return true;
        };
        unit.exec.push(address.to_string());
        let (sender, reports) = mpsc::channel(QUEUE);
        let service = self.node.supervisor.add(&self.node, UNIT, unit, Some(sender));
        service.start();
        let status = Status { state: "starting", address, reason: "" };
        self.node.store.put(Kind::Metrics, UNIT, &status);
        let said = Err("the agent has not said that it listens".to_owned());
        self.running = Some(Running { address, reports, said, _service: service });
        true
    }

    fn reports(&mut self) -> Option<&mut mpsc::Receiver<Vec<u8>>> {
        self.running.as_mut().map(|running| &mut running.reports)
    }

    fn tell(&mut self, report: &[u8]) {
        let ListenReport { listening, reason } = match ListenReport::decode(report) {
            Ok(report) => report,
            Err(error) => {
                tracing::warn!(error = %error, "a report of the metrics agent makes no sense");
                return;
            }
        };
        let reason = report::plain(&reason, LONGEST_TEXT);
        if let Some(Running { address, said, .. }) = &mut self.running {
            let state = if listening { "listening" } else { "waiting" };
            let status = Status { state, address: *address, reason: &reason };
            self.node.store.put(Kind::Metrics, UNIT, &status);
            *said = if listening { Ok(()) } else { Err(reason) };
        }
        self.settle(false);
    }
}
