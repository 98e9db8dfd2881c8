// SPDX-License-Identifier: Apache-2.0
//! Devices: those that are there (coldplug) and those that come (hotplug) get their modules, by modalias.
//!
//! A thread of its own loads modules: that may take seconds. PID 1 hears the kernel's events and hands the names over.
//! Drivers probe their devices beside it (`async_probe`), so one slow device holds up no other; but for storage, whose
//! drivers it waits for, last, so that afterwards it is known which disks there are. What only makes a processor faster
//! comes when nothing else is to be done: nothing needs it to come up.

use crate::{node::Node, readiness, store::Kind};
use serde::Serialize;
use std::{
    cell::Cell,
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    rc::Rc,
    sync::mpsc,
    time::{Duration, Instant},
};
use stele_kernel::{modules, uevent::Uevents};
use stele_machine::modules::Index;
use tokio::{
    io::unix::AsyncFd,
    sync::{mpsc as to_init, oneshot, watch},
};

/// The devices count as settled after this long without an event…
const QUIET: Duration = Duration::from_millis(200);
/// …or after this long in all.
const PATIENCE: Duration = Duration::from_secs(5);
/// The thread loads what is not urgent after this long without an order.
const IDLE: Duration = Duration::from_secs(2);
/// The longest event; the kernel's UEVENT_BUFFER_SIZE is 2048.
const LONGEST_EVENT: usize = 8 * 1024;

/// What the thread is asked for.
#[derive(Debug)]
enum Wanted {
    /// The modules of a device with this modalias.
    Device(String),
    /// A module by its name, with these parameters; the sender goes away when it is there or can't be.
    Module(String, &'static str, oneshot::Sender<()>),
}

/// How far the devices are that were there at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    Begun,
    /// All have their modules but storage.
    AllButStorage,
    All,
}

/// What the thread tells of a module.
#[derive(Debug)]
struct Loaded {
    module: String,
    result: io::Result<()>,
}

/// What `ctl get module` shows.
#[derive(Serialize)]
struct Status<'a> {
    state: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
}

/// The devices of this machine.
#[derive(Debug)]
pub(crate) struct Devices {
    wanted: mpsc::Sender<Wanted>,
    progress: watch::Receiver<Progress>,
    last_event: Rc<Cell<Instant>>,
}

impl Devices {
    /// Starts to care for devices.
    pub(crate) fn start(node: &Rc<Node>, release: &str) -> io::Result<Devices> {
        let folder = PathBuf::from("/usr/lib/modules").join(release);
        // Subscribed before looking at what is there: nothing falls between.
        let events = readiness::watch(Uevents::open()?)?;
        let (wanted, orders) = mpsc::channel();
        let (loaded, results) = to_init::unbounded_channel();
        let (report, progress) = watch::channel(Progress::Begun);
        std::thread::Builder::new()
            .name("modules".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || Loader::new(folder, loaded).run(&orders, &report))?;
        let last_event = Rc::new(Cell::new(Instant::now()));
        tokio::task::spawn_local(listen(events, wanted.clone(), Rc::clone(&last_event)));
        tokio::task::spawn_local(tell(Rc::clone(node), results));
        Ok(Devices { wanted, progress, last_event })
    }

    /// Waits until every device that was there at the start has its module.
    pub(crate) async fn coldplugged(&self) {
        self.reach(Progress::All).await;
    }

    /// Waits until every one of them but storage has.
    pub(crate) async fn coldplugged_but_storage(&self) {
        self.reach(Progress::AllButStorage).await;
    }

    async fn reach(&self, stage: Progress) {
        let mut progress = self.progress.clone();
        // The thread lives as long as the machine.
        let _thread_gone = progress.wait_for(|reached| *reached >= stage).await;
    }

    /// Loads a module that no device asks for. What comes of it is its resource's to tell.
    pub(crate) async fn load(&self, module: &str, parameters: &'static str) {
        let (done, wait) = oneshot::channel();
        if self.wanted.send(Wanted::Module(module.to_owned(), parameters, done)).is_ok() {
            // Nothing is ever sent: it ends when the sender is dropped.
            let _done = wait.await;
        }
    }

    /// Waits until devices stop to appear.
    pub(crate) async fn settled(&self) {
        self.coldplugged().await;
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let Some(left) = QUIET.checked_sub(self.last_event.get().elapsed()) else { return };
            tokio::time::sleep(left).await;
        }
    }
}

/// Hears the kernel's events and hands new devices to the thread.
async fn listen(
    mut events: AsyncFd<Uevents>,
    wanted: mpsc::Sender<Wanted>,
    last_event: Rc<Cell<Instant>>,
) {
    let mut buffer = vec![0; LONGEST_EVENT];
    loop {
        let Ok(mut ready) = events.readable_mut().await else { return };
        match ready.get_inner_mut().next(&mut buffer) {
            Ok(Some(length)) => {
                last_event.set(Instant::now());
                let event = buffer.get(..length).unwrap_or_default();
                if let Some(alias) = added(event)
                    && wanted.send(Wanted::Device(alias)).is_err()
                {
                    return;
                }
            }
            Ok(None) => ready.clear_ready(),
            // Events were lost in a flood (ENOBUFS): what is plugged in is still there to be found.
            Err(error) => tracing::warn!(error = %error, "device events were lost"),
        }
    }
}

