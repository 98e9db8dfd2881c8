// SPDX-License-Identifier: Apache-2.0
//! The executor: PID 1's own program, run again between a fork and a service.
//!
//! PID 1 has threads, and between fork and exec a process with threads may do almost nothing. So PID 1 starts this, with
//! a [`Task`] as its argument, and this, alone in its process, gives up what the service must not have and then becomes
//! it. What fails is written to standard error, which is the service's log, and ends with [`FAILED`].

use crate::{report, unit::Sandbox};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::PathBuf,
    process::{Command, ExitCode},
};
use stele_kernel::{sandbox, signals};

/// The first argument that makes this program the executor.
pub(crate) const ARGUMENT: &str = "executor";
/// The exit code of an executor that could not become its service.
pub(crate) const FAILED: u8 = 120;

/// What to become.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) exec: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) sandbox: Sandbox,
    /// Files to join cgroups by.
    pub(crate) cgroup: PathBuf,
    /// Inherited descriptors and where the service expects them: (inherited, expected), expected from 3 on, ascending.
    pub(crate) descriptors: Vec<(i32, i32)>,
}

#[derive(Debug, thiserror::Error)]
enum ExecutorError {
    #[error("understanding the task")]
    Task(#[source] serde_json::Error),
    #[error("{step}")]
    Step { step: &'static str, source: std::io::Error },
    #[error("giving up rights")]
    Capabilities(#[source] sandbox::CapabilityError),
    #[error("giving up files")]
    Landlock(#[source] sandbox::LandlockError),
    #[error("no set of system calls is called {0}")]
    NoSuchSet(String),
    #[error("giving up system calls: {0}")]
    Seccomp(String),
    #[error("the task names no program")]
    NoProgram,
    #[error("running {program}")]
    Exec { program: String, source: std::io::Error },
}

/// Becomes the service of this task; returns only on failure.
pub(crate) fn run(task: &str) -> ExitCode {
    report::complain(&report::chain(&become_service(task)));
    ExitCode::from(FAILED)
}

fn become_service(task: &str) -> ExecutorError {
    match prepare(task) {
        Ok((program, mut command)) => ExecutorError::Exec { program, source: command.exec() },
        Err(error) => error,
    }
}

fn prepare(task: &str) -> Result<(String, Command), ExecutorError> {
    let task: Task = serde_json::from_str(task).map_err(ExecutorError::Task)?;
    let step = |step: &'static str| move |source| ExecutorError::Step { step, source };
    let Sandbox { uid, capabilities, seccomp, landlock, files_max, cpu_max, .. } = &task.sandbox;
    let (program, arguments) = task.exec.split_first().ok_or(ExecutorError::NoProgram)?;
    let allowed = syscalls(seccomp).ok_or_else(|| ExecutorError::NoSuchSet(seccomp.clone()))?;

    sandbox::new_session().map_err(step("starting a session"))?;
    // Here and not by the command, which would do it when that is not allowed any more.
    std::env::set_current_dir("/").map_err(step("going to the root folder"))?;
    fs::write(task.cgroup.join("cgroup.procs"), "0").map_err(step("joining the cgroup"))?;
    sandbox::limit_files(*files_max).map_err(step("limiting open files"))?;
    if let Some(seconds) = cpu_max {
        sandbox::limit_cpu(*seconds).map_err(step("limiting processor time"))?;
    }
    place(&task.descriptors).map_err(step("placing descriptors"))?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(&task.environment);
    if let Some(rules) = landlock {
        let mut read = rules.read.clone();
        read.push(PathBuf::from(program));
        sandbox::no_new_privileges().map_err(step("ruling out new privileges"))?;
        sandbox::restrict_files(&read, &rules.write, rules.network)
            .map_err(ExecutorError::Landlock)?;
    }
    sandbox::become_user(*uid, capabilities).map_err(ExecutorError::Capabilities)?;
    sandbox::no_new_privileges().map_err(step("ruling out new privileges"))?;
    signals::reset().map_err(step("resetting signals"))?;
    if !allowed.is_empty() {
        sandbox::allow_syscalls(&allowed)
            .map_err(|error| ExecutorError::Seccomp(error.to_string()))?;
    }
    Ok((program.clone(), command))
}

/// Moves inherited descriptors to where the service expects them. They are opened anew first, out of the way of every
/// place to be filled, so that no move can overwrite one that is still to be moved.
fn place(descriptors: &[(i32, i32)]) -> std::io::Result<()> {
    let mut moved: Vec<(OwnedFd, i32)> = Vec::new();
    for (inherited, expected) in descriptors {
        moved.push((sandbox::duplicate_above(*inherited, 64)?, *expected));
    }
    let next =
        descriptors.iter().map(|(_, expected)| expected.saturating_add(1)).max().unwrap_or(3);
    sandbox::close_from(next.max(3).unsigned_abs())?;
    for (fd, expected) in &moved {
        sandbox::place(fd.as_fd(), *expected)?;
    }
    Ok(())
}

/// The system calls of a named set; empty for no restriction, `None` for no such set.
///
/// Sets were measured with strace on busy runs, and rounded up to what the C library may use in place of what was seen.
pub(crate) fn syscalls(name: &str) -> Option<Vec<&'static str>> {
    let more: &[&str] = match name {
        "none" => return Some(Vec::new()),
        "pure" => &[],
        "reader" => READER,
        "packet" => PACKET,
        "client" => CLIENT,
        "clock" => CLOCK,
        "server" => SERVER,
        "writer" => WRITER,
        _ => return None,
    };
    Some(BASE.iter().chain(more).copied().collect())
}

/// What every program needs to start, allocate, wait, read, write and end. `execve` is how the executor becomes it.
const BASE: &[&str] = &[
    "arch_prctl",
    "brk",
    "clock_gettime",
    "clock_nanosleep",
    "close",
    "dup",
    "dup3",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_wait",
    "eventfd2",
    "execve",
    "exit",
    "exit_group",
    "fcntl",
    "fstat",
    "futex",
    "getpid",
    "getrandom",
    "gettid",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "ioctl",
    "lseek",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "nanosleep",
    "newfstatat",
    "openat",
    "pipe2",
    "poll",
    "ppoll",
    "prctl",
    "pread64",
    "prlimit64",
    "pwrite64",
    "read",
    "readlink",
    "readlinkat",
    "readv",
    "restart_syscall",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_getaffinity",
    "sched_yield",
    "set_robust_list",
    "set_tid_address",
    "sigaltstack",
    "statx",
    "tgkill",
    "uname",
    "write",
    "writev",
];

/// Folders, and how much room there is.
const READER: &[&str] = &["fstatfs", "getdents64", "statfs"];

/// A packet socket of one's own.
const PACKET: &[&str] = &[
    "bind",
    "getsockname",
    "getsockopt",
    "recvfrom",
    "recvmsg",
    "sendmsg",
    "sendto",
    "setsockopt",
    "signalfd4",
    "socket",
    "socketpair",
    "timerfd_create",
    "timerfd_settime",
];

/// Connections to others, and threads to make them with.
const CLIENT: &[&str] = &[
    "adjtimex",
    "bind",
    "clone",
    "clone3",
    "connect",
    "getpeername",
    "getsockname",
    "getsockopt",
    "recvfrom",
    "recvmmsg",
    "recvmsg",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "setsockopt",
    "shutdown",
    "socket",
    "socketpair",
    "uname",
    "sysinfo",
];

/// Connections to others, a process of its own program, and the clock.
const CLOCK: &[&str] = &[
    "accept4",
    "adjtimex",
    "bind",
    "chmod",
    "clock_adjtime",
    "clock_settime",
    "clone",
    "clone3",
    "connect",
    "dup2",
    "fchmodat",
    "getdents64",
    "getpeername",
    "getsockname",
    "getsockopt",
    "kill",
    "listen",
    "recvfrom",
    "recvmmsg",
    "recvmsg",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "setsockopt",
    "shutdown",
    "socket",
    "socketpair",
    "sysinfo",
    "unlink",
    "vfork",
    "wait4",
    "waitid",
];

/// Connections from others.
const SERVER: &[&str] = &[
    "accept4",
    "adjtimex",
    "bind",
    "clone",
    "clone3",
    "connect",
    "getpeername",
    "getsockname",
    "getsockopt",
    "listen",
    "recvfrom",
    "recvmsg",
    "sendmsg",
    "sendto",
    "setsockopt",
    "shutdown",
    "signalfd4",
    "socket",
    "socketpair",
    "timerfd_create",
    "timerfd_settime",
    "unlink",
    "sysinfo",
];

/// Files of one's own.
const WRITER: &[&str] = &[
    "fallocate",
    "fdatasync",
    "fstatfs",
    "fsync",
    "ftruncate",
    "getdents64",
    "rename",
    "renameat",
    "renameat2",
    "signalfd4",
    "statfs",
    "sync_file_range",
    "syncfs",
    "unlink",
    "unlinkat",
    "kill",
];
