// SPDX-License-Identifier: Apache-2.0
//! A value that something outside gives its meaning: a setting of the kernel.

use crate::node::{Node, Tree};
use crate::report::{Report, quote};
use crate::shape::Shape;
use crate::value::{Secrets, Value, refuse_type};
use std::fmt;
use std::str::FromStr;

/// The longest one: a page, less what the kernel needs.
const MAX: usize = 2048;

/// Text on one line, which may be written as a number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Setting(String);

/// Why a text is not a setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// It is too long.
    #[error("it has {0} bytes, more than {MAX}")]
    Long(usize),
    /// It has more than one line, or what no terminal shows.
    #[error("{0:?} has no place in it")]
    Character(char),
}

impl Setting {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Setting {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Setting, SettingError> {
        if let Some(other) = text.chars().find(|c| c.is_control() && *c != '\t') {
            return Err(SettingError::Character(other));
        }
        match text.len() {
            length if length > MAX => Err(SettingError::Long(length)),
            _ => Ok(Setting(text.to_owned())),
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Value for Setting {
    fn shape() -> Shape {
        Shape::Setting { what: "text on one line or a number", example: "1" }
    }

    fn read(node: &Node, report: &mut Report) -> Option<Setting> {
        let text = match &node.tree {
            Tree::Text(text) => text.clone(),
            Tree::Integer(number) => number.to_string(),
            Tree::Number(number) => number.clone(),
            _ => {
                refuse_type(node, &Self::shape(), report);
                return None;
            }
        };
        match text.parse() {
            Ok(setting) => Some(setting),
            Err(error) => {
                let message = format!("{} is no setting: {error}", quote(&text));
                report.find(node.line, message, Self::shape().expected());
                None
            }
        }
    }

    fn write(&self, _: Secrets) -> Option<Tree> {
        Some(Tree::Text(self.0.clone()))
    }
}
