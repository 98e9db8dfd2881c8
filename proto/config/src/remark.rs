// SPDX-License-Identifier: Apache-2.0
//! What is said of documents that are good in themselves: that this image or this machine can't do what they ask for.
//!
//! Who says it knows the configuration, and no longer the stream that it was in. [`Places`] still know where each document
//! stood there, and make a [`Finding`] of it.

use crate::Finding;
#[cfg(feature = "yaml")]
use crate::{
    document::Document,
    node::{Node, Tree},
    value::Secrets,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Something about a document of a valid configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The document's kind; empty for the configuration as a whole.
    pub kind: &'static str,
    /// Its name, if it has one.
    pub name: String,
    /// Where in the document, such as `services[1]`.
    pub path: String,
    /// Whether the configuration may be taken all the same.
    pub warning: bool,
    /// What is wrong.
    pub message: String,
    /// What would have been right.
    pub expected: String,
}

/// Where each document of a stream stood.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places(Vec<Place>);

/// Where a document stood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    kind: String,
    /// Empty for a kind that has no names.
    name: String,
    /// Which of the stream, from 1.
    document: u32,
    line: u32,
    /// For each key, also `KEY.KEY`, its line and those of the items of its list.
    keys: BTreeMap<String, Vec<u32>>,
}

impl Places {
    /// Makes findings of remarks: with their places, as far as those are known, in the order of the stream.
    #[must_use]
    pub fn find(&self, remarks: Vec<Remark>) -> Vec<Finding> {
        let mut findings: Vec<_> =
            remarks.into_iter().map(|remark| self.find_one(remark)).collect();
        findings.sort_by_key(|finding| (finding.document == 0, finding.document, finding.line));
        findings
    }

    fn find_one(&self, remark: Remark) -> Finding {
        let Remark { kind, name, path, warning, message, expected } = remark;
        let place = self.0.iter().find(|place| place.kind == kind && place.name == name);
        Finding {
            document: place.map_or(0, |place| place.document),
            kind: kind.to_owned(),
            line: place.map_or(0, |place| place.line_of(&path)),
            path,
            warning,
            message,
            expected,
        }
    }

    /// Notes where a document stands.
    #[cfg(feature = "yaml")]
    pub(crate) fn note(&mut self, number: u32, document: &Document, node: &Node) {
        let mut keys = BTreeMap::new();
        for entry in node.entries() {
            let mut lines = vec![entry.line];
            if let Tree::List(items) = &entry.value.tree {
                lines.extend(items.iter().map(|item| item.line));
            }
            for inner in entry.value.entries() {
                keys.insert(format!("{}.{}", entry.key, inner.key), vec![inner.line]);
            }
            keys.insert(entry.key.clone(), lines);
        }
        // As it is kept, and not as it was written: names have a form of their own.
        let written = document.write(Secrets::Redact);
        self.0.push(Place {
            kind: document.kind().to_owned(),
            name: written.text("name").unwrap_or_default().to_owned(),
            document: number,
            line: node.line,
            keys,
        });
    }
}

impl Place {
    /// The line of `key`, `key.key` or `key[item]`, or else the document's.
    fn line_of(&self, path: &str) -> u32 {
        let (key, item) = match path.split_once('[') {
            Some((key, rest)) => (key, rest.split(']').next().and_then(|item| item.parse().ok())),
            None => (path, None),
        };
        let index = item.map_or(0, |item: usize| item.saturating_add(1));
        let line = self.keys.get(key).and_then(|lines| lines.get(index).or(lines.first()));
        line.copied().unwrap_or(self.line)
    }
}
