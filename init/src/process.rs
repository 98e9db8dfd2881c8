// SPDX-License-Identifier: Apache-2.0
//! Making processes and burying them: the only file that reaps.

use crate::{
    cgroup::{Cgroup, CgroupError, Names},
    executor::{self, Task},
    unit::Sandbox,
};
use rustix::fd::{AsRawFd as _, OwnedFd};
use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    io,
    process::{Command, Stdio},
    rc::Rc,
};
use stele_kernel::process::{Exit, Pidfd, peek, reap_orphan};
use tokio::sync::oneshot;

/// Why a process could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    #[error("preparing its control group")]
    Cgroup(#[source] CgroupError),
    #[error("describing it to the executor")]
    Task(#[source] serde_json::Error),
    #[error("passing descriptors on")]
    Descriptors(#[source] io::Error),
    #[error("starting the executor")]
    Start(#[source] io::Error),
    #[error("holding on to it")]
    Hold(#[source] io::Error),
}

/// What to start.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    /// The name of its control group.
    pub(crate) name: &'a str,
    pub(crate) exec: &'a [String],
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) sandbox: &'a Sandbox,
    pub(crate) stdin: Stdio,
    pub(crate) stdout: Stdio,
    pub(crate) stderr: Stdio,
    /// More descriptors, and the numbers that the program expects them at, from 3 on and ascending.
    pub(crate) descriptors: Vec<(OwnedFd, i32)>,
}

/// A process that was started.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: u32,
    pub(crate) handle: Rc<Pidfd>,
    pub(crate) cgroup: Cgroup,
    /// How it ended, once it has.
    pub(crate) exit: oneshot::Receiver<Exit>,
}

/// A child that has not been reaped.
#[derive(Debug)]
struct Alive {
    handle: Rc<Pidfd>,
    waiter: oneshot::Sender<Exit>,
}

/// All children, and the only place where they are reaped.
#[derive(Debug, Default)]
pub(crate) struct Children {
    /// Those of processes that run once.
    pub(crate) groups: Names,
    running: RefCell<HashMap<u32, Alive>>,
}

impl Children {
    /// Starts a program inside its sandbox.
    pub(crate) fn spawn(&self, program: Program<'_>) -> Result<Child, SpawnError> {
        let cgroup = Cgroup::make(program.name, program.sandbox).map_err(SpawnError::Cgroup)?;
        let task = Task {
            exec: program.exec.to_vec(),
            environment: program.environment,
            sandbox: program.sandbox.clone(),
            cgroup: cgroup.path().to_owned(),
            descriptors: program
                .descriptors
                .iter()
                .map(|(fd, expected)| (fd.as_raw_fd(), *expected))
                .collect(),
        };
        let task = serde_json::to_string(&task).map_err(SpawnError::Task)?;
        for (fd, _) in &program.descriptors {
            // Inherited by this child alone: nothing else is started before they are closed again below.
            rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())
                .map_err(|errno| SpawnError::Descriptors(errno.into()))?;
        }
        let child = Command::new("/sbin/init")
            .args([executor::ARGUMENT, &task])
            .env_clear()
            .stdin(program.stdin)
            .stdout(program.stdout)
            .stderr(program.stderr)
            .spawn()
            .map_err(SpawnError::Start)?;
        drop(program.descriptors);
        // It can't have been reaped yet: that happens on this thread, later.
        let pid = child.id();
        let handle = Rc::new(Pidfd::open(pid).map_err(SpawnError::Hold)?);
        let (waiter, exit) = oneshot::channel();
        self.running.borrow_mut().insert(pid, Alive { handle: Rc::clone(&handle), waiter });
        Ok(Child { pid, handle, cgroup, exit })
    }

    /// Buries every child that has ended, and tells who waits for it. Called on SIGCHLD.
    pub(crate) fn reap(&self) {
        loop {
            let pid = match peek() {
                Ok(Some(pid)) => pid,
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(error = %error, "looking for children that have ended failed");
                    return;
                }
            };
            let ours = self.running.borrow_mut().remove(&pid);
            let buried = match ours {
                Some(Alive { handle, waiter }) => handle.reap().map(|exit| {
                    if let Some(exit) = exit {
                        // Nobody has to be waiting.
                        let _nobody = waiter.send(exit);
                    }
                }),
                None => reap_orphan(pid),
            };
            if let Err(error) = buried {
                tracing::error!(process.pid = pid, error = %error, "burying a child failed");
                return;
            }
        }
    }
}
