// SPDX-License-Identifier: Apache-2.0
//! What is asked and said, and when.

use super::{CALM, Claim, DEFEND, Effect, Mode, Phase, Random};
use crate::dhcp::{Mac, frame::Arp};
use expect_test::{Expect, expect};
use proptest::prelude::*;
use std::{fmt::Write as _, net::Ipv4Addr, time::Duration};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const OTHER: Mac = Mac([0x52, 0x54, 0, 0, 0, 9]);
const THIRD: Mac = Mac([0x52, 0x54, 0, 0, 0, 8]);

/// Another machine has the address.
fn claims(sender: Mac) -> Arp {
    Arp { request: false, sender, sender_address: ADDRESS, target_address: Ipv4Addr::UNSPECIFIED }
}

/// Another machine asks whether somebody has it.
fn probe(sender: Mac) -> Arp {
    Arp { request: true, sender, sender_address: Ipv4Addr::UNSPECIFIED, target_address: ADDRESS }
}

struct Script {
    claim: Claim,
    random: Random,
    now: Duration,
    log: String,
}

impl Script {
    fn new(mode: Mode) -> Script {
        let now = Duration::ZERO;
        let claim = Claim::new(ADDRESS, mode, now);
        Script { claim, random: Random::new(7), now, log: String::new() }
    }

    fn note(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let text = match effect {
                Effect::Send { sender } if sender.is_unspecified() => "probe".to_owned(),
                Effect::Send { sender } => format!("announce {sender}"),
                Effect::Tell(None) => "OURS".to_owned(),
                Effect::Tell(Some(by)) => format!("TAKEN by {by}"),
            };
            // Rounded, so that chance does not show.
            let tenths = self.now.as_millis() / 100;
            writeln!(self.log, "{}.{} {text}", tenths / 10, tenths % 10).expect("a string");
        }
    }

    fn hear(&mut self, arp: Arp) {
        let effects = self.claim.hear(&arp, self.now, &mut self.random);
        self.note(effects);
    }

    /// Lets time pass.
    fn pass(&mut self, milliseconds: u64) {
        let end = self.now + Duration::from_millis(milliseconds);
        while let Some(due) = self.claim.due().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            let effects = self.claim.pass(self.now, &mut self.random);
            assert!(self.claim.due().is_none_or(|due| due > self.now), "it spins");
            self.note(effects);
        }
        self.now = end;
    }

    fn check(&mut self, expected: &Expect) {
        expected.assert_eq(&std::mem::take(&mut self.log));
    }
}

