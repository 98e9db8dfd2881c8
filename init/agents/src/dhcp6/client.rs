// SPDX-License-Identifier: Apache-2.0
//! The client's decisions, without input or output (RFC 8415, section 18.2). Times are since any fixed moment.
//!
//! ```text
//!             link                     advertisement                reply
//!   Silent ─────────────► Soliciting ────────────────► Requesting ────────► Bound ◄───────────┐
//!     ▲  │                   ▲  ▲                          │ refusal          │ T1           │ reply
//!     │  │ link, lease       │  └────────── Idle ◄─────────┤                  ▼              │
//!     │  └──────► Returning ─┘ silence       ▲             │               Renewing ─────────┤
//!     │               │ refusal              │ duplicate   │                  │ T2           │
//!     │               └──────────────────────┴─────────────┴──────────────────┤              │
//!     └── no link, from everywhere                    refusal, end of it all  └─ Rebinding ──┘
//! ```
//!
//! A client that wants neither an address nor a prefix is `Informing`, then `Bound` to what it was told.
//!
//! Where we differ from the RFC, on purpose: the first question goes out at once, and the first advertisement that gives
//! anything is taken, because machines should boot fast; a client whose link comes back rebinds in every case, since that says
//! more than a confirmation; and nobody is asked less often than about once a minute.

mod held;

use self::held::Held;
use super::{
    Duid,
    event::{Effect, Event, Report},
    message::{Given, Question, Reply, Request, Terms, Wants},
};
use crate::dhcp::client::timing::{self, Random};
use std::{net::Ipv6Addr, time::Duration};

/// After so many requests for what was offered without an answer another offer is looked for.
const REQUESTS: u32 = 4;
/// After so many questions for what was there without an answer anything is taken.
const RETURNS: u32 = 3;
/// Nobody answers, that is said after so many questions.
const PATIENCE: u32 = 3;
/// The wait after a duplicate.
const AFTER_DUPLICATE: Duration = Duration::from_secs(10);

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
    Soliciting(Exchange),
    Requesting { exchange: Exchange, offered: Vec<Given>, server: Duid },
    Returning(Exchange),
    Informing(Exchange),
    Bound,
    Renewing(Exchange),
    Rebinding(Exchange),
}

/// The client of one link.
#[derive(Debug)]
pub struct Client {
    duid: Duid,
    association: u32,
    wants: Wants,
    random: Random,
    phase: Phase,
    held: Option<Held>,
    /// When it began to look for what it looks for.
    begun: Duration,
    /// Refusals and duplicates since the last lease.
    failures: u32,
    /// What PID 1 was told last, if that was no lease.
    word: String,
}

impl Client {
    /// A client that waits for its link. The seed should differ between machines.
    #[must_use]
    pub fn new(duid: Duid, association: u32, wants: Wants, seed: u64) -> Self {
        Self {
            duid,
            association,
            wants,
            random: Random::new(seed),
            phase: Phase::Silent,
            held: None,
            begun: Duration::ZERO,
            failures: 0,
            word: String::new(),
        }
    }

