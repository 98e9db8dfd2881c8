// SPDX-License-Identifier: Apache-2.0
//! The client against scripted servers, and against anything at all.

use super::*;
use crate::dhcp::message;
use expect_test::{Expect, expect};
use proptest::prelude::*;
use std::fmt::Write as _;

const US: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const ROUTER: Mac = Mac([0x52, 0x55, 10, 0, 2, 2]);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

fn terms(seconds: u32) -> Terms {
    Terms {
        address: ADDRESS,
        prefix: 24,
        routers: vec![],
        dns_servers: vec![],
        ntp_servers: vec![],
        routes: vec![],
        domain: String::new(),
        search: Vec::new(),
        hostname: String::new(),
        mtu: None,
        seconds,
        renewal: None,
        rebinding: None,
    }
}

fn ack(seconds: u32) -> Answer {
    Answer::Ack { terms: terms(seconds), rapid: false }
}

/// A client with its clock, and a log of what it does.
struct Script {
    client: Client,
    now: Duration,
    xid: u32,
    log: String,
}

impl Script {
    fn new() -> Self {
        let client = Client::new(US, Names::default(), 7);
        Self { client, now: Duration::from_secs(100), xid: 0, log: String::new() }
    }

    fn bound(seconds: u32) -> Self {
        let mut script = Self::new();
        script.step(Event::CarrierGained);
        script.answer(Answer::Offer(terms(seconds)));
        script.answer(ack(seconds));
        script
    }

    fn step(&mut self, event: Event) {
        for effect in self.client.step(event, self.now) {
            let at = self.now.as_secs_f64() - 100.0;
            let text = match effect {
                Effect::Send { request, to } => {
                    self.xid = request.xid;
                    let to = to
                        .map_or("everybody".to_owned(), |to| format!("{} ({})", to.server, to.mac));
                    format!("send {:?} to {to}", request.question)
                }
                Effect::Arp { sender, target } => format!("arp {sender} asks for {target}"),
                Effect::Report(Report::Leased { terms, .. }) => {
                    format!("LEASED {}/{}", terms.address, terms.prefix)
                }
                Effect::Report(report) => format!("{report:?}"),
            };
            writeln!(self.log, "{at:.0} {text}").expect("writing to a string");
        }
    }

    fn answer(&mut self, answer: Answer) {
        let reply = Reply { xid: self.xid, server: SERVER, answer };
        self.step(Event::Reply { reply: Box::new(reply), from: ROUTER });
    }

