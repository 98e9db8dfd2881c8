// SPDX-License-Identifier: Apache-2.0
//! What a platform hands to a machine as its user-data, taken out of what it is wrapped in.
//!
//! Clouds pass user-data on in the forms that cloud-init has made common: as it is, compressed (RFC 1952), in base64 (RFC 4648),
//! as a MIME multipart message (RFC 2046) with a part for each reader, in an OVF environment or OpenNebula's context, or as a
//! line that says where it is. Our part is what
//! names our API; what is for others is named and left alone; what asks for something that this system does not do, such as
//! running a script, is refused in words.

use crate::{context, ovf};
use base64ct::{Base64, Encoding as _};
use flate2::read::GzDecoder;
use mail_parser::{MessageParser, MimeHeaders as _};
use serde::{Deserialize, Serialize};
use std::io::Read as _;
use stele_config::MAX_BYTES;

/// Wrappings in wrappings that are taken off.
const DEEPEST: usize = 4;
/// Parts of a message that are looked at.
const MOST_PARTS: usize = 64;
/// The media type of a part that is ours whatever it says.
const OURS: &str = "text/x-stele-config";

/// What the user-data is.
#[derive(Debug, PartialEq, Eq)]
pub enum UserData {
    /// Documents, and what else there was.
    Documents {
        /// The text.
        text: Vec<u8>,
        /// Parts for others, a line each.
        others: Vec<String>,
    },
    /// It is elsewhere.
    Include(Include),
}

/// Where the user-data is, and what it is known by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Include {
    /// An HTTP or HTTPS URL.
    pub url: String,
    /// SHA-256 of what is there, in lower-case hex.
    pub sha256: String,
}

/// Why there is nothing in it for us.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UserDataError {
    /// Nothing at all.
    #[error("the user-data is empty")]
    Empty,
    /// Something that only a shell or another system can do.
    #[error(
        "the user-data is {what} (it begins with {begin:?}), and this system runs none; give it documents, such as `ctl gen config` makes"
    )]
    Foreign {
        /// What it is.
        what: &'static str,
        /// Its first line.
        begin: String,
    },
    /// Compressed data that is broken.
    #[error("the user-data begins as gzip and can't be unpacked: {0}")]
    Gzip(String),
    /// More than is read.
    #[error("the user-data has more than {MAX_BYTES} bytes when it is unpacked")]
    TooLong,
    /// Wrapped again and again.
    #[error("the user-data is wrapped more than {DEEPEST} times")]
    TooDeep,
    /// An OVF environment that is none.
    #[error("the user-data is XML, and no OVF environment: {0}")]
    Ovf(String),
    /// A message that is none.
    #[error("the user-data begins as a MIME message and can't be read as one")]
    Mime,
    /// A message with nothing for us.
    #[error("none of the parts of the user-data is for this system: {}; a part of ours says `apiVersion: stele/…`, or has the type {OURS}", .0.join(", "))]
    NoPart(Vec<String>),
    /// An include that can't be followed.
    #[error(
        "the user-data includes something by {0:?}; what is wanted is one line behind `#include`: an HTTP or HTTPS URL, a space, and sha256: with 64 digits of hex"
    )]
    Include(String),
    /// An include in what was included.
    #[error("what the user-data includes includes something again")]
    IncludedAgain,
}

/// Unwraps user-data. What was `included` may not include in its turn.
pub fn unwrap(bytes: &[u8], included: bool) -> Result<UserData, UserDataError> {
    let mut bytes = bytes.to_vec();
    let mut others = Vec::new();
    for _ in 0..DEEPEST {
        if bytes.len() > MAX_BYTES {
            return Err(UserDataError::TooLong);
        }
        if bytes.starts_with(&[0x1f, 0x8b]) {
            bytes = gunzip(&bytes)?;
            continue;
        }
        if let Some(content) = in_envelope(&bytes)? {
            bytes = content;
            continue;
        }
        let begin = first_line(&bytes).ok_or(UserDataError::Empty)?;
        if is_mime(&begin) {
            bytes = our_part(&bytes, &mut others)?;
            continue;
        }
        if begin == "#include" || begin == "#include-once" {
            return match include(&bytes)? {
                _ if included => Err(UserDataError::IncludedAgain),
                include => Ok(UserData::Include(include)),
            };
        }
        if let Some(what) = foreign(&begin) {
            return Err(UserDataError::Foreign { what, begin });
        }
        match from_base64(&bytes) {
            Some(decoded) => bytes = decoded,
            None => return Ok(UserData::Documents { text: bytes, others }),
        }
    }
    Err(UserDataError::TooDeep)
}

/// The user-data in a file in which a platform has it beside other things.
fn in_envelope(bytes: &[u8]) -> Result<Option<Vec<u8>>, UserDataError> {
    if context::is_context(bytes) {
        let mut variables = context::variables(&String::from_utf8_lossy(bytes));
        let found = variables.remove("USER_DATA").or_else(|| variables.remove("USERDATA"));
        return found.map(|text| Some(text.into_bytes())).ok_or(UserDataError::Empty);
    }
    if ovf::is_environment(bytes) {
        let environment = ovf::read(&String::from_utf8_lossy(bytes)).map_err(UserDataError::Ovf)?;
        let found = environment.user_data.ok_or(UserDataError::Empty)?;
        return Ok(Some(found.into_bytes()));
    }
    Ok(None)
}

