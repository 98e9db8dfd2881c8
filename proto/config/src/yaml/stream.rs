// SPDX-License-Identifier: Apache-2.0
//! A stream as documents: where each begins, so that a mistake in one does not hide those in the next.

use super::reader;
use crate::MAX_BYTES;
use crate::node::{Node, Tree};
use crate::report::Report;

/// Most documents of a stream.
const MAX_DOCUMENTS: u32 = 1024;

/// What else arrives where a configuration should be: how it begins, and what it is.
const STRANGERS: [(&[u8], &str); 8] = [
    (b"#cloud-config", "a cloud-init configuration (#cloud-config)"),
    (b"#cloud-", "a part for cloud-init"),
    (b"#include", "an include file for cloud-init"),
    (b"## template:", "a template for cloud-init"),
    (b"#!", "a script (#!)"),
    (b"Content-Type:", "a MIME message"),
    (b"MIME-Version:", "a MIME message"),
    (b"\x1f\x8b", "compressed with gzip"),
];

/// The text of a stream, or what is wrong with its bytes.
pub(super) fn text<'i>(bytes: &'i [u8], report: &mut Report) -> Option<&'i str> {
    const EXPECTED: &str = "a YAML stream of Stele documents (apiVersion: stele/v1, kind: …)";
    if bytes.len() > MAX_BYTES {
        report.find(0, "is too long", format!("at most {MAX_BYTES} bytes"));
        return None;
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if let Some((_, what)) = STRANGERS.iter().find(|(start, _)| bytes.starts_with(start)) {
        report.find(1, format!("is {what}"), EXPECTED);
        return None;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if text.trim().is_empty() => report.find(0, "is empty", EXPECTED),
        Ok(text) => return Some(text),
        Err(error) => {
            let line =
                1 + bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count();
            report.find(u32::try_from(line).unwrap_or(u32::MAX), "is not text in UTF-8", EXPECTED);
        }
    }
    None
}

/// The documents of a stream with their numbers. One that could not be read is there as [`Tree::Refused`].
pub(super) fn documents(text: &str, report: &mut Report) -> Vec<(u32, Node)> {
    let mut documents = Vec::new();
    let mut budget = reader::MAX_VALUES;
    let mut number = 1;
    for (line, part) in split(text) {
        // A part holds several documents if they end with `...`.
        reader::read(part, line, &mut number, &mut budget, report, &mut documents);
        if number > MAX_DOCUMENTS {
            report.enter(0);
            report.find(
                line,
                format!("has more than {MAX_DOCUMENTS} documents"),
                format!("at most {MAX_DOCUMENTS}"),
            );
            documents.push((number, Node { line, tree: Tree::Refused }));
            break;
        }
    }
    documents
}

/// Cuts a stream before each line that is a document marker, and says how many lines are before each part.
///
/// A marker cannot be anything else: YAML forbids `---` at the start of a line within every kind of scalar (1.2.2,
/// rule 206, `c-forbidden`).
fn split(text: &str) -> impl Iterator<Item = (u32, &str)> {
    let mut rest = Some(text);
    let mut before = 0;
    std::iter::from_fn(move || {
        let part = rest?;
        let mut offset = 0;
        let mut lines = 0;
        let mut cut = part.len();
        for line in part.split_inclusive('\n') {
            if offset > 0 && is_marker(line) {
                cut = offset;
                break;
            }
            offset += line.len();
            lines += 1;
        }
        let (head, tail) = part.split_at_checked(cut).unwrap_or((part, ""));
        rest = (!tail.is_empty()).then_some(tail);
        let line = before;
        before += lines;
        Some((line, head))
    })
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}
