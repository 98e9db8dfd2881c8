// SPDX-License-Identifier: Apache-2.0
//! Upgrades: images come in, are staged, tried and made permanent. Where the decisions of `stele_machine::slots` meet
//! the ESP.
//!
//! ```text
//! Push ────────────────────────► receive ─► checks ─► stage ─┐
//! Upgrade(url, registry) ─► fetch ─┘                         └► staged ─► Upgrade(slot): activate ─► reboot ─► … ─► bless
//!                                                                                 ▲
//!                                                             at: schedule ───────┘
//! ```
//!
//! Who uploads can be cut off at any moment: the work is done by a task of its own, which notices, cleans up and
//! unmounts. One image arrives at a time, and one works on the ESP at a time; others are told who.

use crate::{
    api::{Code, Gone, Refusal, Requests, Responses, while_connected},
    boots::Reason,
    handlers::Answer,
    node::Node,
    report,
};
use std::{
    cell::{Cell, OnceCell, RefCell},
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use stele_kernel::{mount::Usage, power::End};
use stele_machine::slots::{self, Effect, Observed, Refused};
use stele_proto::v1::{
    self, Progress, Step,
    upgrade_request::{Source as Wanted, When},
};
use tokio::sync::{Mutex, mpsc};

use self::{agent::Staged, esp::Esp, schedule::Scheduled, staging::Source};

mod agent;
mod arrival;
mod candidate;
mod esp;
mod keys;
mod parts;
mod push;
mod schedule;
mod show;
mod staging;
mod trial;

/// How long a caller waits for its turn before it is told that another image is on its way.
const PATIENCE: Duration = Duration::from_secs(3);
/// Words of progress that wait for the caller.
const WORDS: usize = 16;

/// What upgrades keep in the node.
#[derive(Debug, Default)]
pub(crate) struct Upgrades {
    /// Held by whoever works on the ESP.
    turn: Arc<Mutex<()>>,
    /// What that is, in words that "is under way" can follow.
    under_way: Cell<&'static str>,
    /// Held while an image arrives.
    arriving: Arc<Mutex<()>>,
    /// The upgrade that waits for its time.
    scheduled: RefCell<Option<Scheduled>>,
    /// What was last seen on the ESP.
    seen: RefCell<Option<(Observed, Usage)>>,
    /// The node of the ESP.
    device: OnceCell<PathBuf>,
}

impl Upgrades {
    /// The disk agent has found the ESP.
    pub(crate) fn found_esp(&self, device: &str) {
        // The disk is prepared once.
        let _first_stands = self.device.set(PathBuf::from(device));
    }
}

pub(crate) use esp::{has_loader, partition as esp_partition};
pub(crate) use push::push;
pub(crate) use trial::{bless, condemn, examine, settle, start_once, start_once_if_same};

/// What PID 1 does on its own: looks, decides, and does it. Writes nothing if there is nothing to do. Says it, and why, if it
/// could not be done.
async fn change(
    node: &Rc<Node>,
    what: &'static str,
    decide: impl FnOnce(&Observed) -> Result<Vec<Effect>, Refused>,
) -> Result<Vec<Effect>, String> {
    let said = |refusal: Refusal| {
        tracing::error!(error = refusal.message, "{what} failed");
        refusal.message
    };
    let esp = Esp::look_patiently(node, what).await.map_err(said)?;
    let changed = async {
        let (observed, _) = esp.observe().await?;
        let effects = decide(&observed).map_err(refuse)?;
        esp.apply(effects.clone()).await?;
        Ok::<_, Refusal>(effects)
    };
    let effects = changed.await.map_err(said);
    esp.close().await;
    effects
}

/// Passes words of progress to the caller, until there are no more.
async fn tell(mut words: mpsc::Receiver<Progress>, responses: &mut Responses) -> Result<(), Gone> {
    while let Some(progress) = words.recv().await {
        responses.send(&progress).await?;
    }
    Ok(())
}

/// Stages an image, when no other one is on its way.
async fn stage(
    node: &Rc<Node>,
    source: Source,
    rate: u64,
    told: &mpsc::Sender<Progress>,
) -> Result<Staged, Refusal> {
    let arriving = Arc::clone(&node.upgrades.arriving);
    let Ok(_turn) = tokio::time::timeout(PATIENCE, arriving.lock_owned()).await else {
        let message = "an upload of an image is under way on this node; one at a time";
        return Err(Refusal::new(Code::Aborted, message));
    };
    staging::run(node, source, rate, told).await
}

/// Stages an image from somewhere else, or takes one that is staged, and moves to it when that is wanted.
pub(crate) async fn upgrade(
    node: &Rc<Node>,
    requests: &mut Requests,
    responses: &mut Responses,
) -> Answer {
    let request: v1::UpgradeRequest = match requests.only().await? {
        Ok(request) => request,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let v1::UpgradeRequest { source, when, rate_limit } = request;
    let Some(source) = source else {
        return Ok(Err(invalid(
            "an upgrade needs a URL, a registry or a slot to take the image from",
        )));
    };
    follow(requests, responses, |told| upgrade_to(Rc::clone(node), source, when, rate_limit, told))
        .await
}

async fn upgrade_to(
    node: Rc<Node>,
    source: Wanted,
    when: Option<When>,
    rate: u64,
    told: mpsc::Sender<Progress>,
) -> Result<(), Refusal> {
    let slot = match source {
        Wanted::Url(url) => stage(&node, Source::Url(url), rate, &told).await?.slot,
        Wanted::Registry(name) => stage(&node, Source::Registry(name), rate, &told).await?.slot,
        Wanted::Slot(slot) => slot,
    };
    match when {
        Some(When::StageOnly(true)) => Ok(()),
        Some(When::At(at)) => {
            trial::could_activate(&node, &slot).await?;
            schedule::set(&node, &slot, at.seconds).await?;
            say(&told, Step::Scheduled, &slot, format!("{slot} waits for its time"));
            Ok(())
        }
        Some(When::AtReboot(true)) => {
            trial::activate(&node, &slot).await?;
            say(&told, Step::Activated, &slot, "the next reboot tries it".to_owned());
            Ok(())
        }
        None | Some(When::StageOnly(false) | When::AtReboot(false)) => {
            trial::activate(&node, &slot).await?;
            say(&told, Step::Activated, &slot, "the next boot tries it".to_owned());
            tracing::info!(target: report::CONSOLE, slot, "upgrading");
            say(&told, Step::Rebooting, "", "restarting".to_owned());
            restart(&node);
            Ok(())
        }
    }
}

/// Forgets an upgrade that waits: for its time, or for the next reboot.
pub(crate) async fn cancel(
    node: &Rc<Node>,
    requests: &mut Requests,
    responses: &mut Responses,
) -> Answer {
    if let Err(refusal) = requests.only::<v1::CancelRequest>().await? {
        return Ok(Err(refusal));
    }
    let working = Rc::clone(node);
    let work = tokio::task::spawn_local(async move {
        let scheduled = schedule::forget(&working).await?;
        let withdrawn = trial::withdraw(&working).await?;
        Ok(withdrawn.or(scheduled).unwrap_or_default())
    });
    match work.await.unwrap_or_else(|error| Err(Refusal::internal(&error))) {
        Ok(slot) => {
            responses.add(&v1::CancelResponse { slot });
            Ok(Ok(()))
        }
        Err(refusal) => Ok(Err(refusal)),
    }
}

/// Marks the running image as not to be booted, and restarts into the other one.
pub(crate) async fn rollback(
    node: &Rc<Node>,
    requests: &mut Requests,
    responses: &mut Responses,
) -> Answer {
    if let Err(refusal) = requests.only::<v1::RollbackRequest>().await? {
        return Ok(Err(refusal));
    }
    follow(requests, responses, |told| roll_back(Rc::clone(node), told)).await
}

async fn roll_back(node: Rc<Node>, told: mpsc::Sender<Progress>) -> Result<(), Refusal> {
    let esp = Esp::open(&node, "a rollback").await?;
    let rolled_back = async {
        let (observed, _) = esp.observe().await?;
        let effects = slots::rollback(&observed).map_err(refuse)?;
        esp.apply(effects).await?;
        Ok::<_, Refusal>(())
    };
    let result = rolled_back.await;
    esp.close().await;
    if result.is_ok() {
        tracing::info!(target: report::CONSOLE, "rolling back");
        say(&told, Step::Rebooting, "", "restarting".to_owned());
        restart(&node);
    }
    result
}

/// Says what is in each slot.
pub(crate) async fn status(
    node: &Rc<Node>,
    requests: &mut Requests,
    responses: &mut Responses,
) -> Answer {
    if let Err(refusal) = requests.only::<v1::StatusRequest>().await? {
        return Ok(Err(refusal));
    }
    let looking = Rc::clone(node);
    let look = tokio::task::spawn_local(async move {
        match Esp::look(&looking, "looking at the slots").await {
            Ok(esp) => esp.close().await,
            // Someone works on it: what was seen before that is the best there is.
            Err(refusal) => tracing::debug!(error = refusal.message, "looking at the slots failed"),
        }
    });
    if esp_partition().is_some()
        && let Err(error) = look.await
    {
        return Ok(Err(Refusal::internal(&error)));
    }
    responses.add(&show::status(node));
    Ok(Ok(()))
}

/// Lets a task of its own do the work, and the caller hear of it; the work goes on or cleans up when the caller leaves.
async fn follow<Work: Future<Output = Result<(), Refusal>> + 'static>(
    requests: &mut Requests,
    responses: &mut Responses,
    work: impl FnOnce(mpsc::Sender<Progress>) -> Work,
) -> Answer {
    let (told, words) = mpsc::channel(WORDS);
    let work = tokio::task::spawn_local(work(told));
    let following = async {
        tell(words, responses).await?;
        Ok(work.await.unwrap_or_else(|error| Err(Refusal::internal(&error))))
    };
    while_connected(requests, following).await
}

fn restart(node: &Rc<Node>) {
    node.end_soon(End::Restart, Reason::asked("another image was asked for"));
}

fn say(told: &mpsc::Sender<Progress>, step: Step, slot: &str, message: String) {
    // Nobody has to be listening.
    let _gone = told.try_send(Progress {
        step: step.into(),
        slot: slot.to_owned(),
        message,
        ..Progress::default()
    });
}

fn invalid(message: &str) -> Refusal {
    Refusal::new(Code::InvalidArgument, message)
}

fn refuse(refused: Refused) -> Refusal {
    let code = match refused {
        Refused::NotStaged(_) => Code::NotFound,
        Refused::NoRoom { .. } => Code::ResourceExhausted,
        Refused::NotFromDisk
        | Refused::RunningOnTrial(_)
        | Refused::SameVersion { .. }
        | Refused::NothingToRollBackTo => Code::FailedPrecondition,
    };
    Refusal::new(code, refused.to_string())
}
