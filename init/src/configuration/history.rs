// SPDX-License-Identifier: Apache-2.0
//! Generations: as they lie on disk, as resources, and as the API tells them.

use super::{Active, Configuration, blocking};
use crate::{
    node::Node,
    report,
    state::{self, StateError, Stored},
    store::Kind,
};
use serde::Serialize;
use std::collections::BTreeMap;
use stele_machine::probation::{Probation, Stage};
use stele_proto::v1::{self, GenerationState};

/// What became of a generation that is not in force and never was the machine's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Withdrawn {
    /// Whether it was in force for a while.
    pub(crate) reverted: bool,
    /// Why, in a sentence.
    pub(crate) reason: String,
}

/// What is known of a generation: all but its documents, or why it can't be read.
pub(super) type Known = BTreeMap<u64, Result<Stored, String>>;

/// What `ctl get generation` shows.
#[derive(Serialize)]
struct Status<'a> {
    active: bool,
    state: &'static str,
    /// Seconds since the epoch.
    time: i64,
    author: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    serial: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    image: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    request: &'a str,
    sha256: &'a str,
    persistent: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
}

/// What became of a generation.
fn state_of(
    number: u64,
    withdrawn: Option<&Withdrawn>,
    active: Option<u64>,
    probation: Option<&Probation>,
) -> GenerationState {
    let stage = probation
        .filter(|probation| probation.generation == number)
        .map(|probation| probation.stage);
    match (stage, withdrawn) {
        (Some(Stage::Staged), _) => GenerationState::Staged,
        (Some(Stage::Starting | Stage::InForce { .. }), _) if active == Some(number) => {
            GenerationState::Pending
        }
        _ if active == Some(number) => GenerationState::Active,
        (_, Some(Withdrawn { reverted: true, .. })) => GenerationState::Reverted,
        (_, Some(_)) => GenerationState::Failed,
        (_, None) => GenerationState::Superseded,
    }
}

fn word(state: GenerationState) -> &'static str {
    match state {
        GenerationState::Unspecified => "unreadable",
        GenerationState::Active => "active",
        GenerationState::Pending => "pending",
        GenerationState::Staged => "staged",
        GenerationState::Superseded => "superseded",
        GenerationState::Reverted => "reverted",
        GenerationState::Failed => "failed",
    }
}

impl Configuration {
    /// Learns which generations there are.
    pub(super) fn learn(&self, generations: &[(u64, Result<Stored, state::StateError>)]) {
        let mut known = self.known.borrow_mut();
        known.extend(generations.iter().map(|(number, stored)| {
            let stored = match stored {
                Ok(stored) => Ok(without_documents(stored)),
                Err(error) => {
                    let reason = report::chain(error);
                    tracing::error!(
                        generation = number,
                        reason,
                        "a saved configuration can't be read"
                    );
                    Err(reason)
                }
            };
            (*number, stored)
        }));
    }

    /// Notes a generation, new or changed.
    pub(super) fn note(&self, stored: &Stored) {
        self.known.borrow_mut().insert(stored.number, Ok(without_documents(stored)));
    }

    /// Forgets those that are no longer on disk.
    pub(super) fn retain(&self, numbers: &[u64]) {
        self.known.borrow_mut().retain(|number, _| numbers.contains(number));
    }

    /// Keeps the machine's own in other versions of its documents, which say the same: an image that is to start knows no newer
    /// ones.
    pub(crate) async fn keep_for_older(
        &self,
        own: &Active,
        documents: String,
    ) -> Result<(), StateError> {
        let sha256 = state::sha256(documents.as_bytes());
        let stored = Stored { sha256, documents, ..own.stored.clone() };
        if own.persistent {
            let kept = stored.clone();
            blocking(move || state::rewrite_generation(&kept)).await?;
        }
        self.note(&stored);
        Ok(())
    }

    /// Keeps the word of why a generation is not the machine's own.
    pub(super) async fn withdraw(&self, persistent: bool, stored: Stored, withdrawn: Withdrawn) {
        let stored = Stored { withdrawn: Some(withdrawn), ..stored };
        self.note(&stored);
        if persistent {
            let written = blocking(move || state::rewrite_generation(&stored)).await;
            if let Err(error) = written {
                tracing::error!(
                    error = report::chain(&error),
                    "keeping what became of a generation failed"
                );
            }
        }
    }

    /// Says what there is.
    pub(super) fn publish(&self, node: &Node) {
        let active = self.active();
        let persistent = active.as_ref().is_none_or(|active| active.persistent);
        let number = active.map(|active| active.stored.number);
        let history = self.history();
        let statuses = history.iter().map(|generation| {
            let status = Status {
                active: number == Some(generation.number),
                state: word(generation.state()),
                time: generation.time.as_ref().map_or(0, |time| time.seconds),
                author: &generation.author,
                serial: &generation.serial,
                image: &generation.image,
                request: &generation.request,
                sha256: &generation.sha256,
                persistent,
                reason: &generation.reason,
            };
            (generation.number.to_string(), status)
        });
        node.store.replace(Kind::Generation, &statuses.collect());
    }

    /// Every generation, newest first.
    pub(crate) fn history(&self) -> Vec<v1::Generation> {
        let known = self.known.borrow();
        let tell = |(number, known): (&u64, &Result<Stored, String>)| match known {
            Ok(stored) => self.tell(stored),
            Err(reason) => {
                v1::Generation { number: *number, reason: reason.clone(), ..Default::default() }
            }
        };
        known.iter().rev().map(tell).collect()
    }

    /// A generation as the API tells it.
    pub(crate) fn tell(&self, stored: &Stored) -> v1::Generation {
        let active = self.active();
        let persistent = active.as_ref().is_none_or(|active| active.persistent);
        let number = active.map(|active| active.stored.number);
        let probation = self.probation();
        let withdrawn = stored.withdrawn.as_ref();
        let state = state_of(stored.number, withdrawn, number, probation.as_ref());
        let until = probation.and_then(|probation| match probation.stage {
            Stage::InForce { until } if probation.generation == stored.number => Some(until),
            Stage::Staged | Stage::Starting | Stage::InForce { .. } => None,
        });
        let time = |seconds| prost_types::Timestamp { seconds, nanos: 0 };
        v1::Generation {
            number: stored.number,
            sha256: stored.sha256.clone(),
            time: Some(time(stored.time)),
            author: stored.author.clone(),
            persistent,
            serial: stored.serial.clone(),
            image: stored.image.clone(),
            state: state.into(),
            reason: withdrawn.map(|withdrawn| withdrawn.reason.clone()).unwrap_or_default(),
            confirm_by: until.map(time),
            request: stored.request.clone(),
        }
    }
}

fn without_documents(stored: &Stored) -> Stored {
    Stored { documents: String::new(), ..stored.clone() }
}
