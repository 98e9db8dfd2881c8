// SPDX-License-Identifier: Apache-2.0
//! Log entries as lines.
//!
//! The hot path of `ctl logs`: an encoded `LogChunk` goes in and text comes out, with no message, string or date built
//! in between.

use prost::{
    DecodeError,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use std::io::Write as _;
use time::OffsetDateTime;

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// A time before each.
    Timed,
    /// A time and a severity.
    Severe,
    /// As they were written.
    Raw,
    /// A JSON object each.
    Json,
    /// A YAML document each.
    Yaml,
}

/// Writes entries as lines.
#[derive(Debug)]
pub(crate) struct Lines {
    style: Style,
    /// What stands before each line, so that one knows the node.
    prefix: String,
    /// The node's name, for JSON and YAML.
    node: Option<String>,
    /// What a terminal would obey is shown instead.
    escape: bool,
    /// The second whose date and time are in `stamp`.
    second: Option<u64>,
    stamp: [u8; 19],
}

/// One entry, borrowed from its chunk.
#[derive(Debug, Default, PartialEq, Eq)]
struct Entry<'a> {
    time_us: u64,
    severity: u64,
    message: &'a [u8],
    lost: u64,
}

const SEVERITIES: [&str; 8] =
    ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

impl Lines {
    /// Lines in this style; with a node's name and its width if there are several.
    pub(crate) fn new(style: Style, node: Option<(&str, usize)>, escape: bool) -> Lines {
        let prefix = node.map(|(name, width)| format!("{name:<width$} | ")).unwrap_or_default();
        Lines {
            style,
            prefix,
            node: node.map(|(name, _)| name.to_owned()),
            escape,
            second: None,
            stamp: [b' '; 19],
        }
    }

