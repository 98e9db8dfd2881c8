// SPDX-License-Identifier: Apache-2.0
//! A list of bounded length without repetition.

use crate::node::{Node, Tree};
use crate::report::{Report, Step};
use crate::shape::{Absence, Shape};
use crate::value::{Secrets, Value, refuse_type};
use std::ops::Deref;

/// A list of `MIN` to `MAX` different items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct List<T, const MIN: usize, const MAX: usize>(Vec<T>);

impl<T, const MIN: usize, const MAX: usize> Deref for List<T, MIN, MAX> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Value + PartialEq, const MIN: usize, const MAX: usize> Value for List<T, MIN, MAX> {
    fn shape() -> Shape {
        Shape::List { of: Box::new(T::shape()), min: MIN, max: MAX }
    }

    fn absent() -> Option<Self> {
        (MIN == 0).then(|| List(Vec::new()))
    }

    fn absence() -> Absence {
        if MIN == 0 { Absence::Nothing } else { Absence::Refused }
    }

    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let Tree::List(nodes) = &node.tree else {
            refuse_type(node, &Self::shape(), report);
            return None;
        };
        let mut good = true;
        if !(MIN..=MAX).contains(&nodes.len()) {
            report.find(node.line, format!("has {} items", nodes.len()), Self::shape().expected());
            good = false;
        }
        // Items past the limit are not looked at: one finding says enough about them.
        let items: Vec<Option<T>> = (nodes.iter().enumerate().take(MAX))
            .map(|(index, node)| report.within(Step::Item(index), |report| T::read(node, report)))
            .collect();
        good &= no_repetition(nodes, &items, report);
        let items: Option<Vec<T>> = items.into_iter().collect();
        items.filter(|_| good).map(List)
    }

    fn write(&self, secrets: Secrets) -> Option<Tree> {
        if self.0.is_empty() {
            return None;
        }
        Some(Tree::List(
            self.0.iter().filter_map(|item| item.write(secrets)).map(Node::new).collect(),
        ))
    }
}

fn no_repetition<T: PartialEq>(nodes: &[Node], items: &[Option<T>], report: &mut Report) -> bool {
    let mut good = true;
    for (index, (node, item)) in nodes.iter().zip(items).enumerate() {
        let earlier =
            items.iter().take(index).position(|earlier| item.is_some() && earlier == item);
        if let Some(earlier) = earlier {
            report.within(Step::Item(index), |report| {
                report.find(
                    node.line,
                    format!("is the same as item [{earlier}]"),
                    "each item once",
                );
            });
            good = false;
        }
    }
    good
}