#[test]
fn an_address_that_nobody_has_is_ours_within_half_a_second_and_announced_twice() {
    let mut script = Script::new(Mode::Ask);
    script.pass(600);
    script.check(&expect![[r#"
        0.0 probe
        0.1 probe
        0.2 probe
        0.4 OURS
        0.4 announce 192.0.2.7
    "#]]);
    script.pass(60_000);
    script.check(&expect![[r#"
        2.4 announce 192.0.2.7
    "#]]);
    assert_eq!(script.claim.due(), None);
}

#[test]
fn another_machine_that_has_it_or_is_about_to_take_it_is_told_and_asked_again() {
    for arp in [claims(OTHER), probe(OTHER)] {
        let mut script = Script::new(Mode::Ask);
        script.pass(50);
        script.hear(arp);
        script.hear(arp);
        assert_eq!(script.log, format!("0.0 probe\n0.0 TAKEN by {OTHER}\n"));
    }
    let mut script = Script::new(Mode::Ask);
    let mut waits = Vec::new();
    for _ in 0..9 {
        script.pass(1);
        script.hear(claims(OTHER));
        let Phase::Waiting { until } = script.claim.phase else { panic!("it still asks") };
        waits.push((until - script.now).as_secs_f64().round() as u64);
        script.pass((until - script.now).as_millis() as u64);
    }
    let expected = [1, 2, 4, 8, 16, 32, 64, 64, 64];
    let near = |(wait, expected): (&u64, u64)| wait.abs_diff(expected) <= 1;
    assert!(waits.iter().zip(expected).all(near), "{waits:?}");
    script.log.clear();
    script.pass(600);
    assert!(script.log.contains("OURS"), "the other one has left: {}", script.log);
}

#[test]
fn what_is_held_is_defended_once_in_ten_seconds_and_never_given_up() {
    let mut script = Script::new(Mode::Hold);
    script.pass(1000);
    script.hear(probe(OTHER));
    assert_eq!(script.claim.due(), None, "the kernel answers");
    for _ in 0..30 {
        script.hear(claims(OTHER));
        script.pass(1000);
    }
    script.hear(claims(THIRD));
    script.check(&expect![[r#"
        1.0 announce 192.0.2.7
        1.0 TAKEN by 52:54:00:00:00:09
        11.0 announce 192.0.2.7
        16.0 probe
        21.0 announce 192.0.2.7
        31.0 probe
        31.0 announce 192.0.2.7
        31.0 TAKEN by 52:54:00:00:00:08
    "#]]);
    script.pass(120_000);
    script.check(&expect![[r#"
        46.0 probe
        61.0 probe
        76.0 probe
        91.0 OURS
    "#]]);
    assert_eq!(script.claim.due(), None);
}

#[test]
fn what_is_used_already_is_asked_about_and_kept() {
    let mut script = Script::new(Mode::Check);
    script.pass(50);
    script.hear(claims(OTHER));
    script.pass(10_000);
    script.check(&expect![[r#"
        0.0 probe
        0.0 announce 192.0.2.7
        0.0 TAKEN by 52:54:00:00:00:09
        0.1 probe
        0.2 probe
    "#]]);
    let mut script = Script::new(Mode::Check);
    script.pass(10_000);
    script.check(&expect![[r#"
        0.0 probe
        0.1 probe
        0.2 probe
        0.4 OURS
        0.4 announce 192.0.2.7
        2.4 announce 192.0.2.7
    "#]]);
}

#[test]
fn an_agent_that_was_started_anew_goes_on_with_a_rival() {
    let mut script = Script::new(Mode::Contest);
    script.pass(1000);
    script.hear(claims(OTHER));
    script.pass(100_000);
    script.check(&expect![[r#"
        0.0 probe
        1.0 announce 192.0.2.7
        1.0 TAKEN by 52:54:00:00:00:09
        15.0 probe
        30.0 probe
        45.0 probe
        60.0 probe
        61.0 OURS
    "#]]);
}

proptest! {
    #[test]
    fn it_neither_spins_nor_says_much_nor_takes_what_is_another_machines(
        mode in prop::sample::select(vec![Mode::Ask, Mode::Check, Mode::Hold, Mode::Contest]),
        events in prop::collection::vec((0..3_u8, any::<bool>(), 0..20_000_u64), 1..60),
    ) {
        let mut script = Script::new(mode);
        let mut held = mode != Mode::Ask;
        for (what, third, milliseconds) in events {
            let by = if third { THIRD } else { OTHER };
            match what {
                0 => script.hear(claims(by)),
                1 => script.hear(probe(by)),
                _ => {}
            }
            script.pass(milliseconds);
            let log = std::mem::take(&mut script.log);
            for line in log.lines() {
                prop_assert!(held || !line.contains("announce") , "{}", log);
                held |= line.contains("OURS");
            }
            let limit = 5 + 4 * milliseconds.div_ceil(1000);
            prop_assert!(log.lines().count() as u64 <= limit, "{}", log);
        }
        script.log.clear();
        let start = script.now;
        for _ in 0..200 {
            script.hear(claims(OTHER));
            script.pass(100);
        }
        let spent = (script.now - start).as_secs() / DEFEND.as_secs() + 1;
        let announced = script.log.lines().filter(|line| line.contains("announce")).count() as u64;
        // Those of a check that was under way come on top.
        prop_assert!(!held || announced <= spent + 2, "{}", script.log);
        script.pass(2 * CALM.as_millis() as u64);
        prop_assert!(script.claim.rival.is_none());
    }
}
