// SPDX-License-Identifier: Apache-2.0
//! An image from where it is to the ESP, one step after the other:
//!
//! ```text
//! receive ─► NAME.part on the data volume ─► admit ─► the new image's own opinion ─► room on the ESP ─► write
//! ```
//!
//! Before the last two steps not a byte of the ESP changes. However it ends, every process that was started is gone
//! afterwards, and the image is complete on the ESP or not there.

use super::{
    agent::{Agent, Received, Staged, Vouched, hear},
    arrival::{Proof, Request, Way, fetch, judge, receive, with_limits},
    candidate,
    esp::Esp,
    invalid,
    parts::Part,
    refuse, say,
};
use crate::{
    api::{Code, Refusal},
    node::Node,
    one_shot::Input,
};
use bytes::Bytes;
use std::{rc::Rc, time::Duration};
use stele_kernel::{mount::Usage, process::Exit};
use stele_layout::version::Version;
use stele_machine::{
    admission::{self, Terms},
    slots::{self, Effect, Observed, Refused},
};
use stele_proto::v1::{Progress, Step};
use tokio::sync::mpsc;

/// How long writing to the ESP may take.
const WRITING: Duration = Duration::from_secs(1800);
/// The largest image that FAT holds.
const LARGEST: u64 = u32::MAX as u64;
/// The most that a registry has to say about one artifact.
const LARGEST_DOCUMENTS: usize = 2 * 1024 * 1024;
const LARGEST_SIGNATURE: usize = 4096;

/// Where the bytes come from.
#[derive(Debug)]
pub(super) enum Source {
    /// The caller sends them.
    Caller { size: u64, sha256: String, signature: String, chunks: mpsc::Receiver<Bytes> },
    /// The node fetches them.
    Url(String),
    /// The node fetches them, as a registry has it.
    Registry(String),
}

/// Stages an image; nobody listening to `told` any more ends it while it arrives.
pub(super) async fn run(
    node: &Rc<Node>,
    source: Source,
    rate: u64,
    told: &mpsc::Sender<Progress>,
) -> Result<Staged, Refusal> {
    let esp = Esp::look(node, "looking at the slots").await?;
    let seen = esp.observe().await;
    esp.close().await;
    let (observed, usage) = seen?;
    slots::ready(&observed).map_err(refuse)?;
    let fits = |size: u64| room(size, usage, &observed).map(drop);

    let (part, received) = match source {
        Source::Caller { size, sha256, signature, chunks } => {
            fits(size)?;
            let part = Part::of_digest(&sha256)?;
            // Whoever sends the bytes waits to hear which.
            let at = Progress {
                step: Step::Receiving.into(),
                done: part.from,
                total: size,
                ..Progress::default()
            };
            if told.send(at).await.is_err() {
                return Err(Refusal::new(Code::Aborted, "the caller went away"));
            }
            let request = Request::announced(node, size, &sha256, Proof::Signature(&signature));
            (
                part.clone(),
                receive(node, &part, request, Way::Caller(chunks), told)
                    .await
                    .map_err(|failed| failed.refusal)?,
            )
        }
        Source::Url(url) => {
            let signature =
                fetch(node, vec![url.clone(), "--signature".to_owned()], LARGEST_SIGNATURE).await?;
            let signature = String::from_utf8_lossy(&signature).into_owned();
            let mut part = Part::of_url(&url)?;
            loop {
                let request = Request::signed(node, &signature);
                let way = Way::Fetch(with_limits(vec![url.clone()], LARGEST, part.from, rate));
                match receive(node, &part, request, way, told).await {
                    Ok(received) => break (part, received),
                    // What an earlier attempt has left may be of another image than the server has now.
                    Err(failed) if failed.other_bytes && part.from > 0 => part.restart(),
                    Err(failed) => return Err(failed.refusal),
                }
            }
        }
        Source::Registry(reference) => {
            let from = |what: &[&str]| {
                let what = what.iter().map(|word| (*word).to_owned());
                ["--registry".to_owned(), reference.clone()]
                    .into_iter()
                    .chain(what)
                    .collect::<Vec<_>>()
            };
            let documents = fetch(node, from(&["--documents"]), LARGEST_DOCUMENTS).await?;
            let Vouched { sha256, size, key } = judge(node, &documents).await?;
            fits(size)?;
            let part = Part::of_digest(&sha256)?;
            let request = Request::announced(node, size, &sha256, Proof::Vouched(&key));
            let way = Way::Fetch(with_limits(from(&["--blob", &sha256]), size, part.from, rate));
            (
                part.clone(),
                receive(node, &part, request, way, told).await.map_err(|failed| failed.refusal)?,
            )
        }
    };
    let checked = check(node, &observed, &part, &received, told).await;
    if let Err(refusal) = checked {
        part.remove();
        return Err(refusal);
    }
    let staged = write(node, &part, &received, told).await?;
    part.remove();
    say(told, Step::Staged, &staged.slot, format!("version {} is staged", staged.version));
    tracing::info!(
        image.version = received.version,
        image.key = received.key,
        "an image is staged"
    );
    Ok(staged)
}

