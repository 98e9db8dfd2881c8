// SPDX-License-Identifier: Apache-2.0
//! The daemon as a process of its own.

use super::{
    Surroundings, TimeError,
    config::{self, Files},
    snapshot::{self, Snapshot},
};
use std::{
    fs,
    io::{self, BufRead as _, BufReader},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
};
use stele_proto::internal::TimeTask;

/// The daemon's word for a difference that is too great.
const TOO_FAR: &str = "Unusually large clock step";
/// The longest complaint that is passed on.
const LONGEST: usize = 300;
/// What a sample begins and ends with; see the SOCK driver of gpsd(8).
const MAGIC: i32 = 0x534f_434b;

/// The running daemon.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Child,
    files: Files,
    complaint: Arc<Mutex<String>>,
}

/// How it ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// It would have had to set the clock further than it may.
    pub(super) refused: bool,
    pub(super) reason: String,
}

impl Daemon {
    pub(super) fn start(
        surroundings: &Surroundings,
        task: &TimeTask,
        was_right: bool,
        now: i64,
    ) -> Result<Daemon, TimeError> {
        let files = Files(surroundings.folder.clone());
        let mut roots = None;
        for (index, server) in task.servers.iter().enumerate().filter(|(_, server)| server.nts) {
            let bytes = match server.ca.as_str() {
                "" => roots.get_or_insert_with(|| super::roots(surroundings)).as_slice(),
                ca => ca.as_bytes(),
            };
            write(files.authorities(index), bytes)?;
        }
        let text = config::text(task, &files, was_right, now);
        write(files.configuration(), text.as_bytes())?;
        let (program, arguments) = surroundings
            .daemon
            .split_first()
            .ok_or_else(|| TimeError::Start(io::Error::from(io::ErrorKind::NotFound)))?;
        let mut child = Command::new(program)
            .args(arguments)
            .arg("--config")
            .arg(files.configuration())
            // Nobody but this agent says when the clock is right.
            .env_remove("NOTIFY_SOCKET")
            .stdout(Stdio::piped())
            .spawn()
            .map_err(TimeError::Start)?;
        let complaint = Arc::new(Mutex::new(String::new()));
        if let Some(stdout) = child.stdout.take() {
            let complaint = Arc::clone(&complaint);
            thread::spawn(move || pass_on(stdout, &complaint));
        }
        Ok(Daemon { child, files, complaint })
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> io::Result<Option<Ended>> {
        let Some(status) = self.child.try_wait()? else { return Ok(None) };
        let complaint = self.complaint();
        let reason = match complaint.as_str() {
            "" => format!("the daemon ended with {status}"),
            complaint => format!("the daemon ended with {status}: {complaint}"),
        };
        Ok(Some(Ended { refused: complaint.contains(TOO_FAR), reason }))
    }

    /// What it sees.
    pub(super) fn observe(&self) -> io::Result<Snapshot> {
        snapshot::ask(&self.files.observe())
    }

    /// What it last complained of.
    pub(super) fn complaint(&self) -> String {
        self.complaint.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives it a sample of the hypervisor's clock: by how many seconds that is ahead.
    pub(super) fn sample(&self, offset: f64) {
        let mut sample = [0; 40];
        let parts: [(usize, &[u8]); 2] = [(16, &offset.to_le_bytes()), (36, &MAGIC.to_le_bytes())];
        for (at, bytes) in parts {
            if let Some(place) = sample.get_mut(at..at.saturating_add(bytes.len())) {
                place.copy_from_slice(bytes);
            }
        }
        // Before the daemon listens there is nobody to hear it; the next sample follows.
        let _unheard = UnixDatagram::unbound()
            .and_then(|socket| socket.send_to(&sample, self.files.samples()));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended, or this agent does.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn write(file: PathBuf, bytes: &[u8]) -> Result<(), TimeError> {
    fs::write(&file, bytes).map_err(|source| TimeError::Write { file, source })
}

/// Passes on what it logs, and keeps the last complaint.
fn pass_on(stdout: ChildStdout, complaint: &Mutex<String>) {
    for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        // It has colours until it has read that it is to have none, and says nothing of use before.
        if line.contains('\x1b') {
            continue;
        }
        println!("{line}");
        if let Some(said) = complained(&line) {
            *complaint.lock().unwrap_or_else(PoisonError::into_inner) = said;
        }
    }
}

/// What a line complains of: `TIME LEVEL SPANS: TARGET: MESSAGE`.
pub(super) fn complained(line: &str) -> Option<String> {
    let (_time, rest) = line.trim().split_once(char::is_whitespace)?;
    let (level, rest) = rest.trim_start().split_once(char::is_whitespace)?;
    if !["WARN", "ERROR"].contains(&level) {
        return None;
    }
    let mut said = rest.trim();
    while let Some((place, message)) = said.split_once(": ")
        && (place.contains("::") || place.contains('{'))
    {
        said = message;
    }
    Some(said.chars().filter(|char| !char.is_control()).take(LONGEST).collect())
}

/// The program that this is, with which the daemon is started.
pub(super) const SELF: &str = "/proc/self/exe";

impl Surroundings {
    /// Those of the machine that this runs on.
    #[must_use]
    pub fn of_this_machine() -> Surroundings {
        Surroundings {
            folder: Path::new(super::FOLDER).to_owned(),
            roots: crate::probe::Surroundings::of_this_machine().roots,
            daemon: vec![SELF.to_owned(), "time".to_owned()],
        }
    }
}
