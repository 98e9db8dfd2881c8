// SPDX-License-Identifier: Apache-2.0
//! A file tree in memory: the root on its way from packages and cargo into the squashfs.
//!
//! Guarantees an order (by path), one owner (root) and no time stamps, so that the same inputs make the same bytes. Paths are
//! relative to the root, without a leading slash; parents appear by themselves.

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A folder.
    Folder,
    /// A regular file.
    File {
        /// Permission bits, with setuid and setgid if someone set them.
        mode: u32,
        /// The content.
        data: Arc<[u8]>,
    },
    /// A symbolic link.
    Link(String),
}

/// The tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree(BTreeMap<String, Node>);

impl Tree {
    /// Adds a folder and its parents.
    pub fn folder(&mut self, path: &str) {
        self.parents(path);
        self.0.entry(path.to_owned()).or_insert(Node::Folder);
    }

    /// Adds or replaces a file.
    pub fn file(&mut self, path: &str, mode: u32, data: impl Into<Arc<[u8]>>) {
        self.parents(path);
        self.0.insert(path.to_owned(), Node::File { mode, data: data.into() });
    }

    /// Adds or replaces a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.parents(path);
        self.0.insert(path.to_owned(), Node::Link(target.to_owned()));
    }

    /// Adds everything of another tree.
    pub fn merge(&mut self, other: Tree) {
        self.0.extend(other.0);
    }

    /// What stands at a path, links not followed.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.0.get(path)
    }

    /// The content of a file, links not followed.
    #[must_use]
    pub fn data(&self, path: &str) -> Option<&[u8]> {
        match self.get(path)? {
            Node::File { data, .. } => Some(data),
            Node::Folder | Node::Link(_) => None,
        }
    }

    /// Every path with what stands there, in order, parents first.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// Follows links as the kernel would, from the root; the path of what is found, if anything is.
    #[must_use]
    pub fn resolve(&self, path: &str) -> Option<String> {
        let mut pending: Vec<String> =
            path.split('/').rev().filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let mut at: Vec<String> = Vec::new();
        let mut links = 0;
        while let Some(part) = pending.pop() {
            match part.as_str() {
                "." => continue,
                ".." => {
                    at.pop();
                    continue;
                }
                _ => at.push(part),
            }
            match self.0.get(&at.join("/"))? {
                Node::Folder | Node::File { .. } => {}
                Node::Link(target) => {
                    links += 1;
                    if links > 40 {
                        return None;
                    }
                    at.pop();
                    if target.starts_with('/') {
                        at.clear();
                    }
                    pending.extend(
                        target.split('/').rev().filter(|part| !part.is_empty()).map(str::to_owned),
                    );
                }
            }
        }
        Some(at.join("/"))
    }

    /// A digest of everything: paths, kinds, modes, contents.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for (path, node) in &self.0 {
            let (kind, mode, data): (u8, u32, &[u8]) = match node {
                Node::Folder => (b'd', 0, &[]),
                Node::File { mode, data } => (b'f', *mode, data),
                Node::Link(target) => (b'l', 0, target.as_bytes()),
            };
            hash.update([kind]);
            hash.update(mode.to_le_bytes());
            for part in [path.as_bytes(), data] {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part);
            }
        }
        hex(&hash.finalize())
    }

    /// Writes the tree as a tar, the form in which the cache keeps it.
    pub fn write_tar(&self, out: impl Write) -> Result<()> {
        let mut tar = tar::Builder::new(out);
        for (path, node) in &self.0 {
            let mut header = tar::Header::new_gnu();
            header.set_mtime(0);
            header.set_mode(0o755);
            header.set_size(0);
            match node {
                Node::Folder => {
                    header.set_entry_type(tar::EntryType::Directory);
                    tar.append_data(&mut header, path, std::io::empty())?;
                }
                Node::File { mode, data } => {
                    header.set_mode(*mode);
                    header.set_size(data.len() as u64);
                    tar.append_data(&mut header, path, &data[..])?;
                }
                Node::Link(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    tar.append_link(&mut header, path, target)?;
                }
            }
        }
        tar.finish()?;
        Ok(())
    }

    /// Reads a tar (a cached tree, or the inside of a package), keeping the paths that `wanted` accepts.
    pub fn read_tar(input: impl Read, wanted: impl Fn(&str) -> bool) -> Result<Tree> {
        let mut tree = Tree::default();
        for entry in tar::Archive::new(input).entries()? {
            let mut entry = entry?;
            let path = String::from_utf8(entry.path_bytes().into_owned())
                .context("Reading a path that is not UTF-8")?;
            let path = path.trim_start_matches("./").trim_end_matches('/').to_owned();
            if path.is_empty() || !wanted(&path) {
                continue;
            }
            ensure!(path.split('/').all(|part| part != ".."), "{path} leaves the root");
            match entry.header().entry_type() {
                tar::EntryType::Directory => tree.folder(&path),
                tar::EntryType::Regular => {
                    let mode = entry.header().mode()? & 0o7777;
                    let mut data = Vec::with_capacity(usize::try_from(entry.size())?);
                    entry.read_to_end(&mut data)?;
                    tree.file(&path, mode, data);
                }
                tar::EntryType::Symlink => {
                    let target = entry.link_name_bytes().context("A link without a target")?;
                    tree.link(&path, std::str::from_utf8(&target)?);
                }
                tar::EntryType::Link => {
                    let target = entry.link_name_bytes().context("A link without a target")?;
                    let target = std::str::from_utf8(&target)?.trim_start_matches("./").to_owned();
                    let node = tree.get(&target).cloned();
                    let node = node.with_context(|| {
                        format!("{path} is a hard link to {target}, which is not kept")
                    })?;
                    tree.0.insert(path, node);
                }
                other => bail!("{path} is a {other:?}, which no package of ours should hold"),
            }
        }
        Ok(tree)
    }

    fn parents(&mut self, path: &str) {
        let mut end = 0;
        while let Some(slash) = path[end..].find('/') {
            end += slash;
            self.0.entry(path[..end].to_owned()).or_insert(Node::Folder);
            end += 1;
        }
    }
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The SHA-256 digest in hexadecimal.
#[must_use]
pub fn sha256(data: &[u8]) -> String {
    hex(&digest(data))
}

