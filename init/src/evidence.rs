// SPDX-License-Identifier: Apache-2.0
//! Evidence: what a kernel that panicked wrote down before it restarted, where firmware or memory kept it; see the
//! kernel's Documentation/ABI/testing/pstore.
//!
//! A dump is a row of records, the newest part of the log in the first: `Panic#1 Part1` and so on. They are read once,
//! kept as the log `panic` of the boot that they are of, and removed: what holds them is small.

use crate::report;
use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};
use stele_kernel::{
    kmsg,
    mount::{self, Forbid},
};

const FOLDER: &str = "/sys/fs/pstore";
/// Records that are read, and bytes of each: firmware keeps far less.
const RECORDS: usize = 256;
const LARGEST: u64 = 256 * 1024;

/// How far apart the records of one end of a kernel may be: firmware is slow, and an oops comes before its panic.
const TOGETHER: i64 = 4;

/// What a kernel wrote down at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dump {
    /// Seconds since the epoch.
    pub(crate) time: i64,
    /// The end of its log.
    pub(crate) lines: Vec<String>,
    /// Where it lies.
    files: Vec<PathBuf>,
}

impl Dump {
    /// Why the kernel ended, in a sentence.
    pub(crate) fn cause(&self) -> String {
        let last = |needle: &str, level: &str| {
            let mut lines = self.lines.iter().rev().filter(|line| line.starts_with(level));
            lines.find_map(|line| Some(line.split_once(needle)?.1.trim().to_owned()))
        };
        let Some(panic) = last("Kernel panic - not syncing: ", "") else {
            return "the kernel crashed".to_owned();
        };
        if panic.contains("Software Watchdog Timer expired") {
            return "PID 1 no longer fed the watchdog".to_owned();
        }
        let Some((_, exit)) = panic.split_once("Attempted to kill init!") else {
            return format!("kernel panic: {panic}");
        };
        let last_words = format!("<{}>", kmsg::priority(report::LAST_WORDS));
        match last("stele: ", &last_words) {
            Some(words) => format!("PID 1 ended: {words}"),
            None => format!("PID 1 ended without a word ({})", exit.trim()),
        }
    }
}

/// Reads what there is, oldest first, and leaves it where it is. May block.
pub(crate) fn read() -> Vec<Dump> {
    let read = mount()
        .and_then(|mounted| if mounted { collect(Path::new(FOLDER)) } else { Ok(Vec::new()) });
    read.unwrap_or_else(|error| {
        tracing::warn!(error = %error, "reading what an earlier kernel wrote down failed");
        Vec::new()
    })
}

/// Removes what has been kept elsewhere: what holds it is small. May block.
pub(crate) fn forget<'a>(dumps: impl Iterator<Item = &'a Dump>) {
    for file in dumps.flat_map(|dump| &dump.files) {
        if let Err(error) = fs::remove_file(file) {
            tracing::warn!(error = %error, file = %file.display(), "removing what an earlier kernel wrote down failed");
        }
    }
}

fn mount() -> io::Result<bool> {
    let folder = Path::new(FOLDER);
    if folder.exists() {
        mount::mount("pstore", folder, "pstore", Forbid::DATA, "")?;
    }
    Ok(folder.exists())
}

/// One record: when, of which dump, which part of it, and the text.
struct Part {
    time: i64,
    dump: u32,
    part: u32,
    text: String,
    file: PathBuf,
}

fn collect(folder: &Path) -> io::Result<Vec<Dump>> {
    let mut parts = Vec::new();
    for entry in fs::read_dir(folder)?.take(RECORDS) {
        let entry = entry?;
        let mut bytes = Vec::new();
        fs::File::open(entry.path())?.take(LARGEST).read_to_end(&mut bytes)?;
        let time = entry.metadata()?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = i64::try_from(time.as_secs()).unwrap_or(0);
        parts.extend(parse(time, &bytes).map(|part| Part { file: entry.path(), ..part }));
    }
    Ok(assemble(parts))
}

/// Reads a record; nothing if it is not of a crash (consoles and user messages are not).
fn parse(time: i64, bytes: &[u8]) -> Option<Part> {
    let text = String::from_utf8_lossy(bytes);
    let (head, text) = text.split_once('\n')?;
    let (reason, part) = head.split_once(" Part")?;
    let (reason, number) = reason.split_once('#')?;
    if !matches!(reason, "Panic" | "Oops" | "Emergency") {
        return None;
    }
    Some(Part {
        time,
        dump: number.trim().parse().ok()?,
        part: part.trim().parse().ok()?,
        text: text.to_owned(),
        file: PathBuf::new(),
    })
}

