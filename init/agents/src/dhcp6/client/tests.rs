// SPDX-License-Identifier: Apache-2.0
//! The client against scripted servers, and against anything at all.

use super::*;
use crate::dhcp::Mac;
use expect_test::{Expect, expect};
use proptest::prelude::*;
use std::fmt::Write as _;

const ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x50);
const NETWORK: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 0);

fn server(last: u8) -> Duid {
    Duid::read(&[0, 3, 0, 1, 2, 0, 0, 0, 0, last]).expect("a good one")
}

fn terms(seconds: u32) -> Terms {
    let given = Given { address: ADDRESS, prefix: 128, preferred: seconds, seconds };
    Terms { given: vec![given], ..Terms::default() }
}

/// A client with its clock, and a log of what it does.
struct Script {
    client: Client,
    now: Duration,
    xid: u32,
    log: String,
}

impl Script {
    fn new(wants: Wants) -> Self {
        let client = Client::new(Duid::of(Mac([2; 6])), 7, wants, 7);
        Self { client, now: Duration::from_secs(100), xid: 0, log: String::new() }
    }

    fn bound(seconds: u32) -> Self {
        let mut script = Self::new(Wants { address: true, prefix: None });
        script.step(Event::LinkGained);
        script.answer(true, terms(seconds));
        script.answer(false, terms(seconds));
        script
    }

    fn step(&mut self, event: Event) {
        for effect in self.client.step(event, self.now) {
            let at = self.now.as_secs_f64() - 100.0;
            let given = |given: &Given| format!(" {}/{}", given.address, given.prefix);
            let text = match effect {
                Effect::Send(request) => {
                    self.xid = request.xid;
                    let about: String = request.about.iter().map(given).collect();
                    let question = match request.question {
                        Question::Request(server) => format!("request {server}"),
                        Question::Renew(server) => format!("renew {server}"),
                        Question::Decline(server) => format!("decline {server}"),
                        other => format!("{other:?}").to_lowercase(),
                    };
                    format!("send {question}{about}")
                }
                Effect::Report(Report::Leased(lease)) => {
                    let given: String = lease.given.iter().map(given).collect();
                    format!("LEASED{given} for {}", lease.seconds)
                }
                Effect::Report(report) => format!("{report:?}"),
            };
            writeln!(self.log, "{at:.0} {text}").expect("writing to a string");
        }
    }

    fn answer(&mut self, offer: bool, terms: Terms) {
        self.say(Reply { offer, terms, ..self.reply() });
    }

    fn say(&mut self, reply: Reply) {
        self.step(Event::Reply(reply));
    }

    fn reply(&self) -> Reply {
        Reply {
            xid: self.xid,
            server: server(1),
            offer: false,
            rapid: false,
            terms: Terms::default(),
            failure: None,
        }
    }

    /// Lets time pass, deadline by deadline.
    fn pass(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        let mut in_place = 0;
        while let Some(deadline) = self.client.deadline().filter(|deadline| *deadline <= end) {
            // A late answer may leave several times in the past, each of which passes once.
            in_place = if deadline > self.now { 0 } else { in_place + 1 };
            assert!(in_place < 8, "it spins: {:?}", self.client);
            self.now = deadline.max(self.now);
            self.step(Event::Time);
        }
        self.now = end;
    }

    fn check(&mut self, expected: &Expect) {
        expected.assert_eq(&std::mem::take(&mut self.log));
    }
}

