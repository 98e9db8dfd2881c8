// SPDX-License-Identifier: Apache-2.0
//! The kernel's settings: makes them what the documents of the kind Sysctl say, and what they were before when a document
//! goes. A setting that is not there yet, of a link that is to come, is tried again.

use crate::report;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::PathBuf,
};
use stele_config::Sysctl;
use stele_machine::sysctl::{Action, Held, plan, same};

const ROOT: &str = "/proc/sys";

/// What `ctl get sysctl` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Status {
    state: &'static str,
    /// What it is.
    value: String,
    /// What the document says.
    wanted: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    /// Whether there is no such setting; it may come with a link or a module.
    #[serde(skip)]
    pub(crate) missing: bool,
}

impl Status {
    /// Why it is not what it should be.
    pub(crate) fn failure(&self) -> Option<&str> {
        (self.state == "failed").then_some(self.reason.as_str())
    }
}

/// Why a setting is not what it should be.
#[derive(Debug, thiserror::Error)]
enum SysctlError {
    #[error("this kernel has no setting {0}")]
    Unknown(String),
    #[error("reading {name}, to be able to set it back")]
    Read { name: String, source: io::Error },
    #[error("setting {name} to {value:?}")]
    Write { name: String, value: String, source: io::Error },
    #[error("setting {name} back to {value:?}")]
    Restore { name: String, value: String, source: io::Error },
}

/// The settings that are held.
#[derive(Debug)]
pub(crate) struct Settings {
    root: PathBuf,
    paths: BTreeMap<String, PathBuf>,
    held: BTreeMap<String, Held>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings::new(ROOT)
    }
}

impl Settings {
    fn new(root: &str) -> Settings {
        Settings { root: root.into(), paths: BTreeMap::new(), held: BTreeMap::new() }
    }

    /// Makes them what they should be; returns how they are, by name.
    pub(crate) fn pass(&mut self, documents: &[Sysctl]) -> BTreeMap<String, Status> {
        let mut wanted = BTreeMap::new();
        for document in documents {
            let name = document.name().to_string();
            self.paths.insert(name.clone(), self.root.join(document.name().path()));
            wanted.insert(name, document.value().to_owned());
        }
        // All are noted before the first is written. Some settings change others: what they changed is set again.
        let mut errors = BTreeMap::new();
        for _ in 0..2 {
            errors.clear();
            let observed = self.observe(&wanted, &mut errors);
            for (name, value) in observed.iter().filter(|(name, _)| wanted.contains_key(*name)) {
                let held = || Held { before: value.trim_end().to_owned(), written: None };
                self.held.entry(name.clone()).or_insert_with(held);
            }
            for action in plan(&wanted, &self.held, &observed) {
                if let Err((name, error)) = self.apply(action) {
                    errors.insert(name, report::chain(&error));
                }
            }
        }
        self.held.retain(|name, _| wanted.contains_key(name) || errors.contains_key(name));
        self.paths.retain(|name, _| wanted.contains_key(name) || self.held.contains_key(name));
        let names = wanted.keys().chain(self.held.keys()).cloned();
        names.map(|name| (name.clone(), self.status(&name, &wanted, &errors))).collect()
    }

