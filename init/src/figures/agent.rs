// SPDX-License-Identifier: Apache-2.0
//! The metrics agent: one process that gives the figures to everyone, on the address of the document.

use crate::{node::Node, store::Kind, supervisor::Handle};
use prost::Message as _;
use serde::Serialize;
use std::{net::SocketAddr, rc::Rc};
use stele_config::Metrics;
use stele_proto::internal::ListenReport;
use tokio::sync::mpsc;

const UNIT: &str = "metrics";
/// Reports that wait; an agent that has more to say waits.
const QUEUE: usize = 4;
/// The longest text of an agent that is kept.
const LONGEST_TEXT: usize = 300;

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
    let mut agent = Agent { node: Rc::clone(&node), running: None };
    loop {
        let active = configuration.borrow_and_update().clone();
        let metrics = active.as_ref().and_then(|active| active.config.metrics());
        agent.run(metrics.map(Metrics::address)).await;
        loop {
            tokio::select! {
                changed = configuration.changed() => match changed {
                    Ok(()) => break,
                    Err(_ended) => return,
                },
                report = agent.report() => agent.tell(&report),
            }
        }
    }
}

struct Agent {
    node: Rc<Node>,
    running: Option<Running>,
}

struct Running {
    address: SocketAddr,
    reports: mpsc::Receiver<Vec<u8>>,
    /// The service runs for as long as somebody holds it.
    _service: Handle,
}

impl Agent {
    /// Makes the agent listen there; nothing changes if it does so already.
    async fn run(&mut self, address: Option<SocketAddr>) {
        if self.running.as_ref().map(|running| running.address) == address {
            return;
        }
        if self.running.take().is_some() {
            self.node.supervisor.retire(UNIT).await;
        }
        let Some(address) = address else {
            self.node.store.remove(Kind::Metrics, UNIT);
            return;
        };
        let Some(mut unit) = self.node.units.get(UNIT).cloned() else {
            tracing::error!(unit.name = UNIT, "the image has no such unit");
            return;
        };
        unit.exec.push(address.to_string());
        let (sender, reports) = mpsc::channel(QUEUE);
        let service = self.node.supervisor.add(&self.node, UNIT, unit, Some(sender));
        service.start();
        let status = Status { state: "starting", address, reason: "" };
        self.node.store.put(Kind::Metrics, UNIT, &status);
        self.running = Some(Running { address, reports, _service: service });
    }

    /// The next thing that the agent says.
    async fn report(&mut self) -> Vec<u8> {
        match &mut self.running {
            // The sender lives as long as the service.
            Some(running) => match running.reports.recv().await {
                Some(report) => report,
                None => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }

    fn tell(&self, report: &[u8]) {
        let Some(Running { address, .. }) = &self.running else { return };
        let ListenReport { listening, reason } = match ListenReport::decode(report) {
            Ok(report) => report,
            Err(error) => {
                tracing::warn!(error = %error, "a report of the metrics agent makes no sense");
                return;
            }
        };
        let plain = reason.chars().filter(|char| !char.is_control());
        let reason: String = plain.take(LONGEST_TEXT).collect();
        let state = if listening { "listening" } else { "waiting" };
        let status = Status { state, address: *address, reason: &reason };
        self.node.store.put(Kind::Metrics, UNIT, &status);
    }
}
