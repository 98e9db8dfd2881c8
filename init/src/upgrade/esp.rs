// SPDX-License-Identifier: Apache-2.0
//! The ESP: mounted while somebody works on it, and only then; one at a time.
//!
//! Nothing here decides anything: what is seen goes to `stele_machine::slots`, what comes back is done in order, each
//! effect on the disk before the next one is begun.

use crate::{
    api::{Code, Refusal},
    node::Node,
};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};
use stele_kernel::{
    efivars::LoaderVariables,
    mount::{self, Forbid, Usage},
};
use stele_layout::slot::{DIRECTORY, ENTRIES, SlotId};
use stele_machine::slots::{Effect, Listed, Observed};
use tokio::sync::OwnedMutexGuard;

/// The variable that says which entry the loader started.
const SELECTED: &str = "LoaderEntrySelected";
/// Where it is mounted.
const TARGET: &str = "/boot";
/// The user id of the stage agent, the only other one that may write to it.
const STAGE: u32 = 205;
/// How long a caller waits for its turn before it is told who has it.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long what PID 1 does on its own waits: longer than anybody writes to it.
const LONG_PATIENCE: Duration = Duration::from_secs(2400);
/// How often, and after which pause, unmounting is tried while something still holds on.
const UNMOUNT_TRIES: u32 = 20;
const UNMOUNT_PAUSE: Duration = Duration::from_millis(50);

/// Why the ESP can't be worked on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EspError {
    #[error("this machine was not started from an image on its own disk, so it has no slots")]
    NoEsp,
    #[error("the partition that this machine was started from was not found")]
    NotFound,
    #[error("mounting {} on {TARGET}", device.display())]
    Mount { device: PathBuf, source: io::Error },
    #[error("reading {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("reading the boot loader's variable {name}")]
    Variable { name: &'static str, source: io::Error },
    #[error("{what}")]
    Apply { what: String, source: io::Error },
    #[error("a thread for it was lost")]
    Thread(#[source] tokio::task::JoinError),
}

impl From<EspError> for Refusal {
    fn from(error: EspError) -> Refusal {
        match error {
            EspError::NoEsp => Refusal::new(Code::FailedPrecondition, error.to_string()),
            error => Refusal::internal(&error),
        }
    }
}

/// The partition (its UUID) from which the boot loader started this image; none on a direct or network boot.
pub(crate) fn partition() -> Option<String> {
    let variables = LoaderVariables::of_this_machine();
    ["LoaderDevicePartUUID", "StubDevicePartUUID"]
        .iter()
        .find_map(|name| variables.read(name).ok().flatten())
}

/// Whether it was the boot loader that started this image, so that it may be asked for another start.
pub(crate) fn has_loader() -> bool {
    let variables = LoaderVariables::of_this_machine();
    partition().is_some() && matches!(variables.read(SELECTED), Ok(Some(_)))
}

/// Someone's turn: nobody else works on the ESP until this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    node: Rc<Node>,
    _turn: OwnedMutexGuard<()>,
}

impl Turn {
    /// Waits for a turn, a little.
    pub(crate) async fn take(
        node: &Rc<Node>,
        what: &'static str,
        patience: Duration,
    ) -> Result<Turn, Refusal> {
        let upgrades = &node.upgrades;
        let Ok(turn) = tokio::time::timeout(patience, upgrades.turn.clone().lock_owned()).await
        else {
            let message =
                format!("{} is under way on this node; one at a time", upgrades.under_way.get());
            return Err(Refusal::new(Code::Aborted, message));
        };
        upgrades.under_way.set(what);
        Ok(Turn { node: Rc::clone(node), _turn: turn })
    }

    /// Mounts the ESP; to be closed by [`Esp::close`].
    pub(crate) async fn open(self, forbid: Forbid) -> Result<Esp, EspError> {
        partition().ok_or(EspError::NoEsp)?;
        for module in ["vfat", "nls_cp437", "nls_ascii"] {
            self.node.load_module(module).await;
        }
        let device = self.node.upgrades.device.get().cloned().ok_or(EspError::NotFound)?;
        blocking(move || {
            let options = format!("uid={STAGE},gid={STAGE},fmask=0177,dmask=0077");
            let source = device.to_string_lossy().into_owned();
            mount::mount(&source, Path::new(TARGET), "vfat", forbid, &options)
                .map_err(|source| EspError::Mount { device, source })
        })
        .await?;
        Ok(Esp { turn: self })
    }
}

/// The ESP, mounted.
#[derive(Debug)]
pub(crate) struct Esp {
    turn: Turn,
}

impl Esp {
    /// Mounts the ESP when it is free, to change it.
    pub(crate) async fn open(node: &Rc<Node>, what: &'static str) -> Result<Esp, Refusal> {
        Ok(Turn::take(node, what, PATIENCE).await?.open(Forbid::DATA).await?)
    }

    /// Mounts the ESP when it is free, to look at it: not a byte on it changes.
    pub(crate) async fn look(node: &Rc<Node>, what: &'static str) -> Result<Esp, Refusal> {
        Ok(Turn::take(node, what, PATIENCE).await?.open(Forbid::READ_ONLY).await?)
    }

    /// The same for what PID 1 does on its own, which nobody waits for.
    pub(crate) async fn look_patiently(
        node: &Rc<Node>,
        what: &'static str,
    ) -> Result<Esp, Refusal> {
        Ok(Turn::take(node, what, LONG_PATIENCE).await?.open(Forbid::READ_ONLY).await?)
    }

