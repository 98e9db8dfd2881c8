// SPDX-License-Identifier: Apache-2.0
//! Ways through an upgrade, look by look.

use super::*;
use expect_test::{Expect, expect};
use serde_json::{Value, json};

fn things(all: &[(&str, Value)]) -> Vec<Thing> {
    let thing =
        |(name, status): &(&str, Value)| Thing { name: (*name).to_owned(), status: status.clone() };
    all.iter().map(thing).collect()
}

fn version(boot: u64, version: &str) -> VersionResponse {
    VersionResponse {
        boot_id: format!("id of {boot}"),
        boot,
        version: version.to_owned(),
        mode: Mode::Running.into(),
        ..VersionResponse::default()
    }
}

/// What a look in this boot sees; `running` is the slot with this version, in this state.
fn sight(boot: u64, running: &str, state: &str, gate: Value) -> Sight {
    let image = |version: &str, other: &str| Image {
        slot: format!("stele_{version}.efi"),
        version: version.to_owned(),
        state: if running == version { state.to_owned() } else { other.to_owned() },
        running: running == version,
    };
    Sight {
        version: version(boot, running),
        images: vec![image("1.1.0", "bad"), image("1.0.0", "good")],
        gate: things(&[("gate", gate)]).pop(),
        checks: Vec::new(),
        boots: Vec::new(),
    }
}

fn pending(waiting: &str) -> Value {
    json!({"state": "pending", "reason": format!("waiting for {waiting}"), "deadline": 180.0})
}

fn check(name: &'static str, state: &str, since: f64) -> (&'static str, Value) {
    (name, json!({"state": state, "need": "required", "reason": "refused", "since": since}))
}

fn failed(image: &str, started: &str, ended: &str, cause: &str) -> Value {
    json!({"image": image, "generation": 1, "started": started, "health": "failed", "ended": ended, "cause": cause})
}

/// What is told on the way, a second between two looks, and how it ends.
fn walk(sights: &[Sight], expected: &Expect) {
    let leaving = Leaving { version: version(7, "1.0.0"), slot: "stele_1.0.0.efi".to_owned() };
    let mut way = Way::new(leaving, "stele_1.1.0.efi");
    let begun = Instant::now();
    let mut said = String::new();
    for (second, sight) in (0..).zip(sights) {
        let mut say = |word| {
            said.push_str(&match word {
                Word::Note(text) | Word::Step(text) => format!("* {text}\n"),
                Word::Now(text, left) => format!("{text}{left}\n"),
            });
        };
        if let Some(arrival) = way.step(sight, begun + Duration::from_secs(second), &mut say) {
            said.push_str(&match arrival {
                Arrival::Good(image) => format!("good: {}\n", image.slot),
                Arrival::WentBack(why) => format!("went back: {why}\n"),
            });
        }
    }
    expected.assert_eq(&said);
}

