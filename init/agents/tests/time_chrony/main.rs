// SPDX-License-Identifier: Apache-2.0
//! The time agent against chrony, in network namespaces of their own, with a clock of its own: nothing leaves them, and this
//! machine's clock stays as it is.

mod lab;

use lab::{Lab, PATIENCE};
use std::{
    thread,
    time::{Duration, Instant},
};
use stele_proto::internal::{TimeTask, time_report::State};

const YEAR: i64 = 365 * 86_400;
/// Seconds since the epoch: the build of an image.
const BUILT: i64 = 1_700_000_000;

fn task() -> TimeTask {
    TimeTask { step_seconds: 900, floor: BUILT, ..TimeTask::default() }
}

/// Seconds since the epoch.
fn now() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().expect("a clock");
    i64::try_from(since.as_secs()).expect("a time")
}

#[test]
fn a_clock_that_is_behind_finds_the_time_by_nts_alone() {
    // As PID 1 leaves a machine without a battery: at its image's build.
    let mut lab = Lab::new("behind", BUILT - now());
    let reports = lab.agent(&TimeTask { servers: vec![lab.server(true)], ..task() });
    let report = reports.wait_for(State::Synchronized);
    assert!(lab.off().abs() < 1.0, "the clock is off by {} s", lab.off());
    let [source] = &report.sources[..] else { panic!("one source: {report:?}") };
    assert!(source.authenticated && source.reachable, "{source:?}");
    assert_eq!((source.name.as_str(), report.stratum), ("10.78.0.1:4460", 4));
}

#[test]
fn a_clock_that_is_20_years_ahead_is_set_back() {
    let mut lab = Lab::new("ahead", 20 * YEAR);
    let reports = lab.agent(&TimeTask { servers: vec![lab.server(false)], ..task() });
    let report = reports.wait_for(State::Synchronized);
    assert!(lab.off().abs() < 1.0, "the clock is off by {} s", lab.off());
    assert!(report.sources.iter().all(|source| !source.authenticated), "{report:?}");
}

#[test]
fn nothing_is_believed_without_a_certificate_that_someone_trusted_has_signed() {
    let mut lab = Lab::new("stranger", -YEAR);
    let mut server = lab.server(true);
    server.ca = Lab::new("another", 0).authority.clone();
    let reports = lab.agent(&TimeTask { servers: vec![server], ..task() });
    let report = loop {
        let report = reports.wait_for(State::Waiting);
        if report.reason.contains("ertificate") {
            break report;
        }
    };
    assert!(report.sources.is_empty(), "{report:?}");
    assert!(
        (lab.off() + YEAR as f64).abs() < 1.0,
        "the clock was set, and is off by {} s",
        lab.off()
    );
}

#[test]
fn a_clock_that_jumps_is_set_right() {
    let mut lab = Lab::new("jump", 0);
    let reports = lab.agent(&TimeTask { servers: vec![lab.server(false)], ..task() });
    reports.settle();
    lab.set_clock(300);
    let begun = Instant::now();
    while lab.off().abs() > 1.0 {
        assert!(begun.elapsed() < PATIENCE, "the clock is still off by {} s", lab.off());
        thread::sleep(Duration::from_millis(500));
    }
    reports.wait_for(State::Synchronized);
}

#[test]
fn a_clock_that_was_right_is_not_set_beyond_its_limits() {
    let mut lab = Lab::new("leap", 0);
    let reports = lab.agent(&TimeTask { servers: vec![lab.server(false)], ..task() });
    reports.settle();
    lab.set_clock(3_600);
    let report = reports.wait_for(State::Refused);
    assert!(report.reason.contains("more than 900 s"), "{report:?}");
    assert!((lab.off() - 3_600.0).abs() < 1.0, "the clock was set, and is off by {} s", lab.off());
}

#[test]
fn a_server_from_before_the_floor_is_not_believed() {
    let mut lab = Lab::new("floor", 2 * 86_400);
    let floor = now() + 86_400;
    let reports = lab.agent(&TimeTask { servers: vec![lab.server(false)], floor, ..task() });
    let report = reports.wait_for(State::Refused);
    assert!(report.reason.contains("before"), "{report:?}");
    assert!(lab.off() > 100_000.0, "the clock was set back");
}

#[test]
fn a_server_that_goes_is_missed_and_one_that_comes_back_is_followed_again() {
    let mut lab = Lab::new("gone", 0);
    let reports = lab.agent(&TimeTask { servers: vec![lab.server(false)], ..task() });
    reports.wait_for(State::Synchronized);
    lab.leave();
    let report = reports.wait_for(State::Holding);
    assert!(report.reason.contains("answers"), "{report:?}");
    lab.serve();
    reports.wait_for(State::Synchronized);
}