/// Everything that an image must be beside signed and whole.
async fn check(
    node: &Rc<Node>,
    observed: &Observed,
    part: &Part,
    received: &Received,
    told: &mpsc::Sender<Progress>,
) -> Result<(), Refusal> {
    let parse = |text: &str| Version::parse(text).map_err(|error| invalid(&error.to_string()));
    let version = parse(&received.version)?;
    let upgrades_from = received.upgrades_from.as_deref().map(parse).transpose()?;
    slots::accept(&version, observed).map_err(refuse)?;
    admit(node, &version, upgrades_from.as_ref())?;
    say(told, Step::Checking, "", "asking the new image about the configuration".to_owned());
    candidate::ask(node, &received.version, &part.path, received.rootfs).await
}

/// May this machine move to this version?
pub(super) fn admit(
    node: &Node,
    version: &Version,
    upgrades_from: Option<&Version>,
) -> Result<(), Refusal> {
    let running = Version::parse(&node.release.version);
    let running = running.map_err(|error| Refusal::internal(&error))?;
    let floor = node.images.floor();
    let active = node.configuration.active();
    let policy = active.as_ref().and_then(|active| active.config.upgrade_policy());
    let terms = Terms {
        running: &running,
        floor: floor.as_ref(),
        oldest: policy.and_then(|policy| policy.oldest()),
    };
    admission::admit(version, upgrades_from, &terms)
        .map_err(|error| Refusal::new(Code::FailedPrecondition, error.to_string()))
}

/// What has to go from the ESP for an image of this size.
fn room(size: u64, usage: Usage, observed: &Observed) -> Result<Vec<Effect>, Refusal> {
    let needed = size.checked_next_multiple_of(usage.unit).unwrap_or(size);
    slots::retire(needed, usage.free, observed).map_err(|refused| {
        // In the bytes of the image, not of the clusters that it takes.
        refuse(match refused {
            Refused::NoRoom { free, removable, .. } => {
                Refused::NoRoom { needed: size, free, removable }
            }
            other => other,
        })
    })
}

/// Makes room on the ESP, as much as it takes, and writes the image there.
async fn write(
    node: &Rc<Node>,
    part: &Part,
    received: &Received,
    told: &mpsc::Sender<Progress>,
) -> Result<Staged, Refusal> {
    let esp = Esp::open(node, "an upgrade").await?;
    let written = async {
        let (observed, usage) = esp.observe().await?;
        // What happened meanwhile may have changed the answer.
        let version = Version::parse(&received.version);
        let version = version.map_err(|error| invalid(&error.to_string()))?;
        slots::accept(&version, &observed).map_err(refuse)?;
        esp.apply(room(received.size, usage, &observed)?).await?;
        let mut stage = Agent::start(
            node,
            "stage",
            &[part.order(received, &Esp::directory())],
            Input::Nothing,
        )?;
        let hear = hear(stage.output.take(), told);
        let heard = tokio::time::timeout(WRITING, hear).await;
        if heard.is_err() {
            stage.kill();
        }
        let (exit, complaint) = stage.end(node).await;
        let line = heard.unwrap_or_default();
        match &line.staged {
            Some(staged) if exit == Exit::Code(0) => Ok(staged.clone()),
            _ => {
                // What stage was killed with, if it was.
                let (observed, _) = esp.observe().await?;
                esp.apply(slots::clean(&observed)).await?;
                Err(line.refusal("stage", exit, &complaint))
            }
        }
    };
    let written = written.await;
    esp.close().await;
    written
}
