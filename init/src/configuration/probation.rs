// SPDX-License-Identifier: Apache-2.0
//! A configuration on probation, in `/state/probation.json`; when it is over is decided in `stele_machine::probation`.

use super::{AcceptError, Active, Configuration, Intent, Refused, Withdrawn, blocking};
use crate::{node::Node, report, state};
use std::{rc::Rc, time::Duration};
use stele_kernel::clock;
use stele_machine::probation::{Probation, Stage};
use stele_proto::v1;

/// A configuration on probation.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) probation: Probation,
    /// The machine's own.
    pub(super) previous: Rc<Active>,
    /// Since when it has been in force, since boot.
    since: Duration,
}

impl Waiting {
    pub(super) fn new(probation: Probation, previous: Rc<Active>) -> Waiting {
        Waiting { probation, previous, since: clock::since_boot().unwrap_or_default() }
    }

    fn within(&self) -> Duration {
        Duration::from_secs(self.probation.confirm_within.unwrap_or_default().into())
    }
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

fn in_force(within: u32) -> Stage {
    Stage::InForce { until: clock::now().unwrap_or(0).saturating_add(within.into()) }
}

/// Removes what is kept of a probation. Where that fails the next start finds it, and the generation that its image was healthy
/// with.
pub(super) async fn forget() {
    if let Err(error) = blocking(state::remove_probation).await {
        tracing::error!(error = report::chain(&error), "forgetting a probation failed");
    }
}

/// Goes back after this time from the one on probation, if it is then still such a one.
fn go_back_after(
    node: &Rc<Node>,
    within: Duration,
    reason: String,
    still: impl Fn(&Probation) -> bool + 'static,
) {
    let node = Rc::clone(node);
    tokio::task::spawn_local(async move {
        tokio::time::sleep(within).await;
        let configuration = &node.configuration;
        let _turn = configuration.turn.lock().await;
        if configuration.probation().as_ref().is_some_and(still) {
            configuration.give_up(&node, reason).await;
        }
    });
}

impl Configuration {
    /// The probation that there is.
    pub(super) fn probation(&self) -> Option<Probation> {
        self.waiting.borrow().as_ref().map(|waiting| waiting.probation.clone())
    }

    /// The new one will have to be confirmed: this is kept before it has any effect.
    pub(super) async fn await_confirmation(
        &self,
        new: &Active,
        previous: Rc<Active>,
        within: Duration,
    ) -> Result<(), Refused> {
        let within = seconds(within);
        self.begin(new, previous, Some(within), in_force(within)).await
    }

    /// The new one waits for a start.
    pub(super) async fn await_start(
        &self,
        new: &Active,
        previous: Rc<Active>,
        within: Option<Duration>,
    ) -> Result<(), Refused> {
        self.begin(new, previous, within.map(seconds), Stage::Staged).await
    }

    async fn begin(
        &self,
        new: &Active,
        previous: Rc<Active>,
        confirm_within: Option<u32>,
        stage: Stage,
    ) -> Result<(), Refused> {
        let (generation, own) = (new.stored.number, previous.stored.number);
        let probation = Probation { generation, previous: own, confirm_within, stage };
        if new.persistent {
            let kept = probation.clone();
            blocking(move || state::write_probation(&kept)).await.map_err(Refused::Keep)?;
        }
        self.waiting.replace(Some(Waiting::new(probation, previous)));
        Ok(())
    }

    /// Another one takes the place of the one that waits for a start.
    pub(super) async fn replace_staged(&self, node: &Node, by: u64) -> Result<(), Refused> {
        let staged = self.probation().filter(|probation| probation.stage == Stage::Staged);
        if let Some(staged) = staged {
            let stored = self.read(staged.generation).await?;
            let reason = format!("generation {by} took its place before it was in force");
            self.withdraw(true, stored, Withdrawn { reverted: false, reason }).await;
            self.forget_probation(node).await;
        }
        Ok(())
    }

