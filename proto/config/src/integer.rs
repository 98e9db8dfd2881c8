// SPDX-License-Identifier: Apache-2.0
//! A whole number in a range.

use crate::node::{Node, Tree};
use crate::report::Report;
use crate::shape::Shape;
use crate::value::{Secrets, Value, refuse_type};

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Integer<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Integer<MIN, MAX> {
    /// The number.
    pub(crate) fn value(self) -> u32 {
        self.0
    }
}

impl<const MIN: u32, const MAX: u32> Value for Integer<MIN, MAX> {
    fn shape() -> Shape {
        Shape::Integer { min: MIN, max: MAX }
    }

    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let Tree::Integer(value) = node.tree else {
            refuse_type(node, &Self::shape(), report);
            return None;
        };
        let value = u32::try_from(value).ok().filter(|value| (MIN..=MAX).contains(value));
        if value.is_none() {
            report.find(
                node.line,
                format!("{} is out of range", quantity(node)),
                Self::shape().expected(),
            );
        }
        value.map(Integer)
    }

    fn write(&self, _: Secrets) -> Option<Tree> {
        Some(Tree::Integer(self.0.into()))
    }
}

impl Value for u32 {
    fn shape() -> Shape {
        Integer::<0, { u32::MAX }>::shape()
    }

    fn read(node: &Node, report: &mut Report) -> Option<u32> {
        Integer::<0, { u32::MAX }>::read(node, report).map(Integer::value)
    }

    fn write(&self, _: Secrets) -> Option<Tree> {
        Some(Tree::Integer((*self).into()))
    }
}

fn quantity(node: &Node) -> String {
    match &node.tree {
        Tree::Integer(value) => value.to_string(),
        other => other.describe(),
    }
}
