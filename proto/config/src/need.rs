// SPDX-License-Identifier: Apache-2.0
//! How much depends on something.

use crate::node::{Node, Tree};
use crate::record::did_you_mean;
use crate::report::{Report, quote};
use crate::shape::Shape;
use crate::value::{Secrets, Value, refuse_type};
use std::fmt;

/// How much depends on something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// An image under which it fails is not kept.
    Required,
    /// It is watched and told, and nothing more.
    Wanted,
}

/// The words, in the order of the manual.
const WORDS: &[&str] = &["required", "wanted"];

impl Need {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Need::Required => "required",
            Need::Wanted => "wanted",
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Value for Need {
    fn shape() -> Shape {
        Shape::Choice { words: WORDS }
    }

    fn read(node: &Node, report: &mut Report) -> Option<Need> {
        let Tree::Text(word) = &node.tree else {
            refuse_type(node, &Self::shape(), report);
            return None;
        };
        let need = [Need::Required, Need::Wanted].into_iter().find(|need| need.as_str() == word);
        if need.is_none() {
            let message = format!("there is no {} here{}", quote(word), did_you_mean(word, WORDS));
            report.find(node.line, message, Self::shape().expected());
        }
        need
    }

    fn write(&self, _: Secrets) -> Option<Tree> {
        Some(Tree::from(self.as_str()))
    }
}
