// SPDX-License-Identifier: Apache-2.0
//! What rules of a firewall say of packets: their ports, and how many they may be.

use crate::node::{Node, Tree};
use crate::range;
use crate::report::Report;
use crate::shape::Shape;
use crate::value::{Secrets, Text, Value};
use std::fmt;
use std::str::FromStr;

/// The units of a rate, each with its seconds.
const UNITS: [(&str, u32); 4] = [("second", 1), ("minute", 60), ("hour", 3600), ("day", 86_400)];
/// The greatest rate.
const MOST: u32 = 1_000_000;

/// A port, or a range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports {
    first: u16,
    last: u16,
}

/// So many in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    seconds: u32,
}

/// Why a text is not a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not a number from 1 to {MOST}, a / and second, minute, hour or day")]
pub struct RateError;

impl Ports {
    /// The first one.
    #[must_use]
    pub fn first(self) -> u16 {
        self.first
    }

    /// The last one.
    #[must_use]
    pub fn last(self) -> u16 {
        self.last
    }
}

impl Rate {
    /// How many.
    #[must_use]
    pub fn count(self) -> u32 {
        self.count
    }

    /// In how many seconds.
    #[must_use]
    pub fn seconds(self) -> u32 {
        self.seconds
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Rate, RateError> {
        let (count, unit) = text.split_once('/').ok_or(RateError)?;
        let count = count.parse().ok().filter(|count| (1..=MOST).contains(count));
        let seconds = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, seconds)| *seconds);
        Ok(Rate { count: count.ok_or(RateError)?, seconds: seconds.ok_or(RateError)? })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, seconds)| *seconds == self.seconds);
        write!(f, "{}/{}", self.count, unit.map_or("", |(name, _)| name))
    }
}

impl Text for Rate {
    const WHAT: &'static str = "a rate";
    const EXAMPLE: &'static str = "10/second";
    const PATTERN: &'static str = "^\\+?[0-9]+/(second|minute|hour|day)$";
}

impl Value for Ports {
    fn shape() -> Shape {
        Shape::Setting { what: "a port or a range of ports", example: "8000-8100" }
    }

    fn read(node: &Node, report: &mut Report) -> Option<Ports> {
        let ends = range::read(node, (&Self::shape(), "port"), &(1..=u16::MAX), report);
        ends.map(|(first, last)| Ports { first, last })
    }

    fn write(&self, _: Secrets) -> Option<Tree> {
        Some(range::write(self.first, self.last))
    }
}
