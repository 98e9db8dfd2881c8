// SPDX-License-Identifier: Apache-2.0
//! A drive as it stood at any moment of a log of writes, and as it might have stood: power cuts, without cutting power.
//!
//! ```text
//! write write FLUSH write write write FLUSH …
//!       ▲           └──── any of these may be missing until the second FLUSH has ended
//!       └─ a cut here leaves the first write, or not
//! ```
//!
//! Nothing is copied: for each sector it is known which version of it there is, and the bytes are read when someone asks.

use crate::writes::{self, Entry, SECTOR};
use anyhow::{Context as _, Result, ensure};
use std::{
    fs::File,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    ops::Range,
    os::unix::fs::FileExt as _,
    path::Path,
};

/// Up to so many writes between two flushes, every subset of them is looked at.
const EXHAUSTIVE: usize = 5;
/// Of more, so many random subsets.
const SAMPLES: usize = 24;
/// And so many that lack exactly one, and that have exactly one.
const SINGLES: usize = 24;

/// Sectors that are zeros.
const ZEROS: u32 = u32::MAX;
/// Sectors as they were before the log began.
const BASE: u32 = 0;

/// A drive, and what was written to it.
#[derive(Debug)]
pub struct Recording {
    base: File,
    log: File,
    sectors: usize,
    /// The entries, in order.
    pub entries: Vec<Entry>,
}

impl Recording {
    /// `base` is the drive as it was before, `log` what was written to it since.
    pub fn open(base: &Path, log: &Path) -> Result<Self> {
        let entries = writes::read(log)?;
        let open =
            |path: &Path| File::open(path).with_context(|| format!("Opening {}", path.display()));
        let base = open(base)?;
        let sectors = usize::try_from(base.metadata()?.len())? / SECTOR;
        for entry in &entries {
            if let Entry::Write { sector, sectors: count, .. }
            | Entry::Discard { sector, sectors: count } = entry
            {
                ensure!(sector + count <= sectors as u64, "A write beyond the end of the drive");
            }
        }
        Ok(Self { base, log: open(log)?, sectors, entries })
    }

    /// The sectors that an entry changes.
    fn range(&self, index: usize) -> Result<Option<Range<usize>>> {
        Ok(match self.entries[index] {
            Entry::Write { sector, sectors, .. } | Entry::Discard { sector, sectors } => {
                let start = usize::try_from(sector)?;
                Some(start..start + usize::try_from(sectors)?)
            }
            Entry::Flush => None,
        })
    }

    /// The drive at one moment, from nothing.
    pub fn at(&self, moment: &Moment) -> Result<Drive<'_>> {
        let mut drive = self.start();
        let before = moment.missing.first().copied().unwrap_or(moment.until);
        drive.advance(&Moment { until: before, missing: Vec::new() })?;
        drive.advance(moment)?;
        Ok(drive)
    }

    /// The drive before everything.
    #[must_use]
    pub fn start(&self) -> Drive<'_> {
        Drive { recording: self, versions: vec![BASE; self.sectors], applied: Vec::new(), mark: 0 }
    }

    /// Every moment at which the power could have been cut, as far as they are looked at: after each entry, and for what
    /// stands between two flushes, each subset of it, or a sample of them.
    #[must_use]
    pub fn moments(&self, seed: u64) -> Vec<Moment> {
        let mut moments = Vec::new();
        let mut random = Random::new(seed);
        let mut start = 0;
        while start < self.entries.len() {
            let rest = self.entries.iter().skip(start);
            let length = rest.take_while(|entry| **entry != Entry::Flush).count();
            let end = start + length;
            self.reorder(start..end, &mut random, &mut moments);
            let after = (end + 1).min(self.entries.len());
            moments.extend((start + 1..=after).map(|until| Moment { until, missing: Vec::new() }));
            start = after;
        }
        moments
    }

    /// What a cut before the flush at the end of `epoch` could leave, besides what order alone leaves.
    fn reorder(&self, epoch: Range<usize>, random: &mut Random, moments: &mut Vec<Moment>) {
        let loose: Vec<usize> = epoch
            .clone()
            .filter(|index| {
                !matches!(self.entries[*index], Entry::Flush | Entry::Write { durable: true, .. })
            })
            .collect();
        let count = loose.len();
        if count < 2 {
            return;
        }
        let mut lacking = |missing: Vec<usize>| {
            // Without its last writes, it is a moment in order.
            let in_order = missing.iter().rev().zip(loose.iter().rev()).all(|(a, b)| a == b);
            if !in_order {
                moments.push(Moment { until: epoch.end, missing });
            }
        };
        if count <= EXHAUSTIVE {
            for set in 1..1_usize << count {
                lacking(
                    loose
                        .iter()
                        .enumerate()
                        .filter(|(bit, _)| set >> bit & 1 == 1)
                        .map(|(_, at)| *at)
                        .collect(),
                );
            }
            return;
        }
        let step = count.div_ceil(SINGLES);
        for one in loose.iter().step_by(step) {
            lacking(vec![*one]);
            lacking(loose.iter().copied().filter(|other| other != one).collect());
        }
        for _ in 0..SAMPLES {
            let share = random.draw() % 7 + 1;
            let missing: Vec<usize> =
                loose.iter().copied().filter(|_| random.draw() % 8 < share).collect();
            if !missing.is_empty() {
                lacking(missing);
            }
        }
    }
}

