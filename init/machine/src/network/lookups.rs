// SPDX-License-Identifier: Apache-2.0
//! The names of the other ends of tunnels: their addresses, and when each is looked up.
//!
//! One is looked up after the other: each until it is known, later and later while that fails; and again when nothing is heard from
//! its address, once a minute: then the next of its addresses is taken. What was known stays known meanwhile.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};
use stele_config::Domain;

/// How long after an answer the same name is looked up again at the earliest, and how long after a failure at the latest.
const MINUTE: Duration = Duration::from_secs(60);
/// How long after the first failure.
const FIRST: Duration = Duration::from_secs(2);

/// All names.
#[derive(Debug, Default)]
pub struct Lookups {
    names: BTreeMap<Domain, Lookup>,
    under_way: Option<Domain>,
}

/// What is known of a name.
#[derive(Debug, Default)]
struct Lookup {
    addresses: Vec<IpAddr>,
    /// How many answers there were.
    answers: u64,
    /// Whether it should be looked up again although it is known.
    stale: bool,
    /// When it may be looked up.
    next: Duration,
    failures: u32,
    reason: String,
}

impl Lookups {
    /// Takes the names that there are now, each with whether its address seems to be wrong. Others are forgotten.
    pub fn want(&mut self, names: &BTreeMap<Domain, bool>) {
        self.names.retain(|name, _| names.contains_key(name));
        for (name, stale) in names {
            self.names.entry(name.clone()).or_default().stale = *stale;
        }
    }

    /// The name to be looked up now: one after the other.
    pub fn begin(&mut self, now: Duration) -> Option<Domain> {
        if self.under_way.is_some() {
            return None;
        }
        let due = |lookup: &Lookup| lookup.is_wanted() && lookup.next <= now;
        let (name, _) = self.names.iter().find(|(_, lookup)| due(lookup))?;
        self.under_way = Some(name.clone());
        self.under_way.clone()
    }

    /// Takes what came of it.
    pub fn end(&mut self, found: Result<Vec<IpAddr>, String>, now: Duration) {
        let Some(name) = self.under_way.take() else { return };
        let Some(lookup) = self.names.get_mut(&name) else { return };
        let wait = match found {
            Ok(addresses) => {
                (lookup.addresses, lookup.failures, lookup.reason) = (addresses, 0, String::new());
                lookup.answers = lookup.answers.saturating_add(1);
                MINUTE
            }
            Err(reason) => {
                let wait =
                    FIRST.saturating_mul(1_u32.checked_shl(lookup.failures).unwrap_or(u32::MAX));
                lookup.failures = lookup.failures.saturating_add(1);
                lookup.reason = reason;
                wait.min(MINUTE)
            }
        };
        lookup.next = now.saturating_add(wait);
    }

    /// How many answers there were for a name.
    #[must_use]
    pub fn answers(&self, name: &Domain) -> u64 {
        self.names.get(name).map_or(0, |lookup| lookup.answers)
    }

    /// The address of a name: the one that it had, while it is still one of several, or the one after that in turn.
    #[must_use]
    pub fn address(&self, name: &Domain, before: Option<IpAddr>, next: bool) -> Option<IpAddr> {
        let addresses = &self.names.get(name)?.addresses;
        let Some(before) = before.filter(|before| addresses.contains(before)) else {
            return addresses.first().copied();
        };
        let mut after = addresses.iter().skip_while(|it| **it != before).chain(addresses);
        // After the last one comes the first; an only one stays.
        let after = after.find(|it| **it != before).filter(|_| next);
        Some(after.copied().unwrap_or(before))
    }

    /// Why a name has no address, or none that is new.
    #[must_use]
    pub fn reason(&self, name: &Domain) -> Option<&str> {
        self.names
            .get(name)
            .map(|lookup| lookup.reason.as_str())
            .filter(|reason| !reason.is_empty())
    }

    /// When there is something to be looked up.
    #[must_use]
    pub fn again(&self) -> Option<Duration> {
        let wanted = self.names.values().filter(|lookup| lookup.is_wanted());
        wanted.map(|lookup| lookup.next).min().filter(|_| self.under_way.is_none())
    }
}

