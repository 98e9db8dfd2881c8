// SPDX-License-Identifier: Apache-2.0
//! The probe agent: one process that makes all checks that need a network, and all probes.

use super::rules::Task;
use crate::{
    agent::{self, Folder},
    node::Node,
    report,
    supervisor::Handle,
};
use prost::Message as _;
use serde::Serialize;
use std::{fs, io, rc::Rc, time::Duration};
use stele_proto::internal::ProbeReport;
use tokio::sync::mpsc;

const UNIT: &str = "probe";
/// Where the agent finds its task.
const FOLDER: Folder = Folder { path: "/run/stele/probe", user: 206 };
/// Which groups may send echo requests without a capability for it: the agent's.
const ECHOES: &str = "/proc/sys/net/ipv4/ping_group_range";
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
    pub(super) took: Duration,
}

/// Makes the folder that the agent reads, and lets it send echo requests.
pub(super) fn prepare() -> io::Result<()> {
    let group = FOLDER.user;
    if let Err(error) = fs::write(ECHOES, format!("{group} {group}")) {
        tracing::error!(error = %error, "letting the probe agent send echo requests failed");
    }
    FOLDER.make()
}

/// The agent, and what it is to do.
pub(super) struct Agent {
    node: Rc<Node>,
    tasks: Vec<Task>,
    running: Option<(Handle, mpsc::Receiver<Vec<u8>>)>,
}

impl Agent {
    pub(super) fn new(node: Rc<Node>) -> Agent {
        Agent { node, tasks: Vec::new(), running: None }
    }

    /// Makes the agent do these; nothing changes if it does so already.
    pub(super) async fn run(&mut self, tasks: Vec<Task>) {
        if tasks == self.tasks {
            return;
        }
        if self.running.take().is_some() {
            self.node.supervisor.retire(UNIT).await;
        }
        // One that could not be given is not known the next time either.
        self.tasks.clear();
        if tasks.is_empty() {
            return;
        }
        let Some(unit) = self.node.units.get(UNIT).cloned() else {
            tracing::error!(unit.name = UNIT, "the image has no such unit");
            return;
        };
        let task = serde_json::to_vec(&Tasks { checks: &tasks }).map_err(io::Error::from);
        if let Err(error) = task.and_then(|task| FOLDER.give(&task)) {
            tracing::error!(error = %error, "writing the probe agent's task failed");
            return;
        }
        self.tasks = tasks;
        let (sender, reports) = mpsc::channel(QUEUE);
        let service = self.node.supervisor.add(&self.node, UNIT, unit, Some(sender));
        service.start();
        self.running = Some((service, reports));
    }

    /// The next thing that the agent saw.
    pub(super) async fn seen(&mut self) -> Seen {
        loop {
            let message = agent::said(self.running.as_mut().map(|(_, reports)| reports)).await;
            match ProbeReport::decode(message.as_slice()) {
                // It reads the bytes of strangers: it speaks for the checks that it was given, and for no other.
                Ok(ProbeReport { check, .. })
                    if !self.tasks.iter().any(|task| task.name() == check) =>
                {
                    tracing::warn!("the probe agent reports on a check that it was not given");
                }
                Ok(ProbeReport { check, ok, message, took_us }) => {
                    let message = report::plain(&message, LONGEST_TEXT);
                    let took = Duration::from_micros(took_us);
                    return Seen { check, ok, message, took };
                }
                Err(error) => {
                    tracing::warn!(error = %error, "a report of the probe agent makes no sense");
                }
            }
        }
    }
}
