// SPDX-License-Identifier: Apache-2.0
//! Following a node through a reboot.
//!
//! A boot is known by its random id: the node is back when it answers with another. On the way there, connections that
//! fail are what is expected; the last failure is told if the time runs out.

use crate::{
    app::Targets,
    client::{Deadlines, Session},
    failure::Failure,
    node::Node,
    span,
};
use anyhow::Result;
use std::time::{Duration, Instant};
use stele_proto::v1::{Mode, StatusRequest, StatusResponse, VersionRequest, VersionResponse};

/// Between two looks at a node.
const PAUSE: Duration = Duration::from_millis(500);
/// How long one look may take, so that a half-dead connection does not eat the time of all.
const LOOK: Duration = Duration::from_secs(5);

/// Waits for something about a node until a point in time.
#[derive(Clone, Debug)]
pub(crate) struct Wait {
    targets: Targets,
    node: Node,
    total: Duration,
    deadline: Instant,
}

/// What a node says of itself.
pub(crate) async fn version(session: &Session) -> Result<VersionResponse, Failure> {
    session.answer("Asking for the version", session.machine().version(VersionRequest {})).await
}

/// What a node says of its slots.
pub(crate) async fn slots(session: &Session) -> Result<StatusResponse, Failure> {
    session.answer("Asking for the slots", session.upgrade().status(StatusRequest {})).await
}

impl Wait {
    /// Waits that end this long from now.
    pub(crate) fn new(targets: &Targets, node: &Node, total: Duration) -> Wait {
        let deadlines = Deadlines { connect: LOOK, answer: LOOK };
        let targets = Targets { deadlines, ..targets.clone() };
        Wait { targets, node: node.clone(), total, deadline: Instant::now() + total }
    }

    /// Looks again and again until `look` has found what it wants.
    pub(crate) async fn until<T>(
        &self,
        wanted: &str,
        look: impl AsyncFn(Session) -> Result<Option<T>, Failure>,
    ) -> Result<T> {
        loop {
            let result = async { look(self.targets.connect(&self.node).await?).await }.await;
            let last = match result {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => None,
                Err(failure) => Some(failure),
            };
            if Instant::now() + PAUSE >= self.deadline {
                let why = last
                    .map_or("it answers, and has not".to_owned(), |failure| failure.to_string());
                anyhow::bail!(
                    "{wanted} within {}: {why}\n  --wait-timeout waits longer",
                    span::format_duration(self.total)
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits for another boot than this one, up to where the node serves.
    pub(crate) async fn for_boot_after(&self, boot_id: &str) -> Result<VersionResponse> {
        self.until("The node did not come back", async |session| {
            let version = version(&session).await?;
            Ok((version.boot_id != boot_id && matches!(version.mode(), Mode::Running | Mode::Safe))
                .then_some(version))
        })
        .await
    }

    /// Waits until the node answers no more.
    pub(crate) async fn for_silence(&self) -> Result<()> {
        while Instant::now() < self.deadline {
            if self.targets.connect(&self.node).await.is_err() {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        anyhow::bail!(
            "The node still answers after {}\n  --wait-timeout waits longer",
            span::format_duration(self.total)
        )
    }
}
