// SPDX-License-Identifier: Apache-2.0
//! Which of the saved configurations a start has.

use super::{
    Active, Configuration, Withdrawn, blocking,
    probation::{Waiting, forget},
    understand::lines,
};
use crate::{
    node::Node,
    report,
    state::{self, StateError, Stored},
};
use std::{cmp::Reverse, rc::Rc};
use stele_config::canonical;
use stele_machine::{
    boots::Start,
    probation::{self, AtStart, Probation},
};

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

type Generations = Vec<(u64, Result<Stored, StateError>)>;

impl Configuration {
    /// Takes the generation of the running image into force, or another one that can be read: the next older one first.
    /// An image on trial has to read the one that it is given. One that was staged for this start gets it.
    pub(crate) async fn restore(&self, node: &Rc<Node>) -> Restored {
        let Ok(generations) = tokio::task::spawn_blocking(state::read_generations).await else {
            return Restored::Unreadable("reading the saved configurations failed".to_owned());
        };
        self.learn(&generations);
        if generations.is_empty() {
            return Restored::Nothing;
        }
        let staged = self.take_up_probation(node, &generations).await;
        let trying = staged.as_ref().map(|staged| staged.generation);
        self.withdraw_broken_off(node, &generations, trying).await;
        let own = node.boots.wanted_generation(node);
        let wanted = trying.or(own);
        let on_trial = matches!(node.boots.started(), Start::Trial { .. });
        let mut reasons = Vec::new();
        for (number, stored) in in_order(generations, wanted) {
            match stored.map_err(|error| report::chain(&error)).and_then(readable) {
                Ok(active) => {
                    let active = Rc::new(active);
                    self.put_on_probation(node, staged, &active).await;
                    self.enforce(node, &active).await;
                    return Restored::Done;
                }
                Err(reason) => {
                    tracing::error!(
                        generation = number,
                        reason,
                        "a saved configuration could not be used"
                    );
                    reasons.push(reason);
                    if on_trial {
                        break;
                    }
                }
            }
        }
        // Who the node is was kept apart, so that it can be reached and repaired, and by its operator alone.
        if !on_trial
            && let Ok(stored) = blocking(state::read_identity).await
            && let Ok(active) = readable(stored)
        {
            self.enforce(node, &Rc::new(active)).await;
            return Restored::Done;
        }
        Restored::Unreadable(format!(
            "no saved configuration could be used: {}",
            reasons.join("; ")
        ))
    }

    /// Looks whether one waited for this start, or was on probation when the machine ended. Returns the one to start with.
    async fn take_up_probation(&self, node: &Node, generations: &Generations) -> Option<Probation> {
        let probation = match blocking(state::read_probation).await {
            Ok(probation) => probation?,
            Err(error) => {
                tracing::error!(
                    error = report::chain(&error),
                    "a configuration was on probation, and which one is lost"
                );
                return None;
            }
        };
        let ordinary = node.boots.started() == Start::Ordinary;
        let own = node.images.memory().generations.get(&node.release.version).copied();
        let stored = |number: u64| {
            let found = generations.iter().find(|(found, _)| *found == number);
            found.and_then(|(_, stored)| stored.as_ref().ok()).cloned()
        };
        match probation::at_start(&probation, ordinary, own, node.arguments.started_for()) {
            AtStart::Nothing => {
                if let Some(Ok(previous)) = stored(probation.previous).map(readable) {
                    self.waiting.replace(Some(Waiting::new(probation, Rc::new(previous))));
                }
                None
            }
            AtStart::Try(next) => {
                let kept = next.clone();
                // What is not on disk could be tried for ever.
                let written = blocking(move || state::write_probation(&kept)).await;
                written
                    .inspect_err(|error| {
                        let error = report::chain(error);
                        tracing::error!(error, "a staged configuration can't be tried");
                    })
                    .is_ok()
                    .then_some(next)
            }
            AtStart::Back(why) => {
                let generation = probation.generation;
                let why = node.arguments.failure(generation).unwrap_or_else(|| why.to_owned());
                tracing::error!(generation, why, "back on the configuration before");
                if let Some(stored) = stored(generation) {
                    let withdrawn = Withdrawn { reverted: true, reason: why };
                    self.withdraw(true, stored, withdrawn).await;
                }
                forget().await;
                None
            }
            AtStart::Forget => {
                forget().await;
                None
            }
        }
    }

