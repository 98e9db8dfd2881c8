// SPDX-License-Identifier: Apache-2.0
//! The canonical form: a JSON array of documents, in which equal configurations are equal bytes.
//!
//! It is what PID 1 reads and what is kept on disk. Documents come in a fixed order of kinds, links by name, keys as
//! they are declared, values normalised. It is YAML too, as all JSON is.

use crate::node::{Node, Tree};
use crate::report::Report;
use crate::value::Secrets;
use crate::{Finding, MAX_BYTES, MachineConfig, NetworkDocuments};

/// Most bytes: a configuration of [`MAX_BYTES`] grows a little, by quotes and by what is implied in it.
const MAX_CANONICAL: usize = 2 * MAX_BYTES;

/// Reads the canonical form, as strictly as if a stranger had written it.
///
/// # Errors
///
/// Everything that is wrong with it. Lines are 0.
pub fn read(bytes: &[u8]) -> Result<MachineConfig, Vec<Finding>> {
    let mut report = Report::default();
    let config = documents(bytes, &mut report)
        .and_then(|documents| MachineConfig::read(&documents, |_, _, _| {}, &mut report));
    config.ok_or_else(|| report.into_findings())
}

/// Reads documents of the network alone, in the same form.
///
/// # Errors
///
/// Everything that is wrong with them. Lines are 0.
pub fn read_network(bytes: &[u8]) -> Result<NetworkDocuments, Vec<Finding>> {
    let mut report = Report::default();
    let network = documents(bytes, &mut report)
        .and_then(|documents| NetworkDocuments::read(&documents, &mut report));
    network.ok_or_else(|| report.into_findings())
}

/// The documents, counted from 1.
fn documents(bytes: &[u8], report: &mut Report) -> Option<Vec<(u32, Node)>> {
    if bytes.len() > MAX_CANONICAL {
        report.find(0, "is too long", format!("at most {MAX_CANONICAL} bytes"));
        return None;
    }
    match serde_json::from_slice::<Node>(bytes) {
        Ok(Node { tree: Tree::List(documents), .. }) => Some((1..).zip(documents).collect()),
        Ok(Node { tree, .. }) => {
            report.find(0, tree.describe(), "a JSON array of documents");
            None
        }
        Err(error) => {
            report.find(0, format!("is not JSON: {error}"), "a JSON array of documents");
            None
        }
    }
}

/// Writes the canonical form.
#[must_use]
pub fn write(config: &MachineConfig) -> Vec<u8> {
    encode(config, Secrets::Keep)
}

/// Writes the canonical form for an image that knows no version of documents above this one of
/// [`crate::API_VERSIONS`].
///
/// # Errors
///
/// Everything that can't be said in the versions that it knows. Documents are counted in canonical order.
pub fn write_as(config: &MachineConfig, most: &str) -> Result<Vec<u8>, Vec<Finding>> {
    let mut documents = Vec::new();
    let mut findings = Vec::new();
    for (number, document) in (1..).zip(config.documents()) {
        match document.write_as(most, Secrets::Keep) {
            Ok(node) => documents.push(node),
            Err(lost) => {
                findings.extend(lost.into_iter().map(|lost| lost.find(number, &document, most)))
            }
        }
    }
    if findings.is_empty() { Ok(serialize(&documents)) } else { Err(findings) }
}

/// Makes one document, as JSON, one of the version that is asked for.
///
/// # Errors
///
/// What is wrong with it, or what can't be said in that version. Lines are 0.
pub fn convert(document: &str, version: &str) -> Result<String, Vec<Finding>> {
    let mut report = Report::default();
    report.enter(1);
    let node = match serde_json::from_str::<Node>(document) {
        Ok(node) => node,
        Err(error) => {
            report.find(0, format!("is not JSON: {error}"), "a document");
            return Err(report.into_findings());
        }
    };
    let Some(document) = crate::document::read(&node, &mut report) else {
        return Err(report.into_findings());
    };
    let written = document.write_as(version, Secrets::Keep);
    let node = written.map_err(|lost| {
        lost.into_iter().map(|lost| lost.find(1, &document, version)).collect::<Vec<_>>()
    })?;
    // Writing a tree of plain values to memory does not fail.
    Ok(serde_json::to_string(&node).unwrap_or_default())
}

/// Writes the canonical form with a marker in the place of private keys. It does not read back.
#[must_use]
pub fn redact(config: &MachineConfig) -> Vec<u8> {
    encode(config, Secrets::Redact)
}

fn encode(config: &MachineConfig, secrets: Secrets) -> Vec<u8> {
    let documents: Vec<_> =
        config.documents().iter().map(|document| document.write(secrets)).collect();
    serialize(&documents)
}

fn serialize(documents: &[Node]) -> Vec<u8> {
    // Writing a tree of plain values to memory does not fail.
    serde_json::to_vec(documents).unwrap_or_default()
}