#[test]
fn a_lease_takes_two_questions_or_one() {
    let mut script = Script::bound(3600);
    script.check(&expect![[r#"
        0 Waiting("Looking for a DHCPv6 server")
        0 send solicit
        0 send request 00030001020000000001 2001:db8::50/128
        0 LEASED 2001:db8::50/128 for 3600
    "#]]);
    let mut script = Script::new(Wants { address: true, prefix: None });
    script.step(Event::LinkGained);
    script.answer(false, terms(3600));
    script.say(Reply { rapid: true, terms: terms(3600), ..script.reply() });
    script.check(&expect![[r#"
        0 Waiting("Looking for a DHCPv6 server")
        0 send solicit
        0 LEASED 2001:db8::50/128 for 3600
    "#]]);
}

#[test]
fn a_lease_is_renewed_then_rebound_and_ends() {
    let mut script = Script::bound(1000);
    script.log.clear();
    script.pass(1010);
    script.check(&expect![[r#"
        500 send renew 00030001020000000001 2001:db8::50/128
        650 send renew 00030001020000000001 2001:db8::50/128
        725 send renew 00030001020000000001 2001:db8::50/128
        785 send renew 00030001020000000001 2001:db8::50/128
        800 send rebind 2001:db8::50/128
        900 send rebind 2001:db8::50/128
        960 send rebind 2001:db8::50/128
        1000 Lost("The lease has ended, and no server renewed it")
        1000 Waiting("Looking for a DHCPv6 server")
        1000 send solicit
        1001 send solicit
        1003 send solicit
        1003 Waiting("No DHCPv6 server answers; still asking")
        1007 send solicit
    "#]]);
}

#[test]
fn the_server_chooses_the_times_where_they_make_sense() {
    let mut script = Script::bound(1000);
    script.log.clear();
    script.pass(500);
    script.answer(false, Terms { renewal: Some(100), rebinding: Some(200), ..terms(1000) });
    script.pass(110);
    script.answer(false, Terms { renewal: Some(2000), rebinding: Some(4000), ..terms(1000) });
    script.pass(510);
    script.check(&expect![[r#"
        500 send renew 00030001020000000001 2001:db8::50/128
        500 LEASED 2001:db8::50/128 for 1000
        600 send renew 00030001020000000001 2001:db8::50/128
        610 LEASED 2001:db8::50/128 for 990
        1100 send renew 00030001020000000001 2001:db8::50/128
    "#]]);
}

#[test]
fn a_renewal_that_fails_is_tried_again_and_one_that_is_refused_ends_the_lease() {
    let mut script = Script::bound(1000);
    script.pass(500);
    script.log.clear();
    script.say(Reply { failure: Some("busy".to_owned()), ..script.reply() });
    script.answer(false, Terms::default());
    script.check(&expect![[r#""#]]);
    script.answer(false, Terms { refusal: Some("no binding".to_owned()), ..Terms::default() });
    script.check(&expect![[r#"
        500 Lost("The DHCPv6 server 00030001020000000001 gives nothing: no binding")
        500 send solicit
    "#]]);
}

#[test]
fn what_a_server_ends_goes_and_what_it_does_not_name_stays() {
    let mut script = Script::new(Wants { address: true, prefix: Some(56) });
    script.step(Event::LinkGained);
    let prefix = Given { address: NETWORK, prefix: 56, preferred: 300, seconds: 600 };
    let mut both = terms(1000);
    both.given.push(prefix);
    script.answer(true, both.clone());
    script.answer(false, both);
    script.pass(150);
    script.log.clear();
    script.answer(
        false,
        Terms {
            given: vec![Given { seconds: 0, preferred: 0, ..terms(9).given[0] }, prefix],
            ..Terms::default()
        },
    );
    script.check(&expect![[r#"
        150 LEASED 2001:db8:100::/56 for 600
    "#]]);
    script.pass(150);
    script.log.clear();
    script.answer(false, terms(1000));
    script.pass(460);
    script.check(&expect![[r#"
        300 LEASED 2001:db8::50/128 2001:db8:100::/56 for 1000
        450 send renew 00030001020000000001 2001:db8::50/128 2001:db8:100::/56
        510 send renew 00030001020000000001 2001:db8::50/128 2001:db8:100::/56
        540 send rebind 2001:db8::50/128 2001:db8:100::/56
        750 LEASED 2001:db8::50/128 for 550
    "#]]);
}

#[test]
fn a_server_that_moves_is_found_by_rebinding() {
    let mut script = Script::bound(1000);
    script.pass(810);
    script.log.clear();
    script.say(Reply { server: server(2), terms: terms(1000), ..script.reply() });
    script.pass(510);
    script.check(&expect![[r#"
        810 LEASED 2001:db8::50/128 for 990
        1300 send renew 00030001020000000002 2001:db8::50/128
    "#]]);
}

#[test]
fn a_link_that_comes_back_asks_whether_all_is_as_before() {
    let mut script = Script::bound(1000);
    script.step(Event::LinkLost);
    script.pass(10);
    script.step(Event::LinkGained);
    script.log.clear();
    script.answer(false, terms(1000));
    script.step(Event::LinkLost);
    script.step(Event::LinkGained);
    script.pass(10);
    script.check(&expect![[r#"
        10 LEASED 2001:db8::50/128 for 1000
        10 send rebind 2001:db8::50/128
        11 send rebind 2001:db8::50/128
        13 send rebind 2001:db8::50/128
        17 send solicit 2001:db8::50/128
        17 send solicit 2001:db8::50/128
        19 send solicit 2001:db8::50/128
    "#]]);
}

#[test]
fn a_duplicate_is_declined_and_not_asked_for_at_once() {
    let mut script = Script::bound(1000);
    script.log.clear();
    script.step(Event::Duplicate(NETWORK));
    script.step(Event::Duplicate(ADDRESS));
    script.step(Event::Duplicate(ADDRESS));
    script.pass(9);
    script.check(&expect![[r#"
        0 send decline 00030001020000000001 2001:db8::50/128
        0 Lost("Another machine on the link has the address 2001:db8::50")
    "#]]);
    script.pass(2);
    script.check(&expect![[r#"
        10 send solicit
        11 send solicit
    "#]]);
}

#[test]
fn who_wants_no_address_is_told_and_asks_again_after_a_day() {
    let mut script = Script::new(Wants::default());
    script.step(Event::LinkGained);
    script.answer(true, terms(1000));
    script.answer(false, terms(1000));
    script.pass(86_500);
    script.check(&expect![[r#"
        0 Waiting("Looking for a DHCPv6 server")
        0 send inform
        0 LEASED for 4294967295
        86400 send inform
        86401 send inform
        86403 send inform
        86407 send inform
        86414 send inform
        86430 send inform
        86461 send inform
    "#]]);
}

#[test]
fn silence_and_refusals_are_said_once() {
    let mut script = Script::new(Wants { address: true, prefix: None });
    script.step(Event::LinkLost);
    script.step(Event::LinkGained);
    script.pass(30);
    let nothing = Terms { refusal: Some("all are taken".to_owned()), ..Terms::default() };
    script.answer(true, nothing.clone());
    script.answer(true, nothing);
    script.check(&expect![[r#"
        0 Waiting("The link has no carrier, or no address of its own yet")
        0 Waiting("Looking for a DHCPv6 server")
        0 send solicit
        1 send solicit
        3 send solicit
        3 Waiting("No DHCPv6 server answers; still asking")
        8 send solicit
        15 send solicit
        30 Waiting("The DHCPv6 server 00030001020000000001 gives nothing: all are taken")
    "#]]);
}

#[test]
fn a_lease_for_ever_is_never_renewed() {
    let mut script = Script::bound(u32::MAX);
    script.log.clear();
    script.pass(10_000_000_000);
    assert_eq!(script.log, "");
}

fn event() -> impl Strategy<Value = (Event, u64, bool)> {
    let seconds = prop_oneof![Just(0), 5..200_u32, Just(u32::MAX)];
    let given = (seconds, any::<bool>(), any::<bool>()).prop_map(|(seconds, network, other)| {
        let (address, prefix) = if network { (NETWORK, 56) } else { (ADDRESS, 128) };
        let address = Ipv6Addr::from_bits(address.to_bits() | u128::from(other) << 72);
        Given { address, prefix, preferred: seconds / 2, seconds }
    });
    let given = prop::collection::vec(given, 0..4);
    let times = (any::<Option<u32>>(), any::<Option<u32>>(), any::<Option<u32>>());
    let words = (prop::option::of(Just(String::new())), prop::option::of(Just(String::new())));
    let reply = (given, times, words, any::<bool>(), any::<bool>(), 0..2_u8).prop_map(
        |(given, (renewal, rebinding, refresh), (refusal, failure), offer, rapid, by)| Reply {
            xid: 0,
            server: server(by),
            offer,
            rapid,
            terms: Terms { given, renewal, rebinding, refresh, refusal, ..Terms::default() },
            failure,
        },
    );
    let event = prop_oneof![
        2 => Just(Event::LinkGained),
        1 => Just(Event::LinkLost),
        8 => reply.prop_map(Event::Reply),
        1 => Just(Event::Duplicate(ADDRESS)),
        6 => Just(Event::Time),
    ];
    (event, 0..100_u64, prop::bool::weighted(0.9))
}

proptest! {
    #[test]
    fn it_neither_spins_nor_keeps_what_it_lost_nor_sends_more_than_it_should(
        address in any::<bool>(),
        prefix in prop::option::of(Just(56)),
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut script = Script::new(Wants { address, prefix });
        let mut leased = false;
        for (mut event, seconds, ours) in events {
            if let Event::Reply(reply) = &mut event {
                reply.xid = if ours { script.xid } else { 1 };
            }
            let lines = script.log.lines().count();
            script.step(event);
            prop_assert!(script.log.lines().count() <= lines + 4, "{}", script.log);
            script.pass(seconds);
            for line in std::mem::take(&mut script.log).lines() {
                if line.contains("LEASED") {
                    leased = true;
                } else if line.contains("Lost(") {
                    prop_assert!(leased, "lost what it never had");
                    leased = false;
                }
            }
            prop_assert_eq!(leased, script.client.held.is_some());
        }
    }
}
