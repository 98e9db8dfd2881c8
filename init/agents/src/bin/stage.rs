// SPDX-License-Identifier: Apache-2.0
//! `stage receive REQUEST`, `stage write REQUEST`, `stage examine FILE`, `stage judge`: an image on its way to the ESP.
//!
//! Tells PID 1 how it goes in JSON lines on standard output, the last of which says how it ended. Exit 0 when it went
//! well, 2 when it didn't. SIGTERM counts as an input that failed.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use stele_agents::stage::anatomy::{self, Damage};
use stele_agents::stage::judge::judge;
use stele_agents::stage::receive::receive;
use stele_agents::stage::report::Reporter;
use stele_agents::stage::source::Source;
use stele_agents::stage::write::write;
use stele_agents::stage::{Sha256Sum, StageError};

const USAGE: &str =
    "stage receive REQUEST | stage write REQUEST | stage examine FILE | stage judge";
/// The most that a registry has to say about one artifact.
const LONGEST_DOCUMENTS: u64 = 4 * 1024 * 1024;
const BLOCK: usize = 256 * 1024;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut reporter = Reporter::new(io::stdout());
    let told = match words.as_slice() {
        ["receive", request] => run(request, &mut reporter, |request, reporter| {
            let mut input = Input::new().map_err(StageError::Input)?;
            let progress = |progress| reporter.progress(progress, Instant::now());
            let received = receive(&request, &mut input, progress)?;
            Ok(reporter.received(&received))
        }),
        ["write", request] => run(request, &mut reporter, |request, reporter| {
            let progress = |progress| reporter.progress(progress, Instant::now());
            let staged = write(&request, progress)?;
            Ok(reporter.staged(&staged))
        }),
        ["examine", file] => Some(examine(Path::new(file), &mut reporter)),
        ["judge"] => Some(documents(&mut reporter)),
        _ => None,
    };
    match told {
        None => {
            eprintln!("usage: {USAGE}");
            ExitCode::from(64)
        }
        Some(Ok(Ok(()))) => ExitCode::SUCCESS,
        Some(Ok(Err(_))) => ExitCode::from(2),
        Some(Err(error)) => {
            // Whoever does not take the line sees the exit code.
            drop(reporter.failed(&error));
            ExitCode::from(2)
        }
    }
}

/// What came of it: an error to tell, or whether the good news could be told.
type Told = Result<io::Result<()>, StageError>;

/// Understands the request and does it; nothing if it can't be understood.
fn run<R: DeserializeOwned, W>(
    text: &str,
    reporter: &mut Reporter<W>,
    work: impl FnOnce(R, &mut Reporter<W>) -> Told,
) -> Option<Told> {
    match serde_json::from_str(text) {
        Ok(request) => Some(work(request, reporter)),
        Err(error) => {
            eprintln!("understanding the request: {error}");
            None
        }
    }
}

fn examine(path: &Path, reporter: &mut Reporter<io::Stdout>) -> Told {
    let file = File::open(path).map_err(Damage::Read)?;
    let anatomy = anatomy::examine(&file)?;
    let size = file.length().map_err(Damage::Read)?;
    let mut digest = Sha256::new();
    let mut input = file;
    let mut block = vec![0; BLOCK];
    loop {
        match input.read(&mut block).map_err(Damage::Read)? {
            0 => break,
            length => digest.update(block.get(..length).unwrap_or_default()),
        }
    }
    Ok(reporter.image(&anatomy, size, Sha256Sum(digest.finalize().into())))
}

/// Standard input: a line with the keys, a JSON array of PEM texts; then what the fetch agent wrote.
fn documents(reporter: &mut Reporter<io::Stdout>) -> Told {
    let mut input = Vec::new();
    io::stdin()
        .lock()
        .take(LONGEST_DOCUMENTS)
        .read_to_end(&mut input)
        .map_err(StageError::Input)?;
    let mut parts = input.splitn(2, |byte| *byte == b'\n');
    let keys: Vec<String> = serde_json::from_slice(parts.next().unwrap_or_default())
        .map_err(|error| StageError::Registry(format!("understanding the keys: {error}")))?;
    let vouched = judge(&keys, parts.next().unwrap_or_default())?;
    Ok(reporter.vouched(&vouched))
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
