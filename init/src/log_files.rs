// SPDX-License-Identifier: Apache-2.0
//! Logs on disk: `/var/log/stele/BOOT/NAME.log` and, after rotation, `NAME.log.1`, as encoded `LogChunk`s. The events, which
//! go on over boots, are beside the boots: `/var/log/stele/events.log`.
//!
//! A thread of its own writes them, so that a slow or dying disk holds nobody up. What comes faster than the disk takes
//! it stays in memory alone. Entries from before the disk was there are kept in the queue and written first.

use crate::events;
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    time::{Duration, Instant},
};

/// Where the logs of each boot lie.
pub(crate) const FOLDER: &str = "/var/log/stele";
/// Boots whose logs are kept, the running one included.
const BOOTS_KEPT: usize = 10;
/// Bytes after which a file is rotated; each log has two.
const ROTATE_AT: u64 = 4 * 1024 * 1024;
/// Writes that wait for the disk.
const QUEUE: usize = 4096;
/// How long what was written may wait until it is durable: what a power cut can take.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// Bytes for a log.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) log: String,
    pub(crate) bytes: Vec<u8>,
}

enum Order {
    Write(Write),
    /// Make everything durable, then answer.
    Flush(SyncSender<()>),
}

/// The way to the thread that writes.
#[derive(Debug)]
pub(crate) struct LogFiles {
    sender: SyncSender<Order>,
    receiver: RefCell<Option<Receiver<Order>>>,
    boot: Cell<u64>,
}

impl LogFiles {
    /// Nothing is written until [`LogFiles::start`]; what comes before waits.
    pub(crate) fn new() -> LogFiles {
        let (sender, receiver) = sync_channel(QUEUE);
        LogFiles { sender, receiver: RefCell::new(Some(receiver)), boot: Cell::new(0) }
    }

    /// Takes bytes for a log. When the queue is full they are given up; memory still has them.
    pub(crate) fn write(&self, write: Write) {
        match self.sender.try_send(Order::Write(write)) {
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }

    /// Starts to write the logs of this boot. Needs `/var`.
    pub(crate) fn start(&self, boot: u64) -> io::Result<()> {
        let folder = Path::new(FOLDER).join(boot.to_string());
        fs::create_dir_all(&folder)?;
        forget_old_boots();
        if let Some(receiver) = self.receiver.borrow_mut().take() {
            std::thread::Builder::new().name("log-files".to_owned()).stack_size(128 * 1024).spawn(
                move || Writer { folder, files: HashMap::new(), complained: false }.run(&receiver),
            )?;
        }
        self.boot.set(boot);
        Ok(())
    }

    /// Without a disk nothing will ever be written: gives up what waits, and takes no more.
    pub(crate) fn abandon(&self) {
        self.receiver.borrow_mut().take();
    }

    /// The number of this boot; 0 when nothing is written.
    pub(crate) fn boot(&self) -> u64 {
        self.boot.get()
    }

    /// Makes everything durable and closes it, within this time or not at all. What comes later is not kept: a file that is
    /// open for writing would keep its volume mounted.
    pub(crate) fn flush(&self, within: Duration) {
        let (done, wait) = sync_channel(1);
        if self.sender.try_send(Order::Flush(done)).is_ok() {
            // Too late is as good as never: the machine is going down.
            let _too_late = wait.recv_timeout(within);
        }
    }
}

/// Keeps a log of an earlier boot that someone else wrote down; `time` is in seconds since the epoch.
pub(crate) fn keep(boot: u64, name: &str, time: i64, lines: &[String]) -> io::Result<()> {
    use prost::Message as _;
    let time_us = u64::try_from(time).unwrap_or(0).saturating_mul(1_000_000);
    let entry = |line: &String| stele_proto::v1::LogEntry {
        time_us,
        severity: crate::logs::INFORMATIONAL.into(),
        message: line.clone().into_bytes(),
        lost: 0,
    };
    let chunk = stele_proto::v1::LogChunk { entries: lines.iter().map(entry).collect() };
    let folder = Path::new(FOLDER).join(boot.to_string());
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{name}.log"));
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(&chunk.encode_to_vec())?;
    file.sync_data()?;
    File::open(&folder)?.sync_all()?;
    File::open(FOLDER)?.sync_all()
}

/// The logs on disk of boots before this one: (boots back, name, bytes).
pub(crate) fn earlier(boot: u64) -> Vec<(i32, String, u64)> {
    let mut found = Vec::new();
    for number in boots() {
        let Some(back) = boot
            .checked_sub(number)
            .filter(|back| *back > 0)
            .and_then(|back| i32::try_from(back).ok())
        else {
            continue;
        };
        let folder = Path::new(FOLDER).join(number.to_string());
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let size = entry.metadata().map(|metadata| metadata.len()).unwrap_or(0);
            if let Some(name) =
                entry.file_name().to_str().and_then(|name| name.strip_suffix(".log"))
            {
                found.push((back.saturating_neg(), name.to_owned(), size));
            }
        }
    }
    found
}

/// The files of a log of an earlier boot, oldest first.
pub(crate) fn files_of(boot: u64, name: &str) -> Vec<PathBuf> {
    if name.contains(['/', '\0']) || name.starts_with('.') {
        return Vec::new();
    }
    both_files(&Path::new(FOLDER).join(boot.to_string()), name)
}

/// The files of a log in a folder, oldest first.
pub(crate) fn both_files(folder: &Path, name: &str) -> Vec<PathBuf> {
    // The name may be anybody's: no log's has a folder in it.
    if name.contains('/') {
        return Vec::new();
    }
    [format!("{name}.log.1"), format!("{name}.log")]
        .into_iter()
        .map(|file| folder.join(file))
        .filter(|file| file.is_file())
        .collect()
}

