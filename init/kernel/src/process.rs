// SPDX-License-Identifier: Apache-2.0
//! Reaping and signalling; see waitid(2), pidfd_open(2), kill(2).

use nix::{
    errno::Errno,
    sys::wait::{Id, WaitPidFlag, WaitStatus, waitid},
};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::{
    fmt, io,
    os::fd::{AsFd, OwnedFd},
};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It ended with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exited with code {code}"),
            Exit::Signal(number) => match nix::sys::signal::Signal::try_from(*number) {
                Ok(signal) => write!(f, "killed by {signal}"),
                Err(_) => write!(f, "killed by signal {number}"),
            },
        }
    }
}

/// A handle on a child that no other process can come to bear.
#[derive(Debug)]
pub struct Pidfd(OwnedFd);

impl Pidfd {
    /// Opens a handle on a child that has not been reaped.
    pub fn open(pid: u32) -> io::Result<Pidfd> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::ESRCH)?;
        Ok(Pidfd(rustix::process::pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// Sends a signal; a process that has ended is no error.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(&self.0, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes the child's exit, if it has ended.
    pub fn reap(&self) -> io::Result<Option<Exit>> {
        wait(Id::PIDFd(self.0.as_fd()), WaitPidFlag::empty())
            .map(|found| found.map(|(_, exit)| exit))
    }
}

/// Looks which child has ended, and leaves it to be reaped by its handle.
pub fn peek() -> io::Result<Option<u32>> {
    wait(Id::All, WaitPidFlag::WNOWAIT).map(|found| found.map(|(pid, _)| pid))
}

/// Reaps a child that nobody holds a handle on: an orphan that became ours.
pub fn reap_orphan(pid: u32) -> io::Result<()> {
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    wait(Id::Pid(nix::unistd::Pid::from_raw(pid)), WaitPidFlag::empty()).map(|_| ())
}

fn wait(id: Id<'_>, flags: WaitPidFlag) -> io::Result<Option<(u32, Exit)>> {
    let found = match waitid(id, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | flags) {
        Ok(WaitStatus::Exited(pid, code)) => Some((pid, Exit::Code(code))),
        Ok(WaitStatus::Signaled(pid, signal, _)) => Some((pid, Exit::Signal(signal as i32))),
        Ok(_) | Err(Errno::ECHILD) => None,
        Err(errno) => return Err(errno.into()),
    };
    Ok(found.and_then(|(pid, exit)| u32::try_from(pid.as_raw()).ok().map(|pid| (pid, exit))))
}

/// Sends a signal to every process but this one.
pub fn signal_all(signal: Signal) {
    let signal = nix::sys::signal::Signal::try_from(signal.as_raw()).ok();
    // Fails only when there is no other process left.
    let _none_left = nix::sys::signal::kill(nix::unistd::Pid::from_raw(-1), signal);
}
