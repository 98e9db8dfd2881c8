// SPDX-License-Identifier: Apache-2.0
//! The serial number of a certificate (RFC 5280, section 4.1.2.2).

use crate::node::{Node, Tree};
use crate::report::{Report, quote};
use crate::shape::Shape;
use crate::value::{Secrets, Value, refuse_type};
use std::fmt;
use std::str::FromStr;

/// Most hex digits: 20 bytes.
const MAX: usize = 40;

/// The serial number of a certificate, in lower-case hex without zeros before it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial(String);

/// Why a text is not a serial number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SerialError {
    /// There is nothing, or nothing but zeros.
    #[error("it is zero")]
    Zero,
    /// It is too long.
    #[error("it has {0} hex digits, more than {MAX}")]
    Long(usize),
    /// It has a character that no number has.
    #[error("{0:?} is not a hex digit")]
    Character(char),
}

impl Serial {
    /// The number.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Serial {
    type Err = SerialError;

    fn from_str(text: &str) -> Result<Serial, SerialError> {
        // Some programs put a colon between bytes.
        let digits: String = text.chars().filter(|c| *c != ':').collect();
        if let Some(other) = digits.chars().find(|c| !c.is_ascii_hexdigit()) {
            return Err(SerialError::Character(other));
        }
        // DER puts a zero byte before a number whose first bit is set; it is the same number.
        let number = digits.trim_start_matches('0');
        match number.len() {
            0 => Err(SerialError::Zero),
            1..=MAX => Ok(Serial(number.to_ascii_lowercase())),
            length => Err(SerialError::Long(length)),
        }
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Value for Serial {
    fn shape() -> Shape {
        Shape::Setting { what: "a serial number in hex", example: "1da16e" }
    }

    fn read(node: &Node, report: &mut Report) -> Option<Serial> {
        // Some look like a decimal number: 42, 7e913.
        let text = match &node.tree {
            Tree::Text(text) | Tree::Number(text) => text.clone(),
            Tree::Integer(number) => number.to_string(),
            _ => {
                refuse_type(node, &Self::shape(), report);
                return None;
            }
        };
        match text.parse() {
            Ok(serial) => Some(serial),
            Err(error) => {
                let message = format!("{} is no serial number: {error}", quote(&text));
                report.find(node.line, message, Self::shape().expected());
                None
            }
        }
    }

    fn write(&self, _: Secrets) -> Option<Tree> {
        Some(Tree::Text(self.0.clone()))
    }
}