/// Reads a log file in stretches of whole entries. A last entry that was cut off by a power failure is left out.
#[derive(Debug)]
pub(crate) struct FileReader {
    file: File,
    rest: Vec<u8>,
}

impl FileReader {
    pub(crate) fn open(path: &Path) -> io::Result<FileReader> {
        Ok(FileReader { file: File::open(path)?, rest: Vec::new() })
    }

    /// The next stretch; empty at the end.
    pub(crate) fn next(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = std::mem::take(&mut self.rest);
        loop {
            let before = bytes.len();
            bytes.resize(before.saturating_add(64 * 1024), 0);
            let read = self.file.read(bytes.get_mut(before..).unwrap_or_default())?;
            bytes.truncate(before.saturating_add(read));
            let whole = whole_entries(&bytes);
            if whole > 0 || read == 0 {
                self.rest = bytes.split_off(whole);
                return Ok(bytes);
            }
        }
    }
}

/// How many of these bytes are whole entries.
pub(crate) fn whole_entries(bytes: &[u8]) -> usize {
    let mut whole: usize = 0;
    while let Some(rest) = bytes.get(whole.saturating_add(1)..) {
        let Ok(length) = prost::decode_length_delimiter(rest) else { break };
        let end = whole
            .saturating_add(1)
            .saturating_add(prost::length_delimiter_len(length))
            .saturating_add(length);
        if end > bytes.len() {
            break;
        }
        whole = end;
    }
    whole
}

/// The numbers of the boots that have logs, oldest first.
fn boots() -> Vec<u64> {
    let mut boots: Vec<u64> = fs::read_dir(FOLDER)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    boots.sort_unstable();
    boots
}

fn forget_old_boots() {
    let boots = boots();
    for boot in boots.iter().take(boots.len().saturating_sub(BOOTS_KEPT)) {
        // What can't be removed is tried again at the next boot.
        let _kept = fs::remove_dir_all(Path::new(FOLDER).join(boot.to_string()));
    }
}

/// The thread.
struct Writer {
    folder: PathBuf,
    files: HashMap<String, (File, u64)>,
    complained: bool,
}

impl Writer {
    fn run(mut self, orders: &Receiver<Order>) {
        // When the oldest write was made that may not be durable yet.
        let mut dirty: Option<Instant> = None;
        loop {
            let age = dirty.map_or(Duration::ZERO, |since| since.elapsed());
            if age >= SYNC_EVERY {
                self.sync();
                dirty = None;
                continue;
            }
            match orders.recv_timeout(SYNC_EVERY.saturating_sub(age)) {
                Ok(Order::Write(write)) => {
                    dirty.get_or_insert_with(Instant::now);
                    match self.write(&write) {
                        Ok(()) => self.complained = false,
                        Err(error) if !self.complained => {
                            self.complained = true;
                            self.files.clear();
                            tracing::error!(log = write.log, error = %error, "writing a log to disk failed; logs are in memory only");
                        }
                        Err(_again) => self.files.clear(),
                    }
                }
                Ok(Order::Flush(done)) => {
                    self.sync();
                    self.files.clear();
                    // Who asked may have stopped waiting.
                    let _gone = done.try_send(());
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn write(&mut self, write: &Write) -> io::Result<()> {
        let folder =
            if write.log == events::FILE { Path::new(FOLDER) } else { self.folder.as_path() };
        let path = folder.join(format!("{}.log", write.log));
        if self.files.get(&write.log).is_some_and(|(_, size)| *size >= ROTATE_AT) {
            self.files.remove(&write.log);
            fs::rename(&path, folder.join(format!("{}.log.1", write.log)))?;
        }
        let (file, size) = match self.files.entry(write.log.clone()) {
            std::collections::hash_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::hash_map::Entry::Vacant(closed) => {
                let file = OpenOptions::new().append(true).create(true).open(&path)?;
                let size = file.metadata()?.len();
                closed.insert((file, size))
            }
        };
        file.write_all(&write.bytes)?;
        *size = size.saturating_add(write.bytes.len() as u64);
        Ok(())
    }

    fn sync(&self) {
        for (file, _) in self.files.values() {
            // A disk that fails has been complained about when writing.
            let _failed = file.sync_data();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use stele_proto::v1::{LogChunk, LogEntry};

    #[test]
    fn a_file_that_was_cut_off_is_read_to_its_last_whole_entry() {
        let entry = |number: u64| LogEntry {
            time_us: number,
            severity: 6,
            message: vec![b'x'; 100],
            lost: 0,
        };
        let chunk = LogChunk { entries: (1..3000).map(entry).collect() };
        let bytes = chunk.encode_to_vec();
        let path = std::env::temp_dir().join(format!("stele-log-{}", std::process::id()));
        fs::write(&path, &bytes[..bytes.len() - 7]).unwrap();
        let mut reader = FileReader::open(&path).unwrap();
        let mut count = 0;
        loop {
            let stretch = reader.next().unwrap();
            if stretch.is_empty() {
                break;
            }
            count += LogChunk::decode(stretch.as_slice()).unwrap().entries.len();
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(count, 2998);
    }

    #[test]
    fn the_name_of_a_log_leads_nowhere_else() {
        let folder = std::env::temp_dir();
        let name = format!("stele-elsewhere-{}", std::process::id());
        let file = folder.join(format!("{name}.log"));
        fs::write(&file, b"").unwrap();
        assert_eq!(both_files(&folder, &name), std::slice::from_ref(&file));
        assert!(
            both_files(Path::new("/var"), file.with_extension("").to_str().unwrap()).is_empty()
        );
        assert!(both_files(&folder.join("more"), &format!("../{name}")).is_empty());
        fs::remove_file(&file).unwrap();
    }
}
