// SPDX-License-Identifier: Apache-2.0
//! `manifest.json`: what is in an image, down to every file.

use crate::lock::Package;
use crate::tree::{Node, Tree, sha256};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The manifest of an image. The copy inside of the root lacks the parts and itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The version of the image.
    pub version: String,
    /// The profile.
    pub profile: String,
    /// Seconds since the epoch.
    pub build_time: u64,
    /// The kernel's release, as `uname -r` has it.
    pub kernel: String,
    /// The kernel command line.
    pub cmdline: String,
    /// The Debian packages that files of the image come from.
    pub packages: Vec<Package>,
    /// Every file and link of the root.
    pub files: Vec<File>,
    /// The sizes of the parts in bytes, by file name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, u64>,
}

/// One file of the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its path, with the leading slash.
    pub path: String,
    /// Its mode, in octal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Its size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The SHA-256 digest of its content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// What a symbolic link points to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// The files of a root, as a manifest lists them.
#[must_use]
pub fn files(root: &Tree) -> Vec<File> {
    let describe = |(path, node): (&str, &Node)| {
        let path = format!("/{path}");
        match node {
            Node::Folder => None,
            Node::File { mode, data } => Some(File {
                path,
                mode: Some(format!("{mode:04o}")),
                size: Some(data.len() as u64),
                sha256: Some(sha256(data)),
                target: None,
            }),
            Node::Link(target) => Some(File {
                path,
                mode: None,
                size: None,
                sha256: None,
                target: Some(target.clone()),
            }),
        }
    };
    root.iter().filter_map(describe).collect()
}

impl Manifest {
    /// The JSON text.
    pub fn to_json(&self) -> anyhow::Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(text)
    }
}
