// SPDX-License-Identifier: Apache-2.0
//! Is a node still a node, wherever its power was cut? Judged by reading the disk at each [`Moment`]:
//!
//! * at least one copy of the partition table holds, and names the partitions that were there;
//! * `fsck.fat` finds nothing on the ESP but what a cut always leaves: space that is given to nobody, counts that are old;
//! * on the ESP, the boot loader is whole, and the image that it starts first is one that is known, to the last byte;
//! * the image that was good before is still there under a name that the loader takes;
//! * STATE is repaired by what the node itself does at boot, and then holds every generation, old or new, whole.
//!
//! What has not changed is not looked at again: each judgement is kept under the versions of the sectors that it saw.

use crate::{
    esp::{self, Esp},
    replay::{Drive, Moment, Recording},
    writes::{Entry, SECTOR},
};
use anyhow::{Context as _, Result, bail, ensure};
use gptman::GPT;
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
    process::Command,
};
use stele_layout::slot::{DIRECTORY, Stage};

/// The sectors of one copy of the partition table, with its header, and one more for the MBR.
const TABLE: usize = 34;
/// At most so many findings are told; the rest is counted.
const TOLD: usize = 10;

/// What is known of the disk before.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The images that may be started, whole: SHA-256 in hex, and a name for people.
    pub images: BTreeMap<String, String>,
    /// The digest of the one that was good before, which stays.
    pub good: String,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Moments that were judged.
    pub moments: usize,
    /// Of these, in the order in which the guest wrote.
    pub in_order: usize,
    /// Writes and flushes in the log.
    pub entries: usize,
    /// Different ESPs, different STATEs.
    pub different: (usize, usize),
    /// Moments at which the node would not come up again, and why; the first few.
    pub bricked: Vec<String>,
    /// How many in all.
    pub bricks: usize,
    /// How often which image would be started first.
    pub starts: BTreeMap<String, usize>,
    /// Bytes that were written to the ESP.
    pub esp_bytes: u64,
}

/// Judges the disk at each moment.
#[derive(Debug)]
pub struct Judge<'a> {
    expected: &'a Expected,
    esp: Range<usize>,
    state: Range<usize>,
    loader: Vec<(String, String)>,
    generations: usize,
    scratch: PathBuf,
    base: PathBuf,
    /// Judgements by the versions of what was judged.
    tables: HashMap<u64, Result<(), String>>,
    esps: HashMap<u64, Result<String, String>>,
    fats: HashMap<u64, Result<(), String>>,
    states: HashMap<u64, Result<(), String>>,
    digests: HashMap<u64, String>,
}

/// Judges a recording at all of these moments.
pub fn judge(
    base: &Path,
    recording: &Recording,
    moments: &[Moment],
    expected: &Expected,
    scratch: &Path,
) -> Result<Report> {
    let mut drive = recording.start();
    let mut judge = Judge::new(base, &drive, expected, scratch)?;
    let mut report = Report { entries: recording.entries.len(), ..Report::default() };
    for entry in &recording.entries {
        if let Entry::Write { sector, sectors, .. } = entry
            && judge.esp.contains(&usize::try_from(*sector)?)
        {
            report.esp_bytes += sectors * SECTOR as u64;
        }
    }
    for moment in moments {
        drive.advance(moment)?;
        report.moments += 1;
        report.in_order += usize::from(moment.missing.is_empty());
        match judge.at(&drive)? {
            Ok(image) => *report.starts.entry(image).or_default() += 1,
            Err(why) => {
                report.bricks += 1;
                if report.bricked.len() < TOLD {
                    report.bricked.push(format!("{moment}: {why}"));
                }
            }
        }
    }
    report.different = (judge.esps.len(), judge.states.len());
    Ok(report)
}