/// The SHA-256 digest itself.
#[must_use]
pub fn digest(data: &[u8]) -> [u8; 32] {
    Sha256::digest(data).into()
}

/// The SHA-256 digest of a file in hexadecimal.
pub fn sha256_of_file(path: &Path) -> Result<String> {
    Ok(hex(&digest_of_file(path)?))
}

/// The SHA-256 digest of a file.
pub fn digest_of_file(path: &Path) -> Result<[u8; 32]> {
    let read = || -> Result<[u8; 32]> {
        let mut file = File::open(path)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hash.finalize().into()),
                len => hash.update(&buffer[..len]),
            }
        }
    };
    read().with_context(|| format!("Reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged_usr() -> Tree {
        let mut tree = Tree::default();
        tree.link("lib", "usr/lib");
        tree.link("lib64", "usr/lib64");
        tree.link("usr/lib64/ld.so", "../lib/x86/ld.so");
        tree.file("usr/lib/x86/ld.so", 0o755, *b"loader");
        tree
    }

    #[test]
    fn links_are_followed_from_the_root() {
        let tree = merged_usr();
        assert_eq!(tree.resolve("/lib64/ld.so").as_deref(), Some("usr/lib/x86/ld.so"));
        assert_eq!(tree.resolve("/lib/x86/../x86/ld.so").as_deref(), Some("usr/lib/x86/ld.so"));
        assert_eq!(tree.resolve("/lib64/none"), None);
    }

    #[test]
    fn a_loop_of_links_resolves_to_nothing() {
        let mut tree = Tree::default();
        tree.link("a", "b");
        tree.link("b", "a");
        assert_eq!(tree.resolve("a"), None);
    }

    #[test]
    fn a_tar_brings_the_tree_back() {
        let tree = merged_usr();
        let mut tar = Vec::new();
        tree.write_tar(&mut tar).unwrap();
        assert_eq!(Tree::read_tar(&tar[..], |_| true).unwrap(), tree);
    }

    #[test]
    fn the_digest_sees_modes() {
        let (mut a, mut b) = (Tree::default(), Tree::default());
        a.file("x", 0o644, *b"1");
        b.file("x", 0o755, *b"1");
        assert_ne!(a.digest(), b.digest());
    }
}
