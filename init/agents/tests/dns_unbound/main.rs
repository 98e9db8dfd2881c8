// SPDX-License-Identifier: Apache-2.0
//! The dns agent against unbound, and against servers that are none, in network namespaces of their own: nothing leaves them.

mod lab;

use hickory_proto::{op::ResponseCode, rr::RecordType};
use lab::{Lab, NAME, PATIENCE, question, said};
use std::{
    thread,
    time::{Duration, Instant},
};

/// Until the resolvers of C libraries lose their patience.
const DEADLINE: Duration = Duration::from_secs(5);

/// Asks for all of these at once: each has an answer in time.
fn all_in_time(lab: &Lab, names: &[&str]) {
    thread::scope(|scope| {
        for name in names {
            scope.spawn(move || {
                let begun = Instant::now();
                let answer = lab.ask(name, RecordType::A);
                assert_ne!(answer.metadata.response_code, ResponseCode::ServFail, "{name}");
                assert!(begun.elapsed() < DEADLINE, "{name}: {:?}", begun.elapsed());
            });
        }
    });
}

#[test]
fn names_are_resolved_and_remembered_for_as_long_as_they_hold() {
    let mut lab = Lab::new("dns-plain");
    lab.serve(1);
    let reports = lab.agent(&[("10.79.0.1:53", "")]);
    let first = lab.ask("web.example.", RecordType::A);
    assert_eq!(said(&first), (ResponseCode::NoError, "192.0.2.1".to_owned()));
    assert!(first.metadata.recursion_available && first.edns.is_none(), "{first}");
    assert_eq!(said(&lab.ask("web.example.", RecordType::AAAA)).1, "2001:db8::1");
    assert_eq!(said(&lab.ask("short.example.", RecordType::A)).1, "192.0.2.1");
    let absent = lab.ask("absent.example.", RecordType::A);
    assert_eq!(absent.metadata.response_code, ResponseCode::NXDomain);
    let empty = lab.ask("web.example.", RecordType::MX);
    assert_eq!(said(&empty), (ResponseCode::NoError, String::new()));

    lab.leave();
    thread::sleep(Duration::from_millis(1100));
    let again = lab.ask("WEB.example.", RecordType::A);
    assert_eq!(said(&again), said(&first));
    assert!(again.answers[0].ttl < first.answers[0].ttl, "{again}");
    assert_eq!(
        lab.ask("absent.example.", RecordType::A).metadata.response_code,
        ResponseCode::NXDomain
    );
    assert_eq!(said(&lab.ask("web.example.", RecordType::MX)), said(&empty));
    let gone = lab.ask("short.example.", RecordType::A);
    assert_eq!(gone.metadata.response_code, ResponseCode::ServFail, "its time is over");
    let report = reports
        .wait_for("a server that has gone", |report| report.servers[0].reason.contains("refused"));
    assert_eq!((report.hits, report.misses, report.failures), (3, 6, 1), "{report:?}");
    assert_eq!(report.servers[0].answers, 5);
}

#[test]
fn a_long_answer_comes_over_a_connection() {
    let mut lab = Lab::new("dns-long");
    lab.serve(1);
    let _reports = lab.agent(&[("10.79.0.1:53", "")]);
    let short = lab.ask("long.example.", RecordType::TXT);
    assert!(short.metadata.truncation && short.answers.is_empty(), "{short}");
    let long = lab.ask_long("long.example.", RecordType::TXT);
    assert!(!long.metadata.truncation && long.answers.len() == 100, "{long}");
    // As much as fits, for one who takes more than the shortest datagram.
    let asked = question("web.example.", RecordType::A, Some(1232)).to_vec().unwrap();
    let answer = lab.send(vec![asked], PATIENCE).unwrap();
    assert!(answer.edns.is_some() && answer.answers.len() == 1, "{answer}");
}

#[test]
fn a_server_with_a_name_is_asked_over_tls_alone() {
    let mut lab = Lab::new("dns-tls");
    lab.serve(1);
    lab.serve(2);
    let reports = lab.agent(&[("10.79.0.1:853", NAME)]);
    for _ in 0..3 {
        assert_eq!(said(&lab.ask("web.example.", RecordType::A)).1, "192.0.2.1");
    }
    assert_eq!(lab.ask_long("long.example.", RecordType::TXT).answers.len(), 100);
    let report = reports.wait_for("figures", |report| report.misses == 2);
    assert_eq!((report.hits, report.failures, report.servers[0].answers), (2, 0, 2));
}