    /// Those that no image ever had for its own: the machine ended while they were being put in force, or while its image had
    /// yet to prove itself.
    async fn withdraw_broken_off(
        &self,
        node: &Node,
        generations: &Generations,
        trying: Option<u64>,
    ) {
        let Some(last) = node.images.memory().generations.into_values().max() else { return };
        let staged = self.probation().map(|probation| probation.generation).or(trying);
        let newer =
            generations.iter().filter(|(number, _)| *number > last && Some(*number) != staged);
        for stored in newer.filter_map(|(_, stored)| stored.as_ref().ok()) {
            // What became of it may have been told since it was read.
            let told = matches!(self.known.borrow().get(&stored.number), Some(Ok(known)) if known.withdrawn.is_some());
            if !told {
                let reason = "the machine ended while it was being put in force, or before its image had proved itself".to_owned();
                self.withdraw(true, stored.clone(), Withdrawn { reverted: false, reason }).await;
            }
        }
    }

    /// The one that was staged is in force now, or another one is because it could not be read.
    async fn put_on_probation(&self, node: &Rc<Node>, staged: Option<Probation>, active: &Active) {
        let Some(staged) = staged else { return };
        if staged.generation != active.stored.number {
            let reason = "this image can't read it".to_owned();
            if let Ok(stored) = self.read(staged.generation).await {
                self.withdraw(true, stored, Withdrawn { reverted: false, reason }).await;
            }
            return forget().await;
        }
        let previous = staged.previous;
        let previous = blocking(move || state::read_generation(previous)).await;
        match previous.map_err(|error| report::chain(&error)).and_then(readable) {
            Ok(previous) => {
                self.waiting.replace(Some(Waiting::new(staged, Rc::new(previous))));
                self.watch_start(node);
            }
            // There is nothing left to go back to.
            Err(reason) => {
                tracing::error!(
                    reason,
                    "the configuration before can't be read; the staged one stays"
                );
                forget().await;
            }
        }
        self.publish(node);
    }
}

/// The wanted one, then down from it, then down from the newest; what was withdrawn or can't be read comes last.
fn in_order(mut generations: Generations, wanted: Option<u64>) -> Generations {
    generations.sort_by_key(|(number, stored)| {
        let withdrawn = stored.as_ref().is_ok_and(|stored| stored.withdrawn.is_some());
        let named = wanted == Some(*number);
        let newer = wanted.is_some_and(|wanted| *number > wanted);
        (stored.is_err(), withdrawn && !named, newer, Reverse(*number))
    });
    generations
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
pub(super) fn identity_alone(stored: &Stored) -> Stored {
    let documents: Vec<serde_json::Value> =
        serde_json::from_str(&stored.documents).unwrap_or_default();
    let identity = documents.into_iter().filter(|document| {
        document.get("kind").and_then(serde_json::Value::as_str) == Some("Identity")
    });
    let documents = serde_json::Value::Array(identity.collect()).to_string();
    Stored { sha256: state::sha256(documents.as_bytes()), documents, ..stored.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(number: u64, withdrawn: bool) -> (u64, Result<Stored, StateError>) {
        let withdrawn = withdrawn.then(|| Withdrawn { reverted: true, reason: String::new() });
        (number, Ok(Stored { number, withdrawn, ..Stored::default() }))
    }

    fn order(generations: Generations, wanted: Option<u64>) -> Vec<u64> {
        in_order(generations, wanted).into_iter().map(|(number, _)| number).collect()
    }

    #[test]
    fn the_wanted_one_then_older_ones_then_newer_ones() {
        let all = || (1..=5).map(|number| stored(number, false)).collect::<Generations>();
        assert_eq!(order(all(), Some(3)), [3, 2, 1, 5, 4]);
        assert_eq!(order(all(), None), [5, 4, 3, 2, 1]);
    }

    #[test]
    fn what_was_withdrawn_is_not_taken_while_there_is_another() {
        let all = vec![stored(1, false), stored(2, true), stored(3, true)];
        assert_eq!(order(all, None), [1, 3, 2]);
        let staged = vec![stored(1, false), stored(2, true)];
        assert_eq!(order(staged, Some(2)), [2, 1], "applied again and staged");
        let file = "generations/4.json".into();
        let mut broken = vec![stored(3, false), (4, Err(StateError::Digest { file }))];
        broken.push(stored(2, false));
        assert_eq!(order(broken, Some(4)), [3, 2, 4]);
    }
}
