// SPDX-License-Identifier: Apache-2.0
//! Keys of WireGuard: 32 bytes as base64.

use crate::node::{Node, Tree};
use crate::pem::{REDACTED, from_base64, to_base64};
use crate::report::Report;
use crate::shape::Shape;
use crate::value::{Secrets, Text, Value};
use std::fmt;
use std::str::FromStr;

/// A public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WireGuardKey([u8; 32]);

/// A private or preshared key. Debug output does not show it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct WireGuardSecret([u8; 32]);

/// Why a text is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not 32 bytes as base64")]
pub struct WireGuardKeyError;

impl WireGuardKey {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for WireGuardKey {
    fn from(bytes: [u8; 32]) -> WireGuardKey {
        WireGuardKey(bytes)
    }
}

impl WireGuardSecret {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// As it is written.
    #[must_use]
    pub fn reveal(&self) -> String {
        encode(&self.0)
    }
}

impl From<[u8; 32]> for WireGuardSecret {
    fn from(bytes: [u8; 32]) -> WireGuardSecret {
        WireGuardSecret(bytes)
    }
}

impl FromStr for WireGuardKey {
    type Err = WireGuardKeyError;

    fn from_str(text: &str) -> Result<WireGuardKey, WireGuardKeyError> {
        decode(text).map(WireGuardKey)
    }
}

impl FromStr for WireGuardSecret {
    type Err = WireGuardKeyError;

    fn from_str(text: &str) -> Result<WireGuardSecret, WireGuardKeyError> {
        decode(text).map(WireGuardSecret)
    }
}

fn decode(text: &str) -> Result<[u8; 32], WireGuardKeyError> {
    let bytes = from_base64(text).ok_or(WireGuardKeyError)?;
    bytes.try_into().map_err(|_: Vec<u8>| WireGuardKeyError)
}

fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    to_base64(bytes, &mut text);
    text
}

impl fmt::Display for WireGuardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(&self.0))
    }
}

impl fmt::Debug for WireGuardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for WireGuardSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Text for WireGuardKey {
    const WHAT: &'static str = "a public key of WireGuard";
    const EXAMPLE: &'static str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
    const PATTERN: &'static str = "^[A-Za-z0-9+/]{43}=$";
}

impl Value for WireGuardSecret {
    fn shape() -> Shape {
        Shape::Setting { what: "a secret key of WireGuard", example: "what `wg genkey` prints" }
    }

    fn read(node: &Node, report: &mut Report) -> Option<WireGuardSecret> {
        let Tree::Text(text) = &node.tree else {
            // Not `describe`: a number may be a secret, too.
            if matches!(node.tree, Tree::Refused) {
                return None;
            }
            report.find(node.line, "is not text", Self::shape().expected());
            return None;
        };
        if text.trim() == REDACTED {
            let message = "is redacted: this configuration was shown without its secrets";
            report.find(node.line, message, Self::shape().expected());
            return None;
        }
        let key = text.parse().ok();
        if key.is_none() {
            report.find(node.line, "is not 32 bytes as base64", Self::shape().expected());
        }
        key
    }

    fn write(&self, secrets: Secrets) -> Option<Tree> {
        Some(Tree::Text(match secrets {
            Secrets::Keep => self.reveal(),
            Secrets::Redact => REDACTED.to_owned(),
        }))
    }
}
