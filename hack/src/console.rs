// SPDX-License-Identifier: Apache-2.0
//! A machine's serial console: a file that grows, and can be waited on.

use anyhow::{Context as _, Result};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
    fs::inotify,
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How long a wait sleeps at most before it looks at what else it waits for.
const SLICE: Duration = Duration::from_millis(250);

/// The console's log.
#[derive(Debug)]
pub struct Console {
    path: PathBuf,
}

impl Console {
    /// The console that is written to `path`, which is made if it is not there.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("Opening {}", path.display()))?;
        Ok(Self { path })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everything so far. Control sequences of the firmware are taken out.
    #[must_use]
    pub fn text(&self) -> String {
        self.text_from(0)
    }

    /// Everything behind a mark.
    #[must_use]
    pub fn text_from(&self, mark: usize) -> String {
        self.read_from(mark).0
    }

    /// Everything behind a mark, and the mark behind that.
    #[must_use]
    pub fn read_from(&self, mark: usize) -> (String, usize) {
        let bytes = fs::read(&self.path).unwrap_or_default();
        let text = String::from_utf8_lossy(bytes.get(mark..).unwrap_or_default());
        (plain(&text), bytes.len())
    }

    /// The place up to which it is written now.
    #[must_use]
    pub fn mark(&self) -> usize {
        fs::metadata(&self.path)
            .map_or(0, |metadata| usize::try_from(metadata.len()).unwrap_or(usize::MAX))
    }

    /// The last lines, to explain a failure with.
    #[must_use]
    pub fn tail(&self, lines: usize) -> String {
        let text = self.text();
        let all: Vec<&str> = text.lines().collect();
        all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
    }

    /// Waits until `found` says something of the text behind `mark`. `None` at the deadline, or as soon as `give_up` says so.
    pub fn wait<T>(
        &self,
        mark: usize,
        deadline: Instant,
        found: impl Fn(&str) -> Option<T>,
        give_up: impl Fn() -> bool,
    ) -> Result<Option<T>> {
        let watch = Watch::new(&self.path)?;
        loop {
            let last = give_up() || Instant::now() >= deadline;
            if let Some(value) = found(&self.text_from(mark)) {
                return Ok(Some(value));
            }
            if last {
                return Ok(None);
            }
            watch.wait(SLICE.min(deadline.saturating_duration_since(Instant::now())))?;
        }
    }
}

/// The first complete line that holds `needle`.
#[must_use]
pub fn line_with(text: &str, needle: &str) -> Option<String> {
    let complete = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
    complete.lines().find(|line| line.contains(needle)).map(|line| line.trim_end().to_owned())
}

/// A notification for each write to a file.
#[derive(Debug)]
struct Watch {
    inotify: OwnedFd,
}

impl Watch {
    fn new(path: &Path) -> Result<Self> {
        let inotify = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
            .context("Making an inotify descriptor")?;
        inotify::add_watch(&inotify, path, inotify::WatchFlags::MODIFY)
            .with_context(|| format!("Watching {}", path.display()))?;
        Ok(Self { inotify })
    }

    fn wait(&self, timeout: Duration) -> Result<()> {
        let mut fds = [PollFd::new(&self.inotify, PollFlags::IN)];
        let timeout = Timespec::try_from(timeout).context("Counting nanoseconds")?;
        poll(&mut fds, Some(&timeout)).context("Waiting for the console")?;
        let mut buffer = [0; 1024];
        while rustix::io::read(&self.inotify, &mut buffer).is_ok_and(|read| read > 0) {}
        Ok(())
    }
}

/// Without the escape sequences that firmware moves its cursor with.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            if c != '\r' {
                plain.push(c);
            }
            continue;
        }
        if chars.next_if_eq(&'[').is_some() {
            while chars.next_if(|c| !c.is_ascii_alphabetic()).is_some() {}
            chars.next();
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Write as _, thread};

    #[test]
    fn a_line_that_is_written_ends_the_wait() {
        let dir = tempfile::tempdir().unwrap();
        let console = Console::open(dir.path().join("console")).unwrap();
        let path = console.path().to_owned();
        let writer = thread::spawn(move || {
            fs::OpenOptions::new()
                .append(true)
                .open(path)
                .unwrap()
                .write_all(b"one\nfingerprint two\n")
                .unwrap();
        });
        let deadline = Instant::now() + Duration::from_secs(20);
        let line =
            console.wait(0, deadline, |text| line_with(text, "fingerprint"), || false).unwrap();
        assert_eq!(line.as_deref(), Some("fingerprint two"));
        writer.join().unwrap();
    }

    #[test]
    fn half_a_line_is_no_line() {
        assert_eq!(line_with("stele: SHA256:ab", "SHA256"), None);
        assert_eq!(
            line_with("stele: SHA256:abcd\nmore", "SHA256").as_deref(),
            Some("stele: SHA256:abcd")
        );
    }

    #[test]
    fn cursor_movements_are_taken_out() {
        assert_eq!(plain("\u{1b}[2J\u{1b}[01;01HBdsDxe\r\n"), "BdsDxe\n");
    }

    #[test]
    fn giving_up_ends_the_wait() {
        let dir = tempfile::tempdir().unwrap();
        let console = Console::open(dir.path().join("console")).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        assert_eq!(console.wait(0, deadline, |_| None::<()>, || true).unwrap(), None);
    }
}
