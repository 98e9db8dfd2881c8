// SPDX-License-Identifier: Apache-2.0
//! One thing that is wrong with a configuration.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One thing that is wrong with a configuration: where, what, and what would have been right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which document of the stream, from 1; 0 when it is about the stream as a whole.
    pub document: u32,
    /// The document's kind, as far as it could be read.
    pub kind: String,
    /// Where in the document, such as `addresses[1]`; empty for the document as a whole.
    pub path: String,
    /// Line in the stream, from 1; 0 when there is none.
    pub line: u32,
    /// What is wrong.
    pub message: String,
    /// What would have been right; empty when the message says it all.
    pub expected: String,
    /// Whether the configuration may be taken all the same.
    #[serde(default)]
    pub warning: bool,
}

impl fmt::Display for Finding {
    /// One line: `document 2 (Link), line 14, addresses[1]: …; expected …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut place = Vec::new();
        match (self.document, self.kind.as_str()) {
            (0, "") => place.push("configuration".to_owned()),
            (0, kind) => place.push(kind.to_owned()),
            (document, "") => place.push(format!("document {document}")),
            (document, kind) => place.push(format!("document {document} ({kind})")),
        }
        if self.line > 0 {
            place.push(format!("line {}", self.line));
        }
        if !self.path.is_empty() {
            place.push(self.path.clone());
        }
        let level = if self.warning { "warning: " } else { "" };
        write!(f, "{level}{}: {}", place.join(", "), self.message)?;
        if !self.expected.is_empty() {
            write!(f, "; expected {}", self.expected)?;
        }
        Ok(())
    }
}
