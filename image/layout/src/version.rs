// SPDX-License-Identifier: Apache-2.0
//! Versions of images: what one may look like, and which of two is newer.
//!
//! The boot loader sorts images by the UAPI Group's version format specification
//! (<https://uapi-group.org/specifications/specs/version_format_specification>), so this is the only order there is.
//!
//! A [`Version`] is part of a file name on FAT, which keeps case but does not tell cases apart, and the loader names
//! entries in lower case. Capitals are therefore refused: two versions never meet in one name. So is `+`, which starts
//! the boot counter.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// A version that can stand in the name of an image.
///
/// Equality is that of the text; the loader's order is [`Version::compare`], by which `1.0` and `1.00` are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version(String);

/// Why a text is no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Nothing there.
    #[error("a version can't be empty")]
    Empty,
    /// More than [`Version::MAX_LENGTH`] characters.
    #[error("a version has at most {} characters, this one has {length}", Version::MAX_LENGTH)]
    TooLong {
        /// How many it has.
        length: usize,
    },
    /// A character outside the set.
    #[error("a version consists of a-z, 0-9 and . - ~ ^, not {0:?}")]
    Character(char),
    /// Punctuation at an end.
    #[error("a version starts and ends with a letter or a digit")]
    Edge,
}

impl Version {
    /// The longest version, in characters.
    pub const MAX_LENGTH: usize = 64;

