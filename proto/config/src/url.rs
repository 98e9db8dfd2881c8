// SPDX-License-Identifier: Apache-2.0
//! A URL that an HTTP request can go to (RFC 3986), and nothing else that a URL can be.

use crate::endpoint::{self, EndpointError};
use crate::value::Text;
use std::fmt;
use std::str::FromStr;

/// The longest one: all checks of a machine go to the agent in one argument.
const MAX: usize = 1024;

/// A URL of the scheme `http` or `https`, without a user or a fragment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Url(String);

/// Why a text is not such a URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is too long.
    #[error("it has {0} characters, more than {MAX}")]
    Long(usize),
    /// It is of another scheme, or of none.
    #[error("it does not begin with http:// or https://")]
    Scheme,
    /// It has a character that must be written as %XX.
    #[error("{0:?} must be written as %XX")]
    Character(char),
    /// It holds a name or a password.
    #[error("a user name or password has no place in it")]
    User,
    /// It points into a document.
    #[error("a fragment (#…) has no place in it")]
    Fragment,
    /// The host or the port is wrong.
    #[error("{0}")]
    Endpoint(EndpointError),
}

impl Url {
    /// The URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Url, UrlError> {
        if text.len() > MAX {
            return Err(UrlError::Long(text.chars().count()));
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let scheme = scheme.to_ascii_lowercase();
        if !matches!(scheme.as_str(), "http" | "https") {
            return Err(UrlError::Scheme);
        }
        if rest.contains('#') {
            return Err(UrlError::Fragment);
        }
        // RFC 3986, appendix A: everything that is neither reserved nor unreserved.
        let allowed = |c: char| c.is_ascii_graphic() && !"\"<>\\^`{|}".contains(c);
        if let Some(other) = rest.chars().find(|c| !allowed(*c)) {
            return Err(UrlError::Character(other));
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(UrlError::User);
        }
        let (host, port) = endpoint::split(authority).map_err(UrlError::Endpoint)?;
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Url(format!("{scheme}://{host}{port}{slash}{path}")))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Text for Url {
    const WHAT: &'static str = "a URL";
    const EXAMPLE: &'static str = "http://127.0.0.1:8080/healthz";
    const PATTERN: &'static str = "^[Hh][Tt][Tt][Pp][Ss]?://[!-~]+$";
}
