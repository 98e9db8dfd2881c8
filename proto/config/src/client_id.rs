// SPDX-License-Identifier: Apache-2.0
//! By what a DHCP server knows the machine.

use crate::value::Text;
use std::fmt;
use std::str::FromStr;

/// The most bytes that are given in full.
const LONGEST: usize = 64;

/// By what a DHCP server knows the machine (RFC 2132, section 9.14).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientId {
    /// The hardware address of the interface.
    Mac,
    /// What a DHCPv6 server knows it by (RFC 4361).
    Duid,
    /// These bytes.
    Bytes(Vec<u8>),
}

/// Why a text is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientIdError {
    /// It is not of that form.
    #[error(
        "it is neither mac nor duid, nor bytes of two hexadecimal digits with colons between them"
    )]
    Form,
    /// There are too few bytes, or too many.
    #[error("it has {0} bytes, and 2 to {LONGEST} are possible")]
    Length(usize),
}

impl FromStr for ClientId {
    type Err = ClientIdError;

    fn from_str(text: &str) -> Result<ClientId, ClientIdError> {
        let byte = |part: &str| {
            let digits = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            u8::from_str_radix(part, 16).ok().filter(|_| digits).ok_or(ClientIdError::Form)
        };
        match text {
            "mac" => Ok(ClientId::Mac),
            "duid" => Ok(ClientId::Duid),
            _ => {
                let bytes: Vec<u8> = text.split(':').map(byte).collect::<Result<_, _>>()?;
                // RFC 2132 gives it a type and at least one byte.
                let fits = (2..=LONGEST).contains(&bytes.len());
                if fits {
                    Ok(ClientId::Bytes(bytes))
                } else {
                    Err(ClientIdError::Length(bytes.len()))
                }
            }
        }
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientId::Mac => f.write_str("mac"),
            ClientId::Duid => f.write_str("duid"),
            ClientId::Bytes(bytes) => {
                let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                f.write_str(&bytes.join(":"))
            }
        }
    }
}

impl Text for ClientId {
    const WHAT: &'static str = "mac, duid, or bytes in hexadecimal";
    const EXAMPLE: &'static str = "00:6e:6f:64:65:2d:31";
    const PATTERN: &'static str = "^(mac|duid|[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){1,63})$";
}

#[cfg(test)]
mod tests {
    use super::{ClientId, ClientIdError};

    #[test]
    fn a_word_or_bytes() {
        for text in ["mac", "duid", "00:6e", "ff:00:00:00:01:00:03:00:01:52:54:00:12:34:56"] {
            assert_eq!(text.parse::<ClientId>().unwrap().to_string(), text);
        }
        assert_eq!("0A:bC".parse(), Ok(ClientId::Bytes(vec![0x0a, 0xbc])));
        for text in ["", "MAC", "machine", "0:1", "00:", "00:+1", "00-01", "0001"] {
            assert_eq!(text.parse::<ClientId>(), Err(ClientIdError::Form), "{text:?}");
        }
        assert_eq!("00".parse::<ClientId>(), Err(ClientIdError::Length(1)));
        let long = |bytes: usize| vec!["00"; bytes].join(":").parse::<ClientId>();
        assert!(long(64).is_ok());
        assert_eq!(long(65), Err(ClientIdError::Length(65)));
    }
}
