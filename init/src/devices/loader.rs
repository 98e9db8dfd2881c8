// SPDX-License-Identifier: Apache-2.0
//! The thread that loads modules.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
};
use stele_config::{KernelModule, ModuleParameter, did_you_mean};
use stele_kernel::modules;
use stele_machine::modules::{Index, parameters};
use tokio::sync::{mpsc as to_init, oneshot, watch};

/// Where the kernel tells of its modules.
const MODULES: &str = "/sys/module";
/// The thread loads what is not urgent after this long without an order.
const IDLE: Duration = Duration::from_secs(2);

/// What the thread is asked for.
#[derive(Debug)]
pub(super) enum Wanted {
    /// The modules of a device with this modalias.
    Device(String),
    /// A module by its name, with these parameters; the sender goes away when it is there or can't be.
    Module(String, &'static str, oneshot::Sender<()>),
    /// The module of a document.
    Hold(KernelModule, oneshot::Sender<Result<Present, ModuleError>>),
    /// Whether that could be had, as far as the image decides it.
    Check(KernelModule, oneshot::Sender<Result<(), ModuleError>>),
    /// It is no longer wanted.
    Release(Present, oneshot::Sender<Result<(), ModuleError>>),
}

/// A module that a document asks for, and is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Present {
    pub(crate) name: String,
    /// What was loaded for it, itself the last; nothing if it was there before.
    pub(crate) loaded: Vec<String>,
}

/// Why a module is not what a document says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModuleError {
    #[error("this image has no module {name}{hint}")]
    NotInTheImage { name: String, hint: String },
    #[error("{0} is part of this kernel, and can't be given parameters")]
    BuiltIn(String),
    #[error("the module {module} has no parameter {key}; it has: {known}")]
    Parameter { module: String, key: String, known: String },
    #[error("the module {module} was there before, and its {key} is {value:?}")]
    Otherwise { module: String, key: String, value: String },
    #[error("loading the module {module}: {reason}")]
    Load { module: String, reason: String },
    #[error("unloading the module {module}")]
    Unload { module: String, source: io::Error },
    #[error("nothing loads modules any more")]
    Ended,
}

/// How far the devices are that were there at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Progress {
    Begun,
    /// All have their modules but storage.
    AllButStorage,
    All,
}

/// What the thread tells of a module.
#[derive(Debug)]
pub(super) enum Told {
    /// It was tried to load it.
    Tried(String, io::Result<()>),
    /// It is there no more.
    Unloaded(String),
}

/// The thread.
pub(super) struct Loader {
    folder: PathBuf,
    index: Index,
    seen: BTreeSet<String>,
    tried: BTreeSet<String>,
    results: to_init::UnboundedSender<Told>,
}

impl Loader {
    pub(super) fn new(folder: PathBuf, results: to_init::UnboundedSender<Told>) -> Loader {
        Loader {
            folder,
            index: Index::default(),
            seen: BTreeSet::new(),
            tried: BTreeSet::new(),
            results,
        }
    }

