// SPDX-License-Identifier: Apache-2.0
//! Probes: what is taken, what the reader says to the rest, and what they say to those who ask.

use crate::findings::check;
use crate::pki;
use expect_test::expect;
use std::time::Duration;
use stele_config::{MachineConfig, Subject, Target, canonical, yaml};

const PROBE: &str = "apiVersion: stele/v1\nkind: Probe\nname: gate\n";

#[test]
fn good() {
    check(
        "
apiVersion: stele/v1
kind: Probe
name: gate
interval: 1s
timeout: 1s
failures: 1
successes: 100
icmp: {address: \"2001:db8::1\"}
---
apiVersion: stele/v1
kind: Probe
name: web
http: {url: \"http://127.0.0.1:8080/healthz\", status: 204}
---
apiVersion: stele/v1
kind: Probe
name: names
dns: {name: example.com, server: 10.0.2.3}
---
apiVersion: stele/v1
kind: HealthCheck
name: gate
probe: gate
---
apiVersion: stele/v1
kind: HealthCheck
name: clock
clock: {}
",
        &expect![[r#"
            good
        "#]],
    );
}

#[test]
fn wrong() {
    for (text, expected) in [
        (
            "",
            expect![[r#"
            document 2 (Probe), line 2: says nothing of what to try; expected exactly one of icmp, http, tcp, dns
        "#]],
        ),
        (
            "icmp: {address: a}\nhttp: {url: \"http://a/\"}\ntcp: {address: \"a:1\"}\n",
            expect![[r#"
            document 2 (Probe), line 6, http: is there besides icmp; expected exactly one of icmp, http, tcp, dns
            document 2 (Probe), line 7, tcp: is there besides icmp; expected exactly one of icmp, http, tcp, dns
        "#]],
        ),
        (
            "service: {name: apid}\n",
            expect![[r#"
            document 2 (Probe), line 2: says nothing of what to try; expected exactly one of icmp, http, tcp, dns
            document 2 (Probe), line 5, service: there is no key "service" here; expected one of name, interval, timeout, failures, successes, icmp, http, tcp, dns
        "#]],
        ),
        (
            "interval: 500ms\nfailures: 0\nsuccesses: 101\nicmp: {address: a}\n",
            expect![[r#"
            document 2 (Probe), line 5, interval: "500ms" is not a time span; expected a time span such as 1m30s, from 1s to 1h
            document 2 (Probe), line 6, failures: 0 is out of range; expected a whole number from 1 to 100
            document 2 (Probe), line 7, successes: 101 is out of range; expected a whole number from 1 to 100
        "#]],
        ),
        (
            "icmp: {}\n",
            expect![[r#"
            document 2 (Probe), line 5, icmp.address: is missing; expected an address or a name, such as 192.0.2.1
        "#]],
        ),
        (
            "icmp: {address: \"192.0.2.1:80\"}\n",
            expect![[r#"
            document 2 (Probe), line 5, icmp.address: "192.0.2.1:80" is not an address or a name: the host is neither an IP address nor a domain name; expected an address or a name, such as 192.0.2.1
        "#]],
        ),
        (
            "icmp: {address: 192.0.2.256}\n",
            expect![[r#"
            document 2 (Probe), line 5, icmp.address: "192.0.2.256" is not an address or a name: the host is neither an IP address nor a domain name; expected an address or a name, such as 192.0.2.1
        "#]],
        ),
        (
            "icmp: {address: 0.0.0.0}\n",
            expect![[r#"
            document 2 (Probe), line 5, icmp.address: "0.0.0.0" is not an address or a name: nothing has the address 0.0.0.0; expected an address or a name, such as 192.0.2.1
        "#]],
        ),
        (
            "icmp: {address: \"ff02::1\"}\n",
            expect![[r#"
            document 2 (Probe), line 5, icmp.address: "ff02::1" is not an address or a name: nothing has the address ff02::1; expected an address or a name, such as 192.0.2.1
        "#]],
        ),
        (
            "icmp: {address: \"fe80::1\"}\n",
            expect![[r#"
            document 2 (Probe), line 5, icmp.address: fe80::1 could be on any link; expected an address that is not link-local, or a name
        "#]],
        ),
        (
            "icmp: {address: \"fe80::1%eth0\"}\n",
            expect![[r#"
            document 2 (Probe), line 5, icmp.address: "fe80::1%eth0" is not an address or a name: the host is neither an IP address nor a domain name; expected an address or a name, such as 192.0.2.1
        "#]],
        ),
        (
            "icmp: {address: a_b.example.com}\n",
            expect![[r#"
            document 2 (Probe), line 5, icmp.address: "a_b.example.com" is not an address or a name: the host is neither an IP address nor a domain name; expected an address or a name, such as 192.0.2.1
        "#]],
        ),
        (
            "tcp: {address: a}\n",
            expect![[r#"
            document 2 (Probe), line 5, tcp.address: "a" is not a host and a port: the port is missing; expected a host and a port, such as 192.0.2.1:80
        "#]],
        ),
    ] {
        check(&format!("{PROBE}{text}"), &expected);
    }
}

#[test]
fn a_clock_has_no_keys() {
    let clock = "apiVersion: stele/v1\nkind: HealthCheck\nname: clock\n";
    check(
        &format!("{clock}clock: true\n"),
        &expect![[r#"
        document 2 (HealthCheck), line 5, clock: is true; expected an empty mapping, {}
    "#]],
    );
    check(
        &format!("{clock}clock: {{within: 1s}}\n"),
        &expect![[r#"
        document 2 (HealthCheck), line 5, clock.within: there is no key "within" here; expected no key at all
    "#]],
    );
    check(
        &format!("{clock}clock: {{}}\nprobe: gate\n"),
        &expect![[r#"
        document 2 (HealthCheck), line 5, clock: is there besides probe; expected exactly one of icmp, http, tcp, dns, service, probe, clock
    "#]],
    );
}

#[test]
fn twice_and_too_many() {
    let probe = "icmp: {address: a}\n";
    check(
        &format!("{PROBE}{probe}---\n{PROBE}{probe}"),
        &expect![[r#"
        document 3 (Probe), line 9, name: there is another Probe gate, on line 29; expected another name for each probe
    "#]],
    );
    let stream: String = (0..65)
        .map(|number| format!("---\n{}{probe}", PROBE.replace("gate", &format!("p{number}"))))
        .collect();
    check(
        &stream,
        &expect![[r#"
        configuration, line 323: there are 65 probes; expected at most 64
    "#]],
    );
}

fn read(text: &str) -> MachineConfig {
    let stream = format!("{}---\n{text}", pki::make("authority").yaml());
    yaml::parse(stream.as_bytes()).unwrap()
}

#[test]
fn defaults() {
    let config = read(&format!("{PROBE}icmp: {{address: Gate.Example.com}}\n"));
    let probe = config.probes().first().unwrap();
    assert_eq!(probe.name().as_str(), "gate");
    assert_eq!(probe.interval(), Duration::from_secs(10));
    assert_eq!(probe.timeout(), Duration::from_secs(5));
    assert_eq!((probe.failures(), probe.successes()), (3, 1));
    let Target::Icmp(icmp) = probe.target() else { panic!("{probe:?}") };
    assert_eq!(icmp.address().to_string(), "gate.example.com");
    let config = read("apiVersion: stele/v1\nkind: HealthCheck\nname: a\nprobe: gate\n");
    let check = config.health_checks().first().unwrap();
    assert!(matches!(check.subject(), Subject::Probe(name) if name.as_str() == "gate"));
}

#[test]
fn canonical_form() {
    let config = read(&format!(
        "{PROBE}icmp: {{address: \"2001:DB8::0:1\"}}\n---\napiVersion: stele/v1\nkind: HealthCheck\nname: a\nclock: {{}}\n"
    ));
    let documents: Vec<serde_json::Value> =
        serde_json::from_slice(&canonical::write(&config)).unwrap();
    let text: Vec<String> = documents.iter().skip(1).map(ToString::to_string).collect();
    expect![[r#"
        {"apiVersion":"stele/v1","failures":3,"icmp":{"address":"2001:db8::1"},"interval":"10s","kind":"Probe","name":"gate","successes":1,"timeout":"5s"}
        {"apiVersion":"stele/v1","clock":{},"deadline":"3m","interval":"10s","kind":"HealthCheck","name":"a","need":"required","successes":3,"timeout":"5s"}"#]].assert_eq(&text.join("\n"));
}
