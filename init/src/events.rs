// SPDX-License-Identifier: Apache-2.0
//! Events: what happened to the machine's resources, and by whose request.
//!
//! ```text
//! Store::put, a state that changes ─► Event ─┬─► a ring in memory ─► those who follow
//!        cause: the request under way ───┘   └─► /var/log/stele/events.log, which outlives boots
//! ```
//!
//! Events have one format in memory, on the wire and on disk, as logs do: an encoded `EventsChunk.events` field each, so that
//! any row of them is a message by itself. What is read is what the files had before this boot, then the ring.

use crate::{
    log_files::{self, LogFiles, Write},
    logs,
};
use prost::Message as _;
use std::{
    cell::{Cell, RefCell},
    path::Path,
    rc::Rc,
};
use stele_machine::ring::{Position, Ring};
use stele_proto::v1::{Event, EventsChunk};
use tokio::sync::watch;

/// The file's name; see [`log_files`].
pub(crate) const FILE: &str = "events";
/// Bytes in memory: what happens in a boot, unless it is a busy one.
const LIMIT: usize = 512 * 1024;
/// The longest message. Two files of events hold more than ten thousand.
const LONGEST: usize = 320;
/// Events that may wait for the disk at the start.
const EARLY: usize = 1000;
/// RFC 5424 severities.
const ERROR: u32 = 3;
const INFORMATIONAL: u32 = 6;

tokio::task_local! {
    static CAUSE: Cause;
}

/// The request that makes things happen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cause {
    /// Its name in the audit log.
    pub(crate) request: String,
    /// Who made it.
    pub(crate) subject: String,
}

impl Cause {
    /// Does something because of this.
    pub(crate) fn act<T>(self, work: impl FnOnce() -> T) -> T {
        CAUSE.sync_scope(self, work)
    }

    /// The same, for what takes a while.
    pub(crate) async fn carry<F: Future>(self, work: F) -> F::Output {
        CAUSE.scope(self, work).await
    }

    fn current() -> Cause {
        CAUSE.try_with(Clone::clone).unwrap_or_default()
    }
}

/// So many events were given up before they were read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lost(pub(crate) u64);

/// All events.
#[derive(Debug)]
pub(crate) struct Events {
    ring: RefCell<Ring>,
    grown: watch::Sender<()>,
    /// The number of the last one; nothing until the files were looked at.
    last: Cell<Option<u64>>,
    early: RefCell<Vec<Event>>,
    files: RefCell<Option<Rc<LogFiles>>>,
    boot: Cell<u64>,
}

impl Default for Events {
    fn default() -> Events {
        Events {
            ring: RefCell::new(Ring::new(LIMIT)),
            grown: watch::Sender::new(()),
            last: Cell::new(None),
            early: RefCell::default(),
            files: RefCell::default(),
            boot: Cell::new(0),
        }
    }
}

/// The number of the last event on disk, in this folder. May block.
pub(crate) fn last_on_disk(folder: &Path) -> u64 {
    let mut last = 0;
    // What can't be read has no events.
    let _unreadable = read_files(folder, &mut |events| {
        last = events.iter().map(|event| event.number).fold(last, u64::max);
        true
    });
    last
}

/// Reads the events on disk, oldest first, until `take` wants no more. May block.
pub(crate) fn read_files(
    folder: &Path,
    take: &mut dyn FnMut(Vec<Event>) -> bool,
) -> std::io::Result<()> {
    for file in log_files::both_files(folder, FILE) {
        let mut reader = log_files::FileReader::open(&file)?;
        loop {
            let stretch = reader.next()?;
            if stretch.is_empty() {
                break;
            }
            let chunk = EventsChunk::decode(stretch.as_slice()).map_err(std::io::Error::other)?;
            if !take(chunk.events) {
                return Ok(());
            }
        }
    }
    Ok(())
}

impl Events {
    /// What happened before gets its numbers, and everything is kept from now on.
    pub(crate) fn start(&self, boot: u64, last: u64, files: Rc<LogFiles>) {
        self.boot.set(boot);
        self.last.set(Some(last));
        *self.files.borrow_mut() = Some(files);
        for event in self.early.take() {
            self.add(event);
        }
    }