    pub(super) fn run(mut self, orders: &mpsc::Receiver<Wanted>, report: &watch::Sender<Progress>) {
        let read = |name: &str| fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        self.index = Index::parse(
            &read("modules.dep"),
            &read("modules.alias"),
            &read("modules.softdep"),
            &read("modules.builtin"),
        );
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
            // Who asked waits for the answer as long as the machine runs.
            Wanted::Hold(module, answer) => drop(answer.send(self.hold(&module))),
            Wanted::Check(module, answer) => drop(answer.send(self.check(&module))),
            Wanted::Release(present, answer) => drop(answer.send(self.release(&present))),
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
                let _never = self.results.send(Told::Tried(name, result));
            }
        }
    }

    /// The module and what it needs, in the order to load them; nothing for one that is part of the kernel.
    fn order(&self, module: &KernelModule) -> Result<Vec<(String, String)>, ModuleError> {
        let name = module.name().as_str();
        if self.index.is_built_in(name) {
            return match module.parameters() {
                [] => Ok(Vec::new()),
                [_, ..] => Err(ModuleError::BuiltIn(name.to_owned())),
            };
        }
        let order = self.index.in_order(name);
        if order.is_empty() {
            let hint = did_you_mean(name, &self.index.names());
            return Err(ModuleError::NotInTheImage { name: name.to_owned(), hint });
        }
        Ok(order)
    }

    fn check(&self, module: &KernelModule) -> Result<(), ModuleError> {
        match self.order(module)?.last() {
            Some((_, file)) => self.check_keys(module, file),
            None => Ok(()),
        }
    }

    fn hold(&mut self, module: &KernelModule) -> Result<Present, ModuleError> {
        let name = module.name().to_string();
        let order = self.order(module)?;
        let Some((_, file)) = order.last() else {
            return Ok(Present { name, loaded: Vec::new() });
        };
        if is_loaded(&name) {
            check_values(module)?;
            return Ok(Present { name, loaded: Vec::new() });
        }
        self.check_keys(module, file)?;
        let mut present = Present { name, loaded: Vec::new() };
        for (name, file) in order.iter().filter(|(name, _)| !is_loaded(name)) {
            let parameters: Vec<&str> = match *name == present.name {
                true => module.parameters().iter().map(ModuleParameter::as_str).collect(),
                false => Vec::new(),
            };
            let result = modules::load(&self.folder.join(file), &parameters.join(" "));
            self.tried.insert(name.clone());
            let failed = result.as_ref().err().map(io::Error::to_string);
            // PID 1 outlives this thread.
            let _never = self.results.send(Told::Tried(name.clone(), result));
            if let Some(reason) = failed {
                // What was loaded for it goes again; that something else uses it by now is no reason to fail otherwise.
                let _in_use = self.release(&present);
                return Err(ModuleError::Load { module: name.clone(), reason });
            }
            present.loaded.push(name.clone());
        }
        Ok(present)
    }

    /// Unloads the module first, then what was loaded because it needs it and nothing else uses.
    fn release(&mut self, present: &Present) -> Result<(), ModuleError> {
        for name in present.loaded.iter().rev().filter(|name| is_loaded(name)) {
            match modules::unload(name) {
                Ok(()) => {
                    self.tried.remove(name);
                    let _never = self.results.send(Told::Unloaded(name.clone()));
                }
                Err(source) if *name == present.name => {
                    return Err(ModuleError::Unload { module: name.clone(), source });
                }
                Err(_in_use) => {}
            }
        }
        Ok(())
    }

    /// The kernel takes a parameter that a module does not have with a warning, and starts it without.
    fn check_keys(&self, module: &KernelModule, file: &str) -> Result<(), ModuleError> {
        if module.parameters().is_empty() {
            return Ok(());
        }
        let bytes = fs::read(self.folder.join(file)).map_err(|source| ModuleError::Load {
            module: module.name().to_string(),
            reason: source.to_string(),
        })?;
        let known = parameters(&bytes);
        match module.parameters().iter().find(|parameter| !known.contains(parameter.key())) {
            None => Ok(()),
            Some(parameter) => Err(ModuleError::Parameter {
                module: module.name().to_string(),
                key: parameter.key().to_owned(),
                known: known.into_iter().collect::<Vec<_>>().join(", "),
            }),
        }
    }
}

fn is_loaded(name: &str) -> bool {
    Path::new(MODULES).join(name).join("initstate").exists()
}

/// A module that is there already has to have been told the same.
fn check_values(module: &KernelModule) -> Result<(), ModuleError> {
    let folder = Path::new(MODULES).join(module.name().as_str()).join("parameters");
    for parameter in module.parameters() {
        let value = fs::read_to_string(folder.join(parameter.key())).unwrap_or_default();
        if value.trim_end() != parameter.value() {
            return Err(ModuleError::Otherwise {
                module: module.name().to_string(),
                key: parameter.key().to_owned(),
                value: value.trim_end().to_owned(),
            });
        }
    }
    Ok(())
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
