// SPDX-License-Identifier: Apache-2.0
//! Folders for what is thrown away.
//!
//! Each goes away with its value. A process that is killed cannot do that, so each bears the number of its process, and
//! whoever makes the next one removes those of processes that are gone.

use anyhow::{Context as _, Result};
use std::{env, fs, path::Path, sync::Once};
use tempfile::TempDir;

const PREFIX: &str = "stele-";

/// A new, empty folder for `what`.
pub fn folder(what: &str) -> Result<TempDir> {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(|| sweep(&env::temp_dir()));
    let prefix = format!("{PREFIX}{}-{what}-", std::process::id());
    tempfile::Builder::new()
        .prefix(&prefix)
        .tempdir()
        .context("Making a folder for temporary files")
}

/// Removes the folders of processes that are gone.
fn sweep(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid =
            name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).map(|(pid, _)| pid);
        let gone = |pid: &str| {
            pid.parse::<u32>().is_ok_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
        };
        if pid.is_some_and(gone) {
            // Another process may be at the same, or it may be another user's.
            let _left = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_folders_of_the_dead_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let alive = format!("stele-{}-vm-a", std::process::id());
        for name in ["stele-4294967295-vm-b", &alive, "stele-mine", "other-4294967295-c"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        sweep(dir.path());
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["other-4294967295-c", &alive, "stele-mine"]);
    }
}
