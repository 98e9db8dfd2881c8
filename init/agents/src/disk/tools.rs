// SPDX-License-Identifier: Apache-2.0
//! The two programs of e2fsprogs that we run, each with a deadline. What they say goes to standard error, and so to the
//! log.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const MKE2FS: &str = "/usr/sbin/mke2fs";
const E2FSCK: &str = "/usr/sbin/e2fsck";

/// Making a file system writes little, however large it is.
const MAKE_DEADLINE: Duration = Duration::from_secs(120);
/// Checking reads all there is to know of it.
const CHECK_DEADLINE: Duration = Duration::from_secs(240);

const PAUSE: Duration = Duration::from_millis(2);

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It could not be run.
    #[error("running {program}")]
    Run {
        /// Which one.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It took too long.
    #[error("{program} did not end within {} s and was killed", deadline.as_secs())]
    Deadline {
        /// Which one.
        program: &'static str,
        /// How long it had.
        deadline: Duration,
    },
    /// It failed.
    #[error("{program} failed ({status})")]
    Failed {
        /// Which one.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
    },
}

/// Makes an ext4 file system.
///
/// # Errors
/// When that fails.
pub fn make(node: &Path, label: &str) -> Result<(), ToolError> {
    // No blocks are kept for root, who is everyone here; tables are written when they are needed, by the kernel; and what
    // was there before is not discarded, which takes minutes on some disks.
    let options = [
        "-q",
        "-F",
        "-t",
        "ext4",
        "-b",
        "4096",
        "-m",
        "0",
        "-O",
        "metadata_csum,64bit",
        "-L",
        label,
    ];
    let extended = ["-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"];
    let mut command = Command::new(MKE2FS);
    command.args(options).args(extended).arg(node);
    match run(MKE2FS, command, MAKE_DEADLINE)? {
        status if status.success() => Ok(()),
        status => Err(ToolError::Failed { program: MKE2FS, status }),
    }
}

/// Checks a file system, and repairs what can be repaired without a question.
///
/// # Errors
/// When something is left that can't.
pub fn check(node: &Path) -> Result<(), ToolError> {
    let mut command = Command::new(E2FSCK);
    command.arg("-p").arg(node);
    match run(E2FSCK, command, CHECK_DEADLINE)? {
        // e2fsck(8): 0 is in order, 1 is repaired, 2 asks for a restart if it was mounted.
        status if matches!(status.code(), Some(0..=3)) => Ok(()),
        status => Err(ToolError::Failed { program: E2FSCK, status }),
    }
}

fn run(
    program: &'static str,
    mut command: Command,
    deadline: Duration,
) -> Result<ExitStatus, ToolError> {
    let failed = |source| ToolError::Run { program, source };
    let output = || io::stderr().as_fd().try_clone_to_owned().map(Stdio::from);
    command
        .env_clear()
        .stdin(Stdio::null())
        .stdout(output().map_err(failed)?)
        .stderr(output().map_err(failed)?);
    let mut child = command.spawn().map_err(failed)?;
    let until = Instant::now() + deadline;
    loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            return Ok(status);
        }
        if Instant::now() > until {
            child.kill().map_err(failed)?;
            child.wait().map_err(failed)?;
            return Err(ToolError::Deadline { program, deadline });
        }
        thread::sleep(PAUSE);
    }
}