    /// There is no probation any more.
    pub(super) async fn forget_probation(&self, node: &Node) {
        if self.waiting.take().is_some_and(|waiting| waiting.previous.persistent) {
            forget().await;
        }
        self.publish(node);
    }

    /// Goes back when the time is over.
    pub(super) fn watch_confirmation(&self, node: &Rc<Node>) {
        let (generation, within) = match &*self.waiting.borrow() {
            Some(waiting) => (waiting.probation.generation, waiting.within()),
            None => return,
        };
        tracing::warn!(
            generation,
            seconds = within.as_secs(),
            "this configuration goes unless it is confirmed in time: ctl confirm"
        );
        let reason = format!("it was not confirmed within {} s", within.as_secs());
        go_back_after(node, within, reason, move |waiting| waiting.generation == generation);
    }

    /// Goes back when the machine is not up with it in time, for whatever cause: its API may be what can't run.
    pub(super) fn watch_start(&self, node: &Rc<Node>) {
        let Some(probation) = self.probation() else { return };
        let (generation, within) = (probation.generation, probation.up_within());
        let reason = format!("the machine was not up with it within {} s", within.as_secs());
        go_back_after(node, within, reason, move |waiting| waiting.is_late(generation));
    }

    /// Goes back from the one that is in force and on probation.
    async fn give_up(&self, node: &Rc<Node>, reason: String) {
        let Some(active) = self.active() else { return };
        let Some(previous) =
            self.waiting.borrow().as_ref().map(|waiting| Rc::clone(&waiting.previous))
        else {
            return;
        };
        self.back(node, &active, &previous, Withdrawn { reverted: true, reason }).await;
    }

    /// Whoever asks for the machine's own configuration while another is on probation ends the probation.
    pub(super) async fn give_up_waiting(
        &self,
        node: &Rc<Node>,
        generation: u64,
        intent: &Intent,
    ) -> Result<Option<v1::ApplyResponse>, AcceptError> {
        let _turn = self.turn.lock().await;
        let (Some(probation), Some(active)) = (self.probation(), self.active()) else {
            return Ok(None);
        };
        let staged = probation.stage == Stage::Staged;
        // While one waits for a start, none is in force that could be gone back from without being named.
        let meant = generation == probation.previous || (generation == 0 && !staged);
        if !meant || intent.dry_run {
            return Ok(None);
        }
        let reason = format!("{} went back from it", intent.author.subject);
        if staged {
            let stored = self.read(probation.generation).await?;
            self.withdraw(true, stored, Withdrawn { reverted: false, reason }).await;
            self.forget_probation(node).await;
        } else {
            self.give_up(node, reason).await;
        }
        let own = self.own().unwrap_or(active);
        Ok(Some(v1::ApplyResponse {
            generation: Some(self.tell(&own.stored)),
            ..v1::ApplyResponse::default()
        }))
    }

    /// Keeps the configuration that waits for this word. The connection that brings it must be younger than the
    /// configuration.
    pub(crate) async fn confirm(
        &self,
        node: &Rc<Node>,
        asked: u64,
        connected: Duration,
        subject: &str,
    ) -> Result<v1::Generation, Refused> {
        let _turn = self.turn.lock().await;
        let waiting = match &*self.waiting.borrow() {
            Some(Waiting {
                probation: Probation { generation, stage: Stage::InForce { .. }, .. },
                since,
                ..
            }) => Some((*generation, *since)),
            Some(_) | None => None,
        };
        let (generation, since) = match waiting {
            None => return self.confirmed_already(asked),
            Some((waiting, _)) if asked > 0 && asked != waiting => {
                return Err(Refused::AnotherWaits { asked, waiting });
            }
            Some(waiting) => waiting,
        };
        if clock::since_boot().unwrap_or_default().saturating_sub(connected) <= since {
            return Err(Refused::OldConnection);
        }
        tracing::info!(target: report::CONSOLE, generation, client = subject, "configuration confirmed");
        self.make_own(node).await;
        let active = self.active().ok_or(Refused::NothingWaits)?;
        Ok(self.tell(&active.stored))
    }

