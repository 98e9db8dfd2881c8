// SPDX-License-Identifier: Apache-2.0
//! Health checks: what is taken, what the reader says to the rest, and what they say to those who ask.

use crate::findings::check;
use crate::pki;
use expect_test::expect;
use std::time::Duration;
use stele_config::{HealthCheck, Need, Subject, Target, canonical, yaml};

const CHECK: &str = "apiVersion: stele/v1\nkind: HealthCheck\nname: web\n";

#[test]
fn good() {
    check(
        "
apiVersion: stele/v1
kind: HealthCheck
name: web
need: required
interval: 5s
timeout: 2s
deadline: 2m
successes: 3
http: {url: \"http://127.0.0.1:8080/healthz\", status: 200}
---
apiVersion: stele/v1
kind: HealthCheck
name: database
need: wanted
tcp: {address: \"[2001:db8::1]:5432\"}
---
apiVersion: stele/v1
kind: HealthCheck
name: names
dns: {name: example.com, server: 10.0.2.3}
---
apiVersion: stele/v1
kind: HealthCheck
name: api
service: {name: apid, stableFor: 1h}
",
        &expect![[r#"
            good
        "#]],
    );
}

#[test]
fn exactly_one_probe() {
    check(
        format!("{CHECK}\n").as_str(),
        &expect![[r#"
            document 2 (HealthCheck), line 2: says nothing of what to try; expected exactly one of icmp, http, tcp, dns, service, probe, clock
        "#]],
    );
    check(
        format!("{CHECK}tcp: {{address: \"db:5432\"}}\ndns: {{name: example.com}}\nservice: {{name: apid}}\n").as_str(),
        &expect![[r#"
            document 2 (HealthCheck), line 6, dns: is there besides tcp; expected exactly one of icmp, http, tcp, dns, service, probe, clock
            document 2 (HealthCheck), line 7, service: is there besides tcp; expected exactly one of icmp, http, tcp, dns, service, probe, clock
        "#]],
    );
    check(
        format!("{CHECK}http:\n").as_str(),
        &expect![[r#"
        document 2 (HealthCheck), line 5, http: has no value; expected a mapping with the keys url, status
    "#]],
    );
    check(
        format!("{CHECK}tpc: {{address: \"db:5432\"}}\n").as_str(),
        &expect![[r#"
            document 2 (HealthCheck), line 2: says nothing of what to try; expected exactly one of icmp, http, tcp, dns, service, probe, clock
            document 2 (HealthCheck), line 5, tpc: there is no key "tpc" here (did you mean "tcp"?); expected one of name, need, interval, timeout, deadline, successes, icmp, http, tcp, dns, service, probe, clock
        "#]],
    );
}

#[test]
fn spans() {
    check(
        format!(
            "{CHECK}interval: 10\ntimeout: 1m1s\ndeadline: 90\ntcp: {{address: \"db:5432\"}}\n"
        )
        .as_str(),
        &expect![[r#"
            document 2 (HealthCheck), line 5, interval: is the number 10; expected a time span such as 1m30s, from 1s to 1h
            document 2 (HealthCheck), line 6, timeout: "1m1s" is out of range; expected a time span such as 1m30s, from 1s to 1m
            document 2 (HealthCheck), line 7, deadline: is the number 90; expected a time span such as 1m30s, from 10s to 1h
        "#]],
    );
    check(
        format!(
            "{CHECK}interval: ten\ntimeout: 500ms\ndeadline: 30m1h\ntcp: {{address: \"db:5432\"}}\n"
        )
        .as_str(),
        &expect![[r#"
            document 2 (HealthCheck), line 5, interval: "ten" is not a time span; expected a time span such as 1m30s, from 1s to 1h
            document 2 (HealthCheck), line 6, timeout: "500ms" is not a time span; expected a time span such as 1m30s, from 1s to 1m
            document 2 (HealthCheck), line 7, deadline: "30m1h" is not a time span; expected a time span such as 1m30s, from 10s to 1h
        "#]],
    );
    check(
        format!("{CHECK}service: {{name: apid, stableFor: 2h}}\n").as_str(),
        &expect![[r#"
        document 2 (HealthCheck), line 5, service.stableFor: "2h" is out of range; expected a time span such as 1m30s, from 1s to 1h
    "#]],
    );
    check(
        format!("{CHECK}service: {{name: apid, stablefor: 10s}}\n").as_str(),
        &expect![[r#"
        document 2 (HealthCheck), line 5, service.stablefor: there is no key "stablefor" here (did you mean "stableFor"?); expected one of name, stableFor
    "#]],
    );
}

#[test]
fn values() {
    check(
        format!("{CHECK}need: requird\nsuccesses: 0\ntcp: {{address: \"db:5432\"}}\n").as_str(),
        &expect![[r#"
            document 2 (HealthCheck), line 5, need: there is no "requird" here (did you mean "required"?); expected required or wanted
            document 2 (HealthCheck), line 6, successes: 0 is out of range; expected a whole number from 1 to 100
        "#]],
    );
    check(
        format!("{CHECK}need: true\nsuccesses: three\ntcp: {{address: \"db:5432\"}}\n").as_str(),
        &expect![[r#"
            document 2 (HealthCheck), line 5, need: is true; expected required or wanted
            document 2 (HealthCheck), line 6, successes: is text ("three"); expected a whole number from 1 to 100
        "#]],
    );
    check(
        format!("{CHECK}dns: {{name: exa_mple.com, server: dns.example.com}}\n").as_str(),
        &expect![[r#"
            document 2 (HealthCheck), line 5, dns.name: "exa_mple.com" is not a domain name: '_' is not a letter, a digit or a hyphen; expected a domain name, such as example.com
            document 2 (HealthCheck), line 5, dns.server: "dns.example.com" is not an IP address: invalid IP address syntax; expected an IP address, such as 192.0.2.1
        "#]],
    );
    check(
        format!("{CHECK}dns: {{name: example.com, server: 0.0.0.0}}\n").as_str(),
        &expect![[r#"
            document 2 (HealthCheck), line 5, dns.server: no server can have 0.0.0.0; expected a unicast address
        "#]],
    );
    check(
        format!("{CHECK}service: {{name: ../apid}}\n").as_str(),
        &expect![[r#"
        document 2 (HealthCheck), line 5, service.name: "../apid" is not a name: '/' is not a letter, a digit or one of - . _; expected a name, such as web
    "#]],
    );
    check(
        "apiVersion: stele/v1\nkind: HealthCheck\nname: system/api\ntcp: {address: \"db:5432\"}\n",
        &expect![[r#"
            document 2 (HealthCheck), line 4, name: "system/api" is not a name: '/' is not a letter, a digit or one of - . _; expected a name, such as web
        "#]],
    );
}

#[test]
fn addresses() {
    check(
        format!("{CHECK}tcp: {{address: db}}\n").as_str(),
        &expect![[r#"
        document 2 (HealthCheck), line 5, tcp.address: "db" is not a host and a port: the port is missing; expected a host and a port, such as 192.0.2.1:80
    "#]],
    );
    check(
        format!("{CHECK}tcp: {{address: \"db:0\"}}\n").as_str(),
        &expect![[r#"
        document 2 (HealthCheck), line 5, tcp.address: "db:0" is not a host and a port: the port is no number from 1 to 65535; expected a host and a port, such as 192.0.2.1:80
    "#]],
    );
    check(
        format!("{CHECK}tcp: {{address: \"db:65536\"}}\n").as_str(),
        &expect![[r#"
        document 2 (HealthCheck), line 5, tcp.address: "db:65536" is not a host and a port: the port is no number from 1 to 65535; expected a host and a port, such as 192.0.2.1:80
    "#]],
    );
    check(
        format!("{CHECK}tcp: {{address: \"db:+1\"}}\n").as_str(),
        &expect![[r#"
        document 2 (HealthCheck), line 5, tcp.address: "db:+1" is not a host and a port: the port is no number from 1 to 65535; expected a host and a port, such as 192.0.2.1:80
    "#]],
    );
    check(
        format!("{CHECK}tcp: {{address: \"::1:80\"}}\n").as_str(),
        &expect![[r#"
        document 2 (HealthCheck), line 5, tcp.address: "::1:80" is not a host and a port: an IPv6 address needs brackets, such as [2001:db8::1]; expected a host and a port, such as 192.0.2.1:80
    "#]],
    );
    check(
        format!("{CHECK}tcp: {{address: \"[::1]\"}}\n").as_str(),
        &expect![[r#"
        document 2 (HealthCheck), line 5, tcp.address: "[::1]" is not a host and a port: the port is missing; expected a host and a port, such as 192.0.2.1:80
    "#]],
    );
    check(
        format!("{CHECK}tcp: {{address: \"[::1]80\"}}\n").as_str(),
        &expect![[r#"
        document 2 (HealthCheck), line 5, tcp.address: "[::1]80" is not a host and a port: the host is neither an IP address nor a domain name; expected a host and a port, such as 192.0.2.1:80
    "#]],
    );
    check(
        format!("{CHECK}tcp: {{address: \"[192.0.2.1]:80\"}}\n").as_str(),
        &expect![[r#"
        document 2 (HealthCheck), line 5, tcp.address: "[192.0.2.1]:80" is not a host and a port: the host is neither an IP address nor a domain name; expected a host and a port, such as 192.0.2.1:80
    "#]],
    );
    check(
        format!("{CHECK}tcp: {{address: \"::1\"}}\n").as_str(),
        &expect![[r#"
        document 2 (HealthCheck), line 5, tcp.address: "::1" is not a host and a port: an IPv6 address needs brackets, such as [2001:db8::1]; expected a host and a port, such as 192.0.2.1:80
    "#]],
    );
    check(
        format!("{CHECK}tcp: {{address: \"192.0.2.256:80\"}}\n").as_str(),
        &expect![[r#"
        document 2 (HealthCheck), line 5, tcp.address: "192.0.2.256:80" is not a host and a port: the host is neither an IP address nor a domain name; expected a host and a port, such as 192.0.2.1:80
    "#]],
    );
    check(
        format!("{CHECK}tcp: {{address: \"0.0.0.0:80\"}}\n").as_str(),
        &expect![[r#"
        document 2 (HealthCheck), line 5, tcp.address: "0.0.0.0:80" is not a host and a port: nothing has the address 0.0.0.0; expected a host and a port, such as 192.0.2.1:80
    "#]],
    );
    check(
        format!("{CHECK}tcp: {{address: \":80\"}}\n").as_str(),
        &expect![[r#"
        document 2 (HealthCheck), line 5, tcp.address: ":80" is not a host and a port: the host is neither an IP address nor a domain name; expected a host and a port, such as 192.0.2.1:80
    "#]],
    );
    check(
        format!("{CHECK}tcp: {{address: 80}}\n").as_str(),
        &expect![[r#"
        document 2 (HealthCheck), line 5, tcp.address: is the number 80; expected a host and a port, such as 192.0.2.1:80
    "#]],
    );
}

#[test]
fn urls() {
    check(
        format!("{CHECK}http: {{url: \"ftp://example.com/\"}}\n").as_str(),
        &expect![[r#"
        document 2 (HealthCheck), line 5, http.url: "ftp://example.com/" is not a URL: it does not begin with http:// or https://; expected a URL, such as http://127.0.0.1:8080/healthz
    "#]],
    );
    check(
        format!("{CHECK}http: {{url: \"example.com\"}}\n").as_str(),
        &expect![[r#"
        document 2 (HealthCheck), line 5, http.url: "example.com" is not a URL: it does not begin with http:// or https://; expected a URL, such as http://127.0.0.1:8080/healthz
    "#]],
    );
    check(
        format!("{CHECK}http: {{url: \"http://\"}}\n").as_str(),
        &expect![[r#"
        document 2 (HealthCheck), line 5, http.url: "http://" is not a URL: the host is neither an IP address nor a domain name; expected a URL, such as http://127.0.0.1:8080/healthz
    "#]],
    );
    check(
        format!("{CHECK}http: {{url: \"http://user:secret@example.com/\"}}\n").as_str(),
        &expect![[r#"
            document 2 (HealthCheck), line 5, http.url: "http://user:secret@example.com/" is not a URL: a user name or password has no place in it; expected a URL, such as http://127.0.0.1:8080/healthz
        "#]],
    );
    check(
        format!("{CHECK}http: {{url: \"http://example.com/#top\"}}\n").as_str(),
        &expect![[r#"
            document 2 (HealthCheck), line 5, http.url: "http://example.com/#top" is not a URL: a fragment (#…) has no place in it; expected a URL, such as http://127.0.0.1:8080/healthz
        "#]],
    );
    check(
        format!("{CHECK}http: {{url: \"http://example.com/a b\"}}\n").as_str(),
        &expect![[r#"
            document 2 (HealthCheck), line 5, http.url: "http://example.com/a b" is not a URL: ' ' must be written as %XX; expected a URL, such as http://127.0.0.1:8080/healthz
        "#]],
    );
    check(
        format!("{CHECK}http: {{url: \"http://example.com:99999/\"}}\n").as_str(),
        &expect![[r#"
            document 2 (HealthCheck), line 5, http.url: "http://example.com:99999/" is not a URL: the port is no number from 1 to 65535; expected a URL, such as http://127.0.0.1:8080/healthz
        "#]],
    );
    check(
        format!("{CHECK}http: {{url: \"http://192.0.2.300/\"}}\n").as_str(),
        &expect![[r#"
        document 2 (HealthCheck), line 5, http.url: "http://192.0.2.300/" is not a URL: the host is neither an IP address nor a domain name; expected a URL, such as http://127.0.0.1:8080/healthz
    "#]],
    );
    check(
        format!("{CHECK}http: {{url: \"http://::1/\"}}\n").as_str(),
        &expect![[r#"
        document 2 (HealthCheck), line 5, http.url: "http://::1/" is not a URL: an IPv6 address needs brackets, such as [2001:db8::1]; expected a URL, such as http://127.0.0.1:8080/healthz
    "#]],
    );
    check(
        format!("{CHECK}http: {{url: \"http://example.com/\", status: 600}}\n").as_str(),
        &expect![[r#"
            document 2 (HealthCheck), line 5, http.status: 600 is out of range; expected a whole number from 100 to 599
        "#]],
    );
    check(
        format!("{CHECK}http: {{url: \"http://example.com/\", method: POST}}\n").as_str(),
        &expect![[r#"
            document 2 (HealthCheck), line 5, http.method: there is no key "method" here; expected one of url, status
        "#]],
    );
}

#[test]
fn twice() {
    check(
        format!("{CHECK}tcp: {{address: \"a:1\"}}\n---\n{CHECK}tcp: {{address: \"b:1\"}}\n")
            .as_str(),
        &expect![[r#"
            document 3 (HealthCheck), line 9, name: there is another HealthCheck web, on line 29; expected another name for each check
        "#]],
    );
}

#[test]
fn too_many() {
    let stream: String = (0..65)
        .map(|number| {
            format!("---\napiVersion: stele/v1\nkind: HealthCheck\nname: c{number}\ntcp: {{address: \"a:1\"}}\n")
        })
        .collect();
    check(
        &stream,
        &expect![[r#"
        configuration, line 323: there are 65 health checks; expected at most 64
    "#]],
    );
}

/// The only check of a configuration.
fn read(text: &str) -> HealthCheck {
    let stream = format!("{}---\n{CHECK}{text}", pki::make("authority").yaml());
    let config = yaml::parse(stream.as_bytes()).unwrap();
    config.health_checks().first().unwrap().clone()
}

#[test]
fn defaults() {
    let check = read("tcp: {address: \"DB.example.com:5432\"}\n");
    assert_eq!(check.name().as_str(), "web");
    assert_eq!(check.need(), Need::Required);
    assert_eq!(check.interval(), Duration::from_secs(10));
    assert_eq!(check.timeout(), Duration::from_secs(5));
    assert_eq!(check.deadline(), Duration::from_secs(180));
    assert_eq!(check.successes(), 3);
    let Subject::Target(Target::Tcp(tcp)) = check.subject() else { panic!("{check:?}") };
    assert_eq!(tcp.address().to_string(), "db.example.com:5432");
    let check = read("http: {url: \"HTTP://[::1]:8080?x\"}\n");
    let Subject::Target(Target::Http(http)) = check.subject() else { panic!("{check:?}") };
    assert_eq!((http.url().as_str(), http.status()), ("http://[::1]:8080/?x", 200));
    let check = read("service: {name: apid}\n");
    let Subject::Service(service) = check.subject() else { panic!("{check:?}") };
    assert_eq!((service.name().as_str(), service.stable_for()), ("apid", Duration::from_secs(30)));
    let check = read("dns: {name: example.com, server: \"2001:DB8::0:1\"}\n");
    let Subject::Target(Target::Dns(dns)) = check.subject() else { panic!("{check:?}") };
    assert_eq!(dns.server().map(|server| server.to_string()).as_deref(), Some("2001:db8::1"));
}

#[test]
fn canonical_form() {
    let stream = format!(
        "{}---\n{CHECK}interval: 90s\nservice: {{name: apid}}\n---\napiVersion: stele/v1\nkind: HealthCheck\nname: a\nhttp: {{url: \"HTTPS://Example.com\"}}\n",
        pki::make("authority").yaml()
    );
    let bytes = canonical::write(&yaml::parse(stream.as_bytes()).unwrap());
    let documents: Vec<serde_json::Value> = serde_json::from_slice(&bytes).unwrap();
    let text: Vec<String> = documents.iter().skip(1).map(ToString::to_string).collect();
    expect![[r#"
        {"apiVersion":"stele/v1","deadline":"3m","http":{"status":200,"url":"https://example.com/"},"interval":"10s","kind":"HealthCheck","name":"a","need":"required","successes":3,"timeout":"5s"}
        {"apiVersion":"stele/v1","deadline":"3m","interval":"1m30s","kind":"HealthCheck","name":"web","need":"required","service":{"name":"apid","stableFor":"30s"},"successes":3,"timeout":"5s"}"#]].assert_eq(&text.join("\n"));
}
