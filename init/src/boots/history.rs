// SPDX-License-Identifier: Apache-2.0
//! The boots that could not tell how they ended, or that they were: what others know of them.

use crate::evidence::Dump;
use std::collections::{BTreeMap, VecDeque};
use stele_machine::{
    arguments::Attempt,
    boots::{Ended, Health, How, Record, Start},
    slots::{Observed, Slot, State},
};

/// What is known when a boot begins.
#[derive(Debug)]
pub(super) struct Known {
    /// The records, oldest first.
    pub(super) history: Vec<Record>,
    /// The number of the last boot.
    pub(super) last: u64,
    /// What kernels wrote down since the last boot that could read it, oldest first.
    pub(super) dumps: VecDeque<Dump>,
    /// Whether a watchdog says that it restarted the machine.
    pub(super) watchdog: bool,
}

/// A record that was completed or added, and what its kernel wrote down.
#[derive(Debug, PartialEq)]
pub(super) struct Completed {
    pub(super) record: Record,
    pub(super) dump: Option<Dump>,
}

/// A try of the boot loader of which nothing reached the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) slot: Slot,
    pub(super) attempt: u32,
}

impl Known {
    /// The end of the last boot that has a record, if that does not say it.
    pub(super) fn end_last(&mut self) -> Option<Completed> {
        let record = self.history.last_mut().filter(|record| record.ended.is_none())?;
        let dump = self.dumps.pop_front();
        let (how, cause) = match &dump {
            Some(dump) => (How::Panic, dump.cause()),
            None if self.watchdog => {
                (How::Watchdog, "the watchdog restarted the machine".to_owned())
            }
            None => (How::Lost, "power was cut, or the machine was reset".to_owned()),
        };
        record.ended = Some(Ended { how, cause, asked: false });
        Some(Completed { record: record.clone(), dump })
    }

    /// A try that left no record. `fault` is what a look at the image found.
    pub(super) fn add(&mut self, lost: &Lost, fault: Option<String>) -> Completed {
        let dump = self.dumps.pop_front();
        let (how, cause) = match (&dump, fault) {
            (_, Some(fault)) => (How::Lost, format!("the image is broken: {fault}")),
            (Some(dump), None) => (How::Panic, dump.cause()),
            (None, None) => (
                How::Lost,
                "it was started and nothing of it reached the disk: it hung, or was reset before"
                    .to_owned(),
            ),
        };
        let time = dump.as_ref().map_or(0, |dump| dump.time);
        let ended = Ended { how, cause, asked: false };
        self.push(of_slot(&lost.slot, lost.attempt, time, ended), dump)
    }

    /// The start with kernel arguments that a boot has asked for and that did not come up: why, and its record if it has left
    /// none.
    pub(super) fn with_arguments(&mut self, attempt: &Attempt) -> (String, Option<Completed>) {
        let left = self.history.last().filter(|record| record.number > attempt.boot);
        if let Some(record) = left {
            return (record.cause().to_owned(), None);
        }
        let dump = self.dumps.pop_front();
        let (how, cause) = match &dump {
            Some(dump) => (How::Panic, dump.cause()),
            None => (
                How::Lost,
                "nothing of that start reached the disk: it hung, was reset, or did not find the disk"
                    .to_owned(),
            ),
        };
        let record = Record {
            image: attempt.image.clone(),
            generation: Some(attempt.generation),
            arguments: attempt.args.clone(),
            time: dump.as_ref().map_or(0, |dump| dump.time),
            started: Start::Lost { attempt: attempt.tries },
            ended: Some(Ended { how, cause: cause.clone(), asked: false }),
            ..Record::default()
        };
        (cause, Some(self.push(record, dump)))
    }

    /// An image that the loader never took.
    pub(super) fn never_started(&mut self, slot: &Slot, fault: String) -> Completed {
        let cause = format!("the boot loader could not start it: {fault}");
        let ended = Ended { how: How::Lost, cause, asked: false };
        self.push(of_slot(slot, 0, 0, ended), None)
    }

    /// What no boot without an end could be found for: kernels that panicked while they were ending.
    pub(super) fn leftovers(&mut self) -> Vec<Completed> {
        let Some(record) = self.history.last().cloned() else { return Vec::new() };
        let dumps = std::mem::take(&mut self.dumps).into_iter();
        dumps.map(|dump| Completed { record: record.clone(), dump: Some(dump) }).collect()
    }

    fn push(&mut self, record: Record, dump: Option<Dump>) -> Completed {
        self.last = self.last.saturating_add(1);
        let record = Record { number: self.last, health: Health::Pending, ..record };
        self.history.push(record.clone());
        Completed { record, dump }
    }
}

/// A start of an image by the loader of which nothing reached the disk.
fn of_slot(slot: &Slot, attempt: u32, time: i64, ended: Ended) -> Record {
    Record {
        image: slot.version().as_str().to_owned(),
        time,
        started: Start::Lost { attempt },
        ended: Some(ended),
        ..Record::default()
    }
}

