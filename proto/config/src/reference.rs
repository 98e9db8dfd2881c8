// SPDX-License-Identifier: Apache-2.0
//! The reference manual: one text on the format, and a section for each kind, from its declaration.

use crate::document::{Count, KINDS, Kind, Version};
use crate::schema::prose;
use crate::shape::{Absence, Field, Record, Shape};

/// The manual of the format, before the kinds.
const FORMAT: &str = include_str!("reference/format.md");

/// The reference manual as Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut text = FORMAT.to_owned();
    for kind in &KINDS {
        text.push_str(&section(kind));
    }
    text
}

/// An example of each older version that is read: the kind and the document.
#[must_use]
pub fn older_examples() -> Vec<(&'static str, &'static str)> {
    KINDS.iter().flat_map(|kind| older(kind).map(|(_, it)| (kind.name, it.example))).collect()
}

/// The versions of a kind that have a newer one, the newest of them first.
fn older(kind: &Kind) -> impl Iterator<Item = (&'static str, &'static Version)> {
    kind.versions().rev().skip(1)
}

/// An example of each kind: its name, and a document as people write it. That of Identity leaves out what is secret.
#[must_use]
pub fn examples() -> Vec<(&'static str, &'static str)> {
    KINDS
        .iter()
        .filter_map(|kind| {
            let (_, newest) = kind.versions().next_back()?;
            Some((kind.name, newest.example))
        })
        .collect()
}

fn section(kind: &Kind) -> String {
    let count = match kind.count {
        Count::One => "Exactly one document.".to_owned(),
        Count::AtMostOne => "At most one document.".to_owned(),
        Count::Named => "Any number of documents, each with another `name`.".to_owned(),
        Count::NamedUpTo(most) => format!("At most {most} documents, each with another `name`."),
    };
    let mut text = format!("\n## {}\n\n", kind.name);
    let Some((_, newest)) = kind.versions().next_back() else { return text };
    if let Shape::Record(record) = (newest.shape)() {
        text.push_str(&format!("{}\n\n{count}\n\n", prose(record.doc)));
        text.push_str(&keys(newest.example, &record));
        for field in &record.fields {
            if let Some(record) = inner(&field.shape) {
                let (key, about) = (field.key, prose(record.doc));
                text.push_str(&format!("\n### {}.{key}\n\n{about}\n", kind.name));
                if !record.fields.is_empty() {
                    text.push_str(&format!("\n{}", table(record)));
                }
            }
        }
    }
    for (name, version) in older(kind) {
        let Shape::Record(record) = (version.shape)() else { continue };
        let about = "Read as well, and kept in the version above.";
        text.push_str(&format!("\n### {} of {name}\n\n{about}\n\n", kind.name));
        text.push_str(&keys(version.example, &record));
    }
    text
}

/// An example and the keys.
fn keys(example: &str, record: &Record) -> String {
    format!("```yaml\n{example}```\n\n{}", table(record))
}

/// The mapping that a value is, or is a list of.
fn inner(shape: &Shape) -> Option<&Record> {
    match shape {
        Shape::Record(record) => Some(record),
        Shape::List { of, .. } => inner(of),
        Shape::Boolean
        | Shape::Integer { .. }
        | Shape::Choice { .. }
        | Shape::Span { .. }
        | Shape::Text { .. }
        | Shape::Setting { .. }
        | Shape::Pem { .. } => None,
    }
}

fn table(record: &Record) -> String {
    let rows: String = record.fields.iter().map(row).collect();
    format!("| key | value | |\n|---|---|---|\n{rows}")
}

fn row(field: &Field) -> String {
    let value = match &field.absence {
        Absence::Refused => format!("{}, **required**", describe(&field.shape)),
        Absence::Nothing => describe(&field.shape),
        Absence::Default(default) => {
            format!("{}, default `{}`", describe(&field.shape), default.trim_matches('"'))
        }
    };
    format!(
        "| `{}` | {value} | {} |\n",
        field.key,
        prose(field.doc).replace("\n\n", "<br>").replace('|', "\\|")
    )
}

fn describe(shape: &Shape) -> String {
    match shape {
        Shape::Boolean => "`true` or `false`".to_owned(),
        Shape::Integer { min: 0, max: u32::MAX } => "a whole number".to_owned(),
        Shape::Integer { min, max } => format!("{min} to {max}"),
        Shape::Choice { words } => {
            let words: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
            words.join(" or ")
        }
        Shape::Span { min, max } => {
            format!("`{}` to `{}`", crate::span::Seconds(*min), crate::span::Seconds(*max))
        }
        Shape::Text { what, example, pattern: _ } => format!("{what}, such as `{example}`"),
        Shape::Setting { what, example } => format!("{what}, such as `{example}`"),
        Shape::Pem { what, label: _ } => format!("{what}, PEM"),
        Shape::List { of, min: 0, max } => format!("a list, at most {max}: {}", describe(of)),
        Shape::List { of, min, max } => format!("a list, {min} to {max}: {}", describe(of)),
        Shape::Record(record) if record.fields.is_empty() => "`{}`".to_owned(),
        Shape::Record(record) => {
            let keys: Vec<_> =
                record.fields.iter().map(|field| format!("`{}`", field.key)).collect();
            format!("a mapping: {}", keys.join(", "))
        }
    }
}
