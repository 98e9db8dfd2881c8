// SPDX-License-Identifier: Apache-2.0
//! The probe agent: one process that makes all checks that need a network.

use super::rules::Task;
use crate::{agent, node::Node, report, supervisor::Handle};
use prost::Message as _;
use serde::Serialize;
use std::rc::Rc;
use stele_proto::internal::ProbeReport;
use tokio::sync::mpsc;

const UNIT: &str = "probe";
/// Reports that wait; an agent that has more to say waits.
const QUEUE: usize = 64;
/// The longest text of an agent that is kept.
const LONGEST_TEXT: usize = 300;

#[derive(Serialize)]
struct Tasks<'a> {
    checks: &'a [Task],
}

/// What a try saw.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) check: String,
    pub(super) ok: bool,
    pub(super) message: String,
}

/// The agent, and what it is to do.
pub(super) struct Probes {
    node: Rc<Node>,
    tasks: Vec<Task>,
    agent: Option<(Handle, mpsc::Receiver<Vec<u8>>)>,
}

impl Probes {
    pub(super) fn new(node: Rc<Node>) -> Probes {
        Probes { node, tasks: Vec::new(), agent: None }
    }

    /// Makes the agent do these; nothing changes if it does so already.
    pub(super) async fn run(&mut self, tasks: Vec<Task>) {
        if tasks == self.tasks {
            return;
        }
        if self.agent.take().is_some() {
            self.node.supervisor.retire(UNIT).await;
        }
        self.tasks = tasks;
        if self.tasks.is_empty() {
            return;
        }
        let Some(mut unit) = self.node.units.get(UNIT).cloned() else {
            tracing::error!(unit.name = UNIT, "the image has no such unit");
            return;
        };
        match serde_json::to_string(&Tasks { checks: &self.tasks }) {
            Ok(text) => unit.exec.push(text),
            Err(error) => {
                tracing::error!(error = %error, "describing the checks failed");
                return;
            }
        }
        let (sender, reports) = mpsc::channel(QUEUE);
        let agent = self.node.supervisor.add(&self.node, UNIT, unit, Some(sender));
        agent.start();
        self.agent = Some((agent, reports));
    }

    /// The next thing that the agent saw.
    pub(super) async fn seen(&mut self) -> Seen {
        loop {
            let message = agent::said(self.agent.as_mut().map(|(_, reports)| reports)).await;
            match ProbeReport::decode(message.as_slice()) {
                // It reads the bytes of strangers: it speaks for the checks that it was given, and for no other.
                Ok(ProbeReport { check, .. })
                    if !self.tasks.iter().any(|task| task.name() == check) =>
                {
                    tracing::warn!("the probe agent reports on a check that it was not given");
                }
                Ok(ProbeReport { check, ok, message }) => {
                    let message = report::plain(&message, LONGEST_TEXT);
                    return Seen { check, ok, message };
                }
                Err(error) => {
                    tracing::warn!(error = %error, "a report of the probe agent makes no sense");
                }
            }
        }
    }
}
