// SPDX-License-Identifier: Apache-2.0
//! Which VLANs the ports of a bridge are in, and the steps from those to the ones they should be in.
//!
//! A bridge of ours that looks at tags is ours with its ports: they are in the VLANs that its document says, and in no other.
//! The bridges of others are left alone, as are those of ours that don't look at tags.

use super::{Link, Observed, desired::Desired, plan::Action, virtual_link::Form};
use std::{collections::BTreeMap, fmt};
use stele_config::{Bridge, VlanRange};

/// How a link is in a VLAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    /// Its packets go out without a tag.
    pub untagged: bool,
    /// Packets that come in without a tag are in it.
    pub native: bool,
}

impl Membership {
    /// With a tag, both ways.
    const TAGGED: Membership = Membership { untagged: false, native: false };
    /// Without, both ways.
    const NATIVE: Membership = Membership { untagged: true, native: true };
}

/// VLANs that follow each other, and how a link is in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first one.
    pub first: u16,
    /// The last one.
    pub last: u16,
    /// How the link is in each.
    pub membership: Membership,
}

/// The VLANs that a link is in: a port of a bridge, or the bridge itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vlans(BTreeMap<u16, Membership>);

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            self.first.fmt(f)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl FromIterator<Range> for Vlans {
    fn from_iter<T: IntoIterator<Item = Range>>(ranges: T) -> Vlans {
        let each = |range: Range| (range.first..=range.last).map(move |id| (id, range.membership));
        Vlans(ranges.into_iter().flat_map(each).collect())
    }
}

impl Vlans {
    /// Those that a document says.
    fn of_document(native: Option<u16>, tagged: &[VlanRange]) -> Vlans {
        let tagged = tagged.iter().map(|range| Range {
            first: range.first(),
            last: range.last(),
            membership: Membership::TAGGED,
        });
        let native = native.map(|id| Range { first: id, last: id, membership: Membership::NATIVE });
        tagged.chain(native).collect()
    }

    /// The VLAN of packets that come in without a tag.
    #[must_use]
    pub fn native(&self) -> Option<u16> {
        self.0.iter().find(|(_, membership)| membership.native).map(|(id, _)| *id)
    }

    /// All others, in order.
    #[must_use]
    pub fn others(&self) -> Vec<Range> {
        let others = self.0.iter().filter(|(_, membership)| !membership.native);
        ranges(others.map(|(id, membership)| (*id, *membership)))
    }

    /// The steps from these to others.
    fn steps(&self, wanted: &Vlans, index: u32, bridge: bool) -> Vec<Action> {
        let new = wanted.0.iter().filter(|(id, membership)| self.0.get(id) != Some(membership));
        let new = ranges(new.map(|(id, membership)| (*id, *membership)));
        let old = self.0.keys().filter(|id| !wanted.0.contains_key(id));
        let old = ranges(old.map(|id| (*id, Membership::TAGGED)));
        new.into_iter()
            .map(|range| Action::AddVlans { index, bridge, range })
            .chain(old.into_iter().map(|range| Action::DelVlans { index, bridge, range }))
            .collect()
    }
}

/// The VLANs of a bridge and of its ports, by the names in its document; none where it does not look at tags.
pub(super) fn of_bridge(bridge: &Bridge) -> Vec<(&str, Vlans)> {
    if !bridge.vlan_filtering() {
        return Vec::new();
    }
    let own = (bridge.name().as_str(), Vlans::of_document(bridge.pvid(), bridge.vlans()));
    let ports = bridge
        .ports()
        .iter()
        .map(|port| (port.link().as_str(), Vlans::of_document(port.pvid(), port.vlans())));
    std::iter::once(own).chain(ports).collect()
}

/// Which VLANs links come into and go out of, each in the bridge that it should be in.
pub(super) fn plan(desired: &Desired, observed: &Observed) -> Vec<Action> {
    let steps = |link: &Link| {
        let desired = desired.links.get(&link.name)?;
        let (wanted, there) = (desired.vlans.as_ref()?, link.vlans.as_ref()?);
        let bridge = matches!(link.form, Some(Form::Bridge { .. }));
        let place = match &desired.master {
            Some(master) if !bridge => {
                observed.link(master).is_some_and(|master| link.master == Some(master.index))
            }
            Some(_) | None => bridge,
        };
        place.then(|| there.steps(wanted, link.index, bridge))
    };
    observed.links.iter().filter_map(steps).flatten().collect()
}

/// The same in ranges of VLANs that the link is in in one way.
fn ranges(vlans: impl Iterator<Item = (u16, Membership)>) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    for (id, membership) in vlans {
        match ranges.last_mut() {
            Some(range)
                if range.last.checked_add(1) == Some(id) && range.membership == membership =>
            {
                range.last = id;
            }
            Some(_) | None => ranges.push(Range { first: id, last: id, membership }),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u16, last: u16, membership: Membership) -> Range {
        Range { first, last, membership }
    }

    #[test]
    fn a_link_comes_into_new_vlans_before_it_leaves_old_ones() {
        let kernel: Vlans = [range(1, 1, Membership::NATIVE)].into_iter().collect();
        let wanted: Vlans = [range(20, 29, Membership::TAGGED), range(10, 10, Membership::NATIVE)]
            .into_iter()
            .collect();
        let words = |steps: Vec<Action>| steps.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            words(kernel.steps(&wanted, 3, false)),
            [
                "put link 3 into VLAN 10, without a tag",
                "put link 3 into VLAN 20-29",
                "take link 3 out of VLAN 1",
            ]
        );
        assert_eq!(wanted.steps(&wanted, 3, false), vec![]);
        assert_eq!(
            words(wanted.steps(&kernel, 3, true)).last().map(String::as_str),
            Some("take link 3 out of VLAN 20-29")
        );
        // What was without a tag gets one without being taken out.
        let tagged: Vlans = [range(1, 1, Membership::TAGGED)].into_iter().collect();
        assert_eq!(words(kernel.steps(&tagged, 3, false)), ["put link 3 into VLAN 1"]);
    }

    #[test]
    fn vlans_that_follow_each_other_are_one_range() {
        let odd = Membership { untagged: true, native: false };
        let vlans: Vlans = [
            range(4094, 4094, Membership::TAGGED),
            range(5, 9, Membership::TAGGED),
            range(10, 10, odd),
            range(3, 4, Membership::TAGGED),
            range(11, 11, Membership::NATIVE),
        ]
        .into_iter()
        .collect();
        let others: Vec<String> = vlans.others().iter().map(ToString::to_string).collect();
        assert_eq!(
            (vlans.native(), others),
            (Some(11), vec!["3-9".to_owned(), "10".to_owned(), "4094".to_owned()])
        );
    }
}
