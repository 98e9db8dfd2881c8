// SPDX-License-Identifier: Apache-2.0
//! Signals as something to read; see signalfd(2).

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
};

/// What PID 1 is told by signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// A child has ended.
    ChildEnded,
    /// Ctrl-Alt-Del: the kernel sends SIGINT, see reboot(2).
    CtrlAltDel,
    /// SIGTERM.
    Terminate,
}

/// A non-blocking reader of the signals that PID 1 listens to; they are blocked from the moment this exists. SIGHUP is ignored
/// from then on by PID 1 and by all that it starts, until that asks for it: a service that is told to read its configuration
/// again while it still starts must not end.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks the signals and opens the reader. Must run before any thread starts, so that all inherit the mask.
    pub fn open() -> io::Result<Signals> {
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGINT, Signal::SIGTERM] {
            mask.add(signal);
        }
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), None)?;
        ignore_hangup();
        Ok(Signals(SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    /// Takes the next signal, if there is one.
    pub fn next(&self) -> io::Result<Option<Told>> {
        let Some(info) = self.0.read_signal()? else { return Ok(None) };
        let signal =
            i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
        Ok(match signal {
            Some(Signal::SIGCHLD) => Some(Told::ChildEnded),
            Some(Signal::SIGINT) => Some(Told::CtrlAltDel),
            Some(Signal::SIGTERM) => Some(Told::Terminate),
            _ => None,
        })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

#[expect(unsafe_code, reason = "signal(2) takes a handler, which could be any code")]
fn ignore_hangup() {
    // SAFETY: SIG_IGN installs no handler of ours.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
}

/// Gives a process that is about to become a service an empty signal mask and the default for SIGPIPE, which the Rust
/// runtime ignores.
pub fn reset() -> io::Result<()> {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    default_sigpipe();
    Ok(())
}

#[expect(unsafe_code, reason = "signal(2) takes a handler, which could be any code")]
fn default_sigpipe() {
    // SAFETY: SIG_DFL installs no handler of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}
