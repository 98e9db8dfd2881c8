// SPDX-License-Identifier: Apache-2.0
//! What the client has, and until when.

use crate::dhcp6::{
    Duid,
    event::Lease,
    message::{Given, Terms},
};
use std::{net::Ipv6Addr, time::Duration};

/// When a client without addresses asks again, if the server does not say (RFC 8415, section 7.6).
const REFRESH: u32 = 86_400;
/// The least that a server may say for it.
const SHORTEST_REFRESH: u32 = 600;
/// Nothing is renewed sooner: less would have the client do nothing else.
const SOONEST: Duration = Duration::from_secs(5);

/// A lease that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    terms: Terms,
    /// What of it holds, and until when.
    given: Vec<(Given, Duration)>,
    pub(super) server: Duid,
    pub(super) renewal: Duration,
    pub(super) rebinding: Duration,
}

impl Held {
    /// What a server gave at `start`, with what holds of what was there before and the server says nothing of.
    pub(super) fn new(terms: Terms, server: Duid, start: Duration, before: Option<&Held>) -> Held {
        let of_before = before.map(|held| held.given.as_slice()).unwrap_or_default();
        let said = |old: &Given| terms.given.iter().any(|new| new.is(old));
        let old = of_before.iter().filter(|(old, _)| !said(old)).copied();
        let new = terms.given.iter().filter(|given| given.holds());
        let given: Vec<_> =
            new.map(|given| (*given, after(start, given.seconds))).chain(old).collect();
        let (renewal, rebinding) = times(&terms, &given, start);
        Held { terms, given, server, renewal, rebinding }
    }

    /// The addresses and prefixes.
    pub(super) fn given(&self) -> Vec<Given> {
        self.given.iter().map(|(given, _)| *given).collect()
    }

    /// When the next of it ends.
    pub(super) fn next_end(&self) -> Option<Duration> {
        self.given.iter().map(|(_, end)| *end).min()
    }

    /// When the last of it ends. What is only known has no end.
    pub(super) fn end(&self) -> Duration {
        self.given.iter().map(|(_, end)| *end).max().unwrap_or(Duration::MAX)
    }

    /// Drops what has ended. Says whether anything has.
    pub(super) fn prune(&mut self, now: Duration) -> bool {
        let before = self.given.len();
        self.given.retain(|(_, end)| *end > now);
        self.given.len() < before
    }

    /// Drops an address.
    pub(super) fn remove(&mut self, address: Ipv6Addr) -> Option<Given> {
        let at = self
            .given
            .iter()
            .position(|(given, _)| (given.address, given.prefix) == (address, 128))?;
        Some(self.given.remove(at).0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// As it is told.
    pub(super) fn lease(&self, now: Duration) -> Lease {
        let left = self.end().saturating_sub(now).as_secs();
        let seconds = if self.end() == Duration::MAX { u32::MAX } else { clamp(left) };
        Lease {
            given: self.given(),
            dns_servers: self.terms.dns_servers.clone(),
            domains: self.terms.domains.clone(),
            ntp_servers: self.terms.ntp_servers.clone(),
            server: self.server.clone(),
            seconds,
        }
    }
}

/// Of finite times the longest is one less than for ever.
fn clamp(seconds: u64) -> u32 {
    u32::try_from(seconds).unwrap_or(u32::MAX).min(u32::MAX.saturating_sub(1))
}

fn after(start: Duration, seconds: u32) -> Duration {
    match seconds {
        u32::MAX => Duration::MAX,
        seconds => start.saturating_add(Duration::from_secs(seconds.into())),
    }
}

/// When it is renewed, and when by any server. The server's wishes are followed where they make sense; otherwise it is after
/// half and four fifths of the shortest preferred lifetime (section 14.2).
fn times(terms: &Terms, given: &[(Given, Duration)], start: Duration) -> (Duration, Duration) {
    let Some(end) = given.iter().map(|(_, end)| *end).min() else {
        let refresh = terms.refresh.unwrap_or(REFRESH).max(SHORTEST_REFRESH);
        return (after(start, refresh), Duration::MAX);
    };
    let preferred = given.iter().map(|(given, _)| given.preferred).filter(|time| *time > 0).min();
    let basis = preferred.map_or(end, |seconds| after(start, seconds).min(end));
    let part = |tenths: u32| match basis {
        Duration::MAX => Duration::MAX,
        basis => {
            let whole = basis.saturating_sub(start);
            let tenth = whole.checked_div(10).unwrap_or_default();
            start.saturating_add(tenth.saturating_mul(tenths))
        }
    };
    let wish = |seconds: Option<u32>| seconds.map(|seconds| after(start, seconds));
    let rebinding = wish(terms.rebinding).filter(|wish| *wish < end).unwrap_or_else(|| part(8));
    let renewal =
        wish(terms.renewal).filter(|wish| *wish < end).unwrap_or_else(|| part(5)).min(rebinding);
    (renewal.max(start.saturating_add(SOONEST)), rebinding)
}