/// A moment of a power cut: everything before `until` has reached the drive, but what is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The number of entries that have happened.
    pub until: usize,
    /// Those that have not become durable, in order.
    pub missing: Vec<usize>,
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "after entry {}", self.until)?;
        match self.missing.len() {
            0 => Ok(()),
            1..=8 => write!(f, ", without {:?}", self.missing),
            more => write!(f, ", without {more} of the last writes"),
        }
    }
}

/// The drive at one moment.
#[derive(Clone, Debug)]
pub struct Drive<'a> {
    recording: &'a Recording,
    /// Which version of each sector there is.
    versions: Vec<u32>,
    /// What the last moment has changed and the next takes back: sectors, and their versions before.
    applied: Vec<(Range<usize>, Vec<u32>)>,
    /// Up to where everything is applied for good.
    mark: usize,
}

impl Drive<'_> {
    /// Moves on to a moment; what has changed is returned. Moments come in the order of [`Recording::moments`].
    pub fn advance(&mut self, moment: &Moment) -> Result<Vec<Range<usize>>> {
        ensure!(self.mark <= moment.until, "Moments come in order");
        let mut changed = Vec::new();
        for (range, before) in std::mem::take(&mut self.applied).into_iter().rev() {
            self.versions[range.clone()].copy_from_slice(&before);
            changed.push(range);
        }
        let for_good = moment.missing.is_empty();
        for index in self.mark..moment.until {
            if moment.missing.binary_search(&index).is_ok() {
                continue;
            }
            let Some(range) = self.recording.range(index)? else { continue };
            if !for_good {
                self.applied.push((range.clone(), self.versions[range.clone()].to_vec()));
            }
            self.apply(index, range.clone())?;
            changed.push(range);
        }
        if for_good {
            self.mark = moment.until;
        }
        Ok(changed)
    }

    fn apply(&mut self, index: usize, range: Range<usize>) -> Result<()> {
        let first = match self.recording.entries[index] {
            Entry::Write { data, .. } => u32::try_from(data)?,
            Entry::Discard { .. } | Entry::Flush => {
                self.versions[range].fill(ZEROS);
                return Ok(());
            }
        };
        for (version, own) in self.versions[range].iter_mut().zip(first..) {
            *version = own;
        }
        Ok(())
    }

    /// The sectors from `first` on, as bytes.
    pub fn read(&self, first: usize, sectors: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; sectors * SECTOR];
        let versions =
            self.versions.get(first..first + sectors).context("Reading beyond the drive")?;
        let mut at = 0;
        while at < sectors {
            let run = run(&versions[at..]);
            let part = &mut bytes[at * SECTOR..(at + run) * SECTOR];
            match versions[at] {
                BASE => self.recording.base.read_exact_at(part, ((first + at) * SECTOR) as u64)?,
                ZEROS => {}
                version => {
                    self.recording.log.read_exact_at(part, u64::from(version) * SECTOR as u64)?;
                }
            }
            at += run;
        }
        Ok(bytes)
    }

    /// A number for the content of these sectors: the same versions have the same number.
    #[must_use]
    pub fn fingerprint(&self, sectors: Range<usize>) -> u64 {
        let mut hasher = DefaultHasher::new();
        sectors.start.hash(&mut hasher);
        self.versions.get(sectors).hash(&mut hasher);
        hasher.finish()
    }

    /// How many sectors it has.
    #[must_use]
    pub fn sectors(&self) -> usize {
        self.versions.len()
    }

    /// Writes sectors that differ from what the drive was before everything to a copy of that, `shift` sectors earlier.
    pub fn write(&self, sectors: Range<usize>, copy: &File, shift: usize) -> Result<()> {
        let mut at = sectors.start;
        while at < sectors.end {
            let run = run(&self.versions[at..sectors.end]);
            if self.versions[at] != BASE {
                copy.write_all_at(&self.read(at, run)?, ((at - shift) * SECTOR) as u64)?;
            }
            at += run;
        }
        Ok(())
    }
}

/// How many of these stand in one piece.
fn run(versions: &[u32]) -> usize {
    let Some(first) = versions.first().copied() else { return 0 };
    let follows = |(at, version): (usize, &u32)| match first {
        BASE | ZEROS => *version == first,
        first => u32::try_from(at).is_ok_and(|at| version.checked_sub(at) == Some(first)),
    };
    versions.iter().enumerate().take_while(|(at, version)| follows((*at, *version))).count()
}

/// Numbers that look random and repeat with their seed (xorshift64).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// From this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next one.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[cfg(test)]
#[path = "replay/tests.rs"]
mod tests;
