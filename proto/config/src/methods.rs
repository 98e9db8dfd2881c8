// SPDX-License-Identifier: Apache-2.0
//! Methods of the API, one or several.

use crate::value::Text;
use std::fmt;
use std::str::FromStr;

/// The one path that is of no gRPC service.
const METRICS: &str = "metrics";
/// The longest text.
const MAX: usize = 200;

/// The gRPC path of a method, or its beginning and `*`: `/stele.v1.LogService/Stream`, `/stele.v1.LogService/*`;
/// or `/metrics`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Methods(String);

/// Why a text names no methods.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MethodsError {
    /// It is too long.
    #[error("it has {0} characters, more than {MAX}")]
    Long(usize),
    /// It begins otherwise.
    #[error("it does not begin with /")]
    Begin,
    /// It has a character that no path has.
    #[error("{0:?} is no part of a method's path")]
    Character(char),
    /// A `*` that is not the last character.
    #[error("a * can only be its end")]
    Star,
    /// It is a whole path, and none of a method.
    #[error("it is not /package.Service/Method, and does not end with *")]
    Form,
}

impl Methods {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if the method with this path is one of them.
    #[must_use]
    pub fn covers(&self, path: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(beginning) => path.starts_with(beginning),
            None => path == self.0,
        }
    }
}

impl FromStr for Methods {
    type Err = MethodsError;

    fn from_str(text: &str) -> Result<Methods, MethodsError> {
        if text.len() > MAX {
            return Err(MethodsError::Long(text.chars().count()));
        }
        let path = text.strip_suffix('*').unwrap_or(text);
        let rest = path.strip_prefix('/').ok_or(MethodsError::Begin)?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/');
        match path.chars().find(|c| !allowed(*c)) {
            Some('*') => return Err(MethodsError::Star),
            Some(other) => return Err(MethodsError::Character(other)),
            None => {}
        }
        let parts: Vec<&str> = rest.split('/').collect();
        let whole = rest == METRICS
            || matches!(parts.as_slice(), [service, method] if !service.is_empty() && !method.is_empty());
        if !whole && !text.ends_with('*') {
            return Err(MethodsError::Form);
        }
        Ok(Methods(text.to_owned()))
    }
}

impl fmt::Display for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Text for Methods {
    const WHAT: &'static str = "a method's path or the beginning of one and *";
    const EXAMPLE: &'static str = "/stele.v1.LogService/*";
    const PATTERN: &'static str = "^/[0-9A-Za-z._/]*\\*?$";
}
