// SPDX-License-Identifier: Apache-2.0
//! Mappings with fixed keys, declared once with `record!`: from it come the type, its reader with all its findings,
//! its writer, and its description.

use crate::node::{Node, Tree};
use crate::report::{Report, quote};
use crate::shape::{Absence, Shape};
use crate::value::{Value, refuse_type};

/// The keys that every document has besides those of its kind.
pub(crate) const HEADER: [&str; 2] = ["apiVersion", "kind"];

/// What a mapping must satisfy beyond each of its keys.
pub(crate) trait Check {
    /// Says what is wrong between the keys.
    fn check(&self, _node: &Node, _report: &mut Report) {}
}

/// Declares a mapping with fixed keys. Its name is its kind, when it is a document; its comments are the manual.
///
/// A key that is not spelled like its field follows it (`stable_for as "stableFor": …`). A value that the absence of a
/// key stands for follows the type, spelled as in a document (`… = "10s"`).
macro_rules! record {
    (
        $(#[doc = $doc:literal])+
        $vis:vis struct $name:ident as $kind:literal {
            $($(#[doc = $field_doc:literal])+ $field_vis:vis $field:ident $(as $key:literal)?: $type:ty $(= $default:literal)?,)+
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq, Eq)]
        $vis struct $name {
            $($(#[doc = $field_doc])+ $field_vis $field: $type,)+
        }

        impl $crate::value::Value for $name {
            fn shape() -> $crate::shape::Shape {
                $crate::shape::Shape::Record($crate::shape::Record {
                    name: $kind,
                    doc: &[$($doc),+],
                    fields: vec![$($crate::shape::Field {
                        key: $crate::record::key!($field $($key)?),
                        doc: &[$($field_doc),+],
                        shape: <$type as $crate::value::Value>::shape(),
                        absence: $crate::record::absence::<$type>($crate::record::default!($($default)?)),
                    }),+],
                })
            }

            fn read(node: &$crate::node::Node, report: &mut $crate::report::Report) -> Option<$name> {
                let shape = <$name as $crate::value::Value>::shape();
                let keys = [$($crate::record::key!($field $($key)?)),+];
                if !$crate::record::check_keys(node, &keys, &shape, report) {
                    return None;
                }
                // All fields are read before the first that is missing ends it.
                $(let $field = $crate::record::field::<$type>(
                    node,
                    $crate::record::key!($field $($key)?),
                    $crate::record::default!($($default)?),
                    report,
                );)+
                let record = $name { $($field: $field?),+ };
                $crate::record::Check::check(&record, node, report);
                Some(record)
            }

            fn write(&self, secrets: $crate::value::Secrets) -> Option<$crate::node::Tree> {
                let fields = [$(($crate::record::key!($field $($key)?), $crate::value::Value::write(&self.$field, secrets))),+];
                let entries = fields.into_iter().filter_map(|(key, tree)| {
                    let value = $crate::node::Node::new(tree?);
                    Some($crate::node::Entry { key: key.to_owned(), line: 0, value })
                });
                Some($crate::node::Tree::Map(entries.collect()))
            }
        }
    };
}
pub(crate) use record;

/// The key of a field.
macro_rules! key {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $key:literal) => {
        $key
    };
}
pub(crate) use key;

/// What the absence of a key stands for, as it would be written.
macro_rules! default {
    () => {
        None
    };
    ($default:literal) => {
        Some($crate::node::Tree::from($default))
    };
}
pub(crate) use default;

/// What the absence of a key means.
pub(crate) fn absence<T: Value>(default: Option<Tree>) -> Absence {
    match default {
        // Writing a plain value to memory does not fail.
        Some(tree) => Absence::Default(serde_json::to_string(&Node::new(tree)).unwrap_or_default()),
        None => T::absence(),
    }
}

/// Finds keys that do not belong here or are there twice. False if it is no mapping at all.
pub(crate) fn check_keys(node: &Node, keys: &[&str], shape: &Shape, report: &mut Report) -> bool {
    if !matches!(node.tree, crate::node::Tree::Map(_)) {
        refuse_type(node, shape, report);
        return false;
    }
    let known = |key: &str| keys.contains(&key) || (report.is_at_top() && HEADER.contains(&key));
    let mut unknown = Vec::new();
    let mut seen: Vec<(&str, u32)> = Vec::new();
    let mut twice = Vec::new();
    for entry in node.entries() {
        if !known(&entry.key) {
            unknown.push(entry);
        } else if let Some((_, line)) = seen.iter().find(|(key, _)| *key == entry.key) {
            twice.push((entry, *line));
        } else {
            seen.push((&entry.key, entry.line));
        }
    }
    for entry in unknown {
        report.at(&entry.key, |report| {
            let message = format!(
                "there is no key {} here{}",
                quote(&entry.key),
                did_you_mean(&entry.key, keys)
            );
            let expected = match keys {
                [] => "no key at all".to_owned(),
                _ => format!("one of {}", keys.join(", ")),
            };
            report.find(entry.line, message, expected);
        });
    }
    for (entry, line) in twice {
        let first = if line > 0 { format!(", first on line {line}") } else { String::new() };
        report.at(&entry.key, |report| {
            report.find(entry.line, format!("is there twice{first}"), "each key once");
        });
    }
    true
}

/// Reads the value of a key, or takes what its absence stands for.
pub(crate) fn field<T: Value>(
    node: &Node,
    key: &str,
    default: Option<Tree>,
    report: &mut Report,
) -> Option<T> {
    report.at(key, |report| match node.entry(key) {
        Some(entry) => T::read(&entry.value, report),
        None => {
            let absent = match default {
                Some(tree) => T::read(&Node::new(tree), report),
                None => T::absent(),
            };
            if absent.is_none() {
                report.find(node.line, "is missing", T::shape().expected());
            }
            absent
        }
    })
}

/// ` (did you mean "mtu"?)`, if something known is close to it.
#[must_use]
pub fn did_you_mean(word: &str, known: &[&str]) -> String {
    // Far more than any key has; the distance takes time in proportion to the length.
    if word.len() > 64 {
        return String::new();
    }
    let word = word.to_lowercase();
    (known.iter())
        .map(|known| (strsim::osa_distance(&word, &known.to_lowercase()), known))
        .filter(|(distance, known)| *distance <= (known.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map_or_else(String::new, |(_, known)| format!(" (did you mean \"{known}\"?)"))
}
