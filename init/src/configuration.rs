// SPDX-License-Identifier: Apache-2.0
//! The machine's configuration: how one is accepted, kept, and made known.
//!
//! ```text
//! bytes ─► configure (agent) ─► canonical ─► MachineConfig ─► /state/generations/N.json ─► everyone who subscribed
//! ```
//!
//! One at a time, and all or nothing: what is refused changes nothing.

use crate::{
    api::{Code, Refusal},
    node::Node,
    one_shot::{self, OneShotError},
    report,
    state::{self, Stored},
    store::Kind,
};
use prost::Message as _;
use serde::Serialize;
use std::{cell::RefCell, cmp::Reverse, collections::BTreeMap, rc::Rc, time::Duration};
use stele_config::{Finding, MachineConfig, canonical};
use stele_kernel::{clock, process::Exit};
use stele_machine::{boots::Start, change};
use stele_proto::v1;
use tokio::sync::{Mutex, watch};

/// The largest configuration.
pub(crate) const LARGEST: usize = 1024 * 1024;
/// The largest answer of the configure agent: canonical documents, or findings.
const LARGEST_ANSWER: usize = 4 * 1024 * 1024;
/// How long understanding a configuration may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// The configuration that is in force.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) stored: Stored,
    pub(crate) config: MachineConfig,
    pub(crate) persistent: bool,
}

/// The machine's configuration.
#[derive(Debug)]
pub(crate) struct Configuration {
    active: watch::Sender<Option<Rc<Active>>>,
    /// Every generation that could be read, as its resource shows it.
    known: RefCell<BTreeMap<u64, GenerationStatus>>,
    /// Held while one is being accepted.
    turn: Mutex<()>,
}

impl Default for Configuration {
    fn default() -> Configuration {
        Configuration {
            active: watch::Sender::new(None),
            known: RefCell::default(),
            turn: Mutex::new(()),
        }
    }
}

/// What became of the saved configurations at the start.
#[derive(Debug)]
pub(crate) enum Restored {
    /// One is in force.
    Done,
    /// There is none.
    Nothing,
    /// None of them could be used.
    Unreadable(String),
}