/// The tries that the loader counted and no record tells of; `recorded` says which have one, by version.
pub(super) fn lost(slots: &[Slot], recorded: &BTreeMap<String, u32>) -> Vec<Lost> {
    let mut all = Vec::new();
    for slot in slots {
        let done = match slot.state {
            // The one that is running tells of itself.
            State::Trying { done, .. } if slot.running => done.saturating_sub(1),
            State::Trying { done, .. } | State::Bad { done } => done,
            State::Staged | State::Good => continue,
        };
        let before = recorded.get(slot.version().as_str()).copied().unwrap_or(0);
        // Fewer than before: another image of the same version, with a counter of its own.
        let before = if before > done { 0 } else { before };
        all.extend(
            (before..done).map(|try_before| Lost {
                slot: slot.clone(),
                attempt: try_before.saturating_add(1),
            }),
        );
    }
    all
}

/// The images that the loader should have tried before the running one, and did not.
pub(super) fn passed_over<'a>(
    slots: &'a [Slot],
    observed: Option<&Observed>,
) -> impl Iterator<Item = &'a Slot> {
    let running = slots.iter().position(|slot| slot.running);
    let preferred = observed.and_then(|observed| observed.preferred.as_deref());
    let chosen = running
        .and_then(|index| slots.get(index))
        .is_some_and(|slot| Some(slot.id.as_str()) == preferred);
    let before = if chosen { 0 } else { running.unwrap_or(0) };
    slots.iter().take(before).filter(|slot| matches!(slot.state, State::Trying { left: 1.., .. }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use stele_machine::slots::{Listed, observe};

    fn slots(files: &[&str], selected: &str) -> Vec<Slot> {
        let files = files.iter().map(|name| Listed { name: (*name).to_owned(), size: 1 }).collect();
        observe(&Observed { files, selected: Some(selected.to_owned()), ..Observed::default() })
    }

    fn known(dumps: &[&str]) -> Known {
        let dump = |cause: &&str| Dump::of_panic(9, cause);
        Known {
            history: Vec::new(),
            last: 4,
            dumps: dumps.iter().map(dump).collect(),
            watchdog: false,
        }
    }

    #[test]
    fn tries_without_a_record_are_found() {
        let slots = slots(&["stele_1.efi", "stele_2+0-3.efi"], "stele_1.efi");
        let attempts = |recorded: &[(&str, u32)]| -> Vec<u32> {
            let recorded =
                recorded.iter().map(|(version, done)| ((*version).to_owned(), *done)).collect();
            lost(&slots, &recorded).iter().map(|lost| lost.attempt).collect()
        };
        assert_eq!(attempts(&[]), [1, 2, 3]);
        assert_eq!(attempts(&[("2", 2)]), [3]);
        assert_eq!(attempts(&[("2", 3)]), [] as [u32; 0]);
        assert_eq!(attempts(&[("2", 9)]), [1, 2, 3]);
    }

    #[test]
    fn the_running_one_tells_of_itself() {
        let slots = slots(&["stele_1.efi", "stele_2+1-2.efi"], "stele_2.efi");
        assert_eq!(lost(&slots, &BTreeMap::new()).len(), 1);
    }

    #[test]
    fn an_image_that_was_passed_over() {
        let slots = slots(&["stele_1.efi", "stele_2+3.efi", "stele_0+3.efi"], "stele_1.efi");
        let over: Vec<&str> = passed_over(&slots, None).map(|slot| slot.id.as_str()).collect();
        assert_eq!(over, ["stele_2.efi"]);
    }

    #[test]
    fn every_lost_try_gets_its_own_dump() {
        let slots = slots(&["stele_1.efi", "stele_2+0-2.efi"], "stele_1.efi");
        let mut known = known(&["first", "second"]);
        let causes: Vec<String> = lost(&slots, &BTreeMap::new())
            .iter()
            .map(|lost| known.add(lost, None).record.cause().to_owned())
            .collect();
        assert_eq!(causes, ["kernel panic: first", "kernel panic: second"]);
        assert_eq!((known.last, known.history.len()), (6, 2));
    }

    #[test]
    fn a_start_with_arguments_that_left_nothing_has_a_record() {
        let attempt = Attempt {
            generation: 7,
            args: vec!["nosmt".to_owned()],
            image: "1".to_owned(),
            boot: 4,
            tries: 1,
            failure: String::new(),
        };
        let mut known = known(&["out of memory"]);
        let (cause, completed) = known.with_arguments(&attempt);
        assert_eq!(cause, "kernel panic: out of memory");
        let record = completed.unwrap().record;
        assert_eq!(
            (record.number, record.arguments, record.generation),
            (5, attempt.args, Some(7))
        );
    }

    #[test]
    fn one_that_has_left_a_record_tells_by_it() {
        let mut known = known(&[]);
        let ended = Ended { how: How::Lost, cause: "it hung".to_owned(), asked: false };
        known.history = vec![Record { number: 5, ended: Some(ended), ..Record::default() }];
        let attempt = Attempt {
            generation: 7,
            args: Vec::new(),
            image: "1".to_owned(),
            boot: 4,
            tries: 1,
            failure: String::new(),
        };
        assert_eq!(known.with_arguments(&attempt), ("it hung".to_owned(), None));
        let (cause, completed) = known.with_arguments(&Attempt { boot: 5, ..attempt });
        assert!(completed.is_some() && cause.contains("reached the disk"), "{cause}");
    }
}