    /// Where images are.
    pub(crate) fn directory() -> PathBuf {
        Path::new(TARGET).join(DIRECTORY)
    }

    /// What is on it, and what the loader says.
    pub(crate) async fn observe(&self) -> Result<(Observed, Usage), EspError> {
        blocking(observe).await
    }

    /// Does all of this, but the reboot, in order; stops at the first that fails.
    pub(crate) async fn apply(&self, effects: Vec<Effect>) -> Result<(), EspError> {
        if effects.is_empty() {
            return Ok(());
        }
        blocking(move || {
            let writable = mount::remount(Path::new(TARGET), Forbid::DATA);
            writable.map_err(|source| EspError::Apply {
                what: format!("making {TARGET} writable"),
                source,
            })?;
            effects.iter().try_for_each(apply)
        })
        .await
    }

    /// Publishes what is on it now, and unmounts it.
    pub(crate) async fn close(self) {
        match self.observe().await {
            Ok((observed, usage)) => super::show::publish(&self.turn.node, &observed, usage),
            Err(error) => {
                tracing::warn!(error = %crate::report::chain(&error), "reading the slots failed")
            }
        }
        let unmounted = blocking(|| {
            for _ in 0..UNMOUNT_TRIES {
                if mount::unmount(Path::new(TARGET), false).is_ok() {
                    return Ok(());
                }
                std::thread::sleep(UNMOUNT_PAUSE);
            }
            mount::unmount(Path::new(TARGET), true)
                .map_err(|source| EspError::Apply { what: format!("unmounting {TARGET}"), source })
        });
        if let Err(error) = unmounted.await {
            tracing::error!(error = %crate::report::chain(&error), "the boot partition stays mounted");
        }
    }
}

/// A disk may take its time; PID 1's own thread does not wait for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EspError> + Send + 'static,
) -> Result<T, EspError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(EspError::Thread(error)))
}

fn observe() -> Result<(Observed, Usage), EspError> {
    let path = Esp::directory();
    let read = |source| EspError::Read { path: path.clone(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(&path).map_err(read)? {
        let entry = entry.map_err(read)?;
        let metadata = entry.metadata().map_err(read)?;
        // A name that is not text is nobody's of ours.
        if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
            files.push(Listed { name, size: metadata.len() });
        }
    }
    let variables = LoaderVariables::of_this_machine();
    let variable =
        |name| variables.read(name).map_err(|source| EspError::Variable { name, source });
    let observed = Observed {
        files,
        selected: variable(SELECTED)?,
        preferred: variable("LoaderEntryPreferred")?,
        entries: entries()?,
    };
    let usage = mount::usage(&path).map_err(read)?;
    Ok((observed, usage))
}

/// The entries that are no images; an ESP need not have any.
fn entries() -> Result<Vec<String>, EspError> {
    let path = Path::new(TARGET).join(ENTRIES);
    let names = match fs::read_dir(&path) {
        Ok(found) => found.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    let names = names.map_err(|source| EspError::Read { path, source })?;
    Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

fn write_entry(name: &str, text: &str) -> io::Result<()> {
    let entries = Path::new(TARGET).join(ENTRIES);
    fs::create_dir_all(&entries)?;
    fs::write(entries.join(name), text)?;
    sync(&entries)
}

fn apply(effect: &Effect) -> Result<(), EspError> {
    let directory = Esp::directory();
    let (what, done) = match effect {
        Effect::Rename { from, to } => {
            let target = directory.join(to);
            // Renaming replaces; what was decided had no such file in it.
            let renamed = if target.exists() {
                Err(io::ErrorKind::AlreadyExists.into())
            } else {
                fs::rename(directory.join(from), &target).and_then(|()| sync(&directory))
            };
            (format!("renaming {from} to {to}"), renamed)
        }
        Effect::Remove { file } => (
            format!("removing {file}"),
            fs::remove_file(directory.join(file)).and_then(|()| sync(&directory)),
        ),
        Effect::Prefer(preferred) => {
            let variables = LoaderVariables::of_this_machine();
            let done = match preferred.as_ref().map(SlotId::as_str) {
                Some(id) => variables.write("LoaderEntryPreferred", id),
                None => variables.clear("LoaderEntryPreferred"),
            };
            ("telling the boot loader which slot to prefer".to_owned(), done)
        }
        Effect::WriteEntry { name, text } => {
            (format!("writing the entry {name}"), write_entry(name, text))
        }
        Effect::RemoveEntry { name } => {
            let entries = Path::new(TARGET).join(ENTRIES);
            let removed = fs::remove_file(entries.join(name)).and_then(|()| sync(&entries));
            (format!("removing the entry {name}"), removed)
        }
        Effect::StartOnce(entry) => {
            let variables = LoaderVariables::of_this_machine();
            let what = "telling the boot loader which entry to start once".to_owned();
            (what, variables.write("LoaderEntryOneShot", entry))
        }
        Effect::Reboot => return Ok(()),
    };
    tracing::debug!(what, "slots");
    done.map_err(|source| EspError::Apply { what, source })
}

/// Puts a directory's names on the disk, past its cache: syncing a directory of vfat flushes the device too.
fn sync(directory: &Path) -> io::Result<()> {
    let directory = File::open(directory)?;
    rustix::fs::syncfs(&directory)?;
    directory.sync_all()
}