/// The modalias of a device that was added.
fn added(event: &[u8]) -> Option<String> {
    let mut fields = event.split(|byte| *byte == 0);
    fields.next()?.starts_with(b"add@").then_some(())?;
    let alias = fields.find_map(|field| field.strip_prefix(b"MODALIAS="))?;
    String::from_utf8(alias.to_vec()).ok()
}

/// Publishes what became of each module.
async fn tell(node: Rc<Node>, mut results: to_init::UnboundedReceiver<Loaded>) {
    while let Some(Loaded { module, result }) = results.recv().await {
        let reason = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
        match &result {
            Ok(()) => tracing::debug!(module, "module loaded"),
            Err(error) => tracing::info!(module, error = %error, "module not loaded"),
        }
        let state = if result.is_ok() { "loaded" } else { "failed" };
        node.store.put(Kind::Module, &module, &Status { state, reason: &reason });
    }
}

/// The thread.
struct Loader {
    folder: PathBuf,
    index: Index,
    seen: BTreeSet<String>,
    tried: BTreeSet<String>,
    results: to_init::UnboundedSender<Loaded>,
}

impl Loader {
    fn new(folder: PathBuf, results: to_init::UnboundedSender<Loaded>) -> Loader {
        Loader {
            folder,
            index: Index::default(),
            seen: BTreeSet::new(),
            tried: BTreeSet::new(),
            results,
        }
    }

    fn run(mut self, orders: &mpsc::Receiver<Wanted>, report: &watch::Sender<Progress>) {
        let read = |name: &str| fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        self.index =
            Index::parse(&read("modules.dep"), &read("modules.alias"), &read("modules.softdep"));
        let (accelerators, devices): (Vec<_>, Vec<_>) = present(Path::new("/sys/devices"))
            .into_iter()
            .partition(|alias| alias.starts_with("cpu:"));
        let (storage, others): (Vec<_>, Vec<_>) =
            devices.iter().partition(|alias| is_storage(alias));
        others.iter().for_each(|alias| self.load_for(alias));
        report.send_replace(Progress::AllButStorage);
        storage.iter().for_each(|alias| self.load_for(alias));
        // Devices that those modules made are there before this says done.
        while let Ok(order) = orders.try_recv() {
            self.obey(order);
        }
        report.send_replace(Progress::All);
        let mut accelerators = accelerators.into_iter();
        loop {
            match orders.recv_timeout(IDLE) {
                Ok(order) => self.obey(order),
                Err(mpsc::RecvTimeoutError::Timeout) => match accelerators.next() {
                    Some(alias) => self.load_for(&alias),
                    None => break,
                },
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
        while let Ok(order) = orders.recv() {
            self.obey(order);
        }
    }

    fn obey(&mut self, order: Wanted) {
        match order {
            Wanted::Device(alias) => self.load_for(&alias),
            Wanted::Module(name, parameters, done) => {
                self.load(&name, parameters);
                drop(done);
            }
        }
    }

    fn load_for(&mut self, alias: &str) {
        if self.seen.insert(alias.to_owned()) {
            for module in self.index.modules_for(alias) {
                self.load(&module, if is_storage(alias) { "" } else { "async_probe" });
            }
        }
    }

    fn load(&mut self, name: &str, parameters: &str) {
        for (name, file) in self.index.in_order(name) {
            if self.tried.insert(name.clone()) {
                let result = modules::load(&self.folder.join(file), parameters);
                // PID 1 outlives this thread.
                let _never = self.results.send(Loaded { module: name, result });
            }
        }
    }
}

/// Whether a device is a PCI mass storage controller: base class 01.
fn is_storage(alias: &str) -> bool {
    alias.starts_with("pci:") && alias.contains("bc01")
}

/// The modaliases of every device there is.
fn present(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() && entry.file_name() == "modalias" => {
                    if let Ok(alias) = fs::read_to_string(entry.path()) {
                        found.insert(alias.trim_end().to_owned());
                    }
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_added_devices_with_a_modalias_count() {
        let event = b"add@/devices/x\0ACTION=add\0DEVPATH=/devices/x\0MODALIAS=virtio:d00000001v00001AF4\0SEQNUM=1\0";
        assert_eq!(added(event).as_deref(), Some("virtio:d00000001v00001AF4"));
        assert_eq!(added(b"remove@/devices/x\0MODALIAS=virtio:d1\0"), None);
        assert_eq!(added(b""), None);
    }
}