    /// When [`Event::Time`] is due next.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let phase = match &self.phase {
            Phase::Silent => None,
            Phase::Idle { until } => Some(*until),
            Phase::Soliciting(exchange)
            | Phase::Requesting { exchange, .. }
            | Phase::Returning(exchange)
            | Phase::Informing(exchange)
            | Phase::Renewing(exchange)
            | Phase::Rebinding(exchange) => Some(exchange.next),
            Phase::Bound => self.held.as_ref().map(|held| held.renewal),
        };
        let end = self.held.as_ref().and_then(Held::next_end);
        [phase, end].into_iter().flatten().min()
    }

    /// Decides.
    pub fn step(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::LinkGained => self.gain(now, &mut effects),
            Event::LinkLost => {
                self.phase = Phase::Silent;
                self.wait("The link has no carrier, or no address of its own yet", &mut effects);
            }
            Event::Reply(reply) => self.hear(reply, now, &mut effects),
            Event::Duplicate(address) => self.decline(address, now, &mut effects),
            Event::Time => self.pass(now, &mut effects),
        }
        effects
    }

    fn is_stateless(&self) -> bool {
        self.wants == Wants::default()
    }

    fn gain(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if self.held.is_none() || self.is_stateless() {
            return self.discover(now, effects);
        }
        // It may be another network: nothing is known until a server speaks.
        self.begun = now;
        self.phase = Phase::Returning(self.exchange(now));
        self.ask(effects, now);
    }

    fn discover(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        self.begun = now;
        let exchange = self.exchange(now);
        self.phase = if self.is_stateless() {
            Phase::Informing(exchange)
        } else {
            Phase::Soliciting(exchange)
        };
        // After a failure its reason says more.
        if self.failures == 0 {
            self.wait("Looking for a DHCPv6 server", effects);
        }
        self.ask(effects, now);
    }

    fn exchange(&mut self, now: Duration) -> Exchange {
        Exchange { xid: self.random.word() >> 8, asked: 0, last: now, next: now }
    }

    /// Does what is due.
    fn pass(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if let Some(held) = &mut self.held
            && held.prune(now)
        {
            if held.is_empty() {
                let silent = self.phase == Phase::Silent;
                self.lose("The lease has ended, and no server renewed it".to_owned(), effects);
                if !silent {
                    self.discover(now, effects);
                }
                return;
            }
            effects.push(Effect::Report(Report::Leased(held.lease(now))));
        }
        match &self.phase {
            Phase::Idle { until } if *until <= now => self.discover(now, effects),
            Phase::Requesting { exchange, .. }
                if exchange.next <= now && exchange.asked >= REQUESTS =>
            {
                self.discover(now, effects);
            }
            Phase::Returning(exchange) if exchange.next <= now && exchange.asked >= RETURNS => {
                self.discover(now, effects);
            }
            Phase::Soliciting(exchange)
            | Phase::Requesting { exchange, .. }
            | Phase::Returning(exchange)
            | Phase::Informing(exchange)
            | Phase::Rebinding(exchange)
                if exchange.next <= now =>
            {
                self.ask(effects, now);
            }
            Phase::Bound if self.held.as_ref().is_some_and(|held| held.renewal <= now) => {
                self.begun = now;
                let exchange = self.exchange(now);
                self.phase = if self.is_stateless() {
                    Phase::Informing(exchange)
                } else {
                    Phase::Renewing(exchange)
                };
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
            | Phase::Soliciting(_)
            | Phase::Requesting { .. }
            | Phase::Returning(_)
            | Phase::Informing(_)
            | Phase::Bound
            | Phase::Renewing(_)
            | Phase::Rebinding(_) => {}
        }
    }

    /// Asks what the phase asks, and sets the time of the next question.
    fn ask(&mut self, effects: &mut Vec<Effect>, now: Duration) {
        let held = self.held.as_ref();
        let had = held.map(Held::given).unwrap_or_default();
        let (exchange, question, about, limit) = match &mut self.phase {
            Phase::Silent | Phase::Idle { .. } | Phase::Bound => return,
            Phase::Soliciting(exchange) => (exchange, Question::Solicit, had, None),
            Phase::Informing(exchange) => (exchange, Question::Inform, had, None),
            Phase::Requesting { exchange, offered, server } => {
                (exchange, Question::Request(server.clone()), offered.clone(), None)
            }
            Phase::Returning(exchange) => (exchange, Question::Rebind, had, None),
            Phase::Renewing(exchange) => {
                let Some(held) = held else { return };
                (exchange, Question::Renew(held.server.clone()), had, Some(held.rebinding))
            }
            Phase::Rebinding(exchange) => {
                (exchange, Question::Rebind, had, Some(held.map_or(now, Held::end)))
            }
        };
        exchange.asked = exchange.asked.saturating_add(1);
        exchange.last = now;
        exchange.next = match limit {
            Some(limit) => timing::renewal(now, limit),
            None => now.saturating_add(timing::backoff(exchange.asked, &mut self.random)),
        };
        let (xid, asked) = (exchange.xid, exchange.asked);
        effects.push(Effect::Send(self.request(question, xid, about, now)));
        let looks = matches!(self.phase, Phase::Soliciting(_) | Phase::Informing(_));
        if looks && asked == PATIENCE && self.failures == 0 {
            self.wait("No DHCPv6 server answers; still asking", effects);
        }
    }

    fn request(&self, question: Question, xid: u32, about: Vec<Given>, now: Duration) -> Request {
        let elapsed = now.saturating_sub(self.begun).as_millis().checked_div(10);
        Request {
            question,
            xid,
            elapsed: elapsed.and_then(|time| u16::try_from(time).ok()).unwrap_or(u16::MAX),
            client: self.duid.clone(),
            association: self.association,
            wants: self.wants,
            about,
        }
    }

    fn hear(&mut self, reply: Reply, now: Duration, effects: &mut Vec<Effect>) {
        let (exchange, server) = match &self.phase {
            Phase::Silent | Phase::Idle { .. } | Phase::Bound => return,
            Phase::Requesting { exchange, server, .. } => (exchange, Some(server)),
            Phase::Renewing(exchange) => (exchange, self.held.as_ref().map(|held| &held.server)),
            Phase::Soliciting(exchange)
            | Phase::Returning(exchange)
            | Phase::Informing(exchange)
            | Phase::Rebinding(exchange) => (exchange, None),
        };
        if exchange.xid != reply.xid || server.is_some_and(|server| *server != reply.server) {
            return;
        }
        let (xid, asked_at) = (exchange.xid, exchange.last);
        let refusal = reply.failure.as_ref().or(reply.terms.refusal.as_ref());
        let refused = refusal.map(|reason| refused(reason, &reply.server));
        let gives = reply.failure.is_none() && self.gives(&reply.terms);
        match (&self.phase, reply.offer) {
            (Phase::Informing(_), false) if reply.failure.is_none() => {
                let terms = Terms { given: Vec::new(), ..reply.terms };
                self.bind(terms, reply.server, asked_at, now, effects);
            }
            (Phase::Soliciting(_), true) if gives => {
                let exchange = Exchange { xid, asked: 0, last: now, next: now };
                let offered =
                    reply.terms.given.into_iter().filter(|given| self.wanted(given)).collect();
                self.phase = Phase::Requesting { exchange, offered, server: reply.server };
                self.ask(effects, now);
            }
            (Phase::Soliciting(_), false) if !reply.rapid => {}
            (Phase::Soliciting(_), _) if !gives => {
                let why = refused.unwrap_or_else(|| refused_silently(&reply.server));
                self.wait(&why, effects);
            }
            (_, true) => {}
            (_, false) if gives => {
                self.bind(reply.terms, reply.server, asked_at, now, effects);
            }
            // A server that only fails to renew may do so the next time.
            (Phase::Renewing(_) | Phase::Rebinding(_), false) if !self.takes_back(&reply) => {}
            (_, false) => {
                let why = refused.unwrap_or_else(|| refused_silently(&reply.server));
                self.lose(why, effects);
                self.rest(timing::after_failure(self.failures), now, effects);
            }
        }
    }

    /// Whether something is there of what is wanted, and may be used.
    fn gives(&self, terms: &Terms) -> bool {
        terms.given.iter().any(|given| self.wanted(given))
    }

    fn wanted(&self, given: &Given) -> bool {
        let kind =
            if given.prefix == 128 { self.wants.address } else { self.wants.prefix.is_some() };
        kind && given.holds()
    }

    /// Whether a server says that what is held is not ours any more.
    fn takes_back(&self, reply: &Reply) -> bool {
        let ended = |held: &Held| {
            held.given()
                .iter()
                .all(|old| reply.terms.given.iter().any(|new| new.is(old) && !new.holds()))
        };
        reply.failure.is_none()
            && (reply.terms.refusal.is_some() || self.held.as_ref().is_some_and(ended))
    }

    fn bind(
        &mut self,
        mut terms: Terms,
        server: Duid,
        asked_at: Duration,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        // What was not wanted is not taken; what has ended is, to end.
        terms.given.retain(|given| !given.holds() || self.wanted(given));
        let renews =
            matches!(self.phase, Phase::Returning(_) | Phase::Renewing(_) | Phase::Rebinding(_));
        let before = self.held.take().filter(|_| renews);
        let held = Held::new(terms, server, asked_at, before.as_ref());
        effects.push(Effect::Report(Report::Leased(held.lease(now))));
        self.held = Some(held);
        self.phase = Phase::Bound;
        self.failures = 0;
        self.word = String::new();
    }

    fn decline(&mut self, address: Ipv6Addr, now: Duration, effects: &mut Vec<Effect>) {
        let Some(held) = &mut self.held else { return };
        let Some(given) = held.remove(address) else { return };
        let server = held.server.clone();
        let xid = self.random.word() >> 8;
        self.begun = now;
        effects.push(Effect::Send(self.request(Question::Decline(server), xid, vec![given], now)));
        self.lose(format!("Another machine on the link has the address {address}"), effects);
        self.rest(AFTER_DUPLICATE.max(timing::after_failure(self.failures)), now, effects);
    }

    /// Says what is being tried, unless that was said already, or there is a lease all the same.
    fn wait(&mut self, what: &str, effects: &mut Vec<Effect>) {
        if self.held.is_none() && self.word != what {
            what.clone_into(&mut self.word);
            effects.push(Effect::Report(Report::Waiting(what.to_owned())));
        }
    }

    fn lose(&mut self, why: String, effects: &mut Vec<Effect>) {
        if self.held.take().is_some() {
            self.word.clone_from(&why);
            effects.push(Effect::Report(Report::Lost(why)));
        } else {
            self.wait(&why, effects);
        }
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

fn refused(reason: &str, server: &Duid) -> String {
    let reason = if reason.is_empty() { "no reason given" } else { reason };
    format!("The DHCPv6 server {server} gives nothing: {reason}")
}

fn refused_silently(server: &Duid) -> String {
    format!("The DHCPv6 server {server} gives nothing that was asked for")
}

#[cfg(test)]
mod tests;
