// SPDX-License-Identifier: Apache-2.0
//! The number of a routing table.

use crate::node::{Node, Tree};
use crate::report::Report;
use crate::shape::Shape;
use crate::value::{Secrets, Value, refuse_type};
use std::fmt;

/// The kernel's own (`RT_TABLE_LOCAL`).
const LOCAL: u32 = 255;

/// The number of a routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Table(u32);

impl Table {
    /// The table that holds what no other is named for (`RT_TABLE_MAIN`).
    pub const MAIN: Table = Table(254);

    /// The number.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Value for Table {
    fn shape() -> Shape {
        Shape::Integer { min: 1, max: u32::MAX }
    }

    fn read(node: &Node, report: &mut Report) -> Option<Table> {
        let Tree::Integer(number) = node.tree else {
            refuse_type(node, &Self::shape(), report);
            return None;
        };
        match u32::try_from(number) {
            Ok(LOCAL) => {
                report.find(node.line, "255 is the kernel's own table", Self::shape().expected());
                None
            }
            Ok(number @ 1..) => Some(Table(number)),
            Ok(0) | Err(_) => {
                let message = format!("{number} is out of range");
                report.find(node.line, message, Self::shape().expected());
                None
            }
        }
    }

    fn write(&self, _: Secrets) -> Option<Tree> {
        Some(Tree::Integer(self.0.into()))
    }
}
