// SPDX-License-Identifier: Apache-2.0
//! The name of a machine (RFC 1123, sections 2.1 and 6.1.3.5).

use crate::domain::{self, LabelError};
use crate::value::Text;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A host name in lower case: one label, or several with dots between them, at most 63 characters in all.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hostname(String);

/// Why a text is not a host name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostnameError {
    /// It is too long.
    #[error("it has {0} characters, more than {max}", max = Hostname::MAX)]
    Long(usize),
    /// It is an IP address.
    #[error("it is an IP address")]
    Address,
    /// One of its labels is wrong.
    #[error("{0}")]
    Label(LabelError),
}

impl Hostname {
    /// The longest name; the kernel takes 64 (`__NEW_UTS_LEN`), DNS a label of 63.
    pub const MAX: usize = 63;

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Hostname {
    type Err = HostnameError;

    fn from_str(text: &str) -> Result<Hostname, HostnameError> {
        if text.len() > Self::MAX {
            return Err(HostnameError::Long(text.chars().count()));
        }
        if text.parse::<IpAddr>().is_ok() {
            return Err(HostnameError::Address);
        }
        text.split('.').try_for_each(domain::check_label).map_err(HostnameError::Label)?;
        Ok(Hostname(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Hostname {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Text for Hostname {
    const WHAT: &'static str = "a host name";
    const EXAMPLE: &'static str = "node-1";
    const PATTERN: &'static str = "^[0-9A-Za-z.-]{1,63}$";
}