/// Why a configuration was not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcceptError {
    #[error("the configuration has {0} bytes; at most {LARGEST} are read")]
    TooLarge(usize),
    #[error("the configuration is not valid:\n{}", lines(.0))]
    Invalid(Vec<Finding>),
    #[error("understanding the configuration")]
    Agent(#[source] OneShotError),
    #[error("the configure agent {exit}: {complaint}")]
    AgentFailed { exit: Exit, complaint: String },
    #[error("the configure agent's answer makes no sense")]
    Answer(#[source] serde_json::Error),
    #[error("keeping the configuration")]
    Keep(#[source] state::StateError),
}

fn lines(findings: &[Finding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl From<AcceptError> for Refusal {
    fn from(error: AcceptError) -> Refusal {
        let code = match &error {
            AcceptError::TooLarge(_) | AcceptError::Invalid(_) => Code::InvalidArgument,
            AcceptError::Agent(OneShotError::Deadline { .. }) => Code::DeadlineExceeded,
            AcceptError::Agent(_) | AcceptError::AgentFailed { .. } | AcceptError::Answer(_) => {
                Code::Internal
            }
            AcceptError::Keep(_) => Code::ResourceExhausted,
        };
        let mut refusal = Refusal::new(code, report::chain(&error));
        if let AcceptError::Invalid(findings) = error {
            let findings =
                v1::Findings { findings: findings.into_iter().map(to_finding).collect() };
            refusal.details.push(prost_types::Any {
                type_url: "type.googleapis.com/stele.v1.Findings".to_owned(),
                value: findings.encode_to_vec(),
            });
        }
        refusal
    }
}

fn to_finding(finding: Finding) -> v1::Finding {
    let Finding { document, kind, path, line, message, expected } = finding;
    v1::Finding { document, kind, path, line, message, expected }
}

impl Configuration {
    /// The configuration in force, if there is one.
    pub(crate) fn active(&self) -> Option<Rc<Active>> {
        self.active.borrow().clone()
    }

    /// Follows the configuration in force.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Rc<Active>>> {
        self.active.subscribe()
    }

    /// Takes the generation of the running image into force, or another one that can be read: the next older one first.
    /// An image on trial has to read the one that it is given.
    pub(crate) async fn restore(&self, node: &Node) -> Restored {
        let Ok(mut generations) = tokio::task::spawn_blocking(state::read_generations).await else {
            return Restored::Unreadable("reading the saved configurations failed".to_owned());
        };
        self.known.borrow_mut().extend(
            generations
                .iter()
                .flatten()
                .map(|stored| (stored.number, GenerationStatus::of(stored, true))),
        );
        if generations.is_empty() {
            return Restored::Nothing;
        }
        let wanted = node.boots.wanted_generation(node);
        let on_trial = matches!(node.boots.started(), Start::Trial { .. });
        generations.sort_by_key(|stored| match (stored, wanted) {
            // The wanted one, then down from it, then down from the newest.
            (Ok(stored), Some(wanted)) => (stored.number > wanted, Reverse(stored.number)),
            (Ok(stored), None) => (false, Reverse(stored.number)),
            (Err(_), _) => (true, Reverse(0)),
        });
        let mut reasons = Vec::new();
        for stored in generations {
            match stored.map_err(|error| report::chain(&error)).and_then(readable) {
                Ok(active) => {
                    self.enforce(node, active).await;
                    return Restored::Done;
                }
                Err(reason) => {
                    tracing::error!(reason, "a saved configuration could not be used");
                    reasons.push(reason);
                    if on_trial {
                        break;
                    }
                }
            }
        }
        // Who the node is was kept apart, so that it can be reached and repaired, and by its operator alone.
        if !on_trial
            && let Ok(Ok(stored)) = tokio::task::spawn_blocking(state::read_identity).await
            && let Ok(active) = readable(stored)
        {
            self.enforce(node, active).await;
            return Restored::Done;
        }
        Restored::Unreadable(format!(
            "no saved configuration could be used: {}",
            reasons.join("; ")
        ))
    }

    /// Accepts a configuration, or tells why not. Returns what it became, or with `dry_run` would do.
    pub(crate) async fn accept(
        &self,
        node: &Node,
        documents: &[u8],
        author: &str,
        dry_run: bool,
    ) -> Result<v1::ApplyResponse, AcceptError> {
        self.accept_understood(node, understand(node, documents).await?, author, dry_run).await
    }

    /// Accepts a configuration that was understood before.
    pub(crate) async fn accept_understood(
        &self,
        node: &Node,
        Understood { canonical, config }: Understood,
        author: &str,
        dry_run: bool,
    ) -> Result<v1::ApplyResponse, AcceptError> {
        let _turn = self.turn.lock().await;
        let active = self.active();
        let plan = change::plan(active.as_ref().map(|active| &active.config), &config);
        let actions: Vec<String> = plan.iter().map(ToString::to_string).collect();
        if dry_run {
            return Ok(v1::ApplyResponse { generation: None, actions, warnings: Vec::new() });
        }
        let sha256 = state::sha256(&canonical);
        if let Some(active) = active.filter(|active| active.stored.sha256 == sha256) {
            // It is in force already: no new generation.
            return Ok(v1::ApplyResponse {
                generation: Some(active.to_generation()),
                actions,
                warnings: Vec::new(),
            });
        }
        let persistent = node.state.get().is_some_and(|state| state.persistent);
        let number = if persistent {
            state::next_number()
        } else {
            self.active().map_or(0, |active| active.stored.number).saturating_add(1)
        };
        let stored = Stored {
            number,
            sha256,
            time: clock::now().unwrap_or(0),
            author: author.to_owned(),
            documents: String::from_utf8_lossy(&canonical).into_owned(),
        };
        if persistent {
            let kept = stored.clone();
            let identity = identity_alone(&stored);
            tokio::task::spawn_blocking(move || {
                state::write_identity(&identity)?;
                state::write_generation(&kept)
            })
            .await
            .map_err(|error| {
                AcceptError::Keep(state::StateError::Write {
                    file: state::ROOT.into(),
                    source: std::io::Error::other(error),
                })
            })?
            .map_err(AcceptError::Keep)?;
        }
        let active = Active { stored, config, persistent };
        let generation = active.to_generation();
        self.enforce(node, active).await;
        if !node.health.is_pending() {
            crate::health::settle(node, false).await;
        }
        Ok(v1::ApplyResponse { generation: Some(generation), actions, warnings: Vec::new() })
    }

    async fn enforce(&self, node: &Node, active: Active) {
        tracing::info!(
            target: report::CONSOLE,
            generation = active.stored.number,
            author = active.stored.author,
            "configuration in force"
        );
        self.publish(node, &active);
        let generation = active.stored.number;
        self.active.send_replace(Some(Rc::new(active)));
        node.boots.configured(node, generation).await;
    }

    fn publish(&self, node: &Node, active: &Active) {
        let mut known = self.known.borrow_mut();
        known.insert(active.stored.number, GenerationStatus::of(&active.stored, active.persistent));
        let all = known.iter_mut().map(|(number, status)| {
            status.active = *number == active.stored.number;
            (number.to_string(), &*status)
        });
        node.store.replace(Kind::Generation, &all.collect());
    }
}

/// What `ctl get generation` shows.
#[derive(Debug, Serialize)]
struct GenerationStatus {
    active: bool,
    /// Seconds since the epoch.
    time: i64,
    author: String,
    sha256: String,
    persistent: bool,
}

impl GenerationStatus {
    fn of(stored: &Stored, persistent: bool) -> GenerationStatus {
        GenerationStatus {
            active: false,
            time: stored.time,
            author: stored.author.clone(),
            sha256: stored.sha256.clone(),
            persistent,
        }
    }
}

impl Active {
    /// The generation as the API tells it.
    pub(crate) fn to_generation(&self) -> v1::Generation {
        to_generation(&self.stored, self.persistent)
    }
}

/// A stored generation as the API tells it.
pub(crate) fn to_generation(stored: &Stored, persistent: bool) -> v1::Generation {
    v1::Generation {
        number: stored.number,
        sha256: stored.sha256.clone(),
        time: Some(prost_types::Timestamp { seconds: stored.time, nanos: 0 }),
        author: stored.author.clone(),
        persistent,
    }
}

/// A saved configuration, if this image can read it.
fn readable(stored: Stored) -> Result<Active, String> {
    if crate::fault::is(crate::fault::Fault::Configuration) {
        return Err(format!(
            "generation {} does not fit this image: a fault was asked for",
            stored.number
        ));
    }
    match canonical::read(stored.documents.as_bytes()) {
        Ok(config) => Ok(Active { stored, config, persistent: true }),
        Err(findings) => Err(format!(
            "generation {} does not fit this image: {}",
            stored.number,
            lines(&findings)
        )),
    }
}

/// A generation's Identity document alone, which every image can read.
fn identity_alone(stored: &Stored) -> Stored {
    let documents: Vec<serde_json::Value> =
        serde_json::from_str(&stored.documents).unwrap_or_default();
    let identity = documents.into_iter().filter(|document| {
        document.get("kind").and_then(serde_json::Value::as_str) == Some("Identity")
    });
    let documents = serde_json::Value::Array(identity.collect()).to_string();
    Stored { sha256: state::sha256(documents.as_bytes()), documents, ..stored.clone() }
}

/// A configuration that is valid and not in force.
#[derive(Debug)]
pub(crate) struct Understood {
    canonical: Vec<u8>,
    config: MachineConfig,
}

/// Has the agent read a configuration, and takes nothing from it but the canonical form.
pub(crate) async fn understand(node: &Node, documents: &[u8]) -> Result<Understood, AcceptError> {
    if documents.len() > LARGEST {
        return Err(AcceptError::TooLarge(documents.len()));
    }
    let output = one_shot::run(node, "configure", &[], documents, LARGEST_ANSWER, DEADLINE)
        .await
        .map_err(AcceptError::Agent)?;
    match output.exit {
        Exit::Code(0) => {
            let config = canonical::read(&output.stdout).map_err(AcceptError::Invalid)?;
            Ok(Understood { canonical: canonical::write(&config), config })
        }
        Exit::Code(2) => Err(AcceptError::Invalid(
            serde_json::from_slice(&output.stdout).map_err(AcceptError::Answer)?,
        )),
        exit => Err(AcceptError::AgentFailed { exit, complaint: output.complaint }),
    }
}
