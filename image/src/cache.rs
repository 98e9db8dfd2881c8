// SPDX-License-Identifier: Apache-2.0
//! The build cache: `$XDG_CACHE_HOME/stele`, shared by every build folder of a user.
//!
//! Everything in it is named by a digest (of itself, for packages; of what it was made from, for the rest) and appears by a
//! rename, so builds side by side cannot see half a file. Deleting it costs time only.

use crate::tree::{Tree, sha256};
use anyhow::{Context, Result};
use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// Raise it when a cached thing would be made differently from the same inputs.
const GENERATION: &str = "1";

/// How many things of a kind are kept.
const KEPT: usize = 12;

/// The cache folder.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache of this user.
    pub fn of_user() -> Result<Self> {
        let absolute = |name: &str| {
            std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
        };
        let base = absolute("XDG_CACHE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
            .context("Looking for the cache folder: neither XDG_CACHE_HOME nor HOME is set; set one of them")?;
        Ok(Self::at(base.join("stele")))
    }

    /// A cache at a folder of one's own.
    #[must_use]
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// A folder in the cache, made if missing.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join(name);
        fs::create_dir_all(&path)
            .with_context(|| format!("Making the cache folder {}", path.display()))?;
        Ok(path)
    }

    /// The bytes made from `inputs` before, or those that `make` makes now.
    pub fn bytes(
        &self,
        kind: &str,
        inputs: &[&str],
        make: impl FnOnce() -> Result<Vec<u8>>,
    ) -> Result<Vec<u8>> {
        let path = self.path(kind, inputs)?;
        if let Ok(bytes) = fs::read(&path) {
            return Ok(bytes);
        }
        let bytes = make()?;
        write_atomically(&path, &bytes)?;
        self.forget(kind)?;
        Ok(bytes)
    }

    /// The tree made from `inputs` before, or the one that `make` makes now.
    pub fn tree(
        &self,
        kind: &str,
        inputs: &[&str],
        make: impl FnOnce() -> Result<Tree>,
    ) -> Result<Tree> {
        let path = self.path(kind, inputs)?;
        if let Ok(file) = fs::File::open(&path) {
            return Tree::read_tar(BufReader::new(file), |_| true)
                .with_context(|| format!("Reading {}; delete it", path.display()));
        }
        let tree = make()?;
        let mut tar = Vec::new();
        tree.write_tar(&mut tar)?;
        write_atomically(&path, &tar)?;
        Ok(tree)
    }

    /// Keeps the newest of a kind, and deletes the others: each change of a program makes another root.
    fn forget(&self, kind: &str) -> Result<()> {
        let mut known = Vec::new();
        for entry in fs::read_dir(self.folder("built")?)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&format!("{kind}-")) {
                known.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        known.sort();
        known.reverse();
        for (_, path) in known.iter().skip(KEPT) {
            // Someone else may have deleted it in the meantime.
            let _gone = fs::remove_file(path);
        }
        Ok(())
    }

    fn path(&self, kind: &str, inputs: &[&str]) -> Result<PathBuf> {
        let key = sha256(format!("{GENERATION}\n{kind}\n{}", inputs.join("\n")).as_bytes());
        Ok(self.folder("built")?.join(format!("{kind}-{key}")))
    }
}

/// Writes a file so that it is there whole or not at all.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let write = || -> Result<()> {
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
        std::io::Write::write_all(&mut file, bytes)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        file.as_file().set_permissions(mode)?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("Writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_time_nothing_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().to_owned());
        assert_eq!(cache.bytes("x", &["a"], || Ok(vec![1])).unwrap(), [1]);
        assert_eq!(cache.bytes("x", &["a"], || panic!("made again")).unwrap(), [1]);
        assert_eq!(cache.bytes("x", &["b"], || Ok(vec![2])).unwrap(), [2]);
    }

    #[test]
    fn only_the_newest_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().to_owned());
        for input in 0..KEPT + 5 {
            cache.bytes("x", &[&input.to_string()], || Ok(vec![0])).unwrap();
        }
        assert_eq!(fs::read_dir(folder.path().join("built")).unwrap().count(), KEPT);
    }
}
