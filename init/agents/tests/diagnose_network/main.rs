// SPDX-License-Identifier: Apache-2.0
//! The diagnose agent in network namespaces of its own: nothing leaves them. What it captures is read by the real tcpdump.
//!
//! ```text
//!   here (agent) 10.78.0.2 ─── 10.78.0.1 router 10.79.0.1 ─── 10.79.0.9 there (dnsmasq)
//!                fd78::2       fd78::1          fd79::1       fd79::9
//! ```

mod lab;

use lab::{Lab, ping, run};
use std::path::Path;
use stele_proto::v1::{
    CaptureChunk, CaptureFilter, CaptureRequest, HttpProbe, PingReply, PingRequest, ProbeRequest,
    ProbeResponse, ResolveRequest, ResolveResponse, TcpProbe, TlsProbe, TracerouteHop,
    TracerouteRequest, probe_request::Target,
};

fn limits() -> CaptureRequest {
    CaptureRequest {
        count: 1000,
        duration_ms: 2000,
        bytes: 1_000_000,
        snap_length: 65_535,
        ..CaptureRequest::default()
    }
}

#[test]
fn a_host_answers_each_request() {
    let lab = Lab::new("ping");
    for (host, ttl) in [("10.78.0.1", 64), ("10.79.0.9", 63), ("fd79::9", 0)] {
        let replies: Vec<PingReply> = lab.ask("ping", &ping(host));
        assert_eq!(replies.len(), 3, "{replies:?}");
        for (reply, sequence) in replies.iter().zip(1..) {
            assert_eq!((reply.sequence, reply.address.as_str()), (sequence, host));
            assert_eq!((reply.ttl, reply.reason.as_str()), (ttl, ""));
            assert!((1..500_000).contains(&reply.time_us), "{reply:?}");
        }
    }
}

#[test]
fn what_does_not_answer_is_told_apart() {
    let lab = Lab::new("lost");
    lab.ip("router", "route add blackhole 192.0.2.1");
    lab.ip("router", "route add unreachable 192.0.2.2");
    lab.ip("here", "route add unreachable 192.0.2.3");
    let reply =
        |host| lab.ask::<PingReply>("ping", &PingRequest { count: 1, ..ping(host) })[0].clone();
    assert_eq!((reply("192.0.2.1").address, reply("192.0.2.1").reason), <_>::default());
    let refused = reply("192.0.2.2");
    assert_eq!(refused.address, "10.78.0.1");
    assert_eq!(refused.reason, "the host is unreachable");
    assert!(
        reply("192.0.2.3").reason.to_lowercase().contains("no route"),
        "{:?}",
        reply("192.0.2.3")
    );
    let (replies, complaint) = Lab::end::<PingReply>(lab.begin("ping", &ping("a..b")));
    assert!(replies.is_empty() && complaint.starts_with("looking up a..b: "), "{complaint}");
}

#[test]
fn each_hop_of_the_way() {
    let lab = Lab::new("trace");
    for (host, router) in [("10.79.0.9", "10.78.0.1"), ("fd79::9", "fd78::1")] {
        let request = TracerouteRequest {
            host: host.to_owned(),
            max_hops: 10,
            tries: 2,
            timeout_ms: 500,
            ..TracerouteRequest::default()
        };
        let hops: Vec<TracerouteHop> = lab.ask("traceroute", &request);
        let way: Vec<(u32, &str, bool)> =
            hops.iter().map(|hop| (hop.hop, hop.tries[0].address.as_str(), hop.last)).collect();
        assert_eq!(way, [(1, router, false), (2, host, true)]);
        assert!(hops.iter().flat_map(|hop| &hop.tries).all(|tried| !tried.address.is_empty()));
    }
}