impl<'a> Judge<'a> {
    fn new(base: &Path, drive: &Drive<'_>, expected: &'a Expected, scratch: &Path) -> Result<Self> {
        let table = table(drive)?;
        let place = |label: &str| -> Result<Range<usize>> {
            let found =
                table.iter().find(|(_, partition)| partition.partition_name.as_str() == label);
            let (_, found) = found.with_context(|| format!("There is no partition {label}"))?;
            Ok(usize::try_from(found.starting_lba)?..usize::try_from(found.ending_lba + 1)?)
        };
        let mut judge = Self {
            expected,
            esp: place("ESP")?,
            state: place("STATE")?,
            loader: Vec::new(),
            generations: 0,
            scratch: scratch.to_owned(),
            base: base.to_owned(),
            tables: HashMap::new(),
            esps: HashMap::new(),
            fats: HashMap::new(),
            states: HashMap::new(),
            digests: HashMap::new(),
        };
        judge.loader = judge.loader_files(drive)?;
        judge.generations = judge.read_state(drive)?;
        ensure!(judge.generations > 0, "The disk holds no configuration to begin with");
        Ok(judge)
    }

    /// Which image would be started first; or why the node would not come up again.
    fn at(&mut self, drive: &Drive<'_>) -> Result<Result<String, String>> {
        let end = drive.sectors();
        let key = drive.fingerprint(0..TABLE) ^ drive.fingerprint(end - TABLE..end).rotate_left(1);
        let judged = match self.tables.get(&key) {
            Some(judged) => judged.clone(),
            None => {
                let judged = self.table(drive).map_err(text);
                self.tables.entry(key).or_insert(judged).clone()
            }
        };
        if let Err(why) = judged {
            return Ok(Err(why));
        }
        let key = drive.fingerprint(self.state.clone());
        let judged = match self.states.get(&key) {
            Some(judged) => judged.clone(),
            None => {
                let judged = self.read_state(drive).and_then(|found| {
                    ensure!(
                        found >= self.generations,
                        "STATE holds {found} generations, and held {}",
                        self.generations
                    );
                    Ok(())
                });
                self.states.entry(key).or_insert(judged.map_err(text)).clone()
            }
        };
        if let Err(why) = judged {
            return Ok(Err(why));
        }
        let key = drive.fingerprint(self.esp.clone());
        if let Some(judged) = self.esps.get(&key) {
            return Ok(judged.clone());
        }
        let judged = self.boots(drive).map_err(text);
        Ok(self.esps.entry(key).or_insert(judged).clone())
    }

    fn table(&self, drive: &Drive<'_>) -> Result<()> {
        let table = table(drive)?;
        for (label, place) in [("ESP", &self.esp), ("STATE", &self.state)] {
            let there = table.iter().any(|(_, partition)| {
                partition.partition_name.as_str() == label
                    && partition.starting_lba == place.start as u64
                    && partition.ending_lba + 1 == place.end as u64
            });
            ensure!(there, "the partition table has lost {label}");
        }
        Ok(())
    }

    /// The name of the image that is started first.
    fn boots(&mut self, drive: &Drive<'_>) -> Result<String> {
        let read = |first, sectors| drive.read(first, sectors);
        let esp = Esp::read(self.esp.start, &read)?;
        self.check_fat(drive, &esp)?;
        ensure!(self.loader_files(drive)? == self.loader, "the boot loader is another one");
        let images = esp::in_order(&esp.list(DIRECTORY, &read)?);
        let (first, entry) = images.first().context("there is no image")?;
        let digest = self.digest(drive, &esp, entry)?;
        let known = self.expected.images.get(&digest);
        let name = known
            .with_context(|| format!("{first} would be started, and is no image that is known"))?
            .clone();
        for (file, entry) in &images {
            // An image that is out of tries may be whatever it is; it is not started while there is another.
            let good = matches!(file.stage, Stage::Plain | Stage::Counted { left: 1.., .. });
            if good && self.digest(drive, &esp, entry)? == self.expected.good {
                return Ok(name);
            }
        }
        bail!("the image that was good is gone: {images:?}")
    }

