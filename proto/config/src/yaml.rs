// SPDX-License-Identifier: Apache-2.0
//! The form that people write: a YAML stream, of which the plain part is enough.
//!
//! What makes YAML dangerous or surprising is refused, not interpreted: anchors and aliases, tags, merge keys,
//! directives, keys that are not text. So no document means more than what stands in it, and reading takes time and
//! memory in proportion to its bytes. This runs in `ctl` and in the confined configure agent, never in PID 1.

mod reader;
mod rehearsal;
mod stream;
mod x509;

pub use rehearsal::rehearse;

use crate::document::Document;
use crate::node::{Node, Tree};
use crate::report::Report;
use crate::{Finding, MachineConfig, Places};

/// A configuration, and where its documents stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The configuration.
    pub config: MachineConfig,
    /// Where its documents stood.
    pub places: Places,
}

/// Reads a YAML stream. Besides what [`crate::canonical::read`] checks, the certificates must fit each other and the
/// key.
///
/// # Errors
///
/// Everything that is wrong with it, in all documents.
pub fn parse(bytes: &[u8]) -> Result<MachineConfig, Vec<Finding>> {
    read(bytes, inspect)
}

/// Reads a YAML stream, and notes where its documents stand.
///
/// # Errors
///
/// The same.
pub fn locate(bytes: &[u8]) -> Result<Located, Vec<Finding>> {
    let mut places = Places::default();
    let config = read(bytes, |document, node, report| {
        inspect(document, node, report);
        places.note(report.document(), document, node);
    })?;
    Ok(Located { config, places })
}

fn read(
    bytes: &[u8],
    inspect: impl FnMut(&Document, &Node, &mut Report),
) -> Result<MachineConfig, Vec<Finding>> {
    let mut report = Report::default();
    let config = stream::text(bytes, &mut report).and_then(|text| {
        let documents = stream::documents(text, &mut report);
        MachineConfig::read(&documents, inspect, &mut report)
    });
    config.ok_or_else(|| report.into_findings())
}

/// Looks closer than PID 1 does.
fn inspect(document: &Document, node: &Node, report: &mut Report) {
    match document {
        Document::Identity(identity) => x509::check(identity, node, report),
        Document::UpgradePolicy(policy) => x509::check_keys(policy, node, report),
        Document::TrustedRoots(roots) => x509::check_roots(roots, node, report),
        _ => {}
    }
}

/// Prints a canonical configuration, redacted or not, as a YAML stream. What is no JSON array comes back as it is.
#[must_use]
pub fn print(canonical: &[u8]) -> String {
    match serde_json::from_slice(canonical) {
        Ok(Node { tree: Tree::List(documents), .. }) => {
            // Printing a tree of plain values to memory does not fail.
            let documents: Vec<_> = documents
                .iter()
                .map(|node| serde_yaml::to_string(node).unwrap_or_default())
                .collect();
            documents.join("---\n")
        }
        Ok(_) | Err(_) => String::from_utf8_lossy(canonical).into_owned(),
    }
}