    /// Something happened. `wrong` is what someone should look at.
    pub(crate) fn happened(&self, kind: &str, name: &str, message: &str, wrong: bool) {
        let Cause { request, subject } = Cause::current();
        let mut message = message.replace('\n', " ");
        message.truncate(message.floor_char_boundary(LONGEST));
        let event = Event {
            number: 0,
            time_us: logs::now_us(),
            boot: 0,
            kind: kind.to_owned(),
            name: name.to_owned(),
            message,
            severity: if wrong { ERROR } else { INFORMATIONAL },
            request,
            subject,
        };
        self.add(event);
    }

    fn add(&self, event: Event) {
        let Some(last) = self.last.get() else {
            let mut early = self.early.borrow_mut();
            if early.len() < EARLY {
                early.push(event);
            }
            return;
        };
        let number = last.saturating_add(1);
        self.last.set(Some(number));
        let time = event.time_us;
        let event = Event { number, boot: self.boot.get(), ..event };
        let bytes = EventsChunk { events: vec![event] }.encode_to_vec();
        self.ring.borrow_mut().push(time, |ring| ring.extend_from_slice(&bytes));
        if let Some(files) = &*self.files.borrow() {
            files.write(Write { log: FILE.to_owned(), bytes });
        }
        self.grown.send_replace(());
    }

    /// Reads a stretch from a position on; the position moves behind it. Empty when there is nothing new.
    ///
    /// # Errors
    /// When there is a gap between the position and what memory still has.
    pub(crate) fn read(&self, position: &mut Position) -> Result<Vec<Event>, Lost> {
        let ring = self.ring.borrow();
        let stretch = ring.read(*position);
        if stretch.lost > 0 {
            return Err(Lost(stretch.lost));
        }
        *position = stretch.next;
        // They were encoded here.
        Ok(EventsChunk::decode(stretch.bytes).map(|chunk| chunk.events).unwrap_or_default())
    }

    /// Where the oldest in memory is.
    pub(crate) fn start_of_memory(&self) -> Position {
        self.ring.borrow().tail(0)
    }

    /// Says when there is more to read.
    pub(crate) fn follow(&self) -> watch::Receiver<()> {
        self.grown.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(events: &Events) -> Vec<Event> {
        let mut position = events.start_of_memory();
        std::iter::from_fn(|| events.read(&mut position).ok().filter(|read| !read.is_empty()))
            .flatten()
            .collect()
    }

    #[test]
    fn numbers_go_on_where_the_last_boot_ended() {
        let events = Events::default();
        events.happened("Link", "eth0", "up", false);
        assert!(all(&events).is_empty(), "it has no number yet");
        events.start(3, 41, Rc::new(LogFiles::new()));
        events.happened("Link", "eth0", "down", true);
        let seen: Vec<_> = (all(&events).iter())
            .map(|event| (event.number, event.boot, event.message.clone(), event.severity))
            .collect();
        assert_eq!(seen, [(42, 3, "up".to_owned(), 6), (43, 3, "down".to_owned(), 3)]);
    }

    #[test]
    fn who_reads_too_late_is_told_how_much_is_gone() {
        let events = Events::default();
        events.start(1, 0, Rc::new(LogFiles::new()));
        let mut position = events.start_of_memory();
        let message = "x".repeat(LONGEST);
        (0..3000).for_each(|_| events.happened("Link", "eth0", &message, false));
        let first = all(&events).first().map_or(0, |event| event.number);
        assert_eq!(events.read(&mut position), Err(Lost(first - 1)));
        assert!(first > 1 && position == Position::default());
    }

    #[test]
    fn the_request_under_way_is_the_cause() {
        let events = Events::default();
        events.start(1, 0, Rc::new(LogFiles::new()));
        let cause = Cause { request: "a-1".to_owned(), subject: "ada".to_owned() };
        cause.act(|| events.happened("Generation", "7", "active", false));
        events.happened("Generation", "8", "active", false);
        let seen: Vec<_> = all(&events).iter().map(|event| event.request.clone()).collect();
        assert_eq!(seen, ["a-1", ""]);
    }

    #[test]
    fn a_message_is_one_line_and_not_too_long() {
        let events = Events::default();
        events.start(1, 0, Rc::new(LogFiles::new()));
        events.happened("Service", "apid", &format!("a\n{}", "ü".repeat(500)), false);
        let message = all(&events).remove(0).message;
        assert!(message.starts_with("a ü") && message.len() <= LONGEST, "{}", message.len());
    }
}
