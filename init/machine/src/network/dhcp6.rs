// SPDX-License-Identifier: Apache-2.0
//! Whether a DHCPv6 server is asked on a link: because the configuration says so, or because a router does (the flags Managed
//! and Other of RFC 4861, section 4.2).
//!
//! ```text
//!  no router has spoken ─ Other ─► all but an address ─ Managed ─► all that is wanted
//!          └──────────────────────── Managed ──────────────────────────▲
//! ```
//!
//! There is no way back but that the link goes, or heeds no routers any more. A router that takes its word back changes nothing, as
//! RFC 2462, section 5.5.3 had it, so whoever sends advertisements that say now this and now that starts two agents in all. A
//! router that is gone took nothing with it: what a server gave lasts for as long as that server says.

use super::lease6::is_elsewhere;
use std::net::IpAddr;
use stele_config::{Cidr, Dhcp6, Dhcp6Start};

/// What a router says of DHCPv6. What is more comes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Says {
    /// There are other things to know.
    Other,
    /// There are addresses, and other things to know.
    Managed,
}

impl Says {
    /// By the flags of an advertisement. Managed without Other is both: who gives addresses tells the rest as well.
    #[must_use]
    pub fn read(managed: bool, other: bool) -> Option<Says> {
        match (managed, other) {
            (true, _) => Some(Says::Managed),
            (false, true) => Some(Says::Other),
            (false, false) => None,
        }
    }
}

/// Why a server is asked, or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Why {
    /// The configuration says so.
    Configured,
    /// A router says so.
    Advertised(Says),
    /// A router says so, and the configuration has an address.
    Fixed,
    /// No router says so.
    #[default]
    Unadvertised,
    /// What routers say does not count.
    Unheeded,
    /// The configuration says that it is not.
    Never,
}

impl Why {
    /// In a sentence.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Why::Configured => "The configuration asks for it",
            Why::Advertised(Says::Managed) => "A router asks for it (Managed)",
            Why::Advertised(Says::Other) => "A router asks for it, but for no address (Other)",
            Why::Fixed => {
                "A router asks for it (Managed); no address is asked for, since one is fixed"
            }
            Why::Unadvertised => "No router asks for it",
            Why::Unheeded => "Routers are not heeded",
            Why::Never => "The configuration forbids it",
        }
    }

    /// Whether the machine has to have what a server gives: who is asked on the word of a stranger may not be there.
    pub(super) fn counts(self) -> bool {
        self == Why::Configured
    }
}

/// Decides, by the document and its fixed addresses, and what routers have ever said; none where they are not heeded.
pub(super) fn decide(
    document: Option<&Dhcp6>,
    fixed: &[Cidr],
    heard: Option<Option<Says>>,
) -> (Option<Dhcp6>, Why) {
    match document.map(Dhcp6::start) {
        Some(Dhcp6Start::Always) => return (document.cloned(), Why::Configured),
        Some(Dhcp6Start::Never) => return (None, Why::Never),
        Some(Dhcp6Start::Advertised) | None => {}
    }
    let Some(heard) = heard else { return (None, Why::Unheeded) };
    let Some(says) = heard else { return (None, Why::Unadvertised) };
    let has_one = |cidr: &Cidr| matches!(cidr.address(), IpAddr::V6(it) if is_elsewhere(&it));
    // Who wrote down an address and nothing of DHCPv6 counts on no other.
    let is_fixed = document.is_none() && fixed.iter().any(has_one);
    let mut dhcp6 = document.cloned().unwrap_or_default();
    dhcp6.address &= says == Says::Managed && !is_fixed;
    let why = if says == Says::Managed && is_fixed { Why::Fixed } else { Why::Advertised(says) };
    (Some(dhcp6), why)
}

#[cfg(test)]
mod tests {
    use super::{Says, Why, decide};
    use stele_config::Dhcp6;

    #[test]
    fn what_a_router_says_only_grows() {
        let says = [(false, false), (false, true), (true, false), (true, true)];
        let says = says.map(|(managed, other)| Says::read(managed, other));
        assert!(says.is_sorted(), "{says:?}");
        assert_eq!(says.first(), Some(&None));
    }

    #[test]
    fn a_router_starts_it_as_far_as_nothing_is_said_of_it() {
        let asks = |says, fixed: &[&str]| {
            let fixed: Vec<_> = fixed.iter().map(|text| text.parse().expect("one")).collect();
            let (asked, why) = decide(None, &fixed, Some(says));
            (asked.map(|asked| asked.address), why)
        };
        let managed = Some(Says::Managed);
        assert_eq!(asks(None, &[]), (None, Why::Unadvertised));
        assert_eq!(asks(Some(Says::Other), &[]), (Some(false), Why::Advertised(Says::Other)));
        assert_eq!(asks(managed, &[]), (Some(true), Why::Advertised(Says::Managed)));
        let near = ["192.0.2.1/24", "fe80::1/64"];
        assert_eq!(asks(managed, &near), (Some(true), Why::Advertised(Says::Managed)));
        assert_eq!(asks(managed, &["2001:db8::1/64"]), (Some(false), Why::Fixed));
        assert_eq!(decide(None, &[], None), (None, Why::Unheeded));
    }

    #[test]
    fn the_configuration_has_the_last_word() {
        let always = Dhcp6::default();
        assert_eq!(decide(Some(&always), &[], None).1, Why::Configured);
        assert_eq!(decide(Some(&always), &[], Some(None)), (Some(always), Why::Configured));
    }
}
