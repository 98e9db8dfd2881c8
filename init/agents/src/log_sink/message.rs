// SPDX-License-Identifier: Apache-2.0
//! A line of a log as a message to a sink.

use serde::Serialize;
use stele_proto::v1::LogEntry;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The severity of what is said of lines that were lost: a warning.
const WARNING: u32 = 4;

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// A syslog message.
    Rfc5424,
    /// A JSON object.
    Json,
}

#[derive(Serialize)]
struct Object<'a> {
    time: &'a str,
    host: &'a str,
    log: &'a str,
    severity: u32,
    message: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    lost: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Format {
    /// The message of an entry, or of the entries that were lost before it.
    pub(super) fn message(self, host: &str, log: &str, entry: &LogEntry) -> Vec<u8> {
        let LogEntry { time_us, severity, message, lost } = entry;
        let time = moment(*time_us);
        let missing = format!("{lost} lines of {log} were lost: the sink was away for too long");
        let (severity, text) = match lost {
            0 => ((*severity).min(7), message.as_slice()),
            _ => (WARNING, missing.as_bytes()),
        };
        match self {
            Format::Rfc5424 => {
                let priority = facility(log) * 8 + severity;
                let host = header(host, 255);
                let mut message =
                    format!("<{priority}>1 {time} {host} {} - - - ", header(log, 48)).into_bytes();
                message.extend_from_slice(text);
                message
            }
            Format::Json => {
                let message = &String::from_utf8_lossy(text);
                let object = Object { time: &time, host, log, severity, message, lost: *lost };
                // Writing plain text to memory does not fail.
                serde_json::to_vec(&object).unwrap_or_default()
            }
        }
    }
}

/// RFC 5424, section 6.2.1: the kernel's own, the audit trail's, and that of services.
fn facility(log: &str) -> u32 {
    match log {
        "kernel" => 0,
        "audit" => 13,
        _ => 3,
    }
}

/// RFC 5424, section 6: what stands in a header is printable, has no spaces, and is not too long.
fn header(text: &str, longest: usize) -> String {
    let kept: String = text.chars().filter(char::is_ascii_graphic).take(longest).collect();
    if kept.is_empty() { "-".to_owned() } else { kept }
}

fn moment(time_us: u64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(time_us) * 1000);
    moment.ok().and_then(|moment| moment.format(&Rfc3339).ok()).unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn entry(message: &[u8]) -> LogEntry {
        let time_us = 1_700_000_000_123_456;
        LogEntry { time_us, severity: 6, message: message.to_vec(), lost: 0 }
    }

    fn check(format: Format, log: &str, entry: LogEntry, expected: &Expect) {
        let message = format.message("node-1", log, &entry);
        expected.assert_eq(&String::from_utf8_lossy(&message));
    }

    #[test]
    fn syslog() {
        let check = |log, entry, expected| check(Format::Rfc5424, log, entry, expected);
        check(
            "apid",
            entry(b"it works"),
            &expect!["<30>1 2023-11-14T22:13:20.123456Z node-1 apid - - - it works"],
        );
        check(
            "kernel",
            LogEntry { severity: 3, ..entry(b"oops") },
            &expect!["<3>1 2023-11-14T22:13:20.123456Z node-1 kernel - - - oops"],
        );
        check(
            "audit",
            entry(b"{\"request\":1}"),
            &expect![[r#"<110>1 2023-11-14T22:13:20.123456Z node-1 audit - - - {"request":1}"#]],
        );
        check(
            "a service \u{e9} of mine",
            entry(b""),
            &expect!["<30>1 2023-11-14T22:13:20.123456Z node-1 aserviceofmine - - - "],
        );
        check(
            "apid",
            LogEntry { lost: 7, ..entry(b"") },
            &expect![
                "<28>1 2023-11-14T22:13:20.123456Z node-1 apid - - - 7 lines of apid were lost: the sink was away for too long"
            ],
        );
        check(
            "apid",
            LogEntry { time_us: u64::MAX, ..entry(b"x") },
            &expect!["<30>1 - node-1 apid - - - x"],
        );
        let bytes = Format::Rfc5424.message("", "x", &entry(&[0xff, 0]));
        assert!(bytes.ends_with(&[b' ', 0xff, 0]), "what is no text goes as it is");
    }

    #[test]
    fn json() {
        let check = |log, entry, expected| check(Format::Json, log, entry, expected);
        check(
            "apid",
            entry(b"a \"quoted\"\nline"),
            &expect![[
                r#"{"time":"2023-11-14T22:13:20.123456Z","host":"node-1","log":"apid","severity":6,"message":"a \"quoted\"\nline"}"#
            ]],
        );
        check(
            "apid",
            entry(&[b'a', 0xff]),
            &expect![[
                r#"{"time":"2023-11-14T22:13:20.123456Z","host":"node-1","log":"apid","severity":6,"message":"a�"}"#
            ]],
        );
        check(
            "apid",
            LogEntry { lost: 7, ..entry(b"") },
            &expect![[
                r#"{"time":"2023-11-14T22:13:20.123456Z","host":"node-1","log":"apid","severity":4,"message":"7 lines of apid were lost: the sink was away for too long","lost":7}"#
            ]],
        );
    }
}