#[test]
fn each_check_turns_green() {
    let mut first = sight(
        8,
        "1.1.0",
        "trying",
        json!({"state": "pending", "reason": "the machine comes up", "deadline": 180.0}),
    );
    first.checks = things(&[check("system/api", "unknown", 0.0), check("web", "unknown", 0.0)]);
    let mut second = sight(8, "1.1.0", "trying", pending("web"));
    second.checks = things(&[check("system/api", "passing", 14.0), check("web", "failing", 12.0)]);
    let mut third = sight(8, "1.1.0", "trying", pending("system/api"));
    third.checks = things(&[check("system/api", "failing", 15.0), check("web", "passing", 15.0)]);
    let mut fourth = sight(8, "1.1.0", "good", json!({"state": "passed"}));
    fourth.checks = things(&[check("system/api", "passing", 16.0), check("web", "passing", 15.0)]);
    walk(
        &[first, second.clone(), second, third, fourth],
        &expect![[r#"
        1.1.0 is on trial: 0 of 2 required checks pass, the machine comes up; 3m left
        * system/api passes
        1.1.0 is on trial: 1 of 2 required checks pass, waiting for web; 2m46s left
        1.1.0 is on trial: 1 of 2 required checks pass, waiting for web; 2m45s left
        * system/api fails again: refused
        * web passes
        1.1.0 is on trial: 1 of 2 required checks pass, waiting for system/api; 2m44s left
        * system/api passes
        good: stele_1.1.0.efi
    "#]],
    );
}

#[test]
fn a_second_try_may_do() {
    let mut second = sight(9, "1.1.0", "trying", pending("web"));
    second.boots = things(&[
        ("9", json!({"image": "1.1.0", "started": "try 2"})),
        ("8", failed("1.1.0", "try 1", "panic", "kernel panic: oh")),
        ("7", json!({"ended": "reboot"})),
    ]);
    let good = Sight { gate: None, ..sight(9, "1.1.0", "good", Value::Null) };
    walk(
        &[sight(8, "1.1.0", "trying", pending("web")), second.clone(), second, good],
        &expect![[r#"
            1.1.0 is on trial: 0 of 0 required checks pass, waiting for web; 3m left
            * boot 8 of 1.1.0 (try 1) failed: kernel panic: oh
            1.1.0 is on trial: 0 of 0 required checks pass, waiting for web; 3m left
            1.1.0 is on trial: 0 of 0 required checks pass, waiting for web; 2m59s left
            good: stele_1.1.0.efi
        "#]],
    );
}

#[test]
fn back_and_why() {
    let boots = things(&[
        ("10", json!({"image": "1.0.0", "started": "fallback from 1.1.0"})),
        ("9", failed("1.1.0", "try 2", "panic", "kernel panic: no init")),
        ("8", failed("1.1.0", "try 1", "reboot", "web: refused")),
    ]);
    let failing = sight(8, "1.1.0", "trying", json!({"state": "failed", "reason": "web: refused"}));
    let back =
        Sight { boots: boots.clone(), ..sight(10, "1.0.0", "good", pending("system/services")) };
    let settled = Sight { boots, ..sight(10, "1.0.0", "good", json!({"state": "passed"})) };
    walk(
        &[failing, back, settled],
        &expect![[r#"
            1.1.0 failed its health gate: web: refused
            * boot 8 of 1.1.0 (try 1) failed: web: refused
            * boot 9 of 1.1.0 (try 2) failed: kernel panic: no init
            1.0.0 is back, and has to prove itself: 0 of 0 required checks pass, waiting for system/services; 3m left
            went back: The node went back: it runs 1.0.0, because 1.1.0 failed: kernel panic: no init
              ctl boots 9 shows all that is known of it, ctl logs panic --boot 9 what it left behind
        "#]],
    );
    // Of a node that keeps no records.
    let old = Sight { gate: None, ..sight(9, "1.0.0", "good", Value::Null) };
    walk(
        &[old],
        &expect![[r#"
        went back: The node went back: it runs 1.0.0, and not stele_1.1.0.efi, which is bad
          ctl logs kernel --boot -1 shows how the boot before ended, and ctl slots what there is
    "#]],
    );
}

#[test]
fn both_bad() {
    let mut safe = sight(11, "1.0.0", "good", json!({"state": "none"}));
    safe.version.mode = Mode::Safe.into();
    safe.version.reason =
        "1.1.0 failed (web: refused), and so did 1.0.0 after it (web: refused)".to_owned();
    safe.boots = things(&[
        ("11", json!({"image": "1.0.0", "started": "safe mode"})),
        ("10", failed("1.0.0", "fallback from 1.1.0", "reboot", "web: refused")),
        ("9", failed("1.1.0", "try 3", "reboot", "web: refused")),
    ]);
    walk(
        &[safe],
        &expect![[r#"
        * boot 9 of 1.1.0 (try 3) failed: web: refused
        * boot 10 of 1.0.0 (fallback from 1.1.0) failed: web: refused
        went back: The node is in SAFE MODE, and waits for a person: 1.1.0 failed (web: refused), and so did 1.0.0 after it (web: refused)
          ctl status says what can be done; ctl boots 9 shows all that is known of it, ctl logs kernel --boot 9 what it left behind
    "#]],
    );
}
