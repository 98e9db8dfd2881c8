// SPDX-License-Identifier: Apache-2.0
//! A document as a tree of values, each with the line it stands on.
//!
//! Keeps the order of keys, and keys that are there twice, because somebody has to be told about them.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use std::fmt;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Line in the stream, from 1; 0 when the stream has none.
    pub(crate) line: u32,
    /// The value.
    pub(crate) tree: Tree,
}

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Tree {
    /// Nothing, or `null`.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i128),
    /// Any other number, as it is written.
    Number(String),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the stream.
    Map(Vec<Entry>),
    /// Something that cannot be read, and that a finding already tells about.
    #[cfg_attr(
        not(feature = "yaml"),
        expect(dead_code, reason = "JSON can be read, or it is none")
    )]
    Refused,
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The key.
    pub(crate) key: String,
    /// Where the key stands.
    pub(crate) line: u32,
    /// The value.
    pub(crate) value: Node,
}

impl Tree {
    /// What it is, for a message: `is text ("big")`.
    pub(crate) fn describe(&self) -> String {
        match self {
            Tree::Null => "has no value".to_owned(),
            Tree::Boolean(value) => format!("is {value}"),
            Tree::Integer(value) => format!("is the number {value}"),
            Tree::Number(value) => {
                format!("is the number {}", crate::report::quote(value).trim_matches('"'))
            }
            Tree::Text(value) => format!("is text ({})", crate::report::quote(value)),
            Tree::List(_) => "is a list".to_owned(),
            Tree::Map(_) => "is a mapping".to_owned(),
            Tree::Refused => "cannot be read".to_owned(),
        }
    }
}

impl From<&str> for Tree {
    fn from(text: &str) -> Tree {
        Tree::Text(text.to_owned())
    }
}

impl From<bool> for Tree {
    fn from(value: bool) -> Tree {
        Tree::Boolean(value)
    }
}

impl From<u32> for Tree {
    fn from(number: u32) -> Tree {
        Tree::Integer(number.into())
    }
}

impl Node {
    /// A node of a stream that has no lines.
    pub(crate) fn new(tree: Tree) -> Node {
        Node { line: 0, tree }
    }

    /// The entries, if it is a mapping.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.tree {
            Tree::Map(entries) => entries,
            Tree::Null
            | Tree::Boolean(_)
            | Tree::Integer(_)
            | Tree::Number(_)
            | Tree::Text(_)
            | Tree::List(_)
            | Tree::Refused => &[],
        }
    }

    /// The first entry with this key, if it is a mapping that has one.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The line of a key's value, or of the mapping where the key is missing.
    pub(crate) fn line_of(&self, key: &str) -> u32 {
        self.entry(key).map_or(self.line, |entry| entry.line)
    }

    /// The text of a key's value, if it has one.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match &self.entry(key)?.value.tree {
            Tree::Text(text) => Some(text),
            Tree::Null
            | Tree::Boolean(_)
            | Tree::Integer(_)
            | Tree::Number(_)
            | Tree::List(_)
            | Tree::Map(_)
            | Tree::Refused => None,
        }
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.tree {
            Tree::Null | Tree::Refused => serializer.serialize_unit(),
            Tree::Boolean(value) => serializer.serialize_bool(*value),
            Tree::Integer(value) => match u64::try_from(*value) {
                Ok(value) => serializer.serialize_u64(value),
                Err(_) => serializer.serialize_i128(*value),
            },
            Tree::Number(value) | Tree::Text(value) => serializer.serialize_str(value),
            Tree::List(items) => serializer.collect_seq(items),
            Tree::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for entry in entries {
                    map.serialize_entry(&entry.key, &entry.value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(TreeVisitor).map(Node::new)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Tree, E> {
        Ok(Tree::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = access.next_entry()? {
            entries.push(Entry { key, line: 0, value });
        }
        Ok(Tree::Map(entries))
    }
}
