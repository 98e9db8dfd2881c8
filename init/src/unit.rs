// SPDX-License-Identifier: Apache-2.0
//! Units: what a service is and what it may do, as the image says it in `/usr/lib/stele/units/NAME.json`.

use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// Where the image keeps its units.
pub(crate) const UNITS: &str = "/usr/lib/stele/units";

/// One unit.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Unit {
    /// What it is, in a few words.
    pub(crate) description: String,
    /// The program and its arguments.
    pub(crate) exec: Vec<String>,
    /// What is left of the machine for it.
    pub(crate) sandbox: Sandbox,
    /// Whether it says when it is ready, as in sd_notify(3).
    #[serde(default)]
    pub(crate) notify: bool,
    /// Logs beside its standard output and error: descriptor → the log's name.
    #[serde(default)]
    pub(crate) logs: BTreeMap<u8, String>,
    /// Whether PID 1 starts it at boot; others are started for a purpose.
    #[serde(default)]
    pub(crate) start: Start,
    /// Whether it starts only once the clock is right, and waits until then.
    #[serde(default)]
    pub(crate) after_clock: bool,
}

/// When a unit is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Start {
    /// At every boot, as soon as the API has its identity.
    #[default]
    Boot,
    /// By PID 1, when there is something to do for it.
    Demand,
}

/// What is left of the machine for a process.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sandbox {
    /// User and group id.
    pub(crate) uid: u32,
    /// Capabilities it keeps: CAP_NET_RAW and the like.
    #[serde(default)]
    pub(crate) capabilities: Vec<String>,
    /// The system calls it may use, by the name of a set in [`crate::executor`].
    pub(crate) seccomp: String,
    /// The files it may reach beside its own program; no restriction when absent.
    #[serde(default)]
    pub(crate) landlock: Option<Landlock>,
    /// Bytes of memory.
    pub(crate) memory_max: u64,
    /// Threads and processes.
    pub(crate) tasks_max: u32,
    /// Open files.
    #[serde(default = "default_files")]
    pub(crate) files_max: u64,
    /// Seconds of processor time, for what runs once.
    #[serde(default)]
    pub(crate) cpu_max: Option<u64>,
}

fn default_files() -> u64 {
    1024
}

/// Paths that Landlock leaves.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Landlock {
    /// To read, and to execute.
    #[serde(default)]
    pub(crate) read: Vec<PathBuf>,
    /// To change.
    #[serde(default)]
    pub(crate) write: Vec<PathBuf>,
    /// Whether TCP ports may be bound and connected to.
    #[serde(default)]
    pub(crate) network: bool,
}

/// Why the units could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnitError {
    #[error("reading the units in {UNITS}")]
    List(#[source] io::Error),
    #[error("reading the unit {}", file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("understanding the unit {}", file.display())]
    Parse { file: PathBuf, source: serde_json::Error },
}

/// Reads every unit of the image.
pub(crate) fn read_all() -> Result<BTreeMap<String, Unit>, UnitError> {
    let mut units = BTreeMap::new();
    for entry in fs::read_dir(UNITS).map_err(UnitError::List)? {
        let file = entry.map_err(UnitError::List)?.path();
        let Some(name) = name_of(&file) else { continue };
        let text =
            fs::read(&file).map_err(|source| UnitError::Read { file: file.clone(), source })?;
        let unit =
            serde_json::from_slice(&text).map_err(|source| UnitError::Parse { file, source })?;
        units.insert(name, unit);
    }
    Ok(units)
}

fn name_of(file: &Path) -> Option<String> {
    file.file_name()?.to_str()?.strip_suffix(".json").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_s_units_are_understood() {
        let mut count = 0;
        for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/units")).unwrap() {
            let file = entry.unwrap().path();
            let unit: Unit = serde_json::from_slice(&fs::read(&file).unwrap())
                .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            assert!(!unit.exec.is_empty());
            assert!(
                crate::executor::syscalls(&unit.sandbox.seccomp).is_some(),
                "{}",
                file.display()
            );
            count += 1;
        }
        assert!(count >= 5);
    }

    #[test]
    fn what_documents_can_name_are_the_image_s_units() {
        use stele_config::services::{ERRANDS, FOR_LINKS, FOR_SINKS, SERVICES};
        let files = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/units")).unwrap();
        let mut units: Vec<String> =
            files.map(|entry| name_of(&entry.unwrap().path()).unwrap()).collect();
        units.sort();
        let mut named = [&SERVICES[..], &ERRANDS[..], &FOR_LINKS[..], &[FOR_SINKS]].concat();
        named.sort_unstable();
        assert_eq!(units, named);
    }
}
