// SPDX-License-Identifier: Apache-2.0
//! The name of something that a person named: a health check, a service.

use crate::value::Text;
use std::fmt;
use std::str::FromStr;

/// The longest name.
const MAX: usize = 63;

/// A name of letters, digits and `-`, `.`, `_`, which begins with a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is nothing.
    #[error("it is empty")]
    Empty,
    /// It is too long.
    #[error("it has {0} characters, more than {MAX}")]
    Long(usize),
    /// It has a character that no name has.
    #[error("{0:?} is not a letter, a digit or one of - . _")]
    Character(char),
    /// It begins with punctuation.
    #[error("it does not begin with a letter or a digit")]
    Begin,
}

impl Name {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Name, NameError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if let Some(other) = text.chars().find(|c| !allowed(*c)) {
            return Err(NameError::Character(other));
        }
        match text.len() {
            0 => Err(NameError::Empty),
            1..=MAX if text.starts_with(['-', '.', '_']) => Err(NameError::Begin),
            1..=MAX => Ok(Name(text.to_owned())),
            length => Err(NameError::Long(length)),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Text for Name {
    const WHAT: &'static str = "a name";
    const EXAMPLE: &'static str = "web";
    const PATTERN: &'static str = "^[0-9A-Za-z][0-9A-Za-z._-]{0,62}$";
}
