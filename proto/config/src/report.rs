// SPDX-License-Identifier: Apache-2.0
//! The list of findings while it grows, and the place that is being looked at.
//!
//! It is bounded: a megabyte of nonsense has hundreds of thousands of mistakes, and nobody reads past the first few.

use crate::Finding;
use crate::node::{Node, Tree};
use std::fmt;

/// Most findings that are told one by one.
const MAX_FINDINGS: usize = 100;

/// Longest piece of the configuration that a message quotes, in characters.
const MAX_QUOTE: usize = 48;

/// Findings so far, and where the reader is.
#[derive(Debug, Default)]
pub(crate) struct Report {
    findings: Vec<Finding>,
    untold: usize,
    document: u32,
    kind: String,
    path: Vec<Step>,
}

/// One step down into a document.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Into the value of this key.
    Key(String),
    /// Into this item of a list, from 0.
    Item(usize),
}

impl Report {
    /// Goes on to a document, whose kind may turn out later.
    pub(crate) fn enter(&mut self, document: u32) {
        self.document = document;
        self.kind.clear();
        self.path.clear();
    }

    /// Which document it is at.
    #[cfg(feature = "yaml")]
    pub(crate) fn document(&self) -> u32 {
        self.document
    }

    /// Names the kind of the document, also in the findings that it already has.
    pub(crate) fn kind(&mut self, kind: &str) {
        kind.clone_into(&mut self.kind);
        for finding in self.findings.iter_mut().filter(|finding| finding.document == self.document)
        {
            kind.clone_into(&mut finding.kind);
        }
    }

    /// True while the reader looks at a document as a whole.
    pub(crate) fn is_at_top(&self) -> bool {
        self.path.is_empty()
    }

    /// Does something one step further down.
    pub(crate) fn within<R>(&mut self, step: Step, work: impl FnOnce(&mut Self) -> R) -> R {
        self.path.push(step);
        let result = work(self);
        self.path.pop();
        result
    }

    /// Does something at the value of a key.
    pub(crate) fn at<R>(&mut self, key: &str, work: impl FnOnce(&mut Self) -> R) -> R {
        self.within(Step::Key(key.to_owned()), work)
    }

    /// Adds a finding about the present place.
    pub(crate) fn find(
        &mut self,
        line: u32,
        message: impl Into<String>,
        expected: impl Into<String>,
    ) {
        if self.findings.len() == MAX_FINDINGS {
            self.untold += 1;
            return;
        }
        self.findings.push(Finding {
            document: self.document,
            kind: self.kind.clone(),
            path: Path(&self.path).to_string(),
            line,
            message: message.into(),
            expected: expected.into(),
            warning: false,
        });
    }

    /// Adds a finding about the value of a key of this mapping.
    pub(crate) fn find_at(
        &mut self,
        node: &Node,
        key: &str,
        message: impl Into<String>,
        expected: impl Into<String>,
    ) {
        self.at(key, |report| report.find(node.line_of(key), message, expected));
    }

    /// Adds a finding about an item of the list that is the value of a key of this mapping.
    pub(crate) fn find_item(
        &mut self,
        node: &Node,
        (key, item): (&str, usize),
        message: impl Into<String>,
        expected: impl Into<String>,
    ) {
        let line = match node.entry(key).map(|entry| &entry.value.tree) {
            Some(Tree::List(nodes)) => nodes.get(item).map(|node| node.line),
            Some(_) | None => None,
        };
        let line = line.unwrap_or_else(|| node.line_of(key));
        self.at(key, |report| {
            report.within(Step::Item(item), |report| report.find(line, message, expected));
        });
    }

    /// True if nothing was found.
    pub(crate) fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// All findings in the order of the stream.
    pub(crate) fn into_findings(mut self) -> Vec<Finding> {
        self.findings
            .sort_by_key(|finding| (finding.document == 0, finding.document, finding.line));
        if self.untold > 0 {
            self.enter(0);
            self.findings.push(Finding {
                document: 0,
                kind: String::new(),
                path: String::new(),
                line: 0,
                message: format!("there are {} more findings", self.untold),
                expected: "these to be mended first".to_owned(),
                warning: false,
            });
        }
        self.findings
    }
}

/// Prints `routes[0].via`.
struct Path<'a>(&'a [Step]);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if depth == 0 => f.write_str(&shorten(key))?,
                Step::Key(key) => write!(f, ".{}", shorten(key))?,
                Step::Item(item) => write!(f, "[{item}]")?,
            }
        }
        Ok(())
    }
}

/// A piece of the configuration for a message: in quotes, on one line, and not too long.
pub(crate) fn quote(text: &str) -> String {
    format!("\"{}\"", shorten(text))
}

fn shorten(text: &str) -> String {
    // A key in the wrong place is still a secret.
    if text.contains("-----BEGIN ") {
        return "-----BEGIN …".to_owned();
    }
    let mut chars = text.chars();
    let mut short: String = chars.by_ref().take(MAX_QUOTE).flat_map(char::escape_debug).collect();
    if chars.next().is_some() {
        short.push('…');
    }
    short
}