/// The ends of kernels, each with its lines in the order in which they were logged. Each boot numbers its dumps from 1, so
/// what is there already is of another one, however soon after.
fn assemble(mut parts: Vec<Part>) -> Vec<Dump> {
    parts.sort_by_key(|part| part.time);
    let mut ends: Vec<Vec<Part>> = Vec::new();
    for part in parts {
        let belongs = |end: &&mut Vec<Part>| {
            let near = |last: &Part| part.time <= last.time.saturating_add(TOGETHER);
            let again = |other: &Part| (other.dump, other.part) == (part.dump, part.part);
            end.last().is_some_and(near) && !end.iter().any(again)
        };
        match ends.last_mut().filter(belongs) {
            Some(end) => end.push(part),
            None => ends.push(vec![part]),
        }
    }
    ends.into_iter().map(join).collect()
}

fn join(mut parts: Vec<Part>) -> Dump {
    parts.sort_by_key(|part| (part.dump, std::cmp::Reverse(part.part)));
    let mut dump = Dump::default();
    for part in parts {
        dump.time = dump.time.max(part.time);
        let lines = part.text.lines().filter(|line| !line.is_empty());
        dump.lines.extend(lines.map(ToOwned::to_owned));
        dump.files.push(part.file);
    }
    dump
}

#[cfg(test)]
impl Dump {
    /// One of a kernel that panicked at this time, because of this.
    pub(crate) fn of_panic(time: i64, cause: &str) -> Dump {
        Dump {
            time,
            lines: vec![format!("Kernel panic - not syncing: {cause}")],
            files: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(parts: &[&str]) -> Dump {
        join(parts.iter().filter_map(|part| parse(7, part.as_bytes())).collect())
    }

    #[test]
    fn an_oops_and_its_panic_are_one_end() {
        let part = |time, text: &str| parse(time, text.as_bytes()).unwrap();
        let ends = assemble(vec![
            part(109, "Panic#1 Part1\nnext\n"),
            part(101, "Panic#2 Part1\nKernel panic - not syncing: Fatal exception\n"),
            part(100, "Oops#1 Part1\nBUG\n"),
        ]);
        let causes: Vec<String> = ends.iter().map(Dump::cause).collect();
        assert_eq!(causes, ["kernel panic: Fatal exception", "the kernel crashed"]);
        let twice = assemble(vec![part(5, "Panic#1 Part1\na\n"), part(5, "Panic#1 Part1\nb\n")]);
        assert_eq!(twice.len(), 2, "two boots of a machine without a clock");
    }

    #[test]
    fn a_dump_is_put_together_in_the_order_of_the_log() {
        let dump =
            dump(&["Panic#1 Part1\n<6>third\n<6>fourth\n", "Panic#1 Part2\n<6>first\n<6>second\n"]);
        assert_eq!(dump.lines, ["<6>first", "<6>second", "<6>third", "<6>fourth"]);
        assert_eq!((dump.time, dump.cause().as_str()), (7, "the kernel crashed"));
        assert!(parse(7, b"console\nx").is_none());
        assert!(parse(7, b"").is_none());
        assert!(parse(7, b"Panic#x Part1\n").is_none());
    }

    #[test]
    fn the_cause_is_what_a_person_would_look_for() {
        let killed =
            "<0>[ 2.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\n";
        let words = "<26>[ 2.0] stele: cannot go on: reading the image's units\n";
        assert_eq!(
            dump(&[&format!("Panic#1 Part1\n{words}{killed}")]).cause(),
            "PID 1 ended: cannot go on: reading the image's units"
        );
        let banner = "<30>[ 1.0] stele: Stele 1.2.3 on Linux\n";
        assert_eq!(
            dump(&[&format!("Panic#1 Part1\n{banner}{killed}")]).cause(),
            "PID 1 ended without a word (exitcode=0x00000100)"
        );
        assert_eq!(
            dump(&["Panic#1 Part1\n<0>[9] Kernel panic - not syncing: Software Watchdog Timer expired\n"]).cause(),
            "PID 1 no longer fed the watchdog"
        );
    }
}
