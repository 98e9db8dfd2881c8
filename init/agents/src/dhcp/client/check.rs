// SPDX-License-Identifier: Apache-2.0
//! Looking for another machine with our address, and announcing that it is ours (RFC 5227, section 2.1 and 2.3).

use super::timing::Random;
use crate::dhcp::{Mac, event::Effect, frame::Arp};
use std::{net::Ipv4Addr, time::Duration};

const PROBES: u32 = 3;
const ANNOUNCEMENTS: u32 = 2;
/// Between probes, at least; as much again at most.
const BETWEEN_PROBES: Duration = Duration::from_secs(1);
/// After the last probe, and between announcements.
const BETWEEN_ANNOUNCEMENTS: Duration = Duration::from_secs(2);

/// A check under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    address: Ipv4Addr,
    sent: u32,
    due: Duration,
}

impl Check {
    pub(super) fn new(address: Ipv4Addr, now: Duration) -> Self {
        Self { address, sent: 0, due: now }
    }

    pub(super) fn due(&self) -> Duration {
        self.due
    }

    pub(super) fn is_over(&self) -> bool {
        self.sent >= PROBES.saturating_add(ANNOUNCEMENTS)
    }

    /// Sends what is due.
    pub(super) fn pass(&mut self, now: Duration, random: &mut Random) -> Option<Effect> {
        if self.due > now || self.is_over() {
            return None;
        }
        let probe = self.sent < PROBES;
        self.sent = self.sent.saturating_add(1);
        let wait = if self.sent < PROBES {
            BETWEEN_PROBES.saturating_add(random.up_to(BETWEEN_PROBES))
        } else {
            BETWEEN_ANNOUNCEMENTS
        };
        self.due = now.saturating_add(wait);
        let sender = if probe { Ipv4Addr::UNSPECIFIED } else { self.address };
        Some(Effect::Arp { sender, target: self.address })
    }

    /// Whether an ARP packet says that another machine has the address, or is about to take it.
    pub(super) fn finds(&self, arp: &Arp, mac: Mac) -> bool {
        let has = arp.sender_address == self.address;
        let probes = arp.request
            && arp.sender_address.is_unspecified()
            && arp.target_address == self.address;
        arp.sender != mac && (has || probes)
    }
}
