// SPDX-License-Identifier: Apache-2.0
//! The machine's configuration: how one is accepted, kept, made known, and taken back.
//!
//! ```text
//! bytes ─► configure (agent) ─► canonical ─► MachineConfig ─► /state/generations/N.json ─► everyone who subscribed
//!                                                                       ▲                         │ could not, or
//!                                                     the one before ◄──┴─────────────────────────┘ not confirmed
//! ```
//!
//! One at a time, and all or nothing: what is refused changes nothing, and what turns out to be impossible leaves nothing
//! behind. A generation is the machine's own when it is remembered with its image ([`crate::images`]), which is the last
//! step; whatever ends the machine before that leads back to the one before. See `stele_machine::probation`.

mod history;
mod inspect;
mod intent;
mod probation;
mod restore;
mod spare;
mod understand;

use crate::{
    boots::Reason,
    events::Cause,
    health,
    node::Node,
    report,
    state::{self, StateError, Stored},
};
use probation::Waiting;
use std::{cell::RefCell, rc::Rc};
use stele_config::MachineConfig;
use stele_kernel::{clock, power::End};
use stele_machine::{
    change::{self, Change, Effect},
    probation::Stage,
};
use stele_proto::v1;
use tokio::sync::{Mutex, watch};

pub(crate) use history::Withdrawn;
use intent::Mode;
pub(crate) use intent::{Intent, Refused};
pub(crate) use restore::Restored;
pub(crate) use understand::{
    AcceptError, Include, LARGEST, Understood, Unwrapped, UserData, understand,
    understand_attributes, understand_included, understand_network, understand_user_data,
};

/// The configuration that is in force.
#[derive(Clone, Debug)]
pub(crate) struct Active {
    pub(crate) stored: Stored,
    pub(crate) config: MachineConfig,
    pub(crate) persistent: bool,
}

impl Active {
    /// The request that brought it.
    pub(crate) fn cause(&self) -> Cause {
        Cause { request: self.stored.request.clone(), subject: self.stored.author.clone() }
    }
}

/// For those who look at the configuration for other reasons as well: what they do is its doing once for each generation.
#[derive(Debug, Default)]
pub(crate) struct Causes {
    seen: Option<u64>,
}

impl Causes {
    /// The cause of what is done about this configuration now.
    pub(crate) fn of(&mut self, active: Option<&Active>) -> Cause {
        let new = active.filter(|active| self.seen != Some(active.stored.number));
        self.seen = active.map(|active| active.stored.number);
        new.map(Active::cause).unwrap_or_default()
    }
}

/// The machine's configuration.
#[derive(Debug)]
pub(crate) struct Configuration {
    active: watch::Sender<Option<Rc<Active>>>,
    /// Every generation there is.
    known: RefCell<history::Known>,
    /// The one on probation.
    waiting: RefCell<Option<Waiting>>,
    /// Held while one is being accepted, confirmed or taken back.
    turn: Mutex<()>,
    /// What reads the next one.
    spare: spare::Spare,
}

impl Default for Configuration {
    fn default() -> Configuration {
        Configuration {
            active: watch::Sender::new(None),
            known: RefCell::default(),
            waiting: RefCell::default(),
            turn: Mutex::new(()),
            spare: spare::Spare::default(),
        }
    }
}

impl Configuration {
    /// The configuration in force, if there is one.
    pub(crate) fn active(&self) -> Option<Rc<Active>> {
        self.active.borrow().clone()
    }

    /// The machine's own: the one in force, or while that is on probation the one before.
    pub(crate) fn own(&self) -> Option<Rc<Active>> {
        match &*self.waiting.borrow() {
            Some(Waiting { probation, previous, .. }) if probation.stage != Stage::Staged => {
                Some(Rc::clone(previous))
            }
            Some(_) | None => self.active(),
        }
    }

    /// Whether the one in force is the machine's own, and none waits to take its place.
    pub(crate) fn is_settled(&self) -> bool {
        self.waiting.borrow().is_none()
    }

