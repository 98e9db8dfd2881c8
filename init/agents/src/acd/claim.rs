// SPDX-License-Identifier: Apache-2.0
//! The decisions about one address, without input or output (RFC 5227). Times are since any fixed moment.
//!
//! ```text
//!         nobody speaks up                         another claims it: told, defended, asked until it is silent
//!  Ask ─► probes ─────────► told, announcements ─► held ◄──────────────────────────────────────────────► contested
//!           │  ▲              ▲
//!           │  └── later ──┐  └── Check: held from the beginning
//!           └─ another ► waiting: told
//! ```
//!
//! Where we differ from the RFC, on purpose: three probes take half a second rather than five, because a machine on the same
//! link answers within milliseconds or not at all (NetworkManager takes 200 ms), and there is no wait at random before the
//! first, because machines that start together have not started to the millisecond. An address is never given up once it is
//! held: whoever is connected by it would lose the machine, and the other one is told of it each time (section 2.4, c).

use crate::dhcp::{
    Mac,
    client::{
        check::{Check, Pace, Word},
        timing::{self, Random},
    },
    frame::Arp,
};
use std::{net::Ipv4Addr, time::Duration};
use stele_proto::internal::acd_address::Mode;

/// Altogether 400 to 600 ms.
const PACE: Pace = Pace {
    between: Duration::from_millis(100),
    spread: Duration::from_millis(100),
    after: Duration::from_millis(200),
};
/// `DEFEND_INTERVAL`: how often a held address is announced because another machine claims it, at most.
const DEFEND: Duration = Duration::from_secs(10);
/// How often such a machine is asked whether it still has it.
const ASK_RIVAL: Duration = Duration::from_secs(15);
/// After so long without a word it has it no more.
const CALM: Duration = Duration::from_secs(60);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Send an ARP request about the address.
    Send {
        /// The sender's address in it; unspecified in a probe.
        sender: Ipv4Addr,
    },
    /// Tell PID 1 who else has it, if anybody.
    Tell(Option<Mac>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Checking(Check),
    /// Another machine has it.
    Waiting {
        until: Duration,
    },
    Quiet,
}

/// Another machine that claims what is held.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rival {
    /// Which one was told of.
    by: Option<Mac>,
    heard: Duration,
    /// When it is asked next.
    ask: Duration,
}

/// An address.
#[derive(Debug)]
pub struct Claim {
    address: Ipv4Addr,
    held: bool,
    phase: Phase,
    rival: Option<Rival>,
    /// When it was last defended.
    defended: Option<Duration>,
    /// How often in a row another machine had it.
    failures: u32,
}

impl Claim {
    /// An address of which nothing has been heard, and how it begins.
    #[must_use]
    pub fn new(address: Ipv4Addr, mode: Mode, now: Duration) -> Claim {
        let phase = match mode {
            Mode::Ask | Mode::Check => Phase::Checking(Check::new(address, PACE, now)),
            Mode::Hold | Mode::Contest => Phase::Quiet,
        };
        let rival = (mode == Mode::Contest).then_some(Rival { by: None, heard: now, ask: now });
        Claim { address, held: mode != Mode::Ask, phase, rival, defended: None, failures: 0 }
    }

    /// When [`Claim::pass`] is due next.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        let phase = match &self.phase {
            Phase::Checking(check) => Some(check.due()),
            Phase::Waiting { until } => Some(*until),
            Phase::Quiet => None,
        };
        let rival = self.rival.as_ref().map(Rival::due);
        [phase, rival].into_iter().flatten().min()
    }

    /// Another machine says something about an address.
    pub(super) fn hear(&mut self, arp: &Arp, now: Duration, random: &mut Random) -> Vec<Effect> {
        if self.held {
            // Who only asks for it hears from the kernel.
            let claims = arp.sender_address == self.address;
            return if claims { self.contest(arp.sender, now) } else { Vec::new() };
        }
        match &self.phase {
            Phase::Checking(check) if check.finds(arp) => {
                self.failures = self.failures.saturating_add(1);
                let wait = timing::backoff(self.failures, random);
                self.phase = Phase::Waiting { until: now.saturating_add(wait) };
                vec![Effect::Tell(Some(arp.sender))]
            }
            Phase::Checking(_) | Phase::Waiting { .. } | Phase::Quiet => Vec::new(),
        }
    }

    /// Time has passed.
    pub(super) fn pass(&mut self, now: Duration, random: &mut Random) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Phase::Waiting { until } = self.phase
            && until <= now
        {
            self.phase = Phase::Checking(Check::new(self.address, PACE, now));
        }
        if let Phase::Checking(check) = &mut self.phase
            && let Some(word) = check.pass(now, random)
        {
            let over = check.is_over();
            if word == Word::Announcement && self.rival.is_some() {
                // It is announced as it is defended.
                self.phase = Phase::Quiet;
                return effects;
            }
            if word == Word::Announcement && !over {
                (self.held, self.failures) = (true, 0);
                effects.push(Effect::Tell(None));
            }
            effects.push(Effect::Send { sender: word.sender(self.address) });
            if over {
                self.phase = Phase::Quiet;
            }
        }
        if let Some(rival) = &mut self.rival {
            if rival.heard.saturating_add(CALM) <= now {
                self.rival = None;
                effects.push(Effect::Tell(None));
            } else if rival.ask <= now {
                rival.ask = now.saturating_add(ASK_RIVAL);
                effects.push(Effect::Send { sender: Word::Probe.sender(self.address) });
            }
        }
        effects
    }

    /// Another machine claims what is ours. However often it does, little is said.
    fn contest(&mut self, by: Mac, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        let defends = self.defended.is_none_or(|last| last.saturating_add(DEFEND) <= now);
        if defends {
            self.defended = Some(now);
            effects.push(Effect::Send { sender: Word::Announcement.sender(self.address) });
        }
        let ask = now.saturating_add(ASK_RIVAL);
        let new = self.rival.is_none();
        let rival = self.rival.get_or_insert(Rival { by: None, heard: now, ask });
        rival.heard = now;
        if new || (defends && rival.by != Some(by)) {
            rival.by = Some(by);
            effects.push(Effect::Tell(Some(by)));
        }
        effects
    }
}

impl Rival {
    fn due(&self) -> Duration {
        self.ask.min(self.heard.saturating_add(CALM))
    }
}

#[cfg(test)]
mod tests;
