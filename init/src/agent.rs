// SPDX-License-Identifier: Apache-2.0
//! Agents that keep running: the task that one finds in a folder of its own, and what it says.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
};
use tokio::{sync::mpsc, time::Instant};

/// The folder in which an agent finds its task, and nobody else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Folder {
    pub(crate) path: &'static str,
    /// The agent's user.
    pub(crate) user: u32,
}

impl Folder {
    /// Makes it.
    pub(crate) fn make(self) -> io::Result<()> {
        fs::create_dir_all(self.path)?;
        chown(self.path, Some(self.user), Some(self.user))?;
        fs::set_permissions(self.path, fs::Permissions::from_mode(0o700))
    }

    /// Puts the agent's task there in place of the one before.
    pub(crate) fn give(self, task: &[u8]) -> io::Result<()> {
        let folder = Path::new(self.path);
        let (file, beside) = (folder.join("task"), folder.join("task.new"));
        fs::write(&beside, task)?;
        chown(&beside, Some(self.user), Some(self.user))?;
        fs::rename(beside, file)
    }
}

/// The next thing that an agent says. One that does not run says nothing, for ever.
pub(crate) async fn said(reports: Option<&mut mpsc::Receiver<Vec<u8>>>) -> Vec<u8> {
    let said = match reports {
        Some(reports) => reports.recv().await,
        None => None,
    };
    match said {
        Some(report) => report,
        // Of one that runs, the sender lives as long as the service.
        None => std::future::pending().await,
    }
}

/// Waits for this moment; for ever without one.
pub(crate) async fn until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}
