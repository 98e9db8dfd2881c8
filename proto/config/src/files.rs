// SPDX-License-Identifier: Apache-2.0
//! Files below a few folders of `/etc`.

use crate::Name;
use crate::list::List;
use crate::node::Node;
use crate::record::{Check, did_you_mean, record};
use crate::report::Report;
use crate::secret::Content;
use crate::value::Text;
use std::fmt;
use std::str::FromStr;

/// Most documents.
pub(crate) const MAX_FILES: usize = 64;

record! {
    /// Files that programs read, below `/etc/opt`, `/etc/containers`, `/etc/cni` and `/etc/cdi`. Everything else in `/etc` is the
    /// system's own. They belong to root, and they go when the document goes.
    pub struct Files as "Files" {
        /// What they are called together.
        name: Name,
        /// The files.
        files: List<File, 1, 64>,
    }
}

record! {
    /// One file.
    pub struct File as "File" {
        /// Where it is. Its folders are made as needed.
        path: FilePath,
        /// What is in it. It is redacted wherever the configuration is shown to anyone below `os:admin`.
        content: Content,
        /// Who may read it, in octal.
        mode: FileMode = "0644",
    }
}

impl Files {
    /// What they are called together.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The files.
    #[must_use]
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// Says which of its files can't be beside those of another document, or of itself.
    pub(crate) fn check_beside(&self, other: &Files, node: &Node, report: &mut Report) {
        let whose = |path: &FilePath| format!("{path} of Files {}", other.name);
        for (index, file) in self.files.iter().enumerate() {
            for path in other.files.iter().map(File::path) {
                let message = if file.path == *path {
                    format!("is also the file {}", whose(path))
                } else if file.path.is_within(path) || path.is_within(&file.path) {
                    format!(
                        "can't be there together with {}: one would be the other's folder",
                        whose(path)
                    )
                } else {
                    continue;
                };
                report.find_item(node, ("files", index), message, "each file once");
            }
        }
    }
}

impl Check for Files {
    fn check(&self, node: &Node, report: &mut Report) {
        for (index, file) in self.files.iter().enumerate() {
            let earlier = self.files.iter().take(index).find(|earlier| {
                earlier.path == file.path
                    || earlier.path.is_within(&file.path)
                    || file.path.is_within(&earlier.path)
            });
            if let Some(earlier) = earlier {
                let message =
                    format!("{} can't be there together with {}", file.path, earlier.path);
                report.find_item(
                    node,
                    ("files", index),
                    message,
                    "each file once, and none in another",
                );
            }
        }
    }
}

impl File {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &FilePath {
        &self.path
    }

    /// What is in it.
    #[must_use]
    pub fn content(&self) -> &str {
        self.content.as_str()
    }

    /// Who may read it: the bits of chmod(2).
    #[must_use]
    pub fn mode(&self) -> u32 {
        self.mode.0
    }
}

impl Check for File {}

/// Where files may be.
const FOLDERS: [&str; 4] = ["opt", "containers", "cni", "cdi"];
/// The longest path.
const MAX: usize = 200;

/// The path of a file, below one of the folders where files may be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FilePath(String);

/// Why a text is no such path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilePathError {
    /// It is too long.
    #[error("it has {0} characters, more than {MAX}")]
    Long(usize),
    /// It is somewhere else.
    #[error("it is not below /etc/opt, /etc/containers, /etc/cni or /etc/cdi{0}")]
    Elsewhere(String),
    /// It has a part that leads elsewhere, or nowhere.
    #[error("{0:?} is no name of a file or folder")]
    Part(String),
}

impl FilePath {
    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the other one would be a folder of it.
    fn is_within(&self, other: &FilePath) -> bool {
        self.0.strip_prefix(&other.0).is_some_and(|rest| rest.starts_with('/'))
    }
}

impl FromStr for FilePath {
    type Err = FilePathError;

    fn from_str(text: &str) -> Result<FilePath, FilePathError> {
        if text.len() > MAX {
            return Err(FilePathError::Long(text.chars().count()));
        }
        let rest = text.strip_prefix("/etc/").unwrap_or_default();
        let (folder, rest) = rest.split_once('/').unwrap_or((rest, ""));
        if !FOLDERS.contains(&folder) {
            let hint =
                if folder.is_empty() { String::new() } else { did_you_mean(folder, &FOLDERS) };
            return Err(FilePathError::Elsewhere(hint));
        }
        let allowed =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '+');
        let part = |part: &&str| {
            part.is_empty() || matches!(*part, "." | "..") || !part.chars().all(allowed)
        };
        match rest.split('/').find(part) {
            Some(part) => Err(FilePathError::Part(part.chars().take(40).collect())),
            None => Ok(FilePath(text.to_owned())),
        }
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Text for FilePath {
    const WHAT: &'static str = "the path of a file";
    const EXAMPLE: &'static str = "/etc/opt/app/app.conf";
    const PATTERN: &'static str = "^/etc/(opt|containers|cni|cdi)(/[0-9A-Za-z._@+-]+)+$";
}

/// Who may read a file: four octal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileMode(u32);

/// Why a text is no mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FileModeError {
    /// It is not of that form.
    #[error("it is not of four octal digits, of which the first is 0")]
    Form,
    /// It makes a program of it.
    #[error("nothing in /etc is executed")]
    Execute,
}

impl FromStr for FileMode {
    type Err = FileModeError;

    fn from_str(text: &str) -> Result<FileMode, FileModeError> {
        if text.len() != 4 || !text.starts_with('0') || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(FileModeError::Form);
        }
        match u32::from_str_radix(text, 8) {
            Ok(mode) if mode & 0o111 != 0 => Err(FileModeError::Execute),
            Ok(mode) => Ok(FileMode(mode)),
            Err(_) => Err(FileModeError::Form),
        }
    }
}

impl fmt::Display for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl Text for FileMode {
    const WHAT: &'static str = "the mode of a file";
    const EXAMPLE: &'static str = "\"0640\"";
    const PATTERN: &'static str = "^0[0246]{3}$";
}
