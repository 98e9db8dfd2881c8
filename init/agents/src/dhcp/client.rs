// SPDX-License-Identifier: Apache-2.0
//! The client's decisions, without input or output (RFC 2131, section 4.4). Times are since any fixed moment.
//!
//! ```text
//!             carrier                     offer                 ack
//!   Silent ─────────────► Selecting ───────────────► Requesting ───► Bound ◄──────────┐
//!     ▲  │                   ▲  ▲                        │ nak        │ T1           │ ack
//!     │  │ carrier, lease    │  └──────── Idle ◄─────────┤            ▼              │
//!     │  └──────► Rebooting ─┘ silence     ▲             │         Renewing ─────────┤
//!     │              │ nak                 │ conflict    │            │ T2           │
//!     │              └─────────────────────┴─────────────┴────────────┤              │
//!     └── no carrier, from everywhere            nak, end of the lease └─ Rebinding ─┘
//! ```
//!
//! Where we differ from the RFC, on purpose: the first DISCOVER goes out at once and is repeated after one second rather than
//! four, because machines should boot fast; and the address is used at once and probed meanwhile (RFC 5227), because a probe
//! costs seconds and finds something nearly never. A conflict takes the address back.

pub(crate) mod check;
pub(crate) mod timing;

use self::{
    check::{Check, Pace},
    timing::Random,
};
use super::{
    Mac,
    event::{Effect, Event, Report, Unicast},
    frame::Arp,
    message::{Answer, Question, Reply, Request, Terms},
};
use std::{net::Ipv4Addr, time::Duration};

/// After so many requests for an offer without an answer another is looked for.
const REQUESTS: u32 = 4;
/// After so many questions for the old address without an answer any is taken.
const REBOOTS: u32 = 2;
/// Nobody answers, that is said after so many questions.
const PATIENCE: u32 = 3;
/// The wait after a conflict (RFC 2131, section 3.1, step 5).
const AFTER_CONFLICT: Duration = Duration::from_secs(10);

/// Questions that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Exchange {
    xid: u32,
    /// Questions asked so far.
    asked: u32,
    /// When the last was.
    last: Duration,
    /// When the next is due.
    next: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Silent,
    Idle { until: Duration },
    Selecting(Exchange),
    Requesting { exchange: Exchange, address: Ipv4Addr, server: Ipv4Addr },
    Rebooting { exchange: Exchange, address: Ipv4Addr },
    Bound,
    Renewing(Exchange),
    Rebinding(Exchange),
}

/// A lease that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    terms: Terms,
    server: Ipv4Addr,
    via: Mac,
    renewal: Duration,
    rebinding: Duration,
    end: Duration,
}

/// What the client says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// By what the server knows it, where that is not its hardware address.
    pub id: Option<Vec<u8>>,
    /// What it is called, if it says so.
    pub hostname: Option<String>,
}

/// The client of one link.
#[derive(Debug)]
pub struct Client {
    mac: Mac,
    names: Names,
    random: Random,
    phase: Phase,
    held: Option<Held>,
    check: Option<Check>,
    /// When it began to look for what it looks for.
    begun: Duration,
    /// Refusals and conflicts since the last lease.
    failures: u32,
}

impl Client {
    /// A client that waits for a carrier. The seed should differ between machines.
    #[must_use]
    pub fn new(mac: Mac, names: Names, seed: u64) -> Self {
        Self {
            mac,
            names,
            random: Random::new(seed),
            phase: Phase::Silent,
            held: None,
            check: None,
            begun: Duration::ZERO,
            failures: 0,
        }
    }

