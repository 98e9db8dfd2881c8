// SPDX-License-Identifier: Apache-2.0
//! Certificates and keys as PEM (RFC 7468).
//!
//! Looks at the envelope only: the label, the base64, and that what is in it is one DER SEQUENCE of the right length; of
//! public keys also that they are of the one kind there is.
//! What comes out is in one form: lines of 64 characters, without anything between the blocks.
//!
//! Messages never quote what is inside: it may be a key, in the wrong place.

use crate::node::{Node, Tree};
use crate::report::Report;
use crate::shape::Shape;
use crate::value::{Secrets, Value};
use std::fmt;

/// What takes the place of a private key where secrets are not shown.
pub(crate) const REDACTED: &str = "[redacted]";

/// One to `MAX` certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificates<const MAX: usize>(String);

impl<const MAX: usize> Certificates<MAX> {
    /// The PEM blocks.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A private key. Debug output does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PrivateKey(String);

impl PrivateKey {
    /// The PEM block.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A public key for ECDSA on P-256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey(String);

impl PublicKey {
    /// The PEM block.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// Why a text is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PemError {
    #[error("has no PEM block")]
    Nothing,
    #[error("has {0} PEM blocks")]
    Many(usize),
    #[error("has a PEM block that does not end (-----END {0}-----)")]
    Unfinished(&'static str),
    #[error("has a PEM block of another kind: {0}")]
    Label(String),
    #[error("has a PEM block that is not base64")]
    Base64,
    #[error("has a PEM block that holds no DER structure")]
    Der,
}

impl<const MAX: usize> Value for Certificates<MAX> {
    fn shape() -> Shape {
        let what = if MAX == 1 { "one certificate" } else { "certificates" };
        Shape::Pem { what, label: "CERTIFICATE" }
    }

    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        read("CERTIFICATE", MAX, node, &Self::shape(), report).map(Certificates)
    }

    fn write(&self, _: Secrets) -> Option<Tree> {
        Some(Tree::Text(self.0.clone()))
    }
}

impl Value for PrivateKey {
    fn shape() -> Shape {
        Shape::Pem { what: "an unencrypted PKCS#8 private key", label: "PRIVATE KEY" }
    }

    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        read("PRIVATE KEY", 1, node, &Self::shape(), report).map(PrivateKey)
    }

    fn write(&self, secrets: Secrets) -> Option<Tree> {
        Some(Tree::Text(match secrets {
            Secrets::Keep => self.0.clone(),
            Secrets::Redact => REDACTED.to_owned(),
        }))
    }
}

/// What the DER form of every public key for ECDSA on P-256 begins with (RFC 5480, section 2): the algorithm
/// `id-ecPublicKey`, the curve `secp256r1`, and the mark of a point that is written in full.
pub(crate) const P256: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];

/// How many bytes follow: both coordinates of the point.
const P256_POINT: usize = 64;

impl Value for PublicKey {
    fn shape() -> Shape {
        Shape::Pem { what: "a public key for ECDSA on P-256", label: "PUBLIC KEY" }
    }

    fn read(node: &Node, report: &mut Report) -> Option<PublicKey> {
        let pem = read("PUBLIC KEY", 1, node, &Self::shape(), report)?;
        // It was read, so it decodes.
        let ders = decode(&pem, "PUBLIC KEY").unwrap_or_default();
        let point = ders.first().and_then(|der| der.strip_prefix(&P256));
        if point.is_none_or(|point| point.len() != P256_POINT) {
            report.find(node.line, "is a key of another kind", Self::shape().expected());
            return None;
        }
        Some(PublicKey(pem))
    }

    fn write(&self, _: Secrets) -> Option<Tree> {
        Some(Tree::Text(self.0.clone()))
    }
}

