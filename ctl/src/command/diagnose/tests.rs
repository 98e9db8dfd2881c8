// SPDX-License-Identifier: Apache-2.0
//! What is read from the command line, and what is shown.

use super::*;
use expect_test::expect;
use stele_proto::v1::{
    CaptureFilter, HttpFacts, PingReply, ProbeResponse, ResolveResponse, TlsFacts, TracerouteHop,
    TracerouteTry,
};

#[test]
fn durations_may_be_short() {
    assert_eq!(millis("200ms").unwrap(), 200);
    assert_eq!(millis("10s").unwrap(), 10_000);
    for text in ["", "ms", "0ms", "-1ms", "5", "99999w"] {
        assert!(millis(text).is_err(), "{text}");
    }
}

#[test]
fn filters() {
    let check = |text: &str, host: &str, port: u32, protocol: &str| {
        let expected = CaptureFilter { host: host.into(), port, protocol: protocol.into() };
        assert_eq!(pcap::filter(text), Ok(expected), "{text}");
    };
    check("", "", 0, "");
    check("host 10.0.0.5", "10.0.0.5", 0, "");
    check("udp port 53", "", 53, "udp");
    check("host fd00::1 and port 53 and proto tcp", "fd00::1", 53, "tcp");
    check("icmp6", "", 0, "icmp6");
}

#[test]
fn what_is_no_filter_says_why() {
    let why = |text| pcap::filter(text).unwrap_err();
    assert_eq!(why("host"), "nothing follows \"host\"");
    assert_eq!(why("host web.example"), "\"web.example\" is not an address");
    assert_eq!(why("port 0"), "\"0\" is not a port");
    assert_eq!(why("tcp and udp"), "there are two of \"udp\", and no packet has both");
    for text in ["and tcp", "tcp and", "tcp and and port 5"] {
        assert_eq!(why(text), "\"and\" stands between two conditions", "{text}");
    }
    assert!(why("src 10.0.0.1").contains("neither host, port nor proto"));
}

#[test]
fn pings_in_one_line() {
    let reply = |time_us| PingReply { address: "a".into(), time_us, ..PingReply::default() };
    assert_eq!(
        ping::summary(&[reply(3000), PingReply::default(), reply(1000), reply(2500)]),
        "3 of 4 answered: 1.00 ms at least, 2.50 ms median, 3.00 ms at most"
    );
    assert_eq!(ping::summary(&[PingReply::default()]), "0 of 1 answered");
}

#[test]
fn a_hop_names_each_router_once() {
    let tried = |address: &str, reason: &str| TracerouteTry {
        address: address.into(),
        time_us: 1500,
        reason: reason.into(),
    };
    let tries =
        vec![tried("10.0.0.1", ""), tried("10.0.0.1", ""), tried("", ""), tried("10.0.0.2", "no")];
    let line = traceroute::line(&TracerouteHop { hop: 3, tries, last: false });
    assert_eq!(line, " 3  10.0.0.1  1.50 ms  1.50 ms  *  10.0.0.2  1.50 ms  (no)");
}

#[test]
fn answers_of_servers() {
    let response = ResolveResponse {
        code: "NoError".into(),
        server: "10.0.2.3:53".into(),
        authoritative: true,
        time_us: 450,
        ..ResolveResponse::default()
    };
    let head = "NoError from 10.0.2.3:53, which speaks for the name, after 0.45 ms";
    assert_eq!(dig::head(&response), head);
    let tls = TlsFacts {
        version: "TLSv1_3".into(),
        cipher: "TLS13_AES_128_GCM_SHA256".into(),
        alpn: "h2".into(),
        certificates: vec![vec![1]],
    };
    let mut seen = ProbeResponse {
        reason: "invalid peer certificate: UnknownIssuer".into(),
        address: "10.0.0.5:443".into(),
        connect_us: 300,
        handshake_us: 2000,
        total_us: 2500,
        tls: Some(tls),
        ..ProbeResponse::default()
    };
    expect![[r#"
        web:443 fails at 10.0.0.5:443 after 2.50 ms: invalid peer certificate: UnknownIssuer
          connection 0.30 ms, handshake 2.00 ms: TLSv1_3, TLS13_AES_128_GCM_SHA256, h2
          a certificate that can't be read
    "#]]
    .assert_eq(&probe::lines("web:443", &seen));
    seen.ok = true;
    seen.tls = None;
    seen.http = Some(HttpFacts {
        status: 301,
        version: "HTTP/1.1".into(),
        location: "https://web/".into(),
        body_bytes: 162,
        ..HttpFacts::default()
    });
    expect![[r#"
        http://web/ answers at 10.0.0.5:443 after 2.50 ms
          HTTP/1.1 301, 162 B, to https://web/
    "#]]
    .assert_eq(&probe::lines("http://web/", &seen));
}
