// SPDX-License-Identifier: Apache-2.0
//! Versions of documents, and the steps between them.
//!
//! Each kind has versions of its own: one whose documents never changed has the first alone. What is read is of any of them,
//! and one function for each step makes it the newest, which is what the rest of the machine knows and what is kept. The step
//! back is for images that know no newer one, and refuses what can't be said there.
//!
//! ```text
//! stele/v1 ── forth ──► stele/v2   never refuses
//! stele/v1 ◄── back ─── stele/v2   what is new there is lost, or refused if it means something
//! ```

use crate::Finding;
use crate::document::Document;
use crate::value::{Secrets, Value};

/// All versions of documents, the oldest first.
pub const API_VERSIONS: [&str; 2] = ["stele/v1", "stele/v2"];

/// A version of a kind's documents that has a newer one.
pub(crate) trait Step: Value {
    /// The next version.
    type Newer;

    /// Makes it the next version, which says the same.
    fn forth(self) -> Self::Newer;

    /// Makes this version of the next one.
    ///
    /// # Errors
    /// What can't be said in it.
    fn back(newer: &Self::Newer) -> Result<Self, Vec<Lost>>;
}

/// Something that an older version can't say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Which key says it, as a path in the newer version.
    pub(crate) key: &'static str,
    /// What an older image would do instead.
    pub(crate) otherwise: &'static str,
}

impl Lost {
    /// Says it of a document.
    pub(crate) fn find(self, number: u32, document: &Document, version: &str) -> Finding {
        let name = document.write(Secrets::Redact).text("name").map(|name| format!(" of {name}"));
        Finding {
            document: number,
            kind: document.kind().to_owned(),
            path: self.key.to_owned(),
            line: 0,
            message: format!(
                "can't be said{} in {version}, by which the machine {}",
                name.unwrap_or_default(),
                self.otherwise
            ),
            expected: "a document without it".to_owned(),
            warning: false,
        }
    }
}
