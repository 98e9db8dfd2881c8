// SPDX-License-Identifier: Apache-2.0
//! The hardware address of an Ethernet interface.

use crate::value::Text;
use std::fmt;
use std::str::FromStr;

/// The hardware address of an Ethernet interface, as six bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac([u8; 6]);

/// Why a text is no hardware address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MacError {
    /// It is not of that form.
    #[error("it is not six bytes of two hexadecimal digits with colons between them")]
    Form,
    /// No interface has it.
    #[error("it is of a group, or of nothing at all")]
    Group,
}

impl Mac {
    /// Its bytes.
    #[must_use]
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl From<[u8; 6]> for Mac {
    fn from(bytes: [u8; 6]) -> Mac {
        Mac(bytes)
    }
}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Mac, MacError> {
        let digits = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
        let parts: Vec<&str> = text.split([':', '-']).filter(digits).collect();
        let bytes: Vec<u8> =
            parts.iter().filter_map(|part| u8::from_str_radix(part, 16).ok()).collect();
        match <[u8; 6]>::try_from(bytes) {
            Ok(bytes) if text.len() == 17 => {
                let [first, ..] = bytes;
                let none = bytes == [0; 6];
                if first & 1 == 1 || none { Err(MacError::Group) } else { Ok(Mac(bytes)) }
            }
            Ok(_) | Err(_) => Err(MacError::Form),
        }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Text for Mac {
    const WHAT: &'static str = "a hardware address";
    const EXAMPLE: &'static str = "52:54:00:12:34:56";
    const PATTERN: &'static str = "^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$";
}

#[cfg(test)]
mod tests {
    use super::{Mac, MacError};

    #[test]
    fn six_bytes_in_one_form() {
        for text in ["52:54:00:aB:cd:0f", "52-54-00-AB-CD-0F"] {
            assert_eq!(text.parse::<Mac>().unwrap().to_string(), "52:54:00:ab:cd:0f");
        }
        for text in [
            "",
            "52:54:00:ab:cd",
            "52:54:00:ab:cd:0f:01",
            "52:54:00:ab:cd:+f",
            "525400abcd0f",
            "52::54:00:ab:cd:f",
        ] {
            assert_eq!(text.parse::<Mac>(), Err(MacError::Form), "{text}");
        }
        for text in ["01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"] {
            assert_eq!(text.parse::<Mac>(), Err(MacError::Group), "{text}");
        }
    }
}