    /// Appends the lines of an encoded `LogChunk`.
    pub(crate) fn chunk(&mut self, mut chunk: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
        while !chunk.is_empty() {
            let (tag, wire) = decode_key(&mut chunk)?;
            match (tag, wire) {
                (1, WireType::LengthDelimited) => {
                    let entry = Entry::decode(delimited(&mut chunk)?)?;
                    self.entry(&entry, out);
                }
                _ => skip_field(wire, tag, &mut chunk, DecodeContext::default())?,
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        if matches!(self.style, Style::Json | Style::Yaml) {
            return self.value(entry, out);
        }
        if entry.lost > 0 {
            out.extend_from_slice(self.prefix.as_bytes());
            let _ = writeln!(out, "-- {} entries were lost here --", entry.lost);
        }
        out.extend_from_slice(self.prefix.as_bytes());
        if self.style != Style::Raw {
            self.time(entry.time_us, out);
            out.push(b' ');
        }
        if self.style == Style::Severe {
            let name = severity(entry.severity);
            let _ = write!(out, "{name:<7} ");
        }
        if self.escape && entry.message.iter().any(|byte| is_control(*byte)) {
            out.extend_from_slice(
                crate::output::plain(&String::from_utf8_lossy(entry.message)).as_bytes(),
            );
        } else {
            out.extend_from_slice(entry.message);
        }
        out.push(b'\n');
    }

    fn value(&mut self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        let mut time = Vec::new();
        self.time(entry.time_us, &mut time);
        let mut value = serde_json::json!({
            "time": String::from_utf8_lossy(&time),
            "severity": severity(entry.severity),
            "message": String::from_utf8_lossy(entry.message),
        });
        if entry.lost > 0 {
            value["lost"] = entry.lost.into();
        }
        if let Some(node) = &self.node {
            value["node"] = node.as_str().into();
        }
        if self.style == Style::Json {
            let _ = writeln!(out, "{value}");
        } else {
            let _ = write!(out, "---\n{}", serde_yaml::to_string(&value).unwrap_or_default());
        }
    }

    /// RFC 3339 in UTC with microseconds. The date is computed once a second of the log.
    fn time(&mut self, time_us: u64, out: &mut Vec<u8>) {
        let (second, micros) = (time_us / 1_000_000, time_us % 1_000_000);
        if self.second != Some(second) {
            self.stamp = stamp(second);
            self.second = Some(second);
        }
        out.extend_from_slice(&self.stamp);
        let mut fraction = *b".000000Z";
        let mut rest = micros;
        for digit in fraction[1..7].iter_mut().rev() {
            *digit += (rest % 10) as u8;
            rest /= 10;
        }
        out.extend_from_slice(&fraction);
    }
}

impl<'a> Entry<'a> {
    fn decode(mut bytes: &'a [u8]) -> Result<Entry<'a>, DecodeError> {
        let mut entry = Entry::default();
        while !bytes.is_empty() {
            let (tag, wire) = decode_key(&mut bytes)?;
            match (tag, wire) {
                (1, WireType::SixtyFourBit) => {
                    let Some((time, rest)) = bytes.split_first_chunk() else {
                        return Err(cut_short());
                    };
                    entry.time_us = u64::from_le_bytes(*time);
                    bytes = rest;
                }
                (2, WireType::Varint) => entry.severity = decode_varint(&mut bytes)?,
                (3, WireType::LengthDelimited) => entry.message = delimited(&mut bytes)?,
                (4, WireType::Varint) => entry.lost = decode_varint(&mut bytes)?,
                _ => skip_field(wire, tag, &mut bytes, DecodeContext::default())?,
            }
        }
        Ok(entry)
    }
}

fn delimited<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let length = usize::try_from(decode_varint(bytes)?).map_err(|_| cut_short())?;
    let (part, rest) = bytes.split_at_checked(length).ok_or_else(cut_short)?;
    *bytes = rest;
    Ok(part)
}

/// What prost says of a message that ends too early.
fn cut_short() -> DecodeError {
    let mut nothing: &[u8] = &[];
    match decode_varint(&mut nothing) {
        Err(error) => error,
        Ok(_) => unreachable!("there is no number in nothing"),
    }
}

fn severity(number: u64) -> &'static str {
    usize::try_from(number)
        .ok()
        .and_then(|index| SEVERITIES.get(index))
        .copied()
        .unwrap_or("unknown")
}

fn is_control(byte: u8) -> bool {
    // 0x80 and above may be a control character of two bytes in UTF-8, or no UTF-8 at all.
    (byte < 0x20 && byte != b'\t') || byte >= 0x7f
}

fn stamp(second: u64) -> [u8; 19] {
    let time = i64::try_from(second)
        .ok()
        .and_then(|second| OffsetDateTime::from_unix_timestamp(second).ok());
    let time = time.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mut stamp = *b"0000-00-00T00:00:00";
    let mut put = |range: std::ops::Range<usize>, mut number: u32| {
        for digit in stamp[range].iter_mut().rev() {
            *digit += (number % 10) as u8;
            number /= 10;
        }
    };
    put(0..4, time.year().unsigned_abs());
    put(5..7, u8::from(time.month()).into());
    put(8..10, time.day().into());
    put(11..13, time.hour().into());
    put(14..16, time.minute().into());
    put(17..19, time.second().into());
    stamp
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use stele_proto::v1::{LogChunk, LogEntry};

    fn lines(style: Style, escape: bool, entries: Vec<LogEntry>) -> String {
        let mut out = Vec::new();
        Lines::new(style, None, escape)
            .chunk(&LogChunk { entries }.encode_to_vec(), &mut out)
            .unwrap();
        String::from_utf8_lossy(&out).into_owned()
    }

    fn entry(time_us: u64, message: &[u8]) -> LogEntry {
        LogEntry { time_us, severity: 4, message: message.to_vec(), lost: 0 }
    }

    #[test]
    fn each_style() {
        let entries = || {
            vec![
                entry(1_800_000_000_000_042, b"one"),
                LogEntry { lost: 7, ..entry(1_800_000_001_999_999, b"") },
            ]
        };
        assert_eq!(
            lines(Style::Timed, false, entries()),
            "2027-01-15T08:00:00.000042Z one\n-- 7 entries were lost here --\n2027-01-15T08:00:01.999999Z \n"
        );
        assert_eq!(
            lines(Style::Severe, false, vec![entry(0, b"x")]),
            "1970-01-01T00:00:00.000000Z warning x\n"
        );
        assert_eq!(lines(Style::Raw, false, vec![entry(5, b"a\x00b")]), "a\0b\n");
        assert_eq!(
            lines(Style::Json, false, vec![entry(0, b"x")]),
            "{\"message\":\"x\",\"severity\":\"warning\",\"time\":\"1970-01-01T00:00:00.000000Z\"}\n"
        );
    }

    #[test]
    fn the_fields_are_read_as_prost_writes_them() {
        for message in [&b""[..], b"x", &[0xff; 300], &[b'y'; 70_000]] {
            for (severity, lost, time_us) in [(0, 0, 0), (7, u64::MAX, u64::MAX), (3, 128, 1)] {
                let encoded =
                    LogEntry { time_us, severity, message: message.to_vec(), lost }.encode_to_vec();
                let expected = Entry { time_us, severity: severity.into(), message, lost };
                assert_eq!(Entry::decode(&encoded).unwrap(), expected);
            }
        }
    }

    #[test]
    fn a_damaged_chunk_is_an_error_and_no_panic() {
        let good =
            LogChunk { entries: vec![entry(1, b"hello"), entry(2, b"world")] }.encode_to_vec();
        for end in 0..good.len() {
            let _ = Lines::new(Style::Timed, None, true).chunk(&good[..end], &mut Vec::new());
        }
        for index in 0..good.len() {
            for byte in 0..=255 {
                let mut bad = good.clone();
                bad[index] = byte;
                let _ = Lines::new(Style::Json, None, true).chunk(&bad, &mut Vec::new());
            }
        }
        assert!(
            Lines::new(Style::Raw, None, false).chunk(&[0x0a, 0x05, 1], &mut Vec::new()).is_err()
        );
    }

    #[test]
    fn a_terminal_sees_no_escape_sequence() {
        assert_eq!(lines(Style::Raw, true, vec![entry(0, b"\x1b[2Jboo")]), "\\u{1b}[2Jboo\n");
        assert_eq!(
            lines(Style::Raw, true, vec![entry(0, "grün\u{9b}x".as_bytes())]),
            "grün\\u{9b}x\n"
        );
        assert_eq!(
            lines(Style::Raw, false, vec![entry(0, b"\x1b[2Jboo")]),
            "\u{1b}[2Jboo\n",
            "a file gets what was written"
        );
    }

    #[test]
    fn the_node_stands_before_the_line() {
        let mut out = Vec::new();
        let chunk = LogChunk { entries: vec![entry(0, b"x")] }.encode_to_vec();
        Lines::new(Style::Raw, Some(("web1", 6)), false).chunk(&chunk, &mut out).unwrap();
        assert_eq!(out, b"web1   | x\n");
    }
}
