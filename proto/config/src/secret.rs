// SPDX-License-Identifier: Apache-2.0
//! What only some may see: a marker takes its place wherever the configuration is shown to anyone below `os:admin`.
//!
//! Messages never quote it, nor does Debug output.

use crate::node::{Node, Tree};
use crate::pem::REDACTED;
use crate::report::Report;
use crate::shape::Shape;
use crate::value::{Secrets, Value};
use std::fmt;

/// A password: text on one line.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Password(String);

/// What is in a file: any text.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Content(String);

/// The longest password. Some registries have tokens for it.
const MAX_PASSWORD: usize = 16 * 1024;
/// The longest file.
const MAX_CONTENT: usize = 256 * 1024;

impl Password {
    /// The password.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Content {
    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Value for Password {
    fn shape() -> Shape {
        Shape::Setting { what: "a password", example: "a long one" }
    }

    fn read(node: &Node, report: &mut Report) -> Option<Password> {
        let text = read(node, &Self::shape(), MAX_PASSWORD, report)?;
        if text.is_empty() || text.contains(char::is_control) {
            let expected = "text on one line, not empty";
            report.find(node.line, "is no password", expected);
            return None;
        }
        Some(Password(text))
    }

    fn write(&self, secrets: Secrets) -> Option<Tree> {
        Some(write(&self.0, secrets))
    }
}

impl Value for Content {
    fn shape() -> Shape {
        Shape::Setting { what: "the text of a file", example: "what it says" }
    }

    fn read(node: &Node, report: &mut Report) -> Option<Content> {
        read(node, &Self::shape(), MAX_CONTENT, report).map(Content)
    }

    fn write(&self, secrets: Secrets) -> Option<Tree> {
        Some(write(&self.0, secrets))
    }
}

fn read(node: &Node, shape: &Shape, max: usize, report: &mut Report) -> Option<String> {
    let text = match &node.tree {
        // What is printed without quotes may look like a number that is none to the printer: 7e913.
        Tree::Text(text) | Tree::Number(text) => text,
        Tree::Refused => return None,
        // Not `describe`: a number may be a password, too.
        _ => {
            report.find(node.line, "is not text", shape.expected());
            return None;
        }
    };
    if text.trim() == REDACTED {
        let message = "is redacted: this configuration was shown without its secrets";
        report.find(node.line, message, shape.expected());
        return None;
    }
    if text.len() > max {
        report.find(node.line, format!("has {} bytes", text.len()), format!("at most {max}"));
        return None;
    }
    Some(text.clone())
}

fn write(text: &str, secrets: Secrets) -> Tree {
    Tree::Text(match secrets {
        Secrets::Keep => text.to_owned(),
        Secrets::Redact => REDACTED.to_owned(),
    })
}
