// SPDX-License-Identifier: Apache-2.0
//! What an image can't do of a configuration that is good in itself, with the place where it stood.

use crate::pki;
use expect_test::{Expect, expect};
use stele_config::{
    reference, services,
    yaml::{self, Located},
};

/// Checks what is said of a stream of these documents, the lines of which are counted from 1, and an Identity.
fn check(text: &str, expected: &Expect) {
    let stream = format!("{text}---\n{}", pki::make("authority").yaml());
    let Located { config, places } = yaml::locate(stream.as_bytes()).unwrap();
    let found = places.find(services::unknown(&config)).into_iter();
    expected.assert_eq(&found.map(|finding| format!("{finding}\n")).collect::<String>());
}

#[test]
fn services_and_logs_that_no_image_has() {
    check(
        "apiVersion: stele/v1
kind: Environment
name: proxy
variables: [A=1]
services:
- probe
- prob
- fetch
---
apiVersion: stele/v1
kind: LogSink
name: central
address: logs.example.com:514
logs:
  - kernal
  - audit
  - dhcp-eth0
---
apiVersion: stele/v1
kind: HealthCheck
service:
  name: log-sink-centrl
name: sink
---
apiVersion: stele/v1
kind: HealthCheck
name: api
service: {name: configure}
",
        &expect![[r#"
            document 1 (Environment), line 7, services[1]: this image has no service prob (did you mean "probe"?); expected one of acd, apid, dns, metrics, probe, routers, time, log-sink-central, capture, configure, diagnose, disk, examine, fetch, guestinfo, judge, kvp, metadata, observe, ping, receive, stage
            warning: document 2 (LogSink), line 15, logs[0]: this image has no log kernal (did you mean "kernel"?); expected one of acd, apid, dns, metrics, probe, routers, time, log-sink-central, capture, configure, diagnose, disk, examine, fetch, guestinfo, judge, kvp, metadata, observe, ping, receive, stage, audit, candidate, init, kernel
            warning: document 3 (HealthCheck), line 22, service.name: this image has no service log-sink-centrl (did you mean "log-sink-central"?); expected one of acd, apid, dns, metrics, probe, routers, time, log-sink-central
            warning: document 4 (HealthCheck), line 28, service.name: this image has no service configure; expected one of acd, apid, dns, metrics, probe, routers, time, log-sink-central
        "#]],
    );
}

#[test]
fn what_the_configuration_brings_itself_is_there() {
    let links = "apiVersion: stele/v1\nkind: Link\nname: eth0\ndhcp4: true\n---\napiVersion: stele/v1\nkind: Link\nname: eth1\n---\n";
    let check_of = |service: &str| {
        format!("apiVersion: stele/v1\nkind: HealthCheck\nname: a\nservice: {{name: {service}}}\n")
    };
    check(&check_of("dhcp-eth7"), &expect![""]);
    check(&format!("{links}{}", check_of("dhcp-eth0")), &expect![""]);
    check(
        &format!("{links}{}", check_of("dhcp-eth1")),
        &expect![[r#"
            warning: document 3 (HealthCheck), line 13, service.name: this image has no service dhcp-eth1 (did you mean "dhcp-eth0"?); expected one of acd, apid, dns, metrics, probe, routers, time, dhcp-eth0, dhcp6-eth0, dhcp6-eth1
        "#]],
    );
}

#[test]
fn probes_that_there_are_not() {
    let probe = "apiVersion: stele/v1\nkind: Probe\nname: gateway\nicmp: {address: a}\n---\n";
    let check_of =
        |probe: &str| format!("apiVersion: stele/v1\nkind: HealthCheck\nname: a\nprobe: {probe}\n");
    check(&format!("{probe}{}", check_of("gateway")), &expect![""]);
    check(
        &format!("{probe}{}", check_of("gatway")),
        &expect![[r#"
        document 2 (HealthCheck), line 9, probe: there is no probe gatway (did you mean "gateway"?); expected one of gateway
    "#]],
    );
    check(
        &check_of("dhcp-eth0"),
        &expect![[r#"
        document 1 (HealthCheck), line 4, probe: there is no probe dhcp-eth0; expected the name of a document of the kind Probe
    "#]],
    );
}

#[test]
fn examples_name_nothing_else() {
    for (kind, example) in reference::examples() {
        if kind != "Identity" {
            check(example, &expect![""]);
        }
    }
}