/// The first line with something on it, at most as much as is worth showing.
fn first_line(bytes: &[u8]) -> Option<String> {
    let line =
        bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).find(|line| !line.is_empty())?;
    let shown = line.get(..80).unwrap_or(line);
    Some(String::from_utf8_lossy(shown).chars().filter(|char| !char.is_control()).collect())
}

fn gunzip(bytes: &[u8]) -> Result<Vec<u8>, UserDataError> {
    let mut unpacked = Vec::new();
    // One byte more than is read tells too much from just enough.
    let read = GzDecoder::new(bytes).take(MAX_BYTES as u64 + 1).read_to_end(&mut unpacked);
    read.map_err(|error| UserDataError::Gzip(error.to_string()))?;
    Ok(unpacked)
}

/// What the whole is if it is base64: nothing but its alphabet and white space.
fn from_base64(bytes: &[u8]) -> Option<Vec<u8>> {
    let text: Vec<u8> = bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    // A short word is one in YAML just as well.
    if text.len() < 16 {
        return None;
    }
    Base64::decode_vec(std::str::from_utf8(&text).ok()?).ok()
}

fn is_mime(begin: &str) -> bool {
    let begin = begin.to_ascii_lowercase();
    begin.starts_with("mime-version:") || begin.starts_with("content-type:")
}

/// The part that is for us; all that are, one after the other, should there be more.
fn our_part(bytes: &[u8], others: &mut Vec<String>) -> Result<Vec<u8>, UserDataError> {
    let message = MessageParser::default().parse(bytes).ok_or(UserDataError::Mime)?;
    let mut ours: Vec<u8> = Vec::new();
    for part in message.parts.iter().filter(|part| !part.is_multipart()).take(MOST_PARTS) {
        let content = part.contents();
        let kind = part.content_type().map_or_else(
            || "text/plain".to_owned(),
            |kind| format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or_default()),
        );
        let plain =
            if content.starts_with(&[0x1f, 0x8b]) { gunzip(content)? } else { content.to_vec() };
        if kind.eq_ignore_ascii_case(OURS) || names_our_api(&plain) {
            if !ours.is_empty() {
                ours.extend_from_slice(b"\n---\n");
            }
            ours.extend_from_slice(&plain);
        } else {
            let name = part.attachment_name().map(|name| format!(" {name}")).unwrap_or_default();
            others.push(
                format!("{kind}{name}")
                    .chars()
                    .filter(|char| !char.is_control())
                    .take(120)
                    .collect(),
            );
        }
    }
    if ours.is_empty() { Err(UserDataError::NoPart(std::mem::take(others))) } else { Ok(ours) }
}

fn names_our_api(bytes: &[u8]) -> bool {
    bytes.split(|byte| *byte == b'\n').any(|line| {
        let value = line.strip_prefix(b"apiVersion:").map(<[u8]>::trim_ascii_start);
        value.is_some_and(|value| value.starts_with(b"stele/"))
    })
}

/// What this beginning says that it is, if that is nothing for us.
fn foreign(begin: &str) -> Option<&'static str> {
    let known = [
        ("#!", "a script"),
        ("#cloud-config-archive", "an archive of cloud-init's"),
        ("#cloud-config", "a configuration of cloud-init's"),
        ("#cloud-boothook", "a script of cloud-init's"),
        ("#upstart-job", "a job of upstart's"),
        ("#part-handler", "a program of cloud-init's"),
        ("## template:", "a template of cloud-init's"),
        ("{\"ignition\"", "a configuration of Ignition's"),
        ("#talos", "a configuration of another system"),
        ("version: v1alpha1", "a configuration of Talos'"),
    ];
    known.iter().find(|(with, _)| begin.starts_with(with)).map(|(_, what)| *what)
}

