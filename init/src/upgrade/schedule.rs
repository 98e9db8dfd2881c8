// SPDX-License-Identifier: Apache-2.0
//! An upgrade that waits for its time, in `/state/schedule.json`, so that it does so over restarts.
//!
//! One at a time: a new one takes the place of the one before. What can't be done when its time has come is tried again
//! for a while, as a machine whose image is on trial can't move on yet; then it is given up, and the log says why.

use super::{Upgrades, restart, show, trial};
use crate::{
    api::{Code, Refusal},
    node::Node,
    report, state,
};
use serde::{Deserialize, Serialize};
use std::{
    io,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};
use stele_kernel::clock;

/// The clock may be set while it is waited for.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How often what can't be done yet is tried.
const TRIES: u32 = 20;
const TRY_EVERY: Duration = Duration::from_secs(30);

/// An upgrade that waits for its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Scheduled {
    pub(super) slot: String,
    /// Seconds since the epoch.
    pub(super) at: i64,
}

fn file() -> PathBuf {
    Path::new(state::ROOT).join("schedule.json")
}

/// Lets a staged image wait for its time.
pub(super) async fn set(node: &Rc<Node>, slot: &str, at: i64) -> Result<(), Refusal> {
    let scheduled = Scheduled { slot: slot.to_owned(), at };
    let bytes = serde_json::to_vec(&scheduled).map_err(|error| Refusal::internal(&error))?;
    let written = tokio::task::spawn_blocking(move || state::write(&file(), &bytes)).await;
    written.unwrap_or_else(|lost| Err(io::Error::other(lost))).map_err(|error| {
        Refusal::new(Code::Internal, format!("writing {}: {error}", file().display()))
    })?;
    tracing::info!(target: report::CONSOLE, slot, at, "an upgrade is scheduled");
    begin(node, scheduled);
    Ok(())
}

/// Forgets the upgrade that waits, if one does. Returns its slot.
pub(super) async fn forget(node: &Rc<Node>) -> Result<Option<String>, Refusal> {
    let removed = tokio::task::spawn_blocking(|| state::remove(&file()));
    removed.await.unwrap_or_else(|lost| Err(io::Error::other(lost))).map_err(|error| {
        Refusal::new(Code::Internal, format!("removing {}: {error}", file().display()))
    })?;
    let scheduled = node.upgrades.scheduled.take();
    show::refresh(node);
    Ok(scheduled.map(|scheduled| scheduled.slot))
}

/// Takes up what waited when the machine went down.
pub(super) fn resume(node: &Rc<Node>) {
    if !file().exists() {
        return;
    }
    match state::read_json::<Scheduled>(&file()) {
        Ok(scheduled) => begin(node, scheduled),
        Err(error) => {
            let error = report::chain(&error);
            tracing::error!(error, "an upgrade was scheduled, and for when is lost");
        }
    }
}

fn begin(node: &Rc<Node>, scheduled: Scheduled) {
    node.upgrades.scheduled.replace(Some(scheduled.clone()));
    show::refresh(node);
    tokio::task::spawn_local(wait(Rc::clone(node), scheduled));
}

async fn wait(node: Rc<Node>, scheduled: Scheduled) {
    let mut tries = 0;
    // Another one, or none, in its place ends this one.
    while node.upgrades.is_scheduled(&scheduled) {
        if !is_due(scheduled.at, clock::now().ok()) {
            let left = clock::now().map_or(0, |now| scheduled.at.saturating_sub(now));
            let left = Duration::from_secs(u64::try_from(left).unwrap_or(0));
            tokio::time::sleep(left.clamp(Duration::from_millis(200), LOOK_EVERY)).await;
            continue;
        }
        tries += 1;
        match trial::activate(&node, &scheduled.slot).await {
            Ok(()) => {
                tracing::info!(target: report::CONSOLE, slot = scheduled.slot, "the scheduled upgrade is due");
                return restart(&node);
            }
            Err(refusal) if tries < TRIES => {
                tracing::warn!(error = refusal.message, "the scheduled upgrade has to wait");
                tokio::time::sleep(TRY_EVERY).await;
            }
            Err(refusal) => {
                tracing::error!(error = refusal.message, "the scheduled upgrade is given up");
                if let Err(refusal) = forget(&node).await {
                    tracing::error!(error = refusal.message, "forgetting it failed");
                }
            }
        }
    }
}

/// Nothing is due on a machine that does not know what time it is.
fn is_due(at: i64, now: Option<i64>) -> bool {
    now.is_some_and(|now| now >= at)
}

impl Upgrades {
    fn is_scheduled(&self, scheduled: &Scheduled) -> bool {
        self.scheduled.borrow().as_ref() == Some(scheduled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_from_its_second_on() {
        assert!(!is_due(100, Some(99)));
        assert!(is_due(100, Some(100)));
        assert!(is_due(100, Some(5000)));
        assert!(!is_due(100, None));
    }

    #[test]
    fn what_is_kept_reads_back() {
        let scheduled = Scheduled { slot: "stele_1.1.0.efi".into(), at: 1_800_000_000 };
        let text = serde_json::to_string(&scheduled).unwrap();
        assert_eq!(text, r#"{"slot":"stele_1.1.0.efi","at":1800000000}"#);
        assert_eq!(serde_json::from_str::<Scheduled>(&text).unwrap(), scheduled);
    }
}
