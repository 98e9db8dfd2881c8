// SPDX-License-Identifier: Apache-2.0
//! Slots: which image the next boot tries, when it is known to be good, and what may go.
//!
//! A slot is a file on the ESP; its state is its name, so a rename changes it at once or not at all.
//!
//! ```text
//!                 activate                  bless (it runs and is healthy)
//!   Staged ──────────────────► Trying +N ─────────────────────────────────► Good
//!     ▲                         │  │ │                                       │ │
//!     └─── another one is ◄─────┘  │ └─ the loader counts it down to +0 ─┐   │ │
//!          activated               │                                     ▼   │ │
//!                                  └──── rollback ─────────────────────► Bad ◄─┘ rollback, when another is Good
//!                                                                        │   │
//!                                     gone: retire, or the same version ◄┴───┘   retire, when two others are Good
//!                                     is activated again                         or the running one is
//! ```
//!
//! The loader starts the newest version that is not Bad, unless a preference names another one that is not Bad. It
//! counts a Trying slot down before it starts it. So nothing here ever needs to run for a broken image to be left.
//!
//! Guarantees, after every single effect, whatever comes in between (see the tests):
//!
//! * there is a slot that is Good and that nothing has touched since it became so;
//! * a slot that is Good is renamed or removed only while another one is Good that the loader will find;
//! * however many new images fail in a row, the loader ends on one that is Good.

use std::cmp::Ordering;

use stele_layout::slot::{DIRECTORY, INCOMING, SlotFile, SlotId, Stage, TRIES};
use stele_layout::version::Version;

/// A file in the directory of images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
}

/// What the machine can see of its slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The directory of images.
    pub files: Vec<Listed>,
    /// `LoaderEntrySelected`: the entry that the loader started, if it was the loader that started this machine.
    pub selected: Option<String>,
    /// `LoaderEntryPreferred`: the entry that the loader takes before newer ones.
    pub preferred: Option<String>,
    /// The directory of entries that are no images.
    pub entries: Vec<String>,
}

/// What a slot's name says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Complete on the ESP, not bootable until it is activated.
    Staged,
    /// Under a boot counter.
    Trying {
        /// Boots that the loader will still try.
        left: u32,
        /// Boots tried.
        done: u32,
    },
    /// Known to be good.
    Good,
    /// Out of tries, or rolled back from.
    Bad {
        /// Boots tried.
        done: u32,
    },
}

/// One image on the ESP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The loader's name for it.
    pub id: SlotId,
    /// The name of its file.
    pub file: SlotFile,
    /// What that says.
    pub state: State,
    /// True if this image is running.
    pub running: bool,
    /// Size in bytes.
    pub size: u64,
}

impl Slot {
    /// The version in its name.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.file.version
    }
}

/// One step, done before the next one is begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Rename a file in the directory of images, and sync the directory.
    Rename {
        /// The name it has.
        from: String,
        /// The name it gets, which nothing has.
        to: String,
    },
    /// Remove a file from the directory of images.
    Remove {
        /// Its name.
        file: String,
    },
    /// Set `LoaderEntryPreferred`, or clear it.
    Prefer(Option<SlotId>),
    /// Write an entry for one start.
    WriteEntry {
        /// Its name, which is that of its file.
        name: String,
        /// What is in it.
        text: String,
    },
    /// Remove such an entry.
    RemoveEntry {
        /// Its name.
        name: String,
    },
    /// Set `LoaderEntryOneShot`: the loader takes this entry for the next start, and forgets it before it starts it.
    StartOnce(String),
    /// Restart the machine.
    Reboot,
}

