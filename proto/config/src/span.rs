// SPDX-License-Identifier: Apache-2.0
//! A time span in a range, in whole seconds: `90s`, `5m`, `1h30m`.

use crate::node::{Node, Tree};
use crate::report::{Report, quote};
use crate::shape::Shape;
use crate::value::{Secrets, Value, refuse_type};
use std::fmt;
use std::time::Duration;

/// The units, from the longest, each with its seconds.
const UNITS: [(char, u32); 3] = [('h', 3600), ('m', 60), ('s', 1)];

/// A time span from `MIN` to `MAX` seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span<const MIN: u32, const MAX: u32>(Seconds);

/// A number of seconds, as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seconds(pub(crate) u32);

impl<const MIN: u32, const MAX: u32> Span<MIN, MAX> {
    /// The span.
    pub(crate) fn duration(self) -> Duration {
        let Span(Seconds(seconds)) = self;
        Duration::from_secs(seconds.into())
    }
}

impl<const MIN: u32, const MAX: u32> Value for Span<MIN, MAX> {
    fn shape() -> Shape {
        Shape::Span { min: MIN, max: MAX }
    }

    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let Tree::Text(text) = &node.tree else {
            refuse_type(node, &Self::shape(), report);
            return None;
        };
        let message = match parse(text) {
            Some(seconds) if (MIN..=MAX).contains(&seconds) => return Some(Span(Seconds(seconds))),
            Some(_) => "is out of range",
            None => "is not a time span",
        };
        report.find(node.line, format!("{} {message}", quote(text)), Self::shape().expected());
        None
    }

    fn write(&self, _: Secrets) -> Option<Tree> {
        Some(Tree::Text(self.0.to_string()))
    }
}

/// Seconds; more than there can be count as the most. Each unit is there at most once, the longer one first.
fn parse(text: &str) -> Option<u32> {
    let mut rest = text;
    let mut seconds = 0u32;
    for (unit, each) in UNITS {
        let Some((count, after)) = rest.split_once(unit) else { continue };
        if count.is_empty() || !count.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let count: u32 = count.parse().unwrap_or(u32::MAX);
        seconds = seconds.saturating_add(count.saturating_mul(each));
        rest = after;
    }
    (rest.is_empty() && !text.is_empty()).then_some(seconds)
}

impl fmt::Display for Seconds {
    /// The shortest form: `1m30s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seconds(mut left) = *self;
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, each) in UNITS {
            if left >= each {
                write!(f, "{}{unit}", left / each)?;
                left %= each;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Seconds, parse};

    #[test]
    fn spans() {
        for (text, seconds, shown) in [
            ("0s", 0, "0s"),
            ("90s", 90, "1m30s"),
            ("1m30s", 90, "1m30s"),
            ("5m", 300, "5m"),
            ("1h30m", 5400, "1h30m"),
            ("1h1s", 3601, "1h1s"),
            ("099s", 99, "1m39s"),
            ("99999999999h", u32::MAX, "1193046h28m15s"),
        ] {
            assert_eq!(parse(text), Some(seconds), "{text}");
            assert_eq!(Seconds(seconds).to_string(), shown);
        }
        for text in [
            "", "s", "90", "90 s", "-1s", "+1s", "1.5h", "30m1h", "1m1m", "1S", "1d", "1h30", "٣s",
            "500ms",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