#[test]
fn a_name_server_is_asked() {
    let mut lab = Lab::new("resolve");
    lab.serve_names();
    let ask = |name: &str, kind: &str| -> ResolveResponse {
        let request = ResolveRequest {
            name: name.to_owned(),
            r#type: kind.to_owned(),
            server: "10.79.0.9".to_owned(),
            timeout_ms: 2000,
        };
        lab.ask("resolve", &request).remove(0)
    };
    let address = ask("web.lab", "");
    assert_eq!((address.code.as_str(), address.server.as_str()), ("NoError", "10.79.0.9:53"));
    assert!(address.authoritative);
    let record = &address.answers[0];
    assert_eq!((record.name.as_str(), record.r#type.as_str(), record.ttl), ("web.lab.", "A", 300));
    let data = |name, kind| ask(name, kind).answers.remove(0).data;
    assert_eq!(data("web.lab", "AAAA"), "fd79::9");
    assert_eq!(data("web.lab", "mx"), "10 mail.lab.");
    assert!(data("web.lab", "TXT").contains("two words"));
    assert_eq!(data("10.79.0.9", ""), "web.lab.");
    assert_eq!(ask("nothing.lab", "").code, "NXDomain");
}

#[test]
fn a_host_is_found_as_every_program_finds_it() {
    let mut lab = Lab::new("host");
    lab.serve_names();
    lab.ask_names();
    let request =
        |name: &str| ResolveRequest { name: name.to_owned(), ..ResolveRequest::default() };
    let found = lab.ask::<ResolveResponse>("addresses", &request("web.lab")).remove(0);
    let mut addresses: Vec<&str> =
        found.answers.iter().map(|record| record.data.as_str()).collect();
    addresses.sort_unstable();
    assert_eq!(addresses, ["10.79.0.9", "fd79::9"]);
    let unknown = lab.begin("addresses", &request("nothing.lab"));
    let (answers, complaint) = Lab::end::<ResolveResponse>(unknown);
    assert!(answers.is_empty() && complaint.contains("nothing.lab"), "{complaint}");
}

#[test]
fn a_server_is_there_or_not() {
    let mut lab = Lab::new("reach");
    lab.serve_names();
    let probe = |address: &str| lab.probe(Target::Tcp(TcpProbe { address: address.to_owned() }));
    let there = probe("10.79.0.9:53");
    assert!(there.ok && there.address == "10.79.0.9:53" && there.connect_us > 0, "{there:?}");
    let nobody = probe("[fd79::9]:54");
    assert!(!nobody.ok && nobody.reason.to_lowercase().contains("refused"), "{nobody:?}");
    assert!(!probe("nonsense").ok);
}

#[test]
fn a_server_proves_who_it_is_even_to_those_who_do_not_trust_it() {
    let mut lab = Lab::new("tls");
    let certificate = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=web.lab";
    let (key, file) = (lab.folder.join("key"), lab.folder.join("certificate"));
    run("openssl", &format!("{certificate} -keyout {} -out {}", key.display(), file.display()));
    lab.serve(
        443,
        &["openssl", "s_server", "-quiet", "-accept", "443", "-alpn", "h2", "-www", "-key"],
        &[&key, Path::new("-cert"), &file],
    );
    let probe = TlsProbe {
        address: "10.79.0.9:443".to_owned(),
        server_name: "web.lab".to_owned(),
        alpn: vec!["h2".to_owned()],
    };
    let seen = lab.probe(Target::Tls(probe));
    assert!(!seen.ok && seen.reason.contains("UnknownIssuer"), "{}", seen.reason);
    let tls = seen.tls.expect("what the handshake told");
    assert_eq!((tls.version.as_str(), tls.alpn.as_str()), ("TLSv1_3", "h2"));
    assert!(tls.certificates.len() == 1 && seen.handshake_us > 0);
    // Who speaks HTTP does not go on.
    let url = "https://10.79.0.9/".to_owned();
    let seen = lab.probe(Target::Http(HttpProbe { url, head: false }));
    assert!(!seen.ok && seen.http.is_none(), "{seen:?}");
}

#[test]
fn a_web_server_says_how_it_is() {
    let mut lab = Lab::new("http");
    std::fs::create_dir(lab.folder.join("folder")).expect("a folder");
    std::fs::write(lab.folder.join("page"), "fine\n").expect("a file");
    let directory = lab.folder.clone();
    lab.serve(80, &["python3", "-m", "http.server", "80", "--directory"], &[&directory]);
    let ask = |path: &str, head| {
        let url = format!("http://10.79.0.9/{path}");
        lab.probe(Target::Http(HttpProbe { url, head }))
    };
    let page = ask("page", false);
    let facts = page.http.expect("what the server said");
    assert!(page.ok && page.address == "10.79.0.9:80");
    assert_eq!((facts.status, facts.body_bytes, facts.version.as_str()), (200, 5, "HTTP/1.0"));
    assert!(facts.server.contains("Python"), "{}", facts.server);
    assert_eq!(ask("page", true).http.expect("facts").body_bytes, 0);
    let missing = ask("nothing", false);
    assert!(missing.ok && missing.http.expect("facts").status == 404);
    assert_eq!(ask("folder", false).http.expect("facts").location, "/folder/");
}

#[test]
fn tcpdump_reads_what_is_captured() {
    let lab = Lab::new("capture");
    // Without what IPv6 says of its own accord.
    let filter = CaptureFilter { protocol: "ip".to_owned(), ..CaptureFilter::default() };
    let capture = lab.capture("here", filter, CaptureRequest { count: 6, ..limits() });
    lab.ask::<PingReply>("ping", &ping("10.79.0.9"));
    let (lines, end) = lab.captured(capture);
    let echoes = lines.iter().filter(|line| line.contains("ICMP echo re")).count();
    assert!(lines.len() == 6 && echoes == 6, "{lines:#?}");
    assert_eq!((end.packets, end.dropped, end.reason.as_str()), (6, 0, "count"));
}

#[test]
fn only_what_fits_the_filter_is_captured() {
    let mut lab = Lab::new("filter");
    lab.serve_names();
    let traffic = || {
        lab.ask::<PingReply>("ping", &PingRequest { count: 1, ..ping("10.79.0.9") });
        lab.ask::<PingReply>("ping", &PingRequest { count: 1, ..ping("fd79::9") });
        for server in ["10.79.0.9", "fd79::9"] {
            let request = ResolveRequest {
                name: "web.lab".to_owned(),
                server: server.to_owned(),
                timeout_ms: 1000,
                ..ResolveRequest::default()
            };
            lab.ask::<ResolveResponse>("resolve", &request);
        }
        for port in [53, 50000] {
            let target = Some(Target::Tcp(TcpProbe { address: format!("10.79.0.9:{port}") }));
            lab.ask::<ProbeResponse>("probe", &ProbeRequest { target, timeout_ms: 500 });
        }
    };
    let check = |host: &str, port: u32, protocol: &str, with_api: bool, like: &[&str]| {
        let filter = CaptureFilter { host: host.into(), port, protocol: protocol.into() };
        let capture = lab.capture("here", filter, CaptureRequest { with_api, ..limits() });
        traffic();
        let (lines, end) = lab.captured(capture);
        assert_eq!((end.reason.as_str(), end.packets as usize), ("duration", lines.len()));
        assert!(!lines.is_empty(), "{host} {port} {protocol}");
        for line in &lines {
            assert!(
                like.iter().any(|like| line.contains(like)),
                "{host} {port} {protocol}: {line}"
            );
        }
        for like in like {
            assert!(lines.iter().any(|line| line.contains(like)), "{like}: {lines:#?}");
        }
    };
    check("", 0, "icmp", false, &["ICMP echo request", "ICMP echo reply"]);
    check("fd79::9", 0, "", false, &["ICMP6, echo request", "ICMP6, echo reply", "fd79::9.53"]);
    check("10.79.0.9", 53, "udp", false, &["10.79.0.9.53: ", "IP 10.79.0.9.53 >"]);
    check("", 53, "ip6", false, &["> fd79::9.53: ", "IP6 fd79::9.53 >"]);
    check(
        "",
        53,
        "tcp",
        false,
        &[
            "> 10.79.0.9.53: Flags [S]",
            "> 10.79.0.9.53: Flags [F.]",
            "> 10.79.0.9.53: Flags [.]",
            "IP 10.79.0.9.53 >",
        ],
    );
    // The API's port: not unless it is asked for.
    check("", 50000, "", false, &["> 10.79.0.9.50000: Flags [S]", "IP 10.79.0.9.50000 >"]);
    check("", 0, "tcp", false, &["10.79.0.9.53: ", "IP 10.79.0.9.53 >"]);
    check("", 0, "tcp", true, &["10.79.0.9.53", "10.79.0.9.50000"]);
}

#[test]
fn limits_end_a_capture_and_packets_are_cut() {
    let lab = Lab::new("limits");
    let filter = CaptureFilter { protocol: "icmp".to_owned(), ..CaptureFilter::default() };
    // The beginning of the file, and one packet of 40 bytes with what is in front of it.
    let small = CaptureRequest { bytes: 24 + 16 + 40 + 10, snap_length: 40, ..limits() };
    let capture = lab.capture("here", filter.clone(), small);
    lab.ask::<PingReply>("ping", &ping("10.79.0.9"));
    let (lines, end) = lab.captured(capture);
    assert_eq!((lines.len(), end.packets, end.reason.as_str()), (1, 1, "bytes"));
    assert!(lines[0].contains("length 64") || lines[0].contains("[|icmp]"), "{lines:?}");
    // What a machine sends to itself passes once.
    let capture = lab.capture("lo", filter, CaptureRequest { duration_ms: 1000, ..limits() });
    lab.ask::<PingReply>("ping", &PingRequest { count: 1, ..ping("127.0.0.1") });
    let (lines, _) = lab.captured(capture);
    assert_eq!(lines.len(), 2, "{lines:#?}");
    let missing = CaptureRequest { link: "no-such-link".to_owned(), ..limits() };
    let (_, complaint) = Lab::end::<CaptureChunk>(lab.begin("capture", &missing));
    assert_eq!(complaint.trim(), "there is no link no-such-link");
}
