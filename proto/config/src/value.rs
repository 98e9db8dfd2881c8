// SPDX-License-Identifier: Apache-2.0
//! How a value of any type is read from a tree, written back, and described.

use crate::node::{Node, Tree};
use crate::report::{Report, quote};
use crate::shape::{Absence, Shape};
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// What happens to secrets when values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secrets {
    /// They are written like anything else.
    Keep,
    /// A marker takes their place.
    Redact,
}

/// A type whose values a configuration can hold.
pub(crate) trait Value: Sized {
    /// What a value may be.
    fn shape() -> Shape;

    /// The value where the key is not there; none if it must be there.
    fn absent() -> Option<Self> {
        None
    }

    /// The same, for the reader of the manual.
    fn absence() -> Absence {
        Absence::Refused
    }

    /// Reads a value, or says what is wrong with it.
    fn read(node: &Node, report: &mut Report) -> Option<Self>;

    /// Writes a value; nothing if its absence says the same.
    fn write(&self, secrets: Secrets) -> Option<Tree>;
}

/// Says that a value is of the wrong type, unless somebody already said what is wrong with it.
pub(crate) fn refuse_type(node: &Node, shape: &Shape, report: &mut Report) {
    if !matches!(node.tree, Tree::Refused) {
        report.find(node.line, node.tree.describe(), shape.expected());
    }
}

impl Value for bool {
    fn shape() -> Shape {
        Shape::Boolean
    }

    fn absent() -> Option<bool> {
        Some(false)
    }

    fn absence() -> Absence {
        Absence::Default("false".to_owned())
    }

    fn read(node: &Node, report: &mut Report) -> Option<bool> {
        if let Tree::Boolean(value) = node.tree {
            return Some(value);
        }
        refuse_type(node, &Self::shape(), report);
        None
    }

    fn write(&self, _: Secrets) -> Option<Tree> {
        Some(Tree::Boolean(*self))
    }
}

impl<T: Value> Value for Option<T> {
    fn shape() -> Shape {
        T::shape()
    }

    fn absent() -> Option<Option<T>> {
        Some(None)
    }

    fn absence() -> Absence {
        Absence::Nothing
    }

    fn read(node: &Node, report: &mut Report) -> Option<Option<T>> {
        T::read(node, report).map(Some)
    }

    fn write(&self, secrets: Secrets) -> Option<Tree> {
        self.as_ref()?.write(secrets)
    }
}

/// A value that is written as one piece of text.
pub(crate) trait Text: Display + FromStr<Err: Display> {
    /// What it is, with its article: `a host name`.
    const WHAT: &'static str;
    /// A good one.
    const EXAMPLE: &'static str;
    /// A regular expression that every good one matches.
    const PATTERN: &'static str;
}

impl<T: Text> Value for T {
    fn shape() -> Shape {
        Shape::Text { what: T::WHAT, example: T::EXAMPLE, pattern: T::PATTERN }
    }

    fn read(node: &Node, report: &mut Report) -> Option<T> {
        let Tree::Text(text) = &node.tree else {
            refuse_type(node, &T::shape(), report);
            return None;
        };
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                let message = format!("{} is not {}: {error}", quote(text), T::WHAT);
                report.find(node.line, message, T::shape().expected());
                None
            }
        }
    }

    fn write(&self, _: Secrets) -> Option<Tree> {
        Some(Tree::Text(self.to_string()))
    }
}

impl Text for IpAddr {
    const WHAT: &'static str = "an IP address";
    const EXAMPLE: &'static str = "192.0.2.1";
    const PATTERN: &'static str = "^[0-9a-fA-F:.]+$";
}

impl Text for SocketAddr {
    const WHAT: &'static str = "an IP address and a port";
    const EXAMPLE: &'static str = "192.0.2.1:9100";
    const PATTERN: &'static str = "^(\\[[0-9a-fA-F:.%]+\\]|[0-9.]+):[0-9]+$";
}
