// SPDX-License-Identifier: Apache-2.0
//! Looking for another machine with our address, and announcing that it is ours (RFC 5227, section 2.1 and 2.3).

use super::timing::Random;
use crate::dhcp::frame::Arp;
use std::{net::Ipv4Addr, time::Duration};

const PROBES: u32 = 3;
const ANNOUNCEMENTS: u32 = 2;
const BETWEEN_ANNOUNCEMENTS: Duration = Duration::from_secs(2);

/// How fast probes follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Between two, at least.
    pub(crate) between: Duration,
    /// What is added to that, at most.
    pub(crate) spread: Duration,
    /// After the last.
    pub(crate) after: Duration,
}

impl Pace {
    /// That of the RFC, for an address that is used meanwhile.
    pub(crate) const PATIENT: Pace = Pace {
        between: Duration::from_secs(1),
        spread: Duration::from_secs(1),
        after: Duration::from_secs(2),
    };
}

/// A check under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    address: Ipv4Addr,
    pace: Pace,
    sent: u32,
    due: Duration,
}

/// What is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    Probe,
    Announcement,
}

impl Check {
    pub(crate) fn new(address: Ipv4Addr, pace: Pace, now: Duration) -> Self {
        Self { address, pace, sent: 0, due: now }
    }

    pub(crate) fn due(&self) -> Duration {
        self.due
    }

    pub(crate) fn is_over(&self) -> bool {
        self.sent >= PROBES.saturating_add(ANNOUNCEMENTS)
    }

    /// Says what is due.
    pub(crate) fn pass(&mut self, now: Duration, random: &mut Random) -> Option<Word> {
        if self.due > now || self.is_over() {
            return None;
        }
        let probe = self.sent < PROBES;
        self.sent = self.sent.saturating_add(1);
        let wait = match self.sent {
            sent if sent < PROBES => {
                self.pace.between.saturating_add(random.up_to(self.pace.spread))
            }
            PROBES => self.pace.after,
            _ => BETWEEN_ANNOUNCEMENTS,
        };
        self.due = now.saturating_add(wait);
        Some(if probe { Word::Probe } else { Word::Announcement })
    }

    /// Whether an ARP packet says that its sender has the address, or is about to take it.
    pub(crate) fn finds(&self, arp: &Arp) -> bool {
        let probes = arp.request
            && arp.sender_address.is_unspecified()
            && arp.target_address == self.address;
        probes || arp.sender_address == self.address
    }
}

impl Word {
    /// The sender's address of the ARP request that says it.
    pub(crate) fn sender(self, address: Ipv4Addr) -> Ipv4Addr {
        match self {
            Word::Probe => Ipv4Addr::UNSPECIFIED,
            Word::Announcement => address,
        }
    }
}