    /// Follows the configuration in force.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Rc<Active>>> {
        self.active.subscribe()
    }

    /// Accepts a configuration, or tells why not. Returns what it became, or would become.
    pub(crate) async fn accept(
        &self,
        node: &Rc<Node>,
        documents: &[u8],
        intent: &Intent,
    ) -> Result<v1::ApplyResponse, AcceptError> {
        let understood = understand(node, documents).await?;
        self.accept_understood(node, understood, intent).await
    }

    /// Accepts a configuration that was understood before.
    pub(crate) async fn accept_understood(
        &self,
        node: &Rc<Node>,
        understood: Understood,
        intent: &Intent,
    ) -> Result<v1::ApplyResponse, AcceptError> {
        let _turn = self.turn.lock().await;
        let active = self.active();
        self.admit(intent)?;
        let found = inspect::inspect(node, &understood).await;
        if found.iter().any(|finding| !finding.warning) {
            return Err(AcceptError::Invalid(found));
        }
        let Understood { canonical, config, places: _ } = understood;
        let plan = change::plan(active.as_ref().map(|active| &active.config), &config);
        let persistent = node.state.get().is_some_and(|state| state.persistent);
        intent.fits(active.is_none(), persistent, &plan)?;
        intent.locks_out(&config)?;
        intent.cuts_off(node, &config)?;
        let mut response = v1::ApplyResponse {
            generation: None,
            warnings: found.into_iter().map(understand::to_finding).collect(),
            changes: plan.into_iter().map(to_change).collect(),
        };
        if intent.dry_run {
            return Ok(response);
        }
        if let Some(active) = active.as_ref().filter(|active| active.config == config) {
            // It is in force already: no new generation.
            response.generation = Some(self.tell(&active.stored));
            return Ok(response);
        }
        let stored = Stored {
            number: self.next_number(persistent).await,
            sha256: state::sha256(&canonical),
            time: clock::now().unwrap_or(0),
            author: intent.author.subject.clone(),
            serial: intent.author.serial.clone(),
            request: intent.author.request.clone(),
            image: node.release.version.clone(),
            withdrawn: None,
            documents: String::from_utf8_lossy(&canonical).into_owned(),
        };
        let new = Rc::new(Active { stored, config, persistent });
        self.keep(node, &new).await?;
        self.replace_staged(node, new.stored.number).await?;
        match active {
            None => self.take_first(node, &new).await,
            Some(previous) if intent.mode == Mode::Live => {
                self.take_live(node, &new, previous, intent).await?;
            }
            Some(previous) => self.stage(node, &new, previous, intent).await?,
        }
        response.generation = Some(self.tell(&new.stored));
        Ok(response)
    }

    /// Makes an earlier generation's configuration the machine's own again.
    pub(crate) async fn go_back_to(
        &self,
        node: &Rc<Node>,
        generation: u64,
        intent: &Intent,
    ) -> Result<v1::ApplyResponse, AcceptError> {
        if let Some(response) = self.give_up_waiting(node, generation, intent).await? {
            return Ok(response);
        }
        let number = if generation > 0 { generation } else { self.one_before()? };
        let stored = self.read(number).await?;
        let understood = Understood::of_generation(&stored.documents)?;
        self.accept_understood(node, understood, intent).await
    }

    /// One generation, whole.
    pub(crate) async fn read(&self, number: u64) -> Result<Stored, Refused> {
        if let Some(active) = self.active().filter(|active| active.stored.number == number) {
            return Ok(active.stored.clone());
        }
        let read = blocking(move || state::read_generation(number)).await;
        read.map_err(|error| Refused::NoSuch { number, why: report::chain(&error) })
    }

    /// The generation to go back to when none is named: the last one that was kept.
    fn one_before(&self) -> Result<u64, Refused> {
        let active = self.active().map_or(0, |active| active.stored.number);
        let known = self.known.borrow();
        let mut older = known.range(..active).rev();
        let kept =
            older.find(|(_, known)| matches!(known, Ok(stored) if stored.withdrawn.is_none()));
        kept.map(|(number, _)| *number).ok_or(Refused::NoneBefore { active })
    }

    /// Whether one may be accepted now.
    fn admit(&self, intent: &Intent) -> Result<(), Refused> {
        let active = self.active();
        let number = active.as_ref().map_or(0, |active| active.stored.number);
        if let Some(active) = active.filter(|_| intent.base > 0 && intent.base != number) {
            let author = active.stored.author.clone();
            return Err(Refused::Conflict { base: intent.base, active: number, author });
        }
        match &*self.waiting.borrow() {
            Some(Waiting { probation, .. })
                if probation.stage != Stage::Staged && !intent.dry_run =>
            {
                Err(Refused::Waits { generation: probation.generation })
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn next_number(&self, persistent: bool) -> u64 {
        if persistent {
            // It fails only by panicking.
            tokio::task::spawn_blocking(state::next_number).await.unwrap_or(u64::MAX)
        } else {
            self.known.borrow().keys().next_back().map_or(1, |last| last.saturating_add(1))
        }
    }

    /// Writes a generation, and lets the oldest go that nobody needs.
    async fn keep(&self, node: &Node, new: &Active) -> Result<(), Refused> {
        if new.persistent {
            let needed = self.needed(node);
            let stored = new.stored.clone();
            let kept = blocking(move || state::write_generation(&stored, &needed));
            self.retain(&kept.await.map_err(Refused::Keep)?);
        }
        self.note(&new.stored);
        Ok(())
    }

    /// The generations that are kept however old they are: what the machine and its images may start with.
    fn needed(&self, node: &Node) -> Vec<u64> {
        let own = self.own().map(|own| own.stored.number);
        let active = self.active().map(|active| active.stored.number);
        let waiting = self.probation().map(|probation| probation.generation);
        let images = node.images.memory().generations.into_values();
        images.chain(own).chain(active).chain(waiting).collect()
    }

    /// The first configuration of a machine.
    async fn take_first(&self, node: &Rc<Node>, new: &Rc<Active>) {
        self.enforce(node, new).await;
        self.settle(node).await;
    }

    /// Puts one in force at once; it stays if everything that it asks for can be done, and it need not be confirmed.
    async fn take_live(
        &self,
        node: &Rc<Node>,
        new: &Rc<Active>,
        previous: Rc<Active>,
        intent: &Intent,
    ) -> Result<(), Refused> {
        if let Some(within) = intent.confirm_within {
            self.await_confirmation(new, Rc::clone(&previous), within).await?;
        }
        self.put_in_force(node, new);
        // The parts do not wait for the record.
        let recorded = node.boots.configured(node, new.stored.number);
        let (reached, ()) = tokio::join!(node.convergence.reached(), recorded);
        if let Err(reason) = reached {
            let withdrawn = Withdrawn { reverted: false, reason: reason.clone() };
            let number = previous.stored.number;
            self.back(node, new, &previous, withdrawn).await;
            return Err(Refused::Impossible { reason, previous: number });
        }
        if intent.confirm_within.is_some() {
            self.watch_confirmation(node);
        } else {
            self.settle(node).await;
        }
        Ok(())
    }

    /// Lets one wait for the next start of the machine, which may come at once.
    async fn stage(
        &self,
        node: &Rc<Node>,
        new: &Rc<Active>,
        previous: Rc<Active>,
        intent: &Intent,
    ) -> Result<(), Refused> {
        self.await_start(new, previous, intent.confirm_within).await?;
        self.publish(node);
        let generation = new.stored.number;
        tracing::info!(target: report::CONSOLE, generation, "configuration staged for the next start");
        if intent.mode == Mode::Reboot {
            let subject = &intent.author.subject;
            let why = format!("{subject} applied generation {generation} with a restart");
            node.end_soon(End::Restart, Reason::asked(why));
        }
        Ok(())
    }

    /// Makes one known to everyone.
    fn put_in_force(&self, node: &Node, active: &Rc<Active>) {
        let generation = active.stored.number;
        tracing::info!(
            target: report::CONSOLE,
            generation,
            author = active.stored.author,
            "configuration in force"
        );
        node.convergence.begin(generation);
        self.active.send_replace(Some(Rc::clone(active)));
        self.publish(node);
    }

    /// The same, and on record.
    async fn enforce(&self, node: &Node, active: &Rc<Active>) {
        self.put_in_force(node, active);
        node.boots.configured(node, active.stored.number).await;
    }

    /// Goes back from one that can't stay. What takes a restart gets one.
    async fn back(
        &self,
        node: &Rc<Node>,
        from: &Rc<Active>,
        to: &Rc<Active>,
        withdrawn: Withdrawn,
    ) {
        let (failed, generation) = (from.stored.number, to.stored.number);
        tracing::error!(
            failed,
            generation,
            reason = withdrawn.reason,
            "going back to the configuration before"
        );
        self.withdraw(from.persistent, from.stored.clone(), withdrawn).await;
        let plan = change::plan(Some(&from.config), &to.config);
        let restart = plan.iter().any(|change| change.effect == Effect::Reboot);
        if !restart {
            self.enforce(node, to).await;
        }
        self.forget_probation(node).await;
        if restart {
            let why = format!("going back from generation {failed} to {generation}");
            node.end(End::Restart, Reason::asked(why));
        } else if let Err(reason) = node.convergence.reached().await {
            tracing::error!(
                generation,
                reason,
                "the configuration before can't be had again as it was"
            );
        }
    }

    /// Keeps who the node is apart, for when no generation can be read.
    pub(crate) async fn remember_identity(&self) {
        let Some(own) = self.own().filter(|own| own.persistent) else { return };
        let identity = restore::identity_alone(&own.stored);
        if let Err(error) = blocking(move || state::write_identity(&identity)).await {
            tracing::error!(error = report::chain(&error), "keeping who the node is failed");
        }
    }

    /// The one in force is the machine's own from now on, as far as its image has nothing left to prove.
    async fn settle(&self, node: &Node) {
        if !node.health.is_pending() {
            health::settle(node, false).await;
        }
    }
}

fn to_change(Change { document, what, effect }: Change) -> v1::ConfigChange {
    let (effect, services) = match effect {
        Effect::Live => (v1::Effect::Live, Vec::new()),
        Effect::Restart(services) => (v1::Effect::Restart, services),
        Effect::Reboot => (v1::Effect::Reboot, Vec::new()),
    };
    v1::ConfigChange { document, what, effect: effect.into(), services }
}

/// Does what may block, on a thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StateError> + Send + 'static,
) -> Result<T, StateError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|lost| {
        Err(StateError::Write { file: state::ROOT.into(), source: std::io::Error::other(lost) })
    })
}