    /// Nothing waits: asking for what is so already is no mistake.
    fn confirmed_already(&self, asked: u64) -> Result<v1::Generation, Refused> {
        if let Some(active) = self.active().filter(|active| active.stored.number == asked) {
            return Ok(self.tell(&active.stored));
        }
        match self.known.borrow().get(&asked) {
            Some(Ok(state::Stored { withdrawn: Some(Withdrawn { reason, .. }), .. })) => {
                Err(Refused::TooLate { number: asked, reason: reason.clone() })
            }
            Some(_) | None => Err(Refused::NothingWaits),
        }
    }

    /// The one in force is the machine's own: remembered with its image first, and then no longer on probation.
    async fn make_own(&self, node: &Node) {
        let waiting = self.waiting.take();
        self.settle(node).await;
        *self.waiting.borrow_mut() = waiting;
        self.forget_probation(node).await;
    }

    /// The machine is up: what was staged for this start has done what it could, or can't stay.
    pub(crate) async fn is_up(&self, node: &Rc<Node>) {
        let _turn = self.turn.lock().await;
        let Some(probation) =
            self.probation().filter(|probation| probation.stage == Stage::Starting)
        else {
            return;
        };
        let reached = match node.arguments.given_up() {
            Some(reason) => Err(reason),
            None => node.convergence.reached().await,
        };
        if let Err(reason) = reached {
            return self.give_up(node, reason).await;
        }
        let Some(within) = probation.confirm_within else { return self.make_own(node).await };
        let (Some(active), Some(previous)) = (self.active(), self.own()) else { return };
        match self.begin(&active, previous, Some(within), in_force(within)).await {
            Ok(()) => {
                self.publish(node);
                self.watch_confirmation(node);
            }
            Err(refused) => self.give_up(node, refused.to_string()).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture, node::Release, state::Stored};
    use std::collections::BTreeMap;
    use tokio::{runtime, task::LocalSet};

    fn generation(number: u64) -> Rc<Active> {
        let stored = Stored { number, ..Stored::default() };
        Rc::new(Active { stored, config: fixture::config::<&str>(&[]), persistent: false })
    }

    /// Which generation is in force after the time of a start is over with generation 2 at this stage, and why not 2.
    fn after_its_time(stage: Stage) -> (u64, Option<String>) {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let node = Rc::new(Node::new(BTreeMap::new(), Release::default()));
            node.logs.files().abandon();
            let configuration = &node.configuration;
            configuration.active.send_replace(Some(generation(2)));
            let probation =
                Probation { generation: 2, previous: 1, confirm_within: Some(60), stage };
            configuration.waiting.replace(Some(Waiting::new(probation, generation(1))));
            let reason = "the machine was not up".to_owned();
            go_back_after(&node, Duration::ZERO, reason, |waiting| waiting.is_late(2));
            let mut active = configuration.subscribe();
            // Where it stays, nothing comes.
            let _back = tokio::time::timeout(Duration::from_millis(200), active.changed()).await;
            let known = configuration.known.borrow();
            let withdrawn = match known.get(&2) {
                Some(Ok(Stored { withdrawn: Some(withdrawn), .. })) => {
                    Some(withdrawn.reason.clone())
                }
                _ => None,
            };
            (configuration.active().unwrap().stored.number, withdrawn)
        })
    }

    #[test]
    fn a_start_that_takes_too_long_leads_back() {
        let reason = Some("the machine was not up".to_owned());
        assert_eq!(after_its_time(Stage::Starting), (1, reason));
        assert_eq!(after_its_time(Stage::InForce { until: 9 }), (2, None), "it was up in time");
    }
}
