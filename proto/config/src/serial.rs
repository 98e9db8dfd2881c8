// SPDX-License-Identifier: Apache-2.0
//! The serial number of a certificate (RFC 5280, section 4.1.2.2).

use crate::value::Text;
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

impl Text for Serial {
    const WHAT: &'static str = "a serial number in hex";
    const EXAMPLE: &'static str = "1da16e";
    const PATTERN: &'static str = "^[0-9A-Fa-f:]+$";
}