#[test]
fn a_server_that_has_another_name_is_not_believed() {
    let mut lab = Lab::new("dns-name");
    lab.serve(1);
    let reports = lab.agent(&[("10.79.0.1:853", "other.example")]);
    let begun = Instant::now();
    let answer = lab.ask("web.example.", RecordType::A);
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    assert!(begun.elapsed() < DEADLINE, "{:?}", begun.elapsed());
    let report = reports.wait_for("why", |report| !report.servers[0].reason.is_empty());
    assert!(report.servers[0].reason.contains("ertificate"), "{report:?}");
    assert!(report.servers[0].reason.contains("dns.example"), "{report:?}");
}

#[test]
fn the_next_server_answers_for_one_that_has_gone() {
    let mut lab = Lab::new("dns-gone");
    lab.serve(2);
    // Nobody has the first address; the second refuses, and the third is there.
    let reports = lab.agent(&[("10.79.0.9:53", ""), ("10.79.0.3:53", ""), ("10.79.0.2:53", "")]);
    all_in_time(&lab, &["web.example.", "short.example.", "absent.example."]);
    assert_eq!(said(&lab.ask("web.example.", RecordType::A)).1, "192.0.2.2");
    let report = reports.wait_for("why not", |report| {
        report.servers.iter().filter(|server| !server.reason.is_empty()).count() == 2
    });
    assert!(report.servers[2].reason.is_empty(), "{report:?}");

    lab.leave();
    let begun = Instant::now();
    let answer = lab.ask("other.example.", RecordType::A);
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    assert!(begun.elapsed() < DEADLINE, "{:?}", begun.elapsed());
    lab.serve(2);
    assert_eq!(said(&lab.ask("web.example.", RecordType::AAAA)).1, "2001:db8::2");
}

#[test]
fn without_a_server_every_question_fails_at_once() {
    let mut lab = Lab::new("dns-none");
    let _reports = lab.agent(&[]);
    let begun = Instant::now();
    let answer = lab.ask("web.example.", RecordType::A);
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[test]
fn strange_answers_do_no_harm() {
    let mut lab = Lab::new("dns-strange");
    lab.serve(2);
    let mut turn = 0;
    lab.answer(move |question| {
        turn += 1;
        let mut answer = question.to_vec();
        answer[2] |= 0x80;
        match turn % 6 {
            // A few of its bytes.
            0 => answer.truncate(turn % 20),
            // More records than there are.
            1 => answer[6..12].fill(0xff),
            // A name that refers to itself.
            2 => answer[12..14].copy_from_slice(&[0xc0, 12]),
            // Another number, and another name.
            3 => answer[1] ^= 1,
            4 => answer[13] ^= 1,
            // The question itself.
            _ => answer[2] = question[2],
        }
        answer
    });
    let reports = lab.agent(&[("10.79.0.1:53", ""), ("10.79.0.2:53", "")]);
    all_in_time(
        &lab,
        &["web.example.", "short.example.", "long.example.", "absent.example.", "example."],
    );
    reports.wait_for("what is wrong", |report| !report.servers[0].reason.is_empty());
}

#[test]
fn strange_questions_do_no_harm() {
    let mut lab = Lab::new("dns-questions");
    lab.serve(1);
    let _reports = lab.agent(&[("10.79.0.1:53", "")]);
    let good = question("web.example.", RecordType::A, Some(4096)).to_vec().unwrap();
    for length in 0..good.len() {
        let cut = vec![good[..length].to_vec()];
        let code = lab.send(cut, Duration::from_millis(20)).map(|it| it.metadata.response_code);
        assert!(matches!(code, None | Some(ResponseCode::FormErr)), "{length}: {code:?}");
    }
    let changed = |seed: usize| {
        let mut bytes = good.clone();
        bytes[seed % good.len()] ^= (seed / 7) as u8;
        bytes
    };
    lab.send((0..5000).map(changed).collect(), Duration::from_millis(20));
    // What was asked in vain is over by then.
    thread::sleep(DEADLINE);
    let transfer = question("example.", RecordType::AXFR, None).to_vec().unwrap();
    let refused = lab.send(vec![transfer], PATIENCE).unwrap();
    assert_eq!(refused.metadata.response_code, ResponseCode::Refused);
    assert_eq!(said(&lab.ask("web.example.", RecordType::A)).1, "192.0.2.1");
    assert!(lab.memory() < 32 * 1024, "{} KiB", lab.memory());
}
