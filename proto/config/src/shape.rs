// SPDX-License-Identifier: Apache-2.0
//! What a value may be, as data: the source of every `expected …`, of the JSON Schema and of the reference manual.

/// What a value may be.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    /// `true` or `false`.
    Boolean,
    /// A whole number in a range, both ends included.
    Integer {
        /// The least.
        min: u32,
        /// The greatest.
        max: u32,
    },
    /// One of a few words.
    Choice {
        /// The words.
        words: &'static [&'static str],
    },
    /// A time span in a range, both ends included.
    Span {
        /// The shortest, in seconds.
        min: u32,
        /// The longest, in seconds.
        max: u32,
    },
    /// Text of a form.
    Text {
        /// What it is, with its article: `a host name`.
        what: &'static str,
        /// A good one.
        example: &'static str,
        /// A regular expression that every good one matches.
        pattern: &'static str,
    },
    /// Text of a form, or a number, which is read as its text.
    Setting {
        /// What it is, with its article.
        what: &'static str,
        /// A good one.
        example: &'static str,
    },
    /// PEM blocks of one label.
    Pem {
        /// What it is, with its article.
        what: &'static str,
        /// The label.
        label: &'static str,
    },
    /// A list without repetition.
    List {
        /// What each item is.
        of: Box<Shape>,
        /// Fewest items.
        min: usize,
        /// Most items.
        max: usize,
    },
    /// A mapping with fixed keys.
    Record(Record),
}

/// A mapping with fixed keys.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// Its name: the kind, for a document.
    pub(crate) name: &'static str,
    /// What it is about, a line each.
    pub(crate) doc: &'static [&'static str],
    /// Its keys.
    pub(crate) fields: Vec<Field>,
}

/// A key of a mapping.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    /// The key.
    pub(crate) key: &'static str,
    /// What it is about, a line each.
    pub(crate) doc: &'static [&'static str],
    /// What its value may be.
    pub(crate) shape: Shape,
    /// What its absence means.
    pub(crate) absence: Absence,
}

/// What it means that a key is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// That the document is wrong.
    Refused,
    /// That there is none.
    Nothing,
    /// The same as this value, as JSON.
    Default(String),
}

impl Shape {
    /// What was expected, for a finding.
    pub(crate) fn expected(&self) -> String {
        match self {
            Shape::Boolean => "true or false".to_owned(),
            Shape::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Shape::Choice { words } => words.join(" or "),
            Shape::Span { min, max } => {
                let (min, max) = (crate::span::Seconds(*min), crate::span::Seconds(*max));
                format!("a time span such as 1m30s, from {min} to {max}")
            }
            Shape::Text { what, example, pattern: _ } => format!("{what}, such as {example}"),
            Shape::Setting { what, example } => format!("{what}, such as {example}"),
            Shape::Pem { what, label } => format!("{what} as PEM (-----BEGIN {label}-----)"),
            Shape::List { of, min: 0, max } => {
                format!("a list of at most {max}, each {}", of.expected())
            }
            Shape::List { of, min, max } => {
                format!("a list of {min} to {max}, each {}", of.expected())
            }
            Shape::Record(record) if record.fields.is_empty() => "an empty mapping, {}".to_owned(),
            Shape::Record(record) => {
                let keys: Vec<_> = record.fields.iter().map(|field| field.key).collect();
                format!("a mapping with the keys {}", keys.join(", "))
            }
        }
    }
}
