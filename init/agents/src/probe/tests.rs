// SPDX-License-Identifier: Apache-2.0
//! The task, and what is said. What is tried is tested against real servers, in `tests/probe_servers.rs`.

use super::*;

#[test]
fn a_task() {
    let task = parse(
        r#"{"checks":[
            {"name":"web","intervalMs":1000,"timeoutMs":500,"http":{"url":"http://127.0.0.1:8080/","status":200}},
            {"name":"db","intervalMs":1000,"timeoutMs":500,"tcp":{"address":"[::1]:5432"}},
            {"name":"names","intervalMs":1000,"timeoutMs":500,"dns":{"name":"example.com","server":"10.0.2.3"}},
            {"name":"probe/gate","intervalMs":1000,"timeoutMs":500,"icmp":{"address":"fd00::1"}},
            {"name":"any","intervalMs":1000,"timeoutMs":500,"dns":{"name":"example.com"}},
            {"name":"system/api","intervalMs":1000,"timeoutMs":500,"api":{"address":"127.0.0.1:50000","ca":"PEM","serverName":"node-1"}}
        ]}"#,
    )
    .unwrap();
    let said: Vec<String> = task.checks.iter().map(|check| check.probe.what()).collect();
    assert_eq!(
        said,
        [
            "GET http://127.0.0.1:8080/",
            "connecting to [::1]:5432",
            "resolving example.com at 10.0.2.3",
            "an echo request to fd00::1",
            "resolving example.com",
            "connecting to the API at 127.0.0.1:50000",
        ]
    );
}

#[test]
fn no_task() {
    for text in [
        "",
        "{}",
        r#"{"checks":[{"name":"a","intervalMs":1,"timeoutMs":1}]}"#,
        r#"{"checks":[{"name":"a","intervalMs":1,"timeoutMs":1,"ping":{}}]}"#,
        r#"{"checks":[{"name":"a","intervalMs":1,"timeoutMs":1,"tcp":{"address":"nowhere"}}]}"#,
        r#"{"checks":[{"name":"a","intervalMs":1,"timeoutMs":1,"icmp":{"address":"a:1"}}]}"#,
        r#"{"checks":[{"name":"a","intervalMs":1,"timeoutMs":1,"dns":{"name":"a","server":"b"}}]}"#,
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
}

#[test]
fn words_of_strangers() {
    assert_eq!(plain("a\r\n\u{1b}[31mb"), "a[31mb");
    assert_eq!(plain(&"é".repeat(1000)).chars().count(), LONGEST_TEXT);
}

#[test]
fn each_cause_once() {
    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }
    let layer = |text, source: Option<Layer>| Layer { text, source: source.map(Box::new) };
    let refused = layer("refused", None);
    let connect = layer("connecting: refused", Some(refused));
    let client = layer("client error (Connect)", Some(connect));
    let all = layer("error sending request for url (http://a/)", Some(client));
    assert_eq!(explain(&all), "connecting: refused");
    assert_eq!(explain(&layer("client error (Connect)", None)), "client error (Connect)");
}

#[test]
fn what_is_said_of_a_certificate_s_time_comes_with_the_machine_s() {
    let said = super::doubtful("invalid peer certificate: certificate expired".to_owned());
    assert!(said.starts_with("invalid peer certificate: certificate expired; "), "{said}");
    assert!(said.contains("20") && said.contains('Z'), "{said}");
    assert_eq!(super::doubtful("the lease has expired".to_owned()), "the lease has expired");
}
