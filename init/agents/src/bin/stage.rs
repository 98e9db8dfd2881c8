// SPDX-License-Identifier: Apache-2.0
//! `stage --dir DIR [--size BYTES] [--sha256 HEX]`: an image from standard input onto the ESP.
//!
//! Tells PID 1 how it goes in JSON lines on standard output. Exit 0 when the image is staged, 2 when it isn't; then
//! nothing of it is left. SIGTERM counts as an input that failed.

#![forbid(unsafe_code)]

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use stele_agents::stage::report::Reporter;
use stele_agents::stage::{Announced, stage};

const USAGE: &str = "stage --dir DIR [--size BYTES] [--sha256 HEX]";

fn main() -> ExitCode {
    let Some((directory, announced)) = arguments(std::env::args().skip(1)) else {
        eprintln!("usage: {USAGE}");
        return ExitCode::from(64);
    };
    let mut input = match Input::new() {
        Ok(input) => input,
        Err(error) => {
            eprintln!("waiting for signals: {error}");
            return ExitCode::from(1);
        }
    };
    let mut reporter = Reporter::new(io::stdout(), announced.size.unwrap_or(0));
    let result = stage(&directory, &announced, &mut input, |progress| {
        reporter.progress(progress, Instant::now())
    });
    match (reporter.end(&result), result) {
        (Ok(()), Ok(_)) => ExitCode::SUCCESS,
        _ => ExitCode::from(2),
    }
}

fn arguments(mut words: impl Iterator<Item = String>) -> Option<(PathBuf, Announced)> {
    let mut directory = None;
    let mut announced = Announced { size: None, sha256: None };
    while let Some(word) = words.next() {
        let value = words.next()?;
        match word.as_str() {
            "--dir" => directory = Some(PathBuf::from(value)),
            "--size" => announced.size = Some(value.parse().ok()?),
            "--sha256" => announced.sha256 = Some(digest(&value)?),
            _ => return None,
        }
    }
    Some((directory?, announced))
}

fn digest(hex: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if hex.len() != 2 * digest.len() || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

/// Standard input, until SIGTERM.
struct Input {
    stdin: io::StdinLock<'static>,
    signals: SignalFd,
}

impl Input {
    fn new() -> io::Result<Input> {
        let mut stop = SigSet::empty();
        stop.add(Signal::SIGTERM);
        stop.add(Signal::SIGINT);
        stop.thread_block()?;
        Ok(Input {
            stdin: io::stdin().lock(),
            signals: SignalFd::with_flags(&stop, SfdFlags::SFD_CLOEXEC)?,
        })
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let stdin = self.stdin.as_fd();
        let mut ready =
            [PollFd::new(&stdin, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
        poll(&mut ready, None)?;
        if ready.last().is_some_and(|signals| !signals.revents().is_empty()) {
            return Err(io::Error::other("told to stop"));
        }
        // Past the buffer of the standard library, which poll can't see.
        Ok(rustix::io::read(stdin, buffer)?)
    }
}