/// The one line behind `#include`.
fn include(bytes: &[u8]) -> Result<Include, UserDataError> {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).skip(1);
    let lines: Vec<&str> = lines.filter(|line| !line.starts_with('#')).take(2).collect();
    let wrong = || {
        let shown = lines.join(" ");
        UserDataError::Include(shown.chars().filter(|char| !char.is_control()).take(200).collect())
    };
    let [line] = lines.as_slice() else { return Err(wrong()) };
    let (url, digest) = line.split_once(char::is_whitespace).ok_or_else(wrong)?;
    let sha256 = digest.trim().strip_prefix("sha256:").ok_or_else(wrong)?.to_ascii_lowercase();
    let hex = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
    let known = url.starts_with("http://") || url.starts_with("https://");
    if hex && known { Ok(Include { url: url.to_owned(), sha256 }) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write as _;

    const OWN: &str = "apiVersion: stele/v1\nkind: Hostname\nhostname: web\n";
    const MULTIPART: &str = "Content-Type: multipart/mixed; boundary=\"==1==\"\nMIME-Version: 1.0\n\n--==1==\n\
        Content-Type: text/x-shellscript; charset=\"utf-8\"\nContent-Disposition: attachment; filename=\"setup.sh\"\n\n#!/bin/sh\necho\n--==1==\n\
        Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\nYXBpVmVyc2lvbjogc3RlbGUvdjEKa2luZDogSG9zdG5hbWUKaG9zdG5hbWU6IHdlYgo=\n--==1==--\n";

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn own(bytes: &[u8]) -> Vec<String> {
        match unwrap(bytes, false).unwrap() {
            UserData::Documents { text, others } => {
                assert_eq!(String::from_utf8(text).unwrap().trim_end(), OWN.trim_end());
                others
            }
            include @ UserData::Include(_) => panic!("{include:?}"),
        }
    }

    fn refused(text: &str) -> String {
        unwrap(text.as_bytes(), false).unwrap_err().to_string()
    }

    #[test]
    fn every_wrapping_comes_off() {
        let encoded = Base64::encode_string(OWN.as_bytes());
        own(OWN.as_bytes());
        own(&gzip(OWN.as_bytes()));
        own(encoded.as_bytes());
        own(format!("{}\n{}\n", &encoded[..40], &encoded[40..]).as_bytes());
        own(Base64::encode_string(&gzip(OWN.as_bytes())).as_bytes());
        assert_eq!(own(MULTIPART.as_bytes()), ["text/x-shellscript setup.sh"]);
        own(&gzip(MULTIPART.replace('\n', "\r\n").as_bytes()));
    }

    #[test]
    fn files_of_platforms_have_it_beside_other_things() {
        let encoded = Base64::encode_string(OWN.as_bytes());
        let context = "# Context variables generated by OpenNebula\nVMID='7'\n";
        own(format!("{context}USER_DATA='{OWN}'\n").as_bytes());
        own(format!("{context}USERDATA_ENCODING='base64'\nUSER_DATA='{encoded}'\n").as_bytes());
        assert_eq!(refused(context), UserDataError::Empty.to_string());
        let ovf = |data: &str| {
            format!(
                "<?xml version=\"1.0\"?>\n<Environment><CustomData>{data}</CustomData></Environment>"
            )
        };
        own(ovf(&encoded).as_bytes());
        assert_eq!(refused(&ovf("")), UserDataError::Empty.to_string());
        assert!(refused("<?xml version=\"1.0\"?><html/>").contains("no OVF environment"));
    }

    #[test]
    fn parts_of_ours_are_put_together() {
        let part = format!("--x\nContent-Type: {OURS}\n\n{OWN}\n");
        let text = format!(
            "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\n\n{part}{part}--x--\n"
        );
        let Ok(UserData::Documents { text, others }) = unwrap(text.as_bytes(), false) else {
            panic!()
        };
        assert_eq!(String::from_utf8(text).unwrap().matches("\n---\n").count(), 1);
        assert!(others.is_empty());
    }

    #[test]
    fn what_is_for_others_is_refused_in_words() {
        assert!(refused("#!/bin/sh\nreboot\n").contains("a script (it begins with \"#!/bin/sh\")"));
        assert!(
            refused("\n#cloud-config\nusers: []\n").contains("a configuration of cloud-init's")
        );
        assert!(refused("{\"ignition\": {}}").contains("Ignition"));
        assert!(refused(&MULTIPART.replace("YXBp", "YXBw")).contains("none of the parts"));
        assert_eq!(refused(" \n\n"), UserDataError::Empty.to_string());
    }

    #[test]
    fn includes_need_a_hash() {
        let digest = "ab".repeat(32);
        let text = format!(
            "#include\n# ours\nhttps://example.com/n1.yaml  sha256:{}\n",
            digest.to_uppercase()
        );
        let include = Include { url: "https://example.com/n1.yaml".to_owned(), sha256: digest };
        assert_eq!(unwrap(text.as_bytes(), false), Ok(UserData::Include(include)));
        assert_eq!(unwrap(text.as_bytes(), true), Err(UserDataError::IncludedAgain));
        assert!(refused("#include\nhttps://example.com/n1.yaml\n").contains("64 digits"));
        assert!(refused("#include\nfile:///etc/x sha256:00\n").contains("64 digits"));
        assert!(refused("#include\n").contains("64 digits"));
    }

    #[test]
    fn bombs_do_not_go_off() {
        assert_eq!(unwrap(&gzip(&vec![b' '; 64 << 20]), false), Err(UserDataError::TooLong));
        let mut deep = OWN.as_bytes().to_vec();
        for _ in 0..=DEEPEST {
            deep = gzip(&deep);
        }
        assert_eq!(unwrap(&deep, false), Err(UserDataError::TooDeep));
        assert!(matches!(unwrap(&[0x1f, 0x8b, 8, 0, 1], false), Err(UserDataError::Gzip(_))));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(bytes: Vec<u8>, head in proptest::sample::select(vec!["", "#include\n", "MIME-Version: 1.0\n", "Content-Type: multipart/mixed; boundary=a\n\n--a\n"])) {
            let _outcome = unwrap(&[head.as_bytes(), &bytes].concat(), false);
        }
    }
}