    /// The version that this text spells.
    ///
    /// # Errors
    /// When it can't stand in a file name on the ESP.
    pub fn parse(text: &str) -> Result<Version, VersionError> {
        if text.is_empty() {
            return Err(VersionError::Empty);
        }
        let length = text.chars().count();
        if length > Version::MAX_LENGTH {
            return Err(VersionError::TooLong { length });
        }
        let allowed = |c: char| {
            c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '~' | '^')
        };
        if let Some(character) = text.chars().find(|c| !allowed(*c)) {
            return Err(VersionError::Character(character));
        }
        if !text.starts_with(|c: char| c.is_ascii_alphanumeric())
            || !text.ends_with(|c: char| c.is_ascii_alphanumeric())
        {
            return Err(VersionError::Edge);
        }
        Ok(Version(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Which one the loader takes for newer.
    #[must_use]
    pub fn compare(&self, other: &Version) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Version, VersionError> {
        Version::parse(text)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Compares any two texts as versions, as the specification has it.
#[must_use]
pub fn compare(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    loop {
        left = skip(left, |byte| !meaningful(byte));
        right = skip(right, |byte| !meaningful(byte));

        // A tilde sorts before everything, even the end: 1~rc1 is older than 1.
        if let Some(order) = separator(b'~', &mut left, &mut right) {
            return order;
        }
        if left.is_empty() || right.is_empty() {
            return right.is_empty().cmp(&left.is_empty());
        }
        // The earlier one in this list sorts lower; all of them below letters and digits.
        for mark in [b'-', b'^', b'.'] {
            if let Some(order) = separator(mark, &mut left, &mut right) {
                return order;
            }
        }
        let numeric =
            starts_with(left, u8::is_ascii_digit) || starts_with(right, u8::is_ascii_digit);
        let belongs = if numeric { u8::is_ascii_digit } else { u8::is_ascii_alphabetic };
        let (left_part, left_rest) = split(left, belongs);
        let (right_part, right_rest) = split(right, belongs);
        let order = if numeric {
            compare_numbers(left_part, right_part)
        } else {
            left_part.cmp(right_part)
        };
        if order != Ordering::Equal {
            return order;
        }
        (left, right) = (left_rest, right_rest);
    }
}

/// Takes `mark` off both texts, or says which is older because only it starts with the mark.
fn separator(mark: u8, left: &mut &[u8], right: &mut &[u8]) -> Option<Ordering> {
    match (left.strip_prefix(&[mark]), right.strip_prefix(&[mark])) {
        (Some(left_rest), Some(right_rest)) => {
            *left = left_rest;
            *right = right_rest;
            None
        }
        (Some(_), None) => Some(Ordering::Less),
        (None, Some(_)) => Some(Ordering::Greater),
        (None, None) => None,
    }
}

/// Compares digits of any length; none at all is less than any number.
fn compare_numbers(left: &[u8], right: &[u8]) -> Ordering {
    let significant = |digits| skip(digits, |byte| byte == b'0');
    let (left_digits, right_digits) = (significant(left), significant(right));
    left.is_empty()
        .cmp(&right.is_empty())
        .reverse()
        .then_with(|| left_digits.len().cmp(&right_digits.len()))
        .then_with(|| left_digits.cmp(right_digits))
}

fn meaningful(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'~' | b'^')
}

fn starts_with(text: &[u8], belongs: fn(&u8) -> bool) -> bool {
    text.first().is_some_and(belongs)
}

fn skip(text: &[u8], unwanted: impl Fn(u8) -> bool) -> &[u8] {
    let start = text.iter().position(|byte| !unwanted(*byte)).unwrap_or(text.len());
    text.split_at(start).1
}

fn split(text: &[u8], belongs: fn(&u8) -> bool) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|byte| !belongs(byte)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_specification() {
        let equal = [
            ("11", "11"),
            ("systemd-123", "systemd-123"),
            ("11α", "11β"),
            ("1_", "1"),
            ("_1", "1"),
            ("1+", "1"),
            ("+1", "1"),
        ];
        for (left, right) in equal {
            assert_eq!(compare(left, right), Ordering::Equal, "{left} {right}");
        }
        let rising = [
            ("bar-123", "foo-123"),
            ("123", "123a"),
            ("123", "123.a"),
            ("123.a", "123.b"),
            ("123.a", "123a"),
            ("A", "a"),
            ("", "0"),
            ("0", "0."),
            ("0", "0.0"),
            ("~", "0"),
            ("~", ""),
            ("1_", "1.2"),
            ("1.3.3", "1_2_3"),
            ("1+", "1.2"),
            ("1.3.3", "1+2+3"),
        ];
        for (older, newer) in rising {
            assert_eq!(compare(older, newer), Ordering::Less, "{older} {newer}");
            assert_eq!(compare(newer, older), Ordering::Greater, "{newer} {older}");
        }
        let ladder = [
            "122.1",
            "123~rc1-1",
            "123",
            "123-a",
            "123-a.1",
            "123-1",
            "123-1.1",
            "123^post1",
            "123.a-1",
            "123.1-1",
            "123a-1",
            "124-1",
        ];
        for (low, older) in ladder.iter().enumerate() {
            for newer in ladder.iter().skip(low + 1) {
                assert_eq!(compare(older, newer), Ordering::Less, "{older} {newer}");
            }
        }
    }

    #[test]
    fn numbers_are_not_text() {
        assert_eq!(compare("1.10.0", "1.9.0"), Ordering::Greater);
        assert_eq!(compare("1.00", "1.0"), Ordering::Equal);
        assert_eq!(compare("99999999999999999999998", "99999999999999999999999"), Ordering::Less);
    }

    #[test]
    fn what_a_version_is_not() {
        assert_eq!(Version::parse(""), Err(VersionError::Empty));
        assert_eq!(Version::parse(&"1".repeat(65)), Err(VersionError::TooLong { length: 65 }));
        assert_eq!(Version::parse("1.0+3"), Err(VersionError::Character('+')));
        assert_eq!(Version::parse("1.0RC1"), Err(VersionError::Character('R')));
        assert_eq!(Version::parse("../1"), Err(VersionError::Character('/')));
        assert_eq!(Version::parse("1."), Err(VersionError::Edge));
        assert_eq!(Version::parse("~1"), Err(VersionError::Edge));
        assert!(Version::parse("1.2.0~rc1-3^git20261121").is_ok());
    }

    proptest! {
        #[test]
        fn it_is_an_order(a in "[a-c0-2.~^-]{0,8}", b in "[a-c0-2.~^-]{0,8}", c in "[a-c0-2.~^-]{0,8}") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            prop_assert_eq!(compare(&a, &a), Ordering::Equal);
            if compare(&a, &b) != Ordering::Greater && compare(&b, &c) != Ordering::Greater {
                prop_assert_ne!(compare(&a, &c), Ordering::Greater);
            }
        }

        #[test]
        fn anything_can_be_compared(a in any::<String>(), b in any::<String>()) {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
        }

        #[test]
        fn print_then_parse(text in "[a-z0-9]([a-z0-9.~^-]{0,20}[a-z0-9])?") {
            prop_assert_eq!(Version::parse(&text).unwrap().to_string(), text);
        }
    }
}