/// Why a decision was not the one that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Started some other way: over the network, or by a loader of another kind.
    #[error(
        "this machine was not started from an image on its own disk, so there is no slot to go on from"
    )]
    NotFromDisk,
    /// The running image is still on trial.
    #[error("the running image {0} is not known to be good yet; wait until it is, or roll back")]
    RunningOnTrial(SlotId),
    /// There is no such slot, or it isn't staged.
    #[error("no staged image is in slot {0}")]
    NotStaged(String),
    /// A good slot has this version already.
    #[error("version {version} is on this machine already, in slot {id}")]
    SameVersion {
        /// The version that was asked for.
        version: Version,
        /// Where it is.
        id: SlotId,
    },
    /// Nothing to go back to.
    #[error(
        "no other image on this machine is known to be good, so there is nothing to roll back to"
    )]
    NothingToRollBackTo,
    /// No room can be made.
    #[error(
        "the image has {needed} bytes; the boot partition has {free} bytes free, and {removable} more could be made free"
    )]
    NoRoom {
        /// Bytes asked for.
        needed: u64,
        /// Bytes free now.
        free: u64,
        /// Bytes in files that may go.
        removable: u64,
    },
}

/// The slots that the files make up, in the loader's order: the one it would take first comes first, those that it
/// can't see come last.
#[must_use]
pub fn observe(observed: &Observed) -> Vec<Slot> {
    let selected = observed.selected.as_deref().and_then(SlotId::started_by);
    let mut slots: Vec<Slot> = observed
        .files
        .iter()
        .filter_map(|listed| {
            let file = SlotFile::parse(&listed.name)?;
            let state = match file.stage {
                Stage::Part => return None,
                Stage::Staged => State::Staged,
                Stage::Counted { left: 0, done } => State::Bad { done: done.unwrap_or(0) },
                Stage::Counted { left, done } => State::Trying { left, done: done.unwrap_or(0) },
                Stage::Plain => State::Good,
            };
            Some(Slot { id: file.id(), file, state, running: false, size: listed.size })
        })
        .collect();
    slots.sort_by(|left, right| in_loader_order(&left.file, &right.file));
    // A name may occur twice only if someone copied files by hand; the loader then started the first one.
    if let Some(slot) = slots
        .iter_mut()
        .find(|slot| Some(&slot.id) == selected.as_ref() && slot.state != State::Staged)
    {
        slot.running = true;
        if let State::Bad { done } = slot.state {
            // The last try has the counter at zero while it runs.
            slot.state = State::Trying { left: 0, done };
        }
    }
    slots
}

/// Which of two files the loader puts first, as systemd-boot 262 does for images of one product.
fn in_loader_order(left: &SlotFile, right: &SlotFile) -> Ordering {
    let rank = |file: &SlotFile| match file.stage {
        Stage::Plain => 0,
        Stage::Counted { left, .. } => u8::from(left == 0),
        Stage::Staged => 2,
        Stage::Part => 3,
    };
    rank(left)
        .cmp(&rank(right))
        .then_with(|| right.version.compare(&left.version))
        .then_with(|| right.version.as_str().cmp(left.version.as_str()))
        .then_with(|| left.to_string().cmp(&right.to_string()))
}

fn running(slots: &[Slot]) -> Result<&Slot, Refused> {
    slots.iter().find(|slot| slot.running).ok_or(Refused::NotFromDisk)
}

fn rename(slot: &Slot, stage: Stage) -> Effect {
    Effect::Rename { from: slot.file.to_string(), to: slot.file.at(stage).to_string() }
}

fn remove(slot: &Slot) -> Effect {
    Effect::Remove { file: slot.file.to_string() }
}

/// Sets or clears the preference so that the loader starts `target`, when `bootable` are the files that it will find.
fn prefer<'a>(
    target: &'a SlotFile,
    bootable: impl Iterator<Item = &'a SlotFile>,
    observed: &Observed,
) -> Option<Effect> {
    let first = bootable.chain([target]).min_by(|left, right| in_loader_order(left, right));
    let wanted = if first == Some(target) { None } else { Some(target.id()) };
    let set = wanted.as_ref().map(SlotId::as_str) != observed.preferred.as_deref();
    set.then_some(Effect::Prefer(wanted))
}

/// May this machine take images at all?
///
/// # Errors
/// When it was started some other way.
pub fn ready(observed: &Observed) -> Result<(), Refused> {
    running(&observe(observed)).map(drop)
}