    /// When [`Event::Time`] is due next.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let phase = match &self.phase {
            Phase::Silent => None,
            Phase::Idle { until } => Some(*until),
            Phase::Selecting(exchange)
            | Phase::Requesting { exchange, .. }
            | Phase::Rebooting { exchange, .. }
            | Phase::Renewing(exchange)
            | Phase::Rebinding(exchange) => Some(exchange.next),
            Phase::Bound => self.held.as_ref().map(|held| held.renewal),
        };
        let end = self.held.as_ref().map(|held| held.end);
        let check = self.check.as_ref().map(Check::due);
        [phase, end, check].into_iter().flatten().min()
    }

    /// Whether ARP packets are of interest now.
    #[must_use]
    pub fn listens_to_arp(&self) -> bool {
        self.check.is_some()
    }

    /// Decides.
    pub fn step(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::CarrierGained => self.gain(now, &mut effects),
            Event::CarrierLost => {
                self.phase = Phase::Silent;
                self.check = None;
                if self.held.is_none() {
                    effects
                        .push(waiting("No carrier: nothing is connected, or the other end is off"));
                }
            }
            Event::Reply { reply, from } => self.hear(*reply, from, now, &mut effects),
            Event::Arp(arp) => self.judge(&arp, now, &mut effects),
            Event::Time => self.pass(now, &mut effects),
        }
        effects
    }

    fn gain(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        match &self.held {
            // It may be another network: nothing is known until a server speaks.
            Some(held) => {
                let address = held.terms.address;
                self.begun = now;
                self.phase = Phase::Rebooting { exchange: self.exchange(now), address };
                self.ask(effects, now);
            }
            None => self.discover(now, effects),
        }
    }

    fn discover(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        self.begun = now;
        self.phase = Phase::Selecting(self.exchange(now));
        // After a failure its reason says more.
        if self.held.is_none() && self.failures == 0 {
            effects.push(waiting("Looking for a DHCP server"));
        }
        self.ask(effects, now);
    }

    fn exchange(&mut self, now: Duration) -> Exchange {
        Exchange { xid: self.random.word(), asked: 0, last: now, next: now }
    }

    /// Does what is due.
    fn pass(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if self.held.as_ref().is_some_and(|held| held.end <= now) {
            let silent = self.phase == Phase::Silent;
            self.lose("The lease has ended, and no server renewed it".to_owned(), effects);
            if !silent {
                self.discover(now, effects);
            }
            return;
        }
        self.continue_check(now, effects);
        match &self.phase {
            Phase::Idle { until } if *until <= now => self.discover(now, effects),
            Phase::Requesting { exchange, .. }
                if exchange.next <= now && exchange.asked >= REQUESTS =>
            {
                self.discover(now, effects);
            }
            Phase::Rebooting { exchange, .. }
                if exchange.next <= now && exchange.asked >= REBOOTS =>
            {
                self.discover(now, effects);
            }
            Phase::Selecting(exchange)
            | Phase::Requesting { exchange, .. }
            | Phase::Rebooting { exchange, .. }
            | Phase::Rebinding(exchange)
                if exchange.next <= now =>
            {
                self.ask(effects, now);
            }
            Phase::Bound if self.held.as_ref().is_some_and(|held| held.renewal <= now) => {
                self.begun = now;
                self.phase = Phase::Renewing(self.exchange(now));
                self.ask(effects, now);
            }
            Phase::Renewing(exchange) if exchange.next <= now => {
                if self.held.as_ref().is_some_and(|held| held.rebinding <= now) {
                    self.phase = Phase::Rebinding(self.exchange(now));
                }
                self.ask(effects, now);
            }
            Phase::Silent
            | Phase::Idle { .. }
            | Phase::Selecting(_)
            | Phase::Requesting { .. }
            | Phase::Rebooting { .. }
            | Phase::Bound
            | Phase::Renewing(_)
            | Phase::Rebinding(_) => {}
        }
    }

    /// Asks what the phase asks, and sets the time of the next question.
    fn ask(&mut self, effects: &mut Vec<Effect>, now: Duration) {
        let held = self.held.as_ref();
        let until = |limit: fn(&Held) -> Duration| held.map_or(now, limit);
        let (exchange, question, to, limit) = match &mut self.phase {
            Phase::Silent | Phase::Idle { .. } | Phase::Bound => return,
            Phase::Selecting(exchange) => (exchange, Question::Discover, None, None),
            Phase::Requesting { exchange, address, server } => {
                (exchange, Question::Request { address: *address, server: *server }, None, None)
            }
            Phase::Rebooting { exchange, address } => {
                (exchange, Question::Reboot { address: *address }, None, None)
            }
            Phase::Renewing(exchange) => {
                let Some(Held { terms, server, via, .. }) = held else { return };
                let to = Unicast { source: terms.address, server: *server, mac: *via };
                (
                    exchange,
                    Question::Renew { address: terms.address },
                    Some(to),
                    Some(until(|held| held.rebinding)),
                )
            }
            Phase::Rebinding(exchange) => {
                let Some(Held { terms, .. }) = held else { return };
                (
                    exchange,
                    Question::Renew { address: terms.address },
                    None,
                    Some(until(|held| held.end)),
                )
            }
        };
        exchange.asked = exchange.asked.saturating_add(1);
        exchange.last = now;
        exchange.next = match limit {
            Some(limit) => timing::renewal(now, limit),
            None => now.saturating_add(timing::backoff(exchange.asked, &mut self.random)),
        };
        let (xid, asked) = (exchange.xid, exchange.asked);
        let seconds = u16::try_from(now.saturating_sub(self.begun).as_secs()).unwrap_or(u16::MAX);
        let Names { id, hostname } = self.names.clone();
        let request = Request { question, xid, seconds, mac: self.mac, id, hostname };
        effects.push(Effect::Send { request, to });
        if asked == PATIENCE && self.held.is_none() && question == Question::Discover {
            effects.push(waiting("No DHCP server answers; still asking"));
        }
    }

    fn hear(&mut self, reply: Reply, from: Mac, now: Duration, effects: &mut Vec<Effect>) {
        let (exchange, server) = match &self.phase {
            Phase::Silent | Phase::Idle { .. } | Phase::Bound => return,
            Phase::Requesting { exchange, server, .. } => (exchange, Some(*server)),
            Phase::Selecting(exchange)
            | Phase::Rebooting { exchange, .. }
            | Phase::Renewing(exchange)
            | Phase::Rebinding(exchange) => (exchange, None),
        };
        if exchange.xid != reply.xid || server.is_some_and(|server| server != reply.server) {
            return;
        }
        let selecting = matches!(self.phase, Phase::Selecting(_));
        let (xid, asked_at) = (exchange.xid, exchange.last);
        match reply.answer {
            Answer::Offer(terms) if selecting => {
                let exchange = Exchange { xid, asked: 0, last: now, next: now };
                self.phase =
                    Phase::Requesting { exchange, address: terms.address, server: reply.server };
                self.ask(effects, now);
            }
            Answer::Ack { terms, rapid } if rapid || !selecting => {
                self.bind(terms, reply.server, from, asked_at, now, effects);
            }
            Answer::Nak { reason } if !selecting => {
                let reason = if reason.is_empty() { "no reason given".to_owned() } else { reason };
                let why = format!("The DHCP server {} refused the address: {reason}", reply.server);
                self.lose(why, effects);
                self.rest(timing::after_failure(self.failures), now, effects);
            }
            Answer::Offer(_) | Answer::Ack { .. } | Answer::Nak { .. } => {}
        }
    }

    fn bind(
        &mut self,
        terms: Terms,
        server: Ipv4Addr,
        via: Mac,
        asked_at: Duration,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let times = timing::times(&terms, asked_at, &mut self.random);
        let known = self.held.as_ref().is_some_and(|held| held.terms.address == terms.address);
        let renewed = known && matches!(self.phase, Phase::Renewing(_) | Phase::Rebinding(_));
        let address = terms.address;
        effects.push(Effect::Report(Report::Leased { terms: terms.clone(), server }));
        self.held = Some(Held {
            terms,
            server,
            via,
            renewal: times.renewal,
            rebinding: times.rebinding,
            end: times.end,
        });
        self.phase = Phase::Bound;
        self.failures = 0;
        if !renewed {
            self.check = Some(Check::new(address, Pace::PATIENT, now));
            self.continue_check(now, effects);
        }
    }

    fn continue_check(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let (Some(check), Some(held)) = (&mut self.check, &self.held) else { return };
        let target = held.terms.address;
        let word = check.pass(now, &mut self.random);
        effects.extend(word.map(|word| Effect::Arp { sender: word.sender(target), target }));
        if check.is_over() {
            self.check = None;
        }
    }

    fn judge(&mut self, arp: &Arp, now: Duration, effects: &mut Vec<Effect>) {
        let (Some(check), Some(held)) = (&self.check, &self.held) else { return };
        if arp.sender == self.mac || !check.finds(arp) {
            return;
        }
        let (address, server) = (held.terms.address, held.server);
        let request = Request {
            question: Question::Decline { address, server },
            xid: self.random.word(),
            seconds: 0,
            mac: self.mac,
            id: self.names.id.clone(),
            hostname: None,
        };
        effects.push(Effect::Send { request, to: None });
        self.lose(format!("The address {address} is used by {}", arp.sender), effects);
        self.rest(AFTER_CONFLICT.max(timing::after_failure(self.failures)), now, effects);
    }

    fn lose(&mut self, why: String, effects: &mut Vec<Effect>) {
        self.check = None;
        let had = self.held.take().is_some();
        effects.push(Effect::Report(if had { Report::Lost(why) } else { Report::Waiting(why) }));
    }

    /// Begins anew after a while.
    fn rest(&mut self, wait: Duration, now: Duration, effects: &mut Vec<Effect>) {
        self.failures = self.failures.saturating_add(1);
        self.phase = Phase::Idle { until: now.saturating_add(wait) };
        if wait.is_zero() {
            self.discover(now, effects);
        }
    }
}

fn waiting(what: &str) -> Effect {
    Effect::Report(Report::Waiting(what.to_owned()))
}

#[cfg(test)]
mod tests;
