// SPDX-License-Identifier: Apache-2.0
//! A number, or a range of numbers: `80`, or `8000-8100`.

use crate::node::{Node, Tree};
use crate::report::{Report, quote};
use crate::shape::Shape;
use crate::value::refuse_type;
use std::ops::RangeInclusive;

/// Reads one within limits, or says that it is no `what`.
pub(crate) fn read(
    node: &Node,
    (shape, what): (&Shape, &str),
    limits: &RangeInclusive<u16>,
    report: &mut Report,
) -> Option<(u16, u16)> {
    let text = match &node.tree {
        Tree::Integer(number) => number.to_string(),
        Tree::Text(text) => text.clone(),
        _ => {
            refuse_type(node, shape, report);
            return None;
        }
    };
    let (first, last) = text.split_once('-').unwrap_or((&text, &text));
    let ends =
        first.parse().ok().zip(last.parse().ok()).filter(|(first, last)| {
            first <= last && limits.contains(first) && limits.contains(last)
        });
    if ends.is_none() {
        let message = format!("{} is no {what} and no range of them", quote(&text));
        report.find(node.line, message, shape.expected());
    }
    ends
}

/// Writes one.
pub(crate) fn write(first: u16, last: u16) -> Tree {
    if first == last { Tree::Integer(first.into()) } else { Tree::Text(format!("{first}-{last}")) }
}
