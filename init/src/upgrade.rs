// SPDX-License-Identifier: Apache-2.0
//! Upgrades: images come in, are staged, tried and made permanent. Where the decisions of `stele_machine::slots` meet
//! the ESP.
//!
//! ```text
//! Push ──────────► stage ─┐
//! Upgrade(url) ─► fetch ─► stage ─► staged ─► Upgrade(slot): activate ─► reboot ─► … ─► healthy: bless
//! ```
//!
//! Who uploads can be cut off at any moment: the work is done by a task of its own, which notices, cleans up and
//! unmounts. One works on the ESP at a time; others are told who.

use crate::{
    api::{Code, Gone, Refusal, Requests, Responses, while_connected},
    boots::Reason,
    handlers::Answer,
    node::Node,
    report,
};
use bytes::Bytes;
use prost::Message as _;
use std::{
    cell::{Cell, OnceCell, RefCell},
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use stele_kernel::power::End;
use stele_layout::{slot::SlotId, version::Version};
use stele_machine::slots::{self, Effect, Observed, Refused};
use stele_proto::v1::{
    self, Progress, PushRequest, Step, push_request::Part, upgrade_request::Source as Wanted,
};
use tokio::sync::{Mutex, mpsc};

use self::{
    esp::Esp,
    staging::{Source, Staged},
};

mod esp;
mod show;
mod staging;
mod trial;

/// How long a caller may wait for its answer before the machine goes down under it.
const PARTING: Duration = Duration::from_millis(500);
/// Chunks of an upload that wait for the disk.
const CHUNKS: usize = 4;
/// Words of progress that wait for the caller.
const WORDS: usize = 16;

/// What upgrades keep in the node.
#[derive(Debug, Default)]
pub(crate) struct Upgrades {
    /// Held by whoever works on the ESP.
    turn: Arc<Mutex<()>>,
    /// What that is, in words that "is under way" can follow.
    under_way: Cell<&'static str>,
    /// What was last seen on the ESP.
    seen: RefCell<v1::StatusResponse>,
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

pub(crate) use esp::partition as esp_partition;
pub(crate) use trial::{bless, condemn, examine, settle};

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
    let esp = Esp::look(node, what).await.map_err(said)?;
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

/// Takes an upload and stages it.
pub(crate) async fn push(
    node: &Rc<Node>,
    requests: &mut Requests,
    responses: &mut Responses,
) -> Answer {
    let header = match requests.next().await?.map(PushRequest::decode) {
        Some(Ok(PushRequest { part: Some(Part::Header(header)) })) if header.sha256.len() == 32 => {
            header
        }
        _ => {
            return Ok(Err(invalid(
                "an upload starts with a header that has the image's size and its SHA-256, 32 bytes",
            )));
        }
    };
    let (sender, chunks) = mpsc::channel(CHUNKS);
    let source = Source::Caller { size: header.size, sha256: header.sha256, chunks };
    let (told, words) = mpsc::channel(WORDS);
    let work = tokio::task::spawn_local(stage_only(Rc::clone(node), source, told));
    // Never cancelled in the middle of a frame, as it is not asked again after it has lost.
    let fed = {
        let feed = feed(requests, sender);
        let tell = tell(words, responses);
        tokio::pin!(feed, tell);
        tokio::select! {
            told = &mut tell => { told?; None }
            fed = &mut feed => match fed? {
                Ok(()) => { tell.await?; None }
                Err(refusal) => Some(refusal),
            }
        }
    };
    match (fed, work.await) {
        (Some(refusal), _) => Ok(Err(refusal)),
        (None, result) => Ok(result.unwrap_or_else(|error| Err(Refusal::internal(&error)))),
    }
}

/// Hands the caller's chunks on, until it sends no more or nobody takes them.
async fn feed(
    requests: &mut Requests,
    sender: mpsc::Sender<Bytes>,
) -> Result<Result<(), Refusal>, Gone> {
    while let Some(message) = requests.next().await? {
        let Ok(PushRequest { part: Some(Part::Chunk(chunk)) }) = PushRequest::decode(message)
        else {
            return Ok(Err(invalid("after its header an upload consists of chunks")));
        };
        if sender.send(chunk).await.is_err() {
            // stage has ended; why is in its answer, and what still comes is of no use.
            std::future::pending::<()>().await;
        }
    }
    Ok(Ok(()))
}

/// Passes words of progress to the caller, until there are no more.
async fn tell(mut words: mpsc::Receiver<Progress>, responses: &mut Responses) -> Result<(), Gone> {
    while let Some(progress) = words.recv().await {
        responses.send(&progress).await?;
    }
    Ok(())
}

async fn stage_only(
    node: Rc<Node>,
    source: Source,
    told: mpsc::Sender<Progress>,
) -> Result<(), Refusal> {
    let esp = Esp::open(&node, "an upload of an image").await?;
    let result = stage(&node, &esp, source, &told).await.map(drop);
    esp.close().await;
    result
}

/// Makes room, and stages an image that this machine has a use for.
async fn stage(
    node: &Rc<Node>,
    esp: &Esp,
    source: Source,
    told: &mpsc::Sender<Progress>,
) -> Result<Staged, Refusal> {
    let (observed, usage) = esp.observe().await?;
    let make_room = match &source {
        Source::Caller { size, .. } => {
            slots::retire(*size, usage.free, &observed).map_err(refuse)?
        }
        // Nobody knows yet how large it is: probably as the others are, and if it is larger stage says so.
        Source::Url(_) => {
            let guess = observed.files.iter().map(|listed| listed.size).max().unwrap_or(0);
            slots::retire(guess.saturating_add(guess / 4), usage.free, &observed)
                .unwrap_or_default()
        }
    };
    esp.apply(make_room).await?;
    let staged = match staging::run(node, source, told).await {
        Ok(staged) => staged,
        Err(refusal) => {
            // What stage was killed with, if it was.
            let (observed, _) = esp.observe().await?;
            esp.apply(slots::clean(&observed)).await?;
            return Err(refusal);
        }
    };
    let (observed, _) = esp.observe().await?;
    let accepted = match Version::parse(&staged.version) {
        Ok(version) => slots::accept(&version, &observed).map_err(refuse),
        Err(error) => Err(invalid(&error.to_string())),
    };
    if let Err(refusal) = accepted {
        esp.apply(vec![Effect::Remove { file: staged.file }]).await?;
        return Err(refusal);
    }
    say(told, Step::Staged, &staged.slot, format!("version {} is staged", staged.version));
    Ok(staged)
}

/// Stages an image from a URL, or takes one that is staged, and restarts into it.
pub(crate) async fn upgrade(
    node: &Rc<Node>,
    requests: &mut Requests,
    responses: &mut Responses,
) -> Answer {
    let request: v1::UpgradeRequest = match requests.only().await? {
        Ok(request) => request,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let Some(source) = request.source else {
        return Ok(Err(invalid("an upgrade needs a URL or a slot to take the image from")));
    };
    follow(requests, responses, |told| {
        upgrade_to(Rc::clone(node), source, request.stage_only, told)
    })
    .await
}

async fn upgrade_to(
    node: Rc<Node>,
    source: Wanted,
    stage_only: bool,
    told: mpsc::Sender<Progress>,
) -> Result<(), Refusal> {
    let esp = Esp::open(&node, "an upgrade").await?;
    let upgraded = async {
        let slot = match source {
            Wanted::Url(url) => stage(&node, &esp, Source::Url(url), &told).await?.slot,
            Wanted::Slot(slot) => slot,
        };
        if stage_only {
            return Ok(());
        }
        let (observed, _) = esp.observe().await?;
        let effects = slots::activate(&slot, &observed).map_err(refuse)?;
        // What it will be measured against is kept before the loader may start it.
        let version = SlotId::parse(&slot).and_then(|slot| slot.version());
        if let Some(version) = version {
            node.images
                .begin_trial(&node, &version)
                .await
                .map_err(|error| Refusal::internal(&error))?;
        }
        esp.apply(effects).await?;
        say(&told, Step::Activated, &slot, "the next boot tries it".to_owned());
        tracing::info!(target: report::CONSOLE, slot, "upgrading");
        Ok(())
    };
    let result = upgraded.await;
    esp.close().await;
    if result.is_ok() && !stage_only {
        restart(&node, &told);
    }
    result
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
        restart(&node, &told);
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
    responses.add(&*node.upgrades.seen.borrow());
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

fn restart(node: &Rc<Node>, told: &mpsc::Sender<Progress>) {
    say(told, Step::Rebooting, "", "restarting".to_owned());
    let node = Rc::clone(node);
    tokio::task::spawn_local(async move {
        tokio::time::sleep(PARTING).await;
        node.end(End::Restart, Reason::asked("another image was asked for"));
    });
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