/// May an image of this version be put on this machine? To be asked as soon as its version is known.
///
/// # Errors
/// When a good slot has it already, or there is nothing to go on from.
pub fn accept(version: &Version, observed: &Observed) -> Result<(), Refused> {
    let slots = observe(observed);
    running(&slots)?;
    let same = |slot: &&Slot| {
        (slot.running || slot.state == State::Good)
            && slot.version().compare(version) == Ordering::Equal
    };
    match slots.iter().find(same) {
        Some(slot) => Err(Refused::SameVersion { version: version.clone(), id: slot.id.clone() }),
        None => Ok(()),
    }
}

/// Puts a staged image under a boot counter and restarts into it.
///
/// # Errors
/// When the slot holds no staged image, the running one is on trial itself, or a good slot has the same version.
pub fn activate(id: &str, observed: &Observed) -> Result<Vec<Effect>, Refused> {
    let slots = observe(observed);
    let running = running(&slots)?;
    if running.state != State::Good {
        return Err(Refused::RunningOnTrial(running.id.clone()));
    }
    let others = || slots.iter().filter(|slot| !slot.running);
    let candidate = others()
        .find(|slot| slot.id.as_str() == id && slot.state == State::Staged)
        .or_else(|| {
            others()
                .find(|slot| slot.id.as_str() == id && matches!(slot.state, State::Trying { .. }))
        })
        .ok_or_else(|| Refused::NotStaged(id.to_owned()))?;
    accept(candidate.version(), observed)?;

    let mut effects = Vec::new();
    let taken = |file: &SlotFile| slots.iter().any(|slot| slot.file == *file);
    for other in others().filter(|slot| slot.file != candidate.file) {
        let twin = other.version().compare(candidate.version()) == Ordering::Equal;
        match other.state {
            // The remains of an earlier attempt at this version.
            State::Bad { .. } | State::Trying { .. } if twin => effects.push(remove(other)),
            // One candidate at a time: the loader would take the newest.
            State::Trying { .. } if taken(&other.file.at(Stage::Staged)) => {
                effects.push(remove(other))
            }
            State::Trying { .. } => effects.push(rename(other, Stage::Staged)),
            State::Staged | State::Good | State::Bad { .. } => {}
        }
    }
    let target = candidate.file.at(Stage::Counted { left: TRIES, done: None });
    if candidate.file != target {
        effects.push(rename(candidate, target.stage));
    }
    let bootable = slots.iter().filter(|slot| slot.state == State::Good).map(|slot| &slot.file);
    effects.extend(prefer(&target, bootable, observed));
    effects.push(Effect::Reboot);
    Ok(effects)
}

/// Makes the running image permanent, now that it is known to be good. Nothing to do if it is so already.
///
/// # Errors
/// When the machine was started some other way.
pub fn bless(observed: &Observed) -> Result<Vec<Effect>, Refused> {
    let slots = observe(observed);
    let running = running(&slots)?;
    let mut effects = Vec::new();
    let plain = running.file.at(Stage::Plain);
    if running.state != State::Good
        && !observed.files.iter().any(|listed| listed.name == plain.to_string())
    {
        effects.push(rename(running, Stage::Plain));
    }
    // A preference that says what the order says anyway would only be in the way of the next upgrade.
    if observed.preferred.as_deref() == Some(running.id.as_str()) {
        let bootable = slots
            .iter()
            .filter(|slot| slot.state != State::Staged && !slot.running)
            .map(|slot| &slot.file);
        effects.extend(prefer(&plain, bootable, observed));
    }
    Ok(effects)
}