impl Lookup {
    fn is_wanted(&self) -> bool {
        self.addresses.is_empty() || self.stale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Domain {
        text.parse().expect("a name")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_addresses_of_a_name_are_taken_in_turn() {
        let mut lookups = Lookups::default();
        let vpn = name("vpn.example.com");
        let mut answer = |addresses: &[&str], now: u32| {
            lookups.want(&BTreeMap::from([(vpn.clone(), true)]));
            assert_eq!(lookups.begin(MINUTE * now), Some(vpn.clone()));
            let addresses = addresses.iter().map(|text| ip(text)).collect();
            lookups.end(Ok(addresses), MINUTE * now);
            let next = ["2001:db8::1", "192.0.2.1", "192.0.2.2", "192.0.2.9"]
                .map(|before| lookups.address(&vpn, Some(ip(before)), true));
            (lookups.answers(&vpn), next.map(|next| next.expect("an address").to_string()))
        };
        let several = ["2001:db8::1", "192.0.2.1", "192.0.2.2"];
        let turned = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::1"];
        assert_eq!(answer(&several, 1), (1, turned.map(str::to_owned)));
        // One that is said twice is passed by all the same.
        let twice = ["192.0.2.1", "192.0.2.1", "192.0.2.2"];
        let turned = ["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.1"];
        assert_eq!(answer(&twice, 2), (2, turned.map(str::to_owned)));
        assert_eq!(answer(&["192.0.2.1"], 3), (3, ["192.0.2.1"; 4].map(str::to_owned)));
        // A failure is no answer.
        lookups.begin(MINUTE * 4);
        lookups.end(Err("nobody answers".to_owned()), MINUTE * 4);
        assert_eq!((lookups.answers(&vpn), lookups.answers(&name("other.example.com"))), (3, 0));
    }

    #[test]
    fn names_are_looked_up_until_they_are_known_and_again_when_nothing_is_heard() {
        let second = Duration::from_secs;
        let mut lookups = Lookups::default();
        let vpn = name("vpn.example.com");
        let mut wanted = BTreeMap::from([(vpn.clone(), true), (name("other.example.com"), false)]);
        lookups.want(&wanted);
        assert_eq!(lookups.again(), Some(Duration::ZERO));
        assert_eq!(lookups.begin(second(5)), Some(name("other.example.com")));
        // One after the other.
        assert_eq!((lookups.begin(second(5)), lookups.again()), (None, None));
        lookups.end(Ok(vec![ip("192.0.2.9")]), second(5));
        assert_eq!(lookups.begin(second(5)), Some(vpn.clone()));
        lookups.end(Err("nobody answers".to_owned()), second(6));
        assert_eq!(
            (lookups.address(&vpn, None, false), lookups.reason(&vpn)),
            (None, Some("nobody answers"))
        );
        // Later and later, and a minute at most.
        for wait in [2, 4, 8, 16, 32, 60, 60] {
            let again = lookups.again().expect("a time");
            assert_eq!(lookups.begin(again - Duration::from_millis(1)), None);
            assert_eq!(lookups.begin(again), Some(vpn.clone()), "{wait}");
            lookups.end(Err("nobody answers".to_owned()), again);
            assert!(lookups.again() >= Some(again + second(wait.min(60))));
        }
        let again = lookups.again().expect("a time");
        lookups.begin(again);
        lookups.end(Ok(vec![ip("192.0.2.1"), ip("2001:db8::1")]), again);
        assert_eq!(
            (lookups.address(&vpn, None, false), lookups.reason(&vpn)),
            (Some(ip("192.0.2.1")), None)
        );
        assert_eq!(lookups.address(&vpn, Some(ip("2001:db8::1")), false), Some(ip("2001:db8::1")));
        // It is heard from.
        wanted.insert(vpn.clone(), false);
        lookups.want(&wanted);
        assert_eq!(lookups.again(), None);
        wanted.insert(vpn.clone(), true);
        lookups.want(&wanted);
        assert_eq!(lookups.again(), Some(again + MINUTE));
        // It is known still, while it is looked up again.
        assert_eq!(lookups.begin(again + MINUTE), Some(vpn.clone()));
        lookups.end(Err("nobody answers".to_owned()), again + MINUTE);
        assert_eq!(lookups.address(&vpn, None, false), Some(ip("192.0.2.1")));
        // What comes for a name that nobody wants any more is nothing.
        lookups.begin(again + MINUTE * 2);
        lookups.want(&BTreeMap::new());
        lookups.end(Ok(vec![ip("192.0.2.1")]), again + MINUTE * 2);
        assert_eq!((lookups.address(&vpn, None, false), lookups.again()), (None, None));
    }
}
