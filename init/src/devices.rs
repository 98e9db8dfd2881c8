// SPDX-License-Identifier: Apache-2.0
//! Devices: those that are there (coldplug) and those that come (hotplug) get their modules, by modalias.
//!
//! A thread of its own loads modules: that may take seconds. PID 1 hears the kernel's events and hands the names over.
//! Drivers probe their devices beside it (`async_probe`), so one slow device holds up no other; but for storage, whose
//! drivers it waits for, last, so that afterwards it is known which disks there are. What only makes a processor faster
//! comes when nothing else is to be done: nothing needs it to come up.

mod loader;

use crate::{node::Node, readiness, store::Kind};
use loader::{Loader, Progress, Told, Wanted};
pub(crate) use loader::{ModuleError, Present};
use serde::Serialize;
use std::{
    cell::Cell,
    io,
    path::PathBuf,
    rc::Rc,
    sync::mpsc,
    time::{Duration, Instant},
};
use stele_config::KernelModule;
use stele_kernel::uevent::Uevents;
use tokio::{
    io::unix::AsyncFd,
    sync::{mpsc as to_init, oneshot, watch},
};

/// The devices count as settled after this long without an event…
const QUIET: Duration = Duration::from_millis(200);
/// …or after this long in all.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest event; the kernel's UEVENT_BUFFER_SIZE is 2048.
const LONGEST_EVENT: usize = 8 * 1024;

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

    /// Makes a module be there with the parameters that a document gives it. Returns what was loaded for it.
    pub(crate) async fn hold(&self, module: &KernelModule) -> Result<Present, ModuleError> {
        let (done, answer) = oneshot::channel();
        let asked = self.wanted.send(Wanted::Hold(module.clone(), done));
        match asked.map(|()| answer) {
            Ok(answer) => answer.await.unwrap_or(Err(ModuleError::Ended)),
            Err(_thread_gone) => Err(ModuleError::Ended),
        }
    }

    /// Whether a module could be held, as far as the image decides it.
    pub(crate) async fn check(&self, module: &KernelModule) -> Result<(), ModuleError> {
        let (done, answer) = oneshot::channel();
        let asked = self.wanted.send(Wanted::Check(module.clone(), done));
        match asked.map(|()| answer) {
            Ok(answer) => answer.await.unwrap_or(Err(ModuleError::Ended)),
            Err(_thread_gone) => Err(ModuleError::Ended),
        }
    }

    /// Unloads what was loaded for a module.
    pub(crate) async fn release(&self, present: Present) -> Result<(), ModuleError> {
        let (done, answer) = oneshot::channel();
        let asked = self.wanted.send(Wanted::Release(present, done));
        match asked.map(|()| answer) {
            Ok(answer) => answer.await.unwrap_or(Err(ModuleError::Ended)),
            Err(_thread_gone) => Err(ModuleError::Ended),
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
async fn tell(node: Rc<Node>, mut results: to_init::UnboundedReceiver<Told>) {
    while let Some(told) = results.recv().await {
        let (module, result) = match told {
            Told::Tried(module, result) => (module, result),
            Told::Unloaded(module) => {
                node.store.remove(Kind::Module, &module);
                continue;
            }
        };
        let reason = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
        match &result {
            Ok(()) => tracing::debug!(module, "module loaded"),
            Err(error) => tracing::info!(module, error = %error, "module not loaded"),
        }
        let state = if result.is_ok() { "loaded" } else { "failed" };
        node.store.put(Kind::Module, &module, &Status { state, reason: &reason });
    }
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
