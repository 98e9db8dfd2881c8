// SPDX-License-Identifier: Apache-2.0
//! Files below `/etc`: writes those of the documents of the kind Files, and removes them when their document goes, with the
//! folders that were made for them.
//!
//! `/etc` is memory, and nothing else writes there where these may be: what is not held is not there.

use crate::{configuration::Active, convergence::Part, node::Node, report, store::Kind};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};
use stele_config::{File, Files};

/// How long until what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What `ctl get files` shows.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Status {
    state: &'static str,
    paths: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

/// Why a file is not what a document says.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("writing {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("removing {}", path.display())]
    Remove { path: PathBuf, source: io::Error },
}

/// Keeps the files for as long as the machine runs.
pub(crate) async fn keep(node: Rc<Node>) {
    let mut configuration = node.configuration.subscribe();
    let mut held = Held::new("/");
    let mut new = true;
    loop {
        let active = configuration.borrow_and_update().clone();
        let mut failed = false;
        if let Some(active) = active {
            let mut pass = || pass(&node, &active, &mut held);
            failed = if new { active.cause().act(pass) } else { pass() }.is_err();
        }
        tokio::select! {
            changed = configuration.changed() => {
                if changed.is_err() {
                    return;
                }
                new = true;
            }
            () = tokio::time::sleep(RETRY), if failed => new = false,
        }
    }
}

fn pass(node: &Node, active: &Active, held: &mut Held) -> Result<(), String> {
    let Active { config, stored, .. } = active;
    let (statuses, left) = held.pass(config.files());
    let failed = statuses.iter().find(|(_, status)| !status.reason.is_empty());
    let failed = failed.map(|(name, status)| format!("Files {name}: {}", status.reason)).or(left);
    let outcome = failed.map_or(Ok(()), Err);
    node.store.replace(Kind::Files, &statuses);
    node.convergence.report(Part::Files, stored.number, outcome.clone());
    outcome
}

/// The files that are there, with what was written.
#[derive(Debug)]
struct Held {
    root: PathBuf,
    files: BTreeMap<String, File>,
}

impl Held {
    fn new(root: &str) -> Held {
        Held { root: root.into(), files: BTreeMap::new() }
    }

    /// Makes the files those of the documents. Returns how the documents are, and why something is still there.
    fn pass(&mut self, documents: &[Files]) -> (BTreeMap<String, Status>, Option<String>) {
        let wanted: Vec<&File> = documents.iter().flat_map(Files::files).collect();
        let gone: Vec<String> = (self.files.keys())
            .filter(|path| wanted.iter().all(|file| file.path().as_str() != path.as_str()))
            .cloned()
            .collect();
        // First: one may be where another needs a folder.
        let mut left = None;
        for path in gone {
            match remove(&self.root, &self.place(&path)) {
                Ok(()) => drop(self.files.remove(&path)),
                Err(error) => left = Some(report::chain(&error)),
            }
        }
        let statuses = documents.iter().map(|document| {
            let errors = document.files().iter().filter_map(|file| self.write(file).err());
            let reason = errors.last().map(|error| report::chain(&error)).unwrap_or_default();
            let state = if reason.is_empty() { "written" } else { "failed" };
            let paths = document.files().iter().map(|file| file.path().to_string()).collect();
            (document.name().to_string(), Status { state, paths, reason })
        });
        (statuses.collect(), left)
    }

    fn write(&mut self, file: &File) -> Result<(), FileError> {
        if self.files.get(file.path().as_str()) == Some(file) {
            return Ok(());
        }
        let path = self.place(file.path().as_str());
        write(&path, file.content(), file.mode())
            .map_err(|source| FileError::Write { path, source })?;
        self.files.insert(file.path().to_string(), file.clone());
        Ok(())
    }

    fn place(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

/// Whoever reads the file meanwhile gets all of the old or all of the new, and only who may.
fn write(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut beside = path.as_os_str().to_owned();
    // No document can name such a file.
    beside.push("~");
    fs::write(&beside, b"")?;
    fs::set_permissions(&beside, fs::Permissions::from_mode(mode))?;
    fs::write(&beside, content)?;
    fs::rename(&beside, path)
}

/// Removes a file, and the folders below `/etc` that are empty without it.
fn remove(root: &Path, path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(FileError::Remove { path: path.to_owned(), source }),
    }
    let etc = root.join("etc");
    let folders = path.ancestors().skip(1).take_while(|folder| *folder != etc);
    for folder in folders.take_while(|folder| folder.starts_with(&etc)) {
        if fs::remove_dir(folder).is_err() {
            // Something else is in it.
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn documents(files: &[(&str, &str)]) -> Vec<Files> {
        let files: Vec<String> = files
            .iter()
            .map(|(path, content)| {
                format!(r#"{{"path":"{path}","content":"{content}","mode":"0640"}}"#)
            })
            .collect();
        let document = format!(r#""kind":"Files","name":"app","files":[{}]"#, files.join(","));
        fixture::config(&[document]).files().to_vec()
    }

    #[test]
    fn files_come_change_and_go_with_their_folders() {
        let root = fixture::folder("files");
        let mut held = Held::new(root.to_str().unwrap());
        let read = |path: &str| fs::read_to_string(root.join(path)).ok();
        let one = documents(&[("/etc/opt/app/a", "1"), ("/etc/cni/net.d/b", "2")]);
        let (statuses, left) = held.pass(&one);
        assert_eq!((statuses["app"].state, left), ("written", None));
        let mode = fs::metadata(root.join("etc/opt/app/a")).unwrap().permissions().mode();
        assert_eq!((read("etc/opt/app/a").as_deref(), mode & 0o777), (Some("1"), 0o640));
        // A file where a folder was, and another text.
        held.pass(&documents(&[("/etc/opt/app", "3"), ("/etc/cni/net.d/b", "4")]));
        assert_eq!(read("etc/opt/app").as_deref(), Some("3"));
        assert_eq!(read("etc/cni/net.d/b").as_deref(), Some("4"));
        // What is in the way of a folder.
        fs::create_dir_all(root.join("etc/cdi")).unwrap();
        fs::write(root.join("etc/cdi/x"), "").unwrap();
        let (statuses, _) = held.pass(&documents(&[("/etc/cdi/x/y", "5")]));
        assert_eq!(statuses["app"].state, "failed");
        assert!(!root.join("etc/opt").exists() && !root.join("etc/cni").exists());
        fs::remove_dir_all(root).unwrap();
    }
}
