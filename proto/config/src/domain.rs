// SPDX-License-Identifier: Apache-2.0
//! A domain name (RFC 1035, section 2.3.4; RFC 1123, section 2.1).

use crate::value::Text;
use std::fmt;
use std::str::FromStr;

/// The longest name as text, without the dot at its end.
const MAX: usize = 253;

/// The longest label.
const MAX_LABEL: usize = 63;

/// A domain name in lower case, without a dot at its end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(String);

/// Why a text is not a domain name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DomainError {
    /// It is too long.
    #[error("it has {0} characters, more than {MAX}")]
    Long(usize),
    /// One of its labels is wrong.
    #[error("{0}")]
    Label(LabelError),
}

/// Why a text is not a label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// There is nothing.
    #[error("a label is empty")]
    Empty,
    /// It is too long.
    #[error("a label has {0} characters, more than {MAX_LABEL}")]
    Long(usize),
    /// It has a character that no label has.
    #[error("{0:?} is not a letter, a digit or a hyphen")]
    Character(char),
    /// It begins or ends with a hyphen.
    #[error("a label begins or ends with a hyphen")]
    Hyphen,
}

/// Letters, digits and hyphens, and no hyphen at either end.
pub(crate) fn check_label(label: &str) -> Result<(), LabelError> {
    if let Some(other) = label.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '-') {
        return Err(LabelError::Character(other));
    }
    match label.len() {
        0 => Err(LabelError::Empty),
        1..=MAX_LABEL if label.starts_with('-') || label.ends_with('-') => Err(LabelError::Hyphen),
        1..=MAX_LABEL => Ok(()),
        length => Err(LabelError::Long(length)),
    }
}

impl Domain {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Domain {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Domain, DomainError> {
        if text.len() > MAX {
            return Err(DomainError::Long(text.chars().count()));
        }
        text.split('.').try_for_each(check_label).map_err(DomainError::Label)?;
        Ok(Domain(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Domain {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Text for Domain {
    const WHAT: &'static str = "a domain name";
    const EXAMPLE: &'static str = "example.com";
    const PATTERN: &'static str = "^[0-9A-Za-z.-]{1,253}$";
}