/// Marks the running image as not to be booted, and restarts into the newest other one that is good.
///
/// # Errors
/// When there is no other good one.
pub fn rollback(observed: &Observed) -> Result<Vec<Effect>, Refused> {
    let slots = observe(observed);
    let running = running(&slots)?;
    let good = |slot: &&Slot| !slot.running && slot.state == State::Good && slot.size > 0;
    let target = slots.iter().find(good).ok_or(Refused::NothingToRollBackTo)?;
    let done = match running.state {
        State::Trying { done, .. } | State::Bad { done } => done,
        State::Good | State::Staged => 0,
    };
    // The way back is laid before the way on is closed.
    let rejected = running.file.at(Stage::Counted { left: 0, done: Some(done) });
    let bootable = slots
        .iter()
        .filter(|slot| !slot.running && matches!(slot.state, State::Good | State::Trying { .. }))
        .map(|slot| &slot.file);
    let mut effects: Vec<Effect> = prefer(&target.file, bootable, observed).into_iter().collect();
    if running.file != rejected {
        effects.push(rename(running, rejected.stage));
    }
    effects.push(Effect::Reboot);
    Ok(effects)
}

/// Makes room for an image of `needed` bytes when `free` are free: removes no more than it takes.
///
/// What is of least use goes first: what failed, what was staged, old good images. The running image stays whatever
/// happens; so does the newest other good one, while the running one is not known to be good itself.
///
/// # Errors
/// When all that may go is not enough.
pub fn retire(needed: u64, free: u64, observed: &Observed) -> Result<Vec<Effect>, Refused> {
    let slots = observe(observed);
    let mut effects = clean_files(observed);
    let swept: u64 = observed
        .files
        .iter()
        .filter(|listed| effects.contains(&Effect::Remove { file: listed.name.clone() }))
        .map(|listed| listed.size)
        .sum();
    let mut room = free.saturating_add(swept);
    let removable = expendable(&slots);
    let total = removable.iter().fold(room, |sum, slot| sum.saturating_add(slot.size));
    for slot in removable {
        if room >= needed {
            break;
        }
        effects.push(remove(slot));
        room = room.saturating_add(slot.size);
    }
    if room < needed {
        return Err(Refused::NoRoom { needed, free, removable: total.saturating_sub(free) });
    }
    Ok(effects)
}

/// What may be removed to make room, least useful first.
fn expendable(slots: &[Slot]) -> Vec<&Slot> {
    // On a machine that was started some other way nothing says which image is the one to keep.
    if !slots.iter().any(|slot| slot.running) {
        return Vec::new();
    }
    // A rename that the power cut in two may leave both names on FAT, for the same bytes: what has the version of a slot
    // that stays is never removed, as that could take the bytes with it.
    let stays = |slot: &&Slot| slot.running || slot.state == State::Good;
    let twin = |slot: &Slot| {
        slots.iter().filter(stays).any(|other| other.file != slot.file && other.id == slot.id)
    };
    let others = || slots.iter().rev().filter(|slot| !slot.running && !twin(slot));
    let newest_good = slots.iter().find(|slot| !slot.running && slot.state == State::Good);
    let bad = others().filter(|slot| matches!(slot.state, State::Bad { .. }));
    let trying = others().filter(|slot| matches!(slot.state, State::Trying { .. }));
    let staged = others().filter(|slot| slot.state == State::Staged);
    let good = others().filter(|slot| slot.state == State::Good && Some(*slot) != newest_good);
    let running_is_good = slots.iter().any(|slot| slot.running && slot.state == State::Good);
    let last = newest_good.into_iter().filter(|_| running_is_good);
    bad.chain(staged).chain(trying).chain(good).chain(last).collect()
}