    /// Lets time pass, deadline by deadline.
    fn pass(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        let mut in_place = 0;
        while let Some(deadline) = self.client.deadline().filter(|deadline| *deadline <= end) {
            // A late answer may leave several times in the past, each of which passes once.
            in_place = if deadline > self.now { 0 } else { in_place + 1 };
            assert!(in_place < 5, "it spins: {:?}", self.client);
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
fn a_lease_takes_two_messages_and_is_used_before_it_is_probed() {
    let mut script = Script::bound(3600);
    script.check(&expect![[r#"
        0 Waiting("Looking for a DHCP server")
        0 send Discover to everybody
        0 send Request { address: 10.0.2.15, server: 10.0.2.2 } to everybody
        0 LEASED 10.0.2.15/24
        0 arp 0.0.0.0 asks for 10.0.2.15
    "#]]);
    script.pass(60);
    script.check(&expect![[r#"
        1 arp 0.0.0.0 asks for 10.0.2.15
        3 arp 0.0.0.0 asks for 10.0.2.15
        5 arp 10.0.2.15 asks for 10.0.2.15
        7 arp 10.0.2.15 asks for 10.0.2.15
    "#]]);
}

#[test]
fn a_server_that_is_in_a_hurry_takes_one() {
    let mut script = Script::new();
    script.step(Event::CarrierGained);
    script.answer(ack(3600));
    script.answer(Answer::Ack { terms: terms(3600), rapid: true });
    script.check(&expect![[r#"
        0 Waiting("Looking for a DHCP server")
        0 send Discover to everybody
        0 LEASED 10.0.2.15/24
        0 arp 0.0.0.0 asks for 10.0.2.15
    "#]]);
}

#[test]
fn silence_makes_it_ask_less_and_less_often_for_ever() {
    let mut script = Script::new();
    script.step(Event::CarrierGained);
    script.pass(300);
    script.check(&expect![[r#"
        0 Waiting("Looking for a DHCP server")
        0 send Discover to everybody
        1 send Discover to everybody
        3 send Discover to everybody
        3 Waiting("No DHCP server answers; still asking")
        8 send Discover to everybody
        15 send Discover to everybody
        31 send Discover to everybody
        62 send Discover to everybody
        126 send Discover to everybody
        189 send Discover to everybody
        253 send Discover to everybody
    "#]]);
}

#[test]
fn an_offer_that_is_not_honoured_is_forgotten() {
    let mut script = Script::new();
    script.step(Event::CarrierGained);
    script.answer(Answer::Offer(terms(3600)));
    script.pass(20);
    script.check(&expect![[r#"
        0 Waiting("Looking for a DHCP server")
        0 send Discover to everybody
        0 send Request { address: 10.0.2.15, server: 10.0.2.2 } to everybody
        1 send Request { address: 10.0.2.15, server: 10.0.2.2 } to everybody
        3 send Request { address: 10.0.2.15, server: 10.0.2.2 } to everybody
        6 send Request { address: 10.0.2.15, server: 10.0.2.2 } to everybody
        14 Waiting("Looking for a DHCP server")
        14 send Discover to everybody
        15 send Discover to everybody
        17 send Discover to everybody
        17 Waiting("No DHCP server answers; still asking")
    "#]]);
}

#[test]
fn a_lease_is_renewed_with_its_server_then_with_any_then_lost() {
    let mut script = Script::bound(3600);
    script.log.clear();
    script.pass(1800);
    script.answer(ack(3600));
    script.check(&expect![[r#"
        1 arp 0.0.0.0 asks for 10.0.2.15
        3 arp 0.0.0.0 asks for 10.0.2.15
        5 arp 10.0.2.15 asks for 10.0.2.15
        7 arp 10.0.2.15 asks for 10.0.2.15
        1775 send Renew { address: 10.0.2.15 } to 10.0.2.2 (52:55:0a:00:02:02)
        1800 LEASED 10.0.2.15/24
    "#]]);
    script.pass(3700);
    script.check(&expect![[r#"
        3557 send Renew { address: 10.0.2.15 } to 10.0.2.2 (52:55:0a:00:02:02)
        4241 send Renew { address: 10.0.2.15 } to 10.0.2.2 (52:55:0a:00:02:02)
        4583 send Renew { address: 10.0.2.15 } to 10.0.2.2 (52:55:0a:00:02:02)
        4754 send Renew { address: 10.0.2.15 } to 10.0.2.2 (52:55:0a:00:02:02)
        4840 send Renew { address: 10.0.2.15 } to 10.0.2.2 (52:55:0a:00:02:02)
        4900 send Renew { address: 10.0.2.15 } to 10.0.2.2 (52:55:0a:00:02:02)
        4925 send Renew { address: 10.0.2.15 } to everybody
        5150 send Renew { address: 10.0.2.15 } to everybody
        5263 send Renew { address: 10.0.2.15 } to everybody
        5323 send Renew { address: 10.0.2.15 } to everybody
        5375 Lost("The lease has ended, and no server renewed it")
        5375 Waiting("Looking for a DHCP server")
        5375 send Discover to everybody
        5376 send Discover to everybody
        5378 send Discover to everybody
        5378 Waiting("No DHCP server answers; still asking")
        5382 send Discover to everybody
        5391 send Discover to everybody
        5407 send Discover to everybody
        5440 send Discover to everybody
    "#]]);
}

#[test]
fn a_refusal_takes_the_address_and_repeated_ones_take_longer() {
    let mut script = Script::bound(3600);
    script.log.clear();
    script.pass(1800);
    for _ in 0..3 {
        script.answer(Answer::Nak { reason: "wrong network".to_owned() });
        script.answer(Answer::Offer(terms(3600)));
        script.pass(2);
        script.answer(Answer::Offer(terms(3600)));
    }
    script.check(&expect![[r#"
        1 arp 0.0.0.0 asks for 10.0.2.15
        3 arp 0.0.0.0 asks for 10.0.2.15
        5 arp 10.0.2.15 asks for 10.0.2.15
        7 arp 10.0.2.15 asks for 10.0.2.15
        1775 send Renew { address: 10.0.2.15 } to 10.0.2.2 (52:55:0a:00:02:02)
        1800 Lost("The DHCP server 10.0.2.2 refused the address: wrong network")
        1800 send Discover to everybody
        1800 send Request { address: 10.0.2.15, server: 10.0.2.2 } to everybody
        1801 send Request { address: 10.0.2.15, server: 10.0.2.2 } to everybody
        1802 Waiting("The DHCP server 10.0.2.2 refused the address: wrong network")
        1803 send Discover to everybody
        1804 send Request { address: 10.0.2.15, server: 10.0.2.2 } to everybody
        1804 Waiting("The DHCP server 10.0.2.2 refused the address: wrong network")
        1806 send Discover to everybody
        1806 send Request { address: 10.0.2.15, server: 10.0.2.2 } to everybody
    "#]]);
}

#[test]
fn an_address_that_another_has_is_declined() {
    let mut script = Script::bound(3600);
    script.log.clear();
    let arp = |sender, sender_address| Arp {
        request: false,
        sender,
        sender_address,
        target_address: ADDRESS,
    };
    script.step(Event::Arp(arp(US, ADDRESS)));
    script.step(Event::Arp(arp(ROUTER, SERVER)));
    script.check(&expect![""]);
    script.step(Event::Arp(arp(ROUTER, ADDRESS)));
    assert!(!script.client.listens_to_arp());
    script.pass(10);
    script.check(&expect![[r#"
        0 send Decline { address: 10.0.2.15, server: 10.0.2.2 } to everybody
        0 Lost("The address 10.0.2.15 is used by 52:55:0a:00:02:02")
        10 send Discover to everybody
    "#]]);
}

#[test]
fn a_carrier_that_returns_may_bring_another_network() {
    let mut script = Script::bound(3600);
    script.pass(60);
    script.log.clear();
    script.step(Event::CarrierLost);
    script.pass(600);
    script.step(Event::CarrierGained);
    script.answer(ack(3600));
    script.check(&expect![[r#"
        660 send Reboot { address: 10.0.2.15 } to everybody
        660 LEASED 10.0.2.15/24
        660 arp 0.0.0.0 asks for 10.0.2.15
    "#]]);
    script.step(Event::CarrierLost);
    script.step(Event::CarrierGained);
    script.pass(4);
    script.check(&expect![[r#"
        660 send Reboot { address: 10.0.2.15 } to everybody
        661 send Reboot { address: 10.0.2.15 } to everybody
        663 send Discover to everybody
    "#]]);
    script.step(Event::CarrierLost);
    script.pass(4000);
    script.check(&expect![[r#"
        4260 Lost("The lease has ended, and no server renewed it")
    "#]]);
    assert_eq!(script.client.deadline(), None);
}

#[test]
fn a_lease_for_ever_is_never_renewed() {
    let mut script = Script::bound(u32::MAX);
    script.pass(60);
    script.log.clear();
    script.pass(10_000_000_000);
    assert_eq!(script.log, "");
}

#[test]
fn answers_to_other_questions_are_not_heard() {
    let mut script = Script::new();
    script.step(Event::CarrierGained);
    script.log.clear();
    script.xid ^= 1;
    script.answer(Answer::Offer(terms(3600)));
    script.xid ^= 1;
    script.answer(Answer::Nak { reason: String::new() });
    assert_eq!(script.log, "");
    script.answer(Answer::Offer(terms(3600)));
    let reply = Reply { xid: script.xid, server: Ipv4Addr::new(10, 0, 2, 3), answer: ack(3600) };
    script.log.clear();
    script.step(Event::Reply { reply: Box::new(reply), from: ROUTER });
    assert_eq!(script.log, "");
}

fn event() -> impl Strategy<Value = (Event, u64, bool)> {
    let terms = (10..200_u32, any::<Option<u32>>(), any::<Option<u32>>(), any::<bool>()).prop_map(
        |(seconds, renewal, rebinding, other)| {
            let address = if other { Ipv4Addr::new(10, 0, 2, 16) } else { ADDRESS };
            Terms { address, renewal, rebinding, ..terms(seconds) }
        },
    );
    let answer = prop_oneof![
        terms.clone().prop_map(Answer::Offer),
        (terms, any::<bool>()).prop_map(|(terms, rapid)| Answer::Ack { terms, rapid }),
        Just(Answer::Nak { reason: String::new() }),
    ];
    let event = prop_oneof![
        2 => Just(Event::CarrierGained),
        1 => Just(Event::CarrierLost),
        6 => answer.prop_map(|answer| Event::Reply { reply: Box::new(Reply { xid: 0, server: SERVER, answer }), from: ROUTER }),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(request, ours)| Event::Arp(Arp {
            request,
            sender: if ours { US } else { ROUTER },
            sender_address: ADDRESS,
            target_address: ADDRESS,
        })),
        6 => Just(Event::Time),
    ];
    (event, 0..100_u64, prop::bool::weighted(0.9))
}

proptest! {
    #[test]
    fn it_neither_spins_nor_keeps_what_it_lost_nor_sends_more_than_it_should(
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut script = Script::new();
        let mut leased = false;
        for (mut event, seconds, ours) in events {
            if let Event::Reply { reply, .. } = &mut event {
                reply.xid = if ours { script.xid } else { 1 };
            }
            let lines = script.log.lines().count();
            script.step(event);
            prop_assert!(script.log.lines().count() <= lines + 4);
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

    #[test]
    fn whatever_a_server_sends_can_be_acted_upon(list in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut script = Script::new();
        script.step(Event::CarrierGained);
        let mut bytes = Request { question: Question::Discover, xid: script.xid, seconds: 0, mac: US, id: None, hostname: None }.encode();
        bytes.truncate(240);
        bytes[0] = 2;
        bytes[16..20].copy_from_slice(&ADDRESS.octets());
        bytes.extend([53, 1, 5, 54, 4, 10, 0, 2, 2, 51, 4, 0, 0, 1, 0, 80, 0]);
        bytes.extend(list);
        if let Some(reply) = message::parse(&bytes, US) {
            script.step(Event::Reply { reply: Box::new(reply), from: ROUTER });
            script.pass(1000);
        }
    }
}