    /// Has `fsck.fat` look at the ESP, unless it has seen these tables and folders before.
    fn check_fat(&mut self, drive: &Drive<'_>, esp: &Esp) -> Result<()> {
        let read = |first, sectors| drive.read(first, sectors);
        let mut key = drive.fingerprint(esp.tables.clone());
        for folder in ["", "EFI", DIRECTORY] {
            for piece in esp.folder_pieces(folder, &read)? {
                key = key.rotate_left(7) ^ drive.fingerprint(piece);
            }
        }
        if let Some(judged) = self.fats.get(&key) {
            return judged.clone().map_err(anyhow::Error::msg);
        }
        let (copy, base) = (self.scratch.join("esp.img"), self.scratch.join("esp.base"));
        if !base.exists() {
            let length = (self.esp.len() * SECTOR) as u64;
            cut_out(&self.base, (self.esp.start * SECTOR) as u64, length, &base)?;
        }
        crate::machine::copy_sparse(&base, &copy)?;
        let file = OpenOptions::new().write(true).open(&copy)?;
        drive.write(self.esp.clone(), &file, self.esp.start)?;
        drop(file);
        let checked = Command::new("/usr/sbin/fsck.fat").arg("-n").arg(&copy).output();
        let checked = checked.context("Running fsck.fat")?;
        let judged = remarks(&String::from_utf8_lossy(&checked.stdout));
        self.fats.insert(key, judged.clone());
        judged.map_err(anyhow::Error::msg)
    }

    fn loader_files(&mut self, drive: &Drive<'_>) -> Result<Vec<(String, String)>> {
        let read = |first, sectors| drive.read(first, sectors);
        let esp = Esp::read(self.esp.start, &read)?;
        let mut files = Vec::new();
        for folder in ["EFI/BOOT", "loader"] {
            for entry in esp.list(folder, &read)? {
                let wanted = ["BOOTX64.EFI", "loader.conf"];
                if wanted.iter().any(|name| entry.name.eq_ignore_ascii_case(name)) {
                    let digest = self.digest(drive, &esp, &entry)?;
                    files.push((entry.name.to_ascii_lowercase(), digest));
                }
            }
        }
        ensure!(files.len() == 2, "the boot loader is not there: {files:?}");
        Ok(files)
    }

    fn digest(&mut self, drive: &Drive<'_>, esp: &Esp, entry: &esp::Entry) -> Result<String> {
        let pieces = esp.pieces(entry)?;
        let mut key = entry.size as u64;
        for piece in &pieces {
            key = key.rotate_left(5) ^ drive.fingerprint(piece.clone());
        }
        if let Some(digest) = self.digests.get(&key) {
            return Ok(digest.clone());
        }
        let mut content = Vec::with_capacity(entry.size + SECTOR * 8);
        for piece in pieces {
            content.extend(drive.read(piece.start, piece.len())?);
        }
        content.truncate(entry.size);
        let digest = image::tree::sha256(&content);
        self.digests.insert(key, digest.clone());
        Ok(digest)
    }

    /// Repairs a copy of STATE as the node does, reads all of it, and counts its generations.
    fn read_state(&self, drive: &Drive<'_>) -> Result<usize> {
        let copy = self.scratch.join("state.img");
        let base = self.scratch.join("state.base");
        let length = (self.state.len() * SECTOR) as u64;
        if !base.exists() {
            cut_out(&self.base, (self.state.start * SECTOR) as u64, length, &base)?;
        }
        crate::machine::copy_sparse(&base, &copy)?;
        let file = OpenOptions::new().write(true).open(&copy)?;
        drive.write(self.state.clone(), &file, self.state.start)?;
        drop(file);
        let checked = Command::new("/usr/sbin/e2fsck").arg("-p").arg(&copy).output();
        let checked = checked.context("Running e2fsck")?;
        ensure!(
            checked.status.code().is_some_and(|code| code < 4),
            "STATE can't be repaired: {}{}",
            String::from_utf8_lossy(&checked.stdout),
            String::from_utf8_lossy(&checked.stderr)
        );
        let files = self.scratch.join("state");
        if files.exists() {
            fs::remove_dir_all(&files)?;
        }
        fs::create_dir(&files)?;
        let dump = format!("rdump / {}", files.display());
        let dumped = Command::new("/usr/sbin/debugfs").args(["-R", &dump]).arg(&copy).output();
        ensure!(dumped.context("Running debugfs")?.status.success(), "STATE can't be read");
        generations(&files)
    }
}

/// What `fsck.fat` says after any power cut, and what harms nobody: each line that is none of these is a finding.
const HARMLESS: [&str; 16] = [
    "fsck.fat ",
    "Dirty bit is set.",
    "Automatically removing dirty bit.",
    "There are differences between boot sector and its backup.",
    "This is mostly harmless. Differences:",
    "65:01/00",
    "Not automatically fixing this.",
    "Free cluster summary wrong",
    "Free cluster summary uninitialized",
    "Auto-correcting.",
    "Auto-setting.",
    "Reclaimed ",
    "FATs differ but appear to be intact.",
    "Using first FAT.",
    "*** Filesystem was changed ***",
    "Leaving filesystem unchanged.",
];

