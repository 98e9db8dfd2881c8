// SPDX-License-Identifier: Apache-2.0
//! Whether the fixed IPv4 addresses of a link are ours: address conflict detection (RFC 5227). Of an IPv6 address the kernel
//! finds out by itself; for IPv4 an agent asks, and what it says is kept here.
//!
//! ```text
//!          nobody has it          another claims it too
//!  Asking ───────────────► Ours ◄───────────────────────► Ours, with a rival: kept, and told
//!   │  ▲ ╲ ╲               ▲ ▲     it is silent again
//!   │  │  ╲ ╲ nobody says  │ │ nobody has it any more
//!   │  │   ╲ ╲ anything ───┘ │
//!   │  │    ╲ another has it │
//!   │  │     └──────────► Taken
//!   ▼  │ a carrier comes
//!  Unplugged: it got none in time
//! ```
//!
//! * An address that is asked about, or is another machine's, is not on the link: nobody is to be cut off by us.
//! * One that is on the link already is ours, and is not asked about when a configuration changes something else. Once the
//!   carrier was away it is asked about while it is used: the cable may lead elsewhere now.
//! * Whoever asks may be broken, and a link may get no carrier for days: an address is withheld for no longer than
//!   [`PATIENCE`] without a word. One that was used because nobody said anything stays, whatever is said later.
//! * A configuration answers for the addresses that it brings, not for those that the one before had as well.

use super::{
    Link,
    desired::{DesiredLink, DesiredRoute},
    lease::Dhcp,
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};
use stele_config::{Cidr, Mac};

/// How long an address waits for a word of it: ten times what asking takes, and as long as most links need for a carrier.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Whose an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Nobody has said anything yet.
    Asking,
    /// The link got no carrier in time. It is used.
    Unplugged,
    /// Another machine has it.
    Taken { by: Mac },
    /// It is ours.
    Ours {
        /// Whether that is known of the network that the link is in now.
        checked: bool,
        /// Who claims it nevertheless.
        rival: Option<Mac>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    verdict: Verdict,
    since: Duration,
    /// Whether the link had a carrier when it was last looked at.
    carrier: bool,
    /// Whether the configuration before had it as well.
    old: bool,
}

/// What is known of the fixed IPv4 addresses of a link. Times are since boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// The link.
    index: u32,
    claims: BTreeMap<Ipv4Addr, Claim>,
}

/// Why an address is not to be on a link, and whether the configuration before had it as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Withheld {
    /// The hardware address of the machine that has it; none while that is not known.
    pub by: Option<Mac>,
    /// Whether the configuration before had it as well.
    pub old: bool,
}

/// What the agent is to do about an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Find out whether another machine has it, again and again until none has, and announce it then.
    Ask,
    /// Do that while it is used.
    Check,
    /// Listen, and defend it.
    Hold,
    /// The same; another machine has claimed it lately.
    Contest,
}

impl Claims {
    /// Brings the claims in step with the addresses that a link should have; `there` are those that it has. Returns those
    /// that are used from now on although somebody could have been asked, and has not answered.
    pub fn settle(
        &mut self,
        link: &Link,
        fixed: &[Ipv4Addr],
        there: impl Fn(Ipv4Addr) -> bool,
        now: Duration,
    ) -> Vec<Ipv4Addr> {
        if self.index != link.index || !link.arp {
            *self = Claims { index: link.index, ..Claims::default() };
        }
        self.claims.retain(|address, _| fixed.contains(address));
        for address in fixed.iter().filter(|_| link.arp) {
            self.claims.entry(*address).or_insert_with(|| {
                let verdict = if link.carrier && there(*address) {
                    Verdict::Ours { checked: true, rival: None }
                } else {
                    Verdict::Asking
                };
                Claim { verdict, since: now, carrier: link.carrier, old: false }
            });
        }
        let mut unasked = Vec::new();
        for (address, claim) in &mut self.claims {
            let asked = claim.verdict == Verdict::Asking;
            claim.pass(link.carrier, now);
            if asked && matches!(claim.verdict, Verdict::Ours { .. }) {
                unasked.push(*address);
            }
        }
        unasked
    }

    /// Takes the agent's word: who else has an address, if anybody. Returns whether that is news.
    pub fn hear(&mut self, address: Ipv4Addr, by: Option<Mac>, now: Duration) -> bool {
        let Some(claim) = self.claims.get_mut(&address).filter(|claim| claim.carrier) else {
            return false;
        };
        let verdict = match (by, claim.verdict) {
            (None, _) => Verdict::Ours { checked: true, rival: None },
            (Some(by), Verdict::Asking | Verdict::Unplugged | Verdict::Taken { .. }) => {
                Verdict::Taken { by }
            }
            (Some(by), Verdict::Ours { checked, .. }) => Verdict::Ours { checked, rival: Some(by) },
        };
        claim.turn(verdict, now)
    }