/// Takes the boot counter from an image that was activated and never tried: it waits again. Nothing if there is none.
#[must_use]
pub fn withdraw(observed: &Observed) -> Option<(SlotId, Vec<Effect>)> {
    let slots = observe(observed);
    let fresh = |slot: &&Slot| {
        !slot.running && matches!(slot.state, State::Trying { left, done: 0 } if left > 0)
    };
    let slot = slots.iter().find(fresh)?;
    let taken = slots.iter().any(|other| other.file == slot.file.at(Stage::Staged));
    let mut effects = vec![if taken { remove(slot) } else { rename(slot, Stage::Staged) }];
    // Without it, the loader is to start what runs now.
    let stays = |other: &&Slot| other.file != slot.file && other.state == State::Good;
    match slots.iter().find(|slot| slot.running && slot.state == State::Good) {
        Some(running) => {
            let bootable = slots.iter().filter(stays).map(|slot| &slot.file);
            effects.extend(prefer(&running.file, bootable, observed));
        }
        None if observed.preferred.as_deref() == Some(slot.id.as_str()) => {
            effects.push(Effect::Prefer(None));
        }
        None => {}
    }
    Some((slot.id.clone(), effects))
}

/// Starts the running image once more, with this command line, without a word in its own entry or counter: whatever comes of
/// it, the loader goes on as if there had been no such start.
///
/// # Errors
/// When the machine was started some other way.
pub fn start_once(options: &str, observed: &Observed) -> Result<Vec<Effect>, Refused> {
    let slots = observe(observed);
    let running = running(&slots)?;
    let name = running.id.entry();
    let text = format!(
        "title Stele {} with the kernel arguments of its configuration\nefi /{DIRECTORY}/{}\noptions {options}\n",
        running.version(),
        running.file
    );
    Ok(vec![Effect::WriteEntry { name: name.clone(), text }, Effect::StartOnce(name)])
}

/// Whether the loader would start the running image again, and that is known to be good.
#[must_use]
pub fn stays(observed: &Observed) -> bool {
    let slots = observe(observed);
    let bootable =
        |slot: &&Slot| matches!(slot.state, State::Good | State::Trying { left: 1.., .. });
    let preferred = observed.preferred.as_deref();
    let next = (slots.iter().filter(bootable))
        .find(|slot| Some(slot.id.as_str()) == preferred)
        .or_else(|| slots.iter().find(bootable));
    next.is_some_and(|slot| slot.running && slot.state == State::Good)
}

/// Takes an image that the loader was to try and can't start out of its way.
#[must_use]
pub fn condemn(id: &SlotId, observed: &Observed) -> Vec<Effect> {
    let slots = observe(observed);
    let hopeless = |slot: &&Slot| {
        slot.id == *id && !slot.running && matches!(slot.state, State::Trying { .. })
    };
    let free = |file: &SlotFile| slots.iter().all(|slot| slot.file != *file);
    slots
        .iter()
        .filter(hopeless)
        .filter_map(|slot| match slot.state {
            State::Trying { done, .. } => {
                Some((slot, slot.file.at(Stage::Counted { left: 0, done: Some(done) })))
            }
            State::Staged | State::Good | State::Bad { .. } => None,
        })
        .filter(|(_, aside)| free(aside))
        .map(|(slot, aside)| rename(slot, aside.stage))
        .collect()
}

/// Clears what an interruption left behind: images that never became complete, and a preference for nothing.
#[must_use]
pub fn clean(observed: &Observed) -> Vec<Effect> {
    let mut effects = clean_files(observed);
    let slots = observe(observed);
    let bootable = |id: &str| {
        slots.iter().any(|slot| {
            slot.id.as_str() == id && !matches!(slot.state, State::Staged | State::Bad { .. })
        })
    };
    if observed.preferred.as_deref().is_some_and(|preferred| !bootable(preferred)) {
        effects.push(Effect::Prefer(None));
    }
    // They are for the one start that each was written for.
    let entries = observed.entries.iter().filter(|name| SlotId::is_entry(name));
    effects.extend(entries.map(|name| Effect::RemoveEntry { name: name.clone() }));
    effects
}

fn clean_files(observed: &Observed) -> Vec<Effect> {
    let part = |name: &str| {
        name == INCOMING || SlotFile::parse(name).is_some_and(|file| file.stage == Stage::Part)
    };
    observed
        .files
        .iter()
        .filter(|listed| part(&listed.name))
        .map(|listed| Effect::Remove { file: listed.name.clone() })
        .collect()
}

#[cfg(test)]
mod tests;
