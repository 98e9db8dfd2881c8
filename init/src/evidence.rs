// SPDX-License-Identifier: Apache-2.0
//! Evidence: what a kernel that panicked wrote down before it restarted, where firmware or memory kept it; see the
//! kernel's Documentation/ABI/testing/pstore.
//!
//! A dump is a row of records, the newest part of the log in the first: `Panic#1 Part1` and so on. They are read once,
//! kept as the log `panic` of the boot that they are of, and removed: what holds them is small.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    path::Path,
    time::UNIX_EPOCH,
};
use stele_kernel::mount::{self, Forbid};

const FOLDER: &str = "/sys/fs/pstore";
/// Records that are read, and bytes of each: firmware keeps far less.
const RECORDS: usize = 256;
const LARGEST: u64 = 256 * 1024;

/// What a kernel wrote down at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dump {
    /// Seconds since the epoch.
    pub(crate) time: i64,
    /// The end of its log.
    pub(crate) lines: Vec<String>,
}

impl Dump {
    /// Why the kernel ended, in a sentence.
    pub(crate) fn cause(&self) -> String {
        let find = |needle: &str| {
            let after = |line: &String| Some(line.split_once(needle)?.1.trim().to_owned());
            self.lines.iter().rev().find_map(after)
        };
        let Some(panic) = find("Kernel panic - not syncing: ") else {
            return "the kernel crashed".to_owned();
        };
        if panic.contains("Software Watchdog Timer expired") {
            return "PID 1 no longer fed the watchdog".to_owned();
        }
        let last_words = find("stele: ").filter(|_| panic.contains("Attempted to kill init"));
        match last_words {
            Some(words) => format!("PID 1 ended: {words}"),
            None => format!("kernel panic: {panic}"),
        }
    }
}

/// Takes what there is, oldest first; it is gone from where it was afterwards. May block.
pub(crate) fn take() -> Vec<Dump> {
    match collect() {
        Ok(dumps) => dumps,
        Err(error) => {
            tracing::warn!(error = %error, "reading what an earlier kernel wrote down failed");
            Vec::new()
        }
    }
}

fn collect() -> io::Result<Vec<Dump>> {
    let folder = Path::new(FOLDER);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    mount::mount("pstore", folder, "pstore", Forbid::DATA, "")?;
    let taken = read(folder);
    mount::unmount(folder, false)?;
    taken
}

/// One record: of which dump (its time, its number there), which part, and the text.
struct Part {
    dump: (i64, u32),
    part: u32,
    text: String,
}

fn read(folder: &Path) -> io::Result<Vec<Dump>> {
    let mut dumps: BTreeMap<(i64, u32), Vec<Part>> = BTreeMap::new();
    for entry in fs::read_dir(folder)?.take(RECORDS) {
        let entry = entry?;
        let path = entry.path();
        let mut bytes = Vec::new();
        fs::File::open(&path)?.take(LARGEST).read_to_end(&mut bytes)?;
        let time = entry.metadata()?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        if let Some(part) = parse(i64::try_from(time.as_secs()).unwrap_or(0), &bytes) {
            dumps.entry(part.dump).or_default().push(part);
        }
        fs::remove_file(&path)?;
    }
    Ok(dumps.into_values().map(assemble).collect())
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
        dump: (time, number.trim().parse().ok()?),
        part: part.trim().parse().ok()?,
        text: text.to_owned(),
    })
}

/// The parts of one dump in the order in which they were logged.
fn assemble(mut parts: Vec<Part>) -> Dump {
    parts.sort_by_key(|part| std::cmp::Reverse(part.part));
    let time = parts.first().map_or(0, |part| part.dump.0);
    let text: String = parts.into_iter().map(|part| part.text).collect();
    let lines = text.lines().filter(|line| !line.is_empty()).map(ToOwned::to_owned).collect();
    Dump { time, lines }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(parts: &[&str]) -> Dump {
        assemble(parts.iter().filter_map(|part| parse(7, part.as_bytes())).collect())
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
        let words = "<2>[ 2.0] stele: cannot go on: reading the image's units\n";
        assert_eq!(
            dump(&[&format!("Panic#1 Part1\n{words}{killed}")]).cause(),
            "PID 1 ended: cannot go on: reading the image's units"
        );
        assert_eq!(
            dump(&[&format!("Panic#1 Part1\n{killed}")]).cause(),
            "kernel panic: Attempted to kill init! exitcode=0x00000100"
        );
        assert_eq!(
            dump(&["Panic#1 Part1\n<0>[9] Kernel panic - not syncing: Software Watchdog Timer expired\n"]).cause(),
            "PID 1 no longer fed the watchdog"
        );
    }
}
