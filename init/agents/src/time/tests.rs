// SPDX-License-Identifier: Apache-2.0
use super::{config, daemon::complained, report, snapshot::Snapshot};
use expect_test::expect;
use std::path::PathBuf;
use stele_proto::internal::{TimeServer, TimeTask, time_report::State};

fn server(host: &str, nts: bool) -> TimeServer {
    let port = if nts { 4460 } else { 123 };
    TimeServer { host: host.to_owned(), port, nts, ca: String::new() }
}

fn text(task: &TimeTask, was_right: bool) -> String {
    let files = config::Files(PathBuf::from("/run"));
    config::text(task, &files, was_right, 1_000)
}

#[test]
fn a_clock_that_was_not_right_yet_goes_anywhere_but_before_the_floor() {
    let task = TimeTask {
        servers: vec![
            server("time.example", true),
            server("[2001:db8::1]", false),
            server("c", false),
        ],
        step_seconds: 900,
        floor: 400,
        ..TimeTask::default()
    };
    expect![[r#"
        [observability]
        log-level = "info"
        ansi-colors = false
        observation-path = "/run/observe"
        observation-permissions = 0o600

        [synchronization]
        minimum-agreeing-sources = 2
        warn-on-jump = false
        startup-step-panic-threshold = { forward = "inf", backward = 600 }
        single-step-panic-threshold = { forward = 900, backward = 600 }

        [source-defaults]
        initial-poll-interval = 1

        [[source]]
        address = "time.example:4460"
        mode = "nts"
        certificate-authority = "/run/authorities-0.pem"

        [[source]]
        address = "[2001:db8::1]:123"
        mode = "server"

        [[source]]
        address = "c:123"
        mode = "server"
    "#]]
    .assert_eq(&text(&task, false));
}

#[test]
fn a_clock_that_was_right_stays_within_its_limits() {
    let task = TimeTask {
        servers: vec![server("a", false)],
        ptp: "/dev/ptp0".to_owned(),
        slew_milliseconds: 1_500,
        step_seconds: 60,
        ..TimeTask::default()
    };
    expect![[r#"
        [observability]
        log-level = "info"
        ansi-colors = false
        observation-path = "/run/observe"
        observation-permissions = 0o600

        [synchronization]
        minimum-agreeing-sources = 1
        warn-on-jump = false
        startup-step-panic-threshold = { forward = 60, backward = 60 }
        single-step-panic-threshold = { forward = 60, backward = 60 }

        [synchronization.algorithm]
        step-threshold = 1.5

        [source-defaults]
        initial-poll-interval = 1

        [[source]]
        address = "a:123"
        mode = "server"

        [[source]]
        mode = "sock"
        path = "/run/samples"
        precision = 1e-5
        accuracy = 1e-5
    "#]]
    .assert_eq(&text(&task, true));
}

fn seen(leap: &str, sources: &str) -> Snapshot {
    let text =
        format!(r#"{{"system":{{"stratum":3,"leap_indicator":"{leap}"}},"sources":[{sources}]}}"#);
    serde_json::from_str(&text).unwrap()
}

fn source(unanswered: u32) -> String {
    format!(
        r#"{{"offset":0.0000014,"uncertainty":0.001,"delay":0.002,"unanswered_polls":{unanswered},
            "nts_cookies":8,"name":"a:4460","address":"192.0.2.1:123"}}"#
    )
}

#[test]
fn what_the_daemon_sees_means_something() {
    let state = |seen: &Snapshot, held| {
        let report = report(seen, "", held);
        (report.state(), report.stratum, report.reason)
    };
    let (good, stale) = (seen("NoWarning", &source(0)), seen("NoWarning", &source(4)));
    assert_eq!(state(&good, true), (State::Synchronized, 3, String::new()));
    assert_eq!(state(&stale, true).0, State::Holding);
    assert_eq!(state(&seen("NoWarning", ""), true).0, State::Holding);
    assert_eq!(state(&seen("Unknown", &source(0)), false).0, State::Waiting);
    assert_eq!(
        state(&seen("Unknown", ""), false),
        (State::Waiting, 16, "no source has answered yet".to_owned())
    );
    let why = report(&seen("Unknown", ""), "certificate expired", false).reason;
    assert_eq!(why, "no source has answered yet: certificate expired");
    let [source] = &report(&good, "", true).sources[..] else { panic!("one source") };
    assert!(source.authenticated && source.reachable);
    assert!((source.offset - 1e-6).abs() < 1e-12);
}

#[test]
fn complaints_are_found_among_the_words_of_the_daemon() {
    let of = |line: &str| complained(line).unwrap_or_default();
    assert_eq!(
        of("2026-11-21T23:00:00.1Z  WARN ntpd::daemon::spawn::nts: it failed: why"),
        "it failed: why"
    );
    assert_eq!(
        of("2026-11-21T23:00:00.1Z ERROR Source{id=1}: ntp_proto::algorithm: too far"),
        "too far"
    );
    assert_eq!(of("2026-11-21T23:00:00.1Z  INFO ntpd: all is well"), "");
    assert_eq!(of(""), "");
}