/// Fails with what is more than harmless. A file that is still arriving may be as it is.
fn remarks(said: &str) -> Result<(), String> {
    let mut arriving = false;
    let mut findings = Vec::new();
    for line in said.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line.starts_with('/') {
            arriving = line.contains(".part");
        }
        let summary = line.contains(" files, ") && line.ends_with(" clusters");
        let unwritten = line.starts_with("The changes have not yet been written");
        let harmless = HARMLESS
            .iter()
            .any(|known| line.trim_start_matches("(offset:original/backup) ").starts_with(known));
        if !(arriving || summary || unwritten || harmless || line.starts_with("(offset:")) {
            findings.push(line);
        }
    }
    if findings.is_empty() { Ok(()) } else { Err(format!("fsck.fat: {}", findings.join("; "))) }
}

/// Counts the generations of a STATE, each of which must be whole; and so must every other document there.
fn generations(state: &Path) -> Result<usize> {
    let mut count = 0;
    let mut folders = vec![state.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let name = path.strip_prefix(state).unwrap_or(&path).display().to_string();
            let value: Value = serde_json::from_slice(&fs::read(&path)?)
                .with_context(|| format!("{name} on STATE is not whole"))?;
            if let (Some(sha256), Some(documents)) =
                (value["sha256"].as_str(), value["documents"].as_str())
            {
                ensure!(
                    image::tree::sha256(documents.as_bytes()) == sha256,
                    "{name} on STATE is not what was written"
                );
                count += 1;
            }
        }
    }
    Ok(count)
}

/// The partition table, from whichever copy holds.
fn table(drive: &Drive<'_>) -> Result<GPT> {
    let mut reader = Reader { drive, at: 0 };
    GPT::read_from(&mut reader, SECTOR as u64).context("no copy of the partition table holds")
}

/// A drive as a file.
struct Reader<'a> {
    drive: &'a Drive<'a>,
    at: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let (sector, within) = (self.at as usize / SECTOR, self.at as usize % SECTOR);
        if sector >= self.drive.sectors() {
            return Ok(0);
        }
        let bytes = self.drive.read(sector, 1).map_err(std::io::Error::other)?;
        let length = buffer.len().min(SECTOR - within);
        buffer[..length].copy_from_slice(&bytes[within..within + length]);
        self.at += length as u64;
        Ok(length)
    }
}

impl Seek for Reader<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let end = (self.drive.sectors() * SECTOR) as u64;
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => end.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| std::io::Error::other("before the beginning"))?;
        Ok(self.at)
    }
}

/// A part of a file as a file of its own, holes left out.
fn cut_out(from: &Path, start: u64, length: u64, to: &Path) -> Result<()> {
    let status = Command::new("dd")
        .args(["conv=sparse", "bs=64K", "iflag=skip_bytes,count_bytes", "status=none"])
        .arg(format!("if={}", from.display()))
        .arg(format!("of={}", to.display()))
        .args([format!("skip={start}"), format!("count={length}")])
        .status()
        .context("Running dd")?;
    ensure!(status.success(), "Copying a part of {} failed", from.display());
    File::options().write(true).open(to)?.set_len(length)?;
    Ok(())
}

/// Makes a disk as it was at a moment: a copy of what was before, and the writes until then.
pub fn disk_at(base: &Path, recording: &Recording, moment: &Moment, to: &Path) -> Result<()> {
    crate::machine::copy_sparse(base, to)?;
    let drive = recording.at(moment)?;
    let file = OpenOptions::new().write(true).open(to)?;
    drive.write(0..drive.sectors(), &file, 0)
}

/// As many of these moments as are wanted, spread evenly.
#[must_use]
pub fn spread(moments: &[Moment], wanted: usize) -> Vec<&Moment> {
    let count = wanted.min(moments.len());
    (0..count)
        .filter_map(|number| moments.get((number * 2 + 1) * moments.len() / (count * 2)))
        .collect()
}

fn text(error: anyhow::Error) -> String {
    format!("{error:#}")
}

#[cfg(test)]
#[path = "cuts/tests.rs"]
mod tests;
