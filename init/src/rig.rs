// SPDX-License-Identifier: Apache-2.0
//! A node without hands, for fuzzing: what is said to it goes the way that it goes in PID 1, from the first byte of a frame
//! on, and nothing comes of it outside of this process.
//!
//! * It has no units, so no process is started: what an agent would answer is where diagnostics, uploads and the reading of a
//!   configuration end. What comes after that reading has a way in of its own, [`Rig::apply`].
//! * It keeps nothing over a restart, so nothing is written to `/state`: what is staged for a restart is refused.
//! * It knows no ESP, and nobody waits for the order to end the machine.
//!
//! Its clock stands still while there is something to do, and jumps when there is not: deadlines are over at once.

use crate::{
    api::{self, Caller, Code, Refusal},
    configuration::{Intent, Understood},
    convergence::Part,
    log_files, network,
    node::{Node, Release},
    report,
    state::State,
    store::Kind,
};
use prost::Message as _;
use std::{collections::BTreeMap, rc::Rc, time::Duration};
use stele_config::MachineConfig;
use stele_machine::network::lease::Dhcp;
use stele_proto::{method::Role, v1};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    runtime::Runtime,
    task::LocalSet,
};

/// Makes the network of the namespace that this process is in what a configuration says, and says in how many steps.
///
/// # Errors
/// When the kernel refuses a step.
pub fn converge(config: &MachineConfig) -> std::io::Result<usize> {
    converge_with(config, &BTreeMap::new())
}

/// The same, of a configuration and what is known of the links from others on them.
///
/// # Errors
/// When the kernel refuses a step.
pub fn converge_with(
    config: &MachineConfig,
    dhcp: &BTreeMap<String, Dhcp>,
) -> std::io::Result<usize> {
    network::converge(config, dhcp).map_err(|error| std::io::Error::other(report::chain(&error)))
}

/// Something to talk to.
#[derive(Debug)]
pub struct Rig {
    runtime: Runtime,
    tasks: LocalSet,
    node: Rc<Node>,
}

impl Rig {
    /// A node that has just started and has no configuration.
    ///
    /// # Errors
    /// When the event loop can't be started.
    pub fn new() -> std::io::Result<Rig> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()?;
        let release = Release { version: "1.0.0".to_owned(), build_time: 0 };
        let node = Rc::new(Node::new(BTreeMap::new(), release));
        node.logs.files().abandon();
        // It is set once.
        let _first = node.state.set(State { boot: 0, persistent: false });
        node.store.events.start(0, 0, Rc::clone(node.logs.files()));
        node.store.put(Kind::Link, "eth0", &serde_json::json!({"state": "ready", "mtu": 1500}));
        let tasks = LocalSet::new();
        tasks.spawn_local(obey(Rc::clone(&node)));
        Ok(Rig { runtime, tasks, node })
    }

    /// Fills the store with so many links more, each with a status like that of a real one. Returns the statuses' bytes as JSON.
    pub fn fill(&self, count: usize) -> usize {
        (0..count)
            .map(|number| {
                let status = serde_json::json!({
                    "state": "ready",
                    "mac": "52:54:00:12:34:56",
                    "mtu": 1500,
                    "addresses": ["192.0.2.10/24", "2001:db8::10/64"],
                    "reason": "",
                });
                self.node.store.put(Kind::Link, &format!("link{number}"), &status);
                status.to_string().len()
            })
            .sum()
    }

    /// Says these bytes on a connection of apid's, which ends with them, and returns what was answered.
    pub fn converse(&self, bytes: &[u8]) -> Vec<u8> {
        let talk = async {
            let (mut ours, theirs) = UnixStream::pair()?;
            let node = Rc::clone(&self.node);
            let answering =
                tokio::task::spawn_local(
                    async move { api::converse(&node, api::GATE, theirs).await },
                );
            let mut answer = Vec::new();
            let (mut reader, mut writer) = ours.split();
            let say = async {
                // One that has heard enough hangs up.
                let _hung_up = writer.write_all(bytes).await;
                let _hung_up = writer.shutdown().await;
            };
            let ((), heard) = tokio::join!(say, reader.read_to_end(&mut answer));
            // What was answered before the connection broke is the answer.
            let _broken = heard;
            let _gone = answering.await;
            Ok::<_, std::io::Error>(answer)
        };
        self.tasks.block_on(&self.runtime, talk).unwrap_or_default()
    }

    /// A call of Apply whose documents the configure agent has read to what they are. Returns the code of its answer.
    pub fn apply(&self, request: &[u8], role: Option<Role>, serial: &str) -> i32 {
        let Ok(request) = v1::ApplyRequest::decode(request) else {
            return Code::InvalidArgument as i32;
        };
        let caller = Caller {
            subject: "ada".to_owned(),
            role,
            serial: serial.to_owned(),
            request: "a-1".to_owned(),
            connected: Duration::ZERO,
            own_roles: Vec::new(),
            source: None,
            reached: None,
        };
        let work = async {
            let (mode, within) = (request.mode(), request.confirm_within);
            let intent = Intent::of_caller(&caller, request.dry_run, request.base, mode, within)?;
            let documents = String::from_utf8_lossy(&request.documents);
            let understood = Understood::of_generation(&documents)?;
            self.node.configuration.accept_understood(&self.node, understood, &intent).await?;
            Ok::<_, Refusal>(())
        };
        let done = self.tasks.block_on(&self.runtime, work);
        done.map_or_else(|refusal| refusal.code as i32, |()| Code::Ok as i32)
    }
}

/// The parts of PID 1 that take a configuration into force: all of them could.
async fn obey(node: Rc<Node>) {
    let mut active = node.configuration.subscribe();
    while active.changed().await.is_ok() {
        let generation = active.borrow_and_update().as_ref().map(|active| active.stored.number);
        for part in Part::ALL {
            node.convergence.report(*part, generation.unwrap_or(0), Ok(()));
        }
    }
}

/// How many of these bytes of a log file are whole entries.
#[must_use]
pub fn whole_entries(bytes: &[u8]) -> usize {
    log_files::whole_entries(bytes)
}
