// SPDX-License-Identifier: Apache-2.0
//! Durations and moments, as users write them and as they are shown.

use anyhow::{Context as _, Result, bail};
use std::{fmt::Write as _, time::Duration};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Reads `90s`, `10m`, `8h`, `365d`, or several together such as `1h30m`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration> {
    let mut seconds = 0u64;
    let mut rest = text;
    if text.is_empty() {
        bail!("a duration is a number with a unit, such as 30s, 10m, 8h or 365d");
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let unit = tail.chars().next();
        let factor = match unit {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86_400,
            Some('w') => 604_800,
            _ => bail!(
                "\"{text}\" is not a duration. Write a number with a unit (s, m, h, d, w), such as 30s, 10m, 8h or 365d"
            ),
        };
        let number: u64 = number
            .parse()
            .with_context(|| format!("\"{text}\" is not a duration: no number before the unit"))?;
        seconds = number
            .checked_mul(factor)
            .and_then(|part| seconds.checked_add(part))
            .filter(|sum| *sum <= 200 * 366 * 86_400)
            .with_context(|| format!("\"{text}\" is longer than 200 years"))?;
        rest = &tail[1..];
    }
    Ok(Duration::from_secs(seconds))
}

/// Reads a moment: RFC 3339, or a duration that is counted back from now.
pub(crate) fn parse_since(text: &str, now: OffsetDateTime) -> Result<OffsetDateTime> {
    if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(moment);
    }
    let duration = parse_duration(text).ok().with_context(|| {
        format!(
            "\"{text}\" is neither a duration such as 10m nor a moment such as 2026-01-31T12:00:00Z"
        )
    })?;
    now.checked_sub(duration.try_into()?).context("that is before time began")
}

/// Reads a moment that is still to come: RFC 3339, or `+` and a duration from now on.
pub(crate) fn parse_until(text: &str, now: OffsetDateTime) -> Result<OffsetDateTime> {
    let moment = match text.strip_prefix('+') {
        Some(duration) => now
            .checked_add(parse_duration(duration)?.try_into()?)
            .context("that is after time ends")?,
        None => OffsetDateTime::parse(text, &Rfc3339).ok().with_context(|| {
            format!(
                "\"{text}\" is neither a moment such as 2026-01-31T12:00:00Z nor a duration from now such as +8h"
            )
        })?,
    };
    if moment < now {
        bail!("{} is over already", format_moment(moment));
    }
    Ok(moment)
}

/// Reads a number of bytes: `500000`, `500k`, `2M`, in steps of 1024.
pub(crate) fn parse_bytes(text: &str) -> Result<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_end_matches("iB").trim_end_matches('B') {
        "" => 0,
        "k" | "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => bail!("\"{text}\" is not a number of bytes. Write it as 500000, 500k or 2M"),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|bytes| *bytes > 0)
        .with_context(|| {
            format!("\"{text}\" is not a number of bytes. Write it as 500000, 500k or 2M")
        })
}

/// A moment in UTC, to the second.
pub(crate) fn format_moment(moment: OffsetDateTime) -> String {
    let moment = moment.to_offset(time::UtcOffset::UTC);
    moment.replace_nanosecond(0).unwrap_or(moment).format(&Rfc3339).unwrap_or_default()
}

/// A moment as the protocol has it.
pub(crate) fn to_timestamp(moment: OffsetDateTime) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: moment.unix_timestamp(),
        nanos: moment.nanosecond().cast_signed(),
    }
}

/// A protobuf moment in UTC, to the second; empty if it is out of range.
pub(crate) fn format_timestamp(timestamp: &prost_types::Timestamp) -> String {
    OffsetDateTime::from_unix_timestamp(timestamp.seconds).map(format_moment).unwrap_or_default()
}

/// A duration in its two largest units: `3d4h`, `1m5s`.
pub(crate) fn format_duration(duration: Duration) -> String {
    let mut rest = duration.as_secs();
    let mut text = String::new();
    let mut units = 0;
    for (size, unit) in [(86_400, 'd'), (3600, 'h'), (60, 'm'), (1, 's')] {
        let count = rest / size;
        rest %= size;
        if count > 0 && units < 2 {
            let _ = write!(text, "{count}{unit}");
        }
        if count > 0 || units > 0 {
            units += 1;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// A number of bytes in the unit that reads best.
pub(crate) fn format_bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_to_come() {
        let now = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
        let until = |text: &str| parse_until(text, now).map(format_moment);
        assert_eq!(until("+1h30m").unwrap(), "2023-11-14T23:43:20Z");
        assert_eq!(until("2026-01-31T13:00:00+01:00").unwrap(), "2026-01-31T12:00:00Z");
        for text in ["1h", "", "+", "+x", "tomorrow", "2020-01-01T00:00:00Z"] {
            assert!(until(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_of_bytes() {
        for (text, bytes) in
            [("7", 7), ("500k", 512_000), ("2M", 2 << 20), ("1GiB", 1 << 30), ("3KB", 3072)]
        {
            assert_eq!(parse_bytes(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "0", "k", "-1", "2x", "99999999999G"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("30s", 30),
            ("10m", 600),
            ("8h", 28_800),
            ("365d", 31_536_000),
            ("1h30m", 5400),
            ("2w", 1_209_600),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text).unwrap().as_secs(), seconds, "{text}");
        }
        for text in
            ["", "10", "m", "-5m", "1.5h", "10 m", "99999999999999999999d", "9999999d", "5mm", "5é"]
        {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn durations_read_well() {
        for (seconds, text) in
            [(0, "0s"), (65, "1m5s"), (3600, "1h"), (273_600, "3d4h"), (86_401, "1d")]
        {
            assert_eq!(format_duration(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn since_takes_a_moment_or_a_duration() {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        assert_eq!(parse_since("10m", now).unwrap().unix_timestamp(), 1_799_999_400);
        assert_eq!(
            parse_since("2026-01-31T12:00:00Z", now).unwrap().unix_timestamp(),
            1_769_860_800
        );
        assert!(parse_since("yesterday", now).is_err());
    }

    #[test]
    fn bytes_read_well() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (41_943_040, "40.0 MiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(format_bytes(bytes), text);
        }
    }
}
