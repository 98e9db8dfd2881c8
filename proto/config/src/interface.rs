// SPDX-License-Identifier: Apache-2.0
//! The name of a network interface, as the kernel has it (`dev_valid_name` in `net/core/dev.c`).

use crate::value::Text;
use std::fmt;
use std::str::FromStr;

/// The longest name (`IFNAMSIZ` less its final zero).
const MAX: usize = 15;

/// The name of a network interface.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceName(String);

/// Why a text is not an interface name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InterfaceNameError {
    /// There is nothing.
    #[error("it is empty")]
    Empty,
    /// It is too long.
    #[error("it has {0} bytes, more than {MAX}")]
    Long(usize),
    /// It has a character that no name has.
    #[error("{0:?} has no place in it")]
    Character(char),
    /// It means something else in a path.
    #[error("it means something else in a path")]
    Dots,
}

impl InterfaceName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InterfaceName {
    type Err = InterfaceNameError;

    fn from_str(text: &str) -> Result<InterfaceName, InterfaceNameError> {
        // The kernel refuses '/', ':' and white space, and reads '%' as a pattern; of the rest, ASCII is enough.
        if let Some(other) =
            text.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '/' | ':' | '%'))
        {
            return Err(InterfaceNameError::Character(other));
        }
        match text {
            "" => Err(InterfaceNameError::Empty),
            "." | ".." => Err(InterfaceNameError::Dots),
            _ if text.len() > MAX => Err(InterfaceNameError::Long(text.len())),
            _ => Ok(InterfaceName(text.to_owned())),
        }
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for InterfaceName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Text for InterfaceName {
    const WHAT: &'static str = "an interface name";
    const EXAMPLE: &'static str = "eth0";
    const PATTERN: &'static str = "^[^\\s/:%]{1,15}$";
}
