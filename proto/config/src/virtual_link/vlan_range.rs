// SPDX-License-Identifier: Apache-2.0
//! Which VLANs a port of a bridge is in.

use crate::node::{Node, Tree};
use crate::range;
use crate::report::Report;
use crate::shape::Shape;
use crate::value::{Secrets, Value};
use std::fmt;

/// The VLAN of packets without a tag where nobody says another, as the kernel has it.
const DEFAULT_PVID: u16 = 1;

/// A VLAN, or a range of VLANs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VlanRange {
    first: u16,
    last: u16,
}

impl VlanRange {
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

    fn meets(self, other: VlanRange) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for VlanRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            self.first.fmt(f)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl Value for VlanRange {
    fn shape() -> Shape {
        Shape::Setting { what: "a VLAN or a range of VLANs", example: "20-29" }
    }

    fn read(node: &Node, report: &mut Report) -> Option<VlanRange> {
        let ends = range::read(node, (&Self::shape(), "VLAN"), &(1..=4094), report);
        ends.map(|(first, last)| VlanRange { first, last })
    }

    fn write(&self, _: Secrets) -> Option<Tree> {
        Some(range::write(self.first, self.last))
    }
}

/// The VLAN of packets without a tag, of what a document says: one if it says nothing, and none if it says 0.
pub(super) fn native(pvid: Option<u16>) -> Option<u16> {
    Some(pvid.unwrap_or(DEFAULT_PVID)).filter(|pvid| *pvid > 0)
}

/// Says which VLANs are there twice, or with a tag and without.
pub(super) fn check(pvid: Option<u16>, vlans: &[VlanRange], node: &Node, report: &mut Report) {
    for (index, range) in vlans.iter().enumerate() {
        let mut find = |message: String, expected: &str| {
            report.find_item(node, ("vlans", index), message, expected);
        };
        if let Some(other) = vlans.iter().take(index).find(|other| other.meets(*range)) {
            find(format!("{range} and {other} have VLANs in common"), "each VLAN once");
        }
        if let Some(pvid) = native(pvid)
            && (range.first..=range.last).contains(&pvid)
        {
            let message = format!("VLAN {pvid} is that of packets without a tag");
            find(message, "other VLANs here, or another pvid (0 for none)");
        }
    }
}