    /// A configuration has come: it does not answer for what was asked for before.
    pub fn forgive(&mut self) {
        self.claims.values_mut().for_each(|claim| claim.old = true);
    }

    /// Those of these addresses that are not to be on the link.
    #[must_use]
    pub fn withheld(&self, addresses: &[Cidr]) -> Vec<(Cidr, Withheld)> {
        let withheld = |cidr: &Cidr| {
            let IpAddr::V4(address) = cidr.address() else { return None };
            let Claim { verdict, old, .. } = *self.claims.get(&address)?;
            let by = match verdict {
                Verdict::Asking => None,
                Verdict::Taken { by } => Some(by),
                Verdict::Unplugged | Verdict::Ours { .. } => return None,
            };
            Some((*cidr, Withheld { by, old }))
        };
        addresses.iter().filter_map(withheld).collect()
    }

    /// Those that are ours, and that another machine claims.
    pub fn rivals(&self) -> impl Iterator<Item = (Ipv4Addr, Mac)> {
        self.claims.iter().filter_map(|(address, claim)| match claim.verdict {
            Verdict::Ours { rival, .. } => Some((*address, rival?)),
            Verdict::Asking | Verdict::Unplugged | Verdict::Taken { .. } => None,
        })
    }

    /// What the agent is to do: nothing about a link without a carrier.
    pub fn task(&self) -> impl Iterator<Item = (Ipv4Addr, Mode)> {
        self.claims.iter().filter(|(_, claim)| claim.carrier).map(|(address, claim)| {
            let mode = match claim.verdict {
                Verdict::Asking | Verdict::Unplugged | Verdict::Taken { .. } => Mode::Ask,
                Verdict::Ours { checked: false, .. } => Mode::Check,
                Verdict::Ours { rival: None, .. } => Mode::Hold,
                Verdict::Ours { rival: Some(_), .. } => Mode::Contest,
            };
            (*address, mode)
        })
    }

    /// Until when nothing happens by itself.
    #[must_use]
    pub fn until(&self) -> Option<Duration> {
        let asking = self.claims.values().filter(|claim| claim.verdict == Verdict::Asking);
        asking.map(|claim| claim.since.saturating_add(PATIENCE)).min()
    }
}

impl Claim {
    /// Time passes, and a carrier comes or goes.
    fn pass(&mut self, carrier: bool, now: Duration) {
        let before = std::mem::replace(&mut self.carrier, carrier);
        let (gained, lost) = (carrier && !before, before && !carrier);
        let late = self.since.saturating_add(PATIENCE) <= now;
        let verdict = match self.verdict {
            Verdict::Asking | Verdict::Unplugged if gained => {
                // The time begins anew.
                self.since = now;
                Verdict::Asking
            }
            Verdict::Asking if late && carrier => Verdict::Ours { checked: false, rival: None },
            Verdict::Asking if late => Verdict::Unplugged,
            Verdict::Ours { .. } if lost => Verdict::Ours { checked: false, rival: None },
            verdict => verdict,
        };
        self.turn(verdict, now);
    }

    /// Says whether anything has changed.
    fn turn(&mut self, verdict: Verdict, now: Duration) -> bool {
        let changed = self.verdict != verdict;
        if changed {
            (self.verdict, self.since) = (verdict, now);
        }
        changed
    }
}

impl DesiredLink {
    /// Leaves out what is not known to be its own, and the routes that it has not without that.
    pub(super) fn withhold(&mut self, dhcp: &Dhcp) {
        self.withheld = dhcp.acd.withheld(&self.addresses);
        let mut routes = std::mem::take(&mut self.routes);
        routes.retain(|route| !self.lacks_the_way(route));
        self.routes = routes;
    }

    /// Whether an address is not to be on the link now.
    pub(super) fn withholds(&self, cidr: &Cidr) -> bool {
        self.withheld.iter().any(|(withheld, _)| withheld == cidr)
    }

    /// Whether an address that the configuration brings is not to be on it, or not yet. Meanwhile the link keeps what it had: the
    /// change may have come by that, and may have to be taken back.
    pub(super) fn is_undecided(&self) -> bool {
        self.withheld.iter().any(|(_, why)| why.by.is_none() || !why.old)
    }

    /// Whether a route leads by an address that the link has not now: nobody would answer who is asked from another one.
    fn lacks_the_way(&self, route: &DesiredRoute) -> bool {
        if self.withheld.is_empty() || !route.to.address().is_ipv4() {
            return false;
        }
        let mut has = self.addresses.iter().filter(|cidr| !self.withholds(cidr));
        let mut lacks = self.withheld.iter();
        match route.via {
            Some(via) if lacks.any(|(cidr, _)| cidr.contains(via)) => {
                !has.any(|cidr| cidr.contains(via))
            }
            Some(_) | None => !has.any(|cidr| cidr.address().is_ipv4()),
        }
    }
}

#[cfg(test)]
mod tests;