    /// Reads what is wanted and what is held. What is held and not there any more needs no setting back.
    fn observe(
        &self,
        wanted: &BTreeMap<String, String>,
        errors: &mut BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let mut observed = BTreeMap::new();
        for (name, path) in &self.paths {
            let error = match fs::read(path) {
                Ok(value) => {
                    observed.insert(name.clone(), String::from_utf8_lossy(&value).into_owned());
                    continue;
                }
                Err(_) if !wanted.contains_key(name) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    SysctlError::Unknown(name.clone())
                }
                Err(source) => SysctlError::Read { name: name.clone(), source },
            };
            errors.insert(name.clone(), report::chain(&error));
        }
        observed
    }

    fn apply(&mut self, action: Action) -> Result<(), (String, SysctlError)> {
        match action {
            Action::Restore { name, value } => {
                tracing::info!(sysctl.name = name, sysctl.value = value, "setting set back");
                self.write(&name, &value)
                    .map_err(|source| (name.clone(), SysctlError::Restore { name, value, source }))
            }
            Action::Set { name, value } => {
                let again = self.held.get(&name).and_then(|held| held.written.as_ref());
                if again.is_some_and(|(written, _)| *written == value) {
                    tracing::warn!(
                        sysctl.name = name,
                        "something changed a setting; setting it again"
                    );
                }
                if let Err(source) = self.write(&name, &value) {
                    return Err((name.clone(), SysctlError::Write { name, value, source }));
                }
                let made = self.read(&name);
                if let Some(held) = self.held.get_mut(&name) {
                    held.written = Some((value, made));
                }
                Ok(())
            }
        }
    }

    fn write(&self, name: &str, value: &str) -> io::Result<()> {
        let path = self.paths.get(name).ok_or(io::ErrorKind::NotFound)?;
        // In one write: the kernel takes each for the whole value.
        OpenOptions::new().write(true).open(path)?.write_all(format!("{value}\n").as_bytes())
    }

    /// What a setting is now; nothing if it can't be read.
    fn read(&self, name: &str) -> String {
        let value = self.paths.get(name).and_then(|path| fs::read(path).ok()).unwrap_or_default();
        String::from_utf8_lossy(&value).trim_end().to_owned()
    }

    fn status(
        &self,
        name: &str,
        wanted: &BTreeMap<String, String>,
        errors: &BTreeMap<String, String>,
    ) -> Status {
        let mut value = self.read(name);
        let held_on = !wanted.contains_key(name);
        let wanted = wanted.get(name).cloned().unwrap_or_default();
        let (state, reason) = match errors.get(name) {
            // Its document is gone, and stays so.
            Some(error) if held_on => ("staying", format!("it stays until the next boot: {error}")),
            Some(error) => ("failed", error.clone()),
            // The kernel writes lists with tabs.
            None if same(&value, &wanted) => {
                value.clone_from(&wanted);
                ("set", String::new())
            }
            None => ("adjusted", String::new()),
        };
        let missing = state == "failed" && !self.paths.get(name).is_some_and(|path| path.exists());
        Status { state, value, wanted, reason, missing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn sysctls(settings: &[(&str, &str)]) -> Vec<Sysctl> {
        let document = |(name, value): &(&str, &str)| {
            format!(r#""kind":"Sysctl","name":"{name}","value":"{value}""#)
        };
        fixture::config(&settings.iter().map(document).collect::<Vec<_>>()).sysctls().to_vec()
    }

    #[test]
    fn settings_are_made_told_of_and_set_back() {
        let root = fixture::folder("sysctls");
        fs::create_dir_all(root.join("vm")).unwrap();
        fs::write(root.join("vm/swappiness"), "60\n").unwrap();
        let now = || fs::read_to_string(root.join("vm/swappiness")).unwrap().trim().to_owned();
        let mut settings = Settings::new(root.to_str().unwrap());
        let both = sysctls(&[("vm.swappiness", "10"), ("vm.swapiness", "10")]);
        let statuses = settings.pass(&both);
        assert_eq!(now(), "10");
        assert_eq!(statuses["vm.swappiness"].state, "set");
        assert_eq!(statuses["vm.swapiness"].state, "failed");
        assert_eq!(statuses["vm.swapiness"].reason, "this kernel has no setting vm.swapiness");
        // Something else changes it.
        fs::write(root.join("vm/swappiness"), "100\n").unwrap();
        settings.pass(&both[..1]);
        settings.pass(&sysctls(&[("vm.swappiness", "20")]));
        assert_eq!(now(), "20");
        assert_eq!(settings.pass(&[]), BTreeMap::new());
        assert_eq!(now(), "60");
        fs::remove_dir_all(root).unwrap();
    }
}