fn read(
    label: &'static str,
    max: usize,
    node: &Node,
    shape: &Shape,
    report: &mut Report,
) -> Option<String> {
    let text = match &node.tree {
        Tree::Text(text) => text,
        Tree::Refused => return None,
        // Not `describe`: a number in the wrong place could be half a secret.
        _ => {
            report.find(node.line, "is not text", shape.expected());
            return None;
        }
    };
    if text.trim() == REDACTED {
        report.find(
            node.line,
            "is redacted: this configuration was shown without its secrets",
            shape.expected(),
        );
        return None;
    }
    match normalise(text, label, max) {
        Ok(pem) => Some(pem),
        Err(error) => {
            report.find(node.line, error.to_string(), shape.expected());
            None
        }
    }
}

/// The blocks in one form, or why they are not all good ones.
fn normalise(text: &str, label: &'static str, max: usize) -> Result<String, PemError> {
    let blocks = decode(text, label)?;
    match blocks.len() {
        0 => Err(PemError::Nothing),
        count if count > max => Err(PemError::Many(count)),
        _ => Ok(blocks.iter().map(|der| encode(der, label)).collect()),
    }
}

/// What is in the blocks of a PEM text, all of which must have this label.
pub(crate) fn decode(text: &str, label: &'static str) -> Result<Vec<Vec<u8>>, PemError> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let Some(found) =
            line.strip_prefix("-----BEGIN ").and_then(|line| line.strip_suffix("-----"))
        else {
            continue;
        };
        if found != label {
            return Err(PemError::Label(crate::report::quote(found)));
        }
        let mut body = String::new();
        loop {
            match lines.next() {
                None => return Err(PemError::Unfinished(label)),
                Some(line)
                    if line.strip_prefix("-----END ").and_then(|l| l.strip_suffix("-----"))
                        == Some(label) =>
                {
                    break;
                }
                Some(line) if line.starts_with("-----") => return Err(PemError::Unfinished(label)),
                Some(line) => body.push_str(line),
            }
        }
        let der = from_base64(&body).ok_or(PemError::Base64)?;
        if !is_sequence(&der) {
            return Err(PemError::Der);
        }
        blocks.push(der);
    }
    Ok(blocks)
}

fn encode(der: &[u8], label: &str) -> String {
    let mut pem = format!("-----BEGIN {label}-----\n");
    // 48 bytes are 64 characters.
    for line in der.chunks(48) {
        to_base64(line, &mut pem);
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

/// True if the bytes are one DER SEQUENCE and nothing more (X.690, sections 8.1.3 and 10.1).
fn is_sequence(der: &[u8]) -> bool {
    match der {
        [0x30, length @ 0..=0x7f, body @ ..] => body.len() == usize::from(*length),
        [0x30, 0x81, length, body @ ..] => body.len() == usize::from(*length),
        [0x30, 0x82, high, low, body @ ..] => {
            body.len() == usize::from(u16::from_be_bytes([*high, *low]))
        }
        _ => false,
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648, section 4, padding required.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    if text.is_empty() || !text.len().is_multiple_of(4) || padding > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let mut bits = 0u32;
    let mut count = 0;
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            let [_, _, high, low] = (bits >> count).to_be_bytes();
            let _ = high;
            bytes.push(low);
        }
    }
    // Bits that no byte takes must be zero: otherwise two texts would mean the same.
    (bits & ((1 << count) - 1) == 0).then_some(bytes)
}

pub(crate) fn to_base64(bytes: &[u8], text: &mut String) {
    for chunk in bytes.chunks(3) {
        let mut block = [0; 4];
        for (to, from) in block.iter_mut().skip(1).zip(chunk) {
            *to = *from;
        }
        let bits = u32::from_be_bytes(block);
        for position in 0..4 {
            let index = (bits >> (18 - 6 * position)) & 0x3f;
            let digit = ALPHABET.get(usize::try_from(index).unwrap_or(0)).copied().unwrap_or(b'=');
            text.push(char::from(if position <= chunk.len() { digit } else { b'=' }));
        }
    }
}
