// SPDX-License-Identifier: Apache-2.0
use super::{Effect, plan};
use expect_test::{Expect, expect};
use stele_config::{MachineConfig, canonical};

const KEY: &str = "-----BEGIN PUBLIC KEY-----\\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEBA1BZKskkAV4egP9dpCXlEwcgzm4\\n3sWTZ2MSkozoRD+ENTwizFu/gvUb64TcT1Y3hBHYRF1R1pszwmBwccpuGg==\\n-----END PUBLIC KEY-----\\n";

pub(crate) fn config(documents: &[&str]) -> MachineConfig {
    let pem = |label: &str| format!("-----BEGIN {label}-----\\nMAA=\\n-----END {label}-----\\n");
    let certificate = pem("CERTIFICATE");
    let mut all = vec![format!(
        r#"{{"apiVersion":"stele/v1","kind":"Identity","ca":"{certificate}","certificate":"{certificate}","key":"{}"}}"#,
        pem("PRIVATE KEY")
    )];
    all.extend(
        documents.iter().map(|document| format!(r#"{{"apiVersion":"stele/v1",{document}}}"#)),
    );
    canonical::read(format!("[{}]", all.join(",")).as_bytes()).unwrap()
}

fn check(old: &[&str], new: &[&str], expected: &Expect) {
    let changes = plan(Some(&config(old)), &config(new));
    let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
    expected.assert_eq(&lines.join("\n"));
}

const WEB: &str = r#""kind":"HealthCheck","name":"web","http":{"url":"http://[::1]:8080"}"#;

#[test]
fn client_access() {
    let access = r#""kind":"ClientAccess","roles":[{"name":"auditor","methods":["/stele.v1.LogService/*"]},{"name":"robot","methods":["/*"]}],"revoked":["1da16e"]"#;
    let other = r#""kind":"ClientAccess","roles":[{"name":"auditor","methods":["/stele.v1.LogService/*","/a.B/C"]}],"revoked":["2","3"]"#;
    check(
        &[],
        &[access],
        &expect![[r#"
        ClientAccess: the role auditor opens /stele.v1.LogService/*, live
        ClientAccess: the role robot opens /*, live
        ClientAccess: 1 more certificate opens nothing any more, live"#]],
    );
    check(
        &[access],
        &[other],
        &expect![[r#"
        ClientAccess: the role auditor now opens /stele.v1.LogService/*, /a.B/C, live
        ClientAccess: the role robot opens nothing any more, live
        ClientAccess: 2 more certificates open nothing any more, live
        ClientAccess: 1 certificate is revoked no more, live"#]],
    );
    check(&[access], &[access], &expect![[""]]);
    check(
        &[other],
        &[],
        &expect![[r#"
        ClientAccess: the role auditor opens nothing any more, live
        ClientAccess: 2 certificates are revoked no more, live"#]],
    );
}

#[test]
fn health_checks() {
    let names = r#""kind":"HealthCheck","name":"names","need":"wanted","dns":{"name":"example.com","server":"::1"}"#;
    check(
        &[],
        &[WEB, names],
        &expect![[r#"
            HealthCheck names: added, wanted, ::1 knows example.com, live
            HealthCheck web: added, required, http://[::1]:8080/ answers 200, live"#]],
    );
    check(&[WEB, names], &[WEB, names], &expect![[""]]);
    let api = r#""kind":"HealthCheck","name":"web","service":{"name":"apid"}"#;
    check(
        &[WEB, names],
        &[api],
        &expect![[r#"
            HealthCheck web: changes, required, apid is ready for 30 s, live
            HealthCheck names: no longer made, live"#]],
    );
}

#[test]
fn probes() {
    let gate = r#""kind":"Probe","name":"gate","icmp":{"address":"2001:db8::1"}"#;
    let other =
        r#""kind":"Probe","name":"gate","interval":"1m30s","icmp":{"address":"gate.example.com"}"#;
    let by_probe = r#""kind":"HealthCheck","name":"a","probe":"gate""#;
    let by_clock = r#""kind":"HealthCheck","name":"b","clock":{}"#;
    check(
        &[],
        &[gate, by_probe, by_clock],
        &expect![[r#"
            Probe gate: added, whether 2001:db8::1 answers echo requests, each 10 s, live
            HealthCheck a: added, required, the probe gate is reachable, live
            HealthCheck b: added, required, the clock is right, live"#]],
    );
    check(
        &[gate],
        &[other],
        &expect![
            "Probe gate: changes, whether gate.example.com answers echo requests, each 90 s, live"
        ],
    );
    check(&[gate], &[], &expect!["Probe gate: no longer tried, live"]);
}

#[test]
fn metrics() {
    let metrics = r#""kind":"Metrics","address":"0.0.0.0:9100""#;
    check(
        &[],
        &[metrics],
        &expect!["Metrics: figures for everyone at http://0.0.0.0:9100/metrics, live"],
    );
    check(&[metrics], &[metrics], &expect![[""]]);
    check(&[metrics], &[], &expect!["Metrics: figures for clients with a certificate alone, live"]);
}

#[test]
fn time() {
    let time =
        r#""kind":"Time","servers":[{"server":"time.example","nts":true},{"server":"192.0.2.1"}]"#;
    check(
        &[],
        &[time],
        &expect!["Time: the time comes from time.example with NTS, 192.0.2.1, live"],
    );
    check(
        &[time],
        &[],
        &expect![
            "Time: the time comes from the servers that DHCP brings or the platform has, live"
        ],
    );
}

#[test]
fn log_sinks() {
    let all = r#""kind":"LogSink","name":"central","address":"logs:514""#;
    let one = r#""kind":"LogSink","name":"central","address":"logs:514","protocol":"udp","format":"json","logs":["kernel"]"#;
    check(
        &[],
        &[all],
        &expect!["LogSink central: all logs go to logs:514 by tcp as rfc5424, live"],
    );
    check(&[all], &[one], &expect!["LogSink central: 1 log goes to logs:514 by udp as json, live"]);
    check(&[one], &[], &expect!["LogSink central: no log goes there any more, live"]);
}

#[test]
fn upgrades() {
    let watchdog = r#""kind":"Watchdog","timeout":"2m""#;
    let policy =
        format!(r#""kind":"UpgradePolicy","deadline":"1m","oldest":"1.2.0","keys":["{KEY}"]"#);
    let replaced = policy.replace(r#""kind""#, r#""replaceKeys":true,"kind""#);
    check(
        &[],
        &[watchdog, &policy],
        &expect![[r#"
            Watchdog: resets the machine after 120 s without a sign of life, live
            UpgradePolicy: a new image has 60 s to show that it is healthy, live
            UpgradePolicy: images down to 1.2.0 are taken, live
            UpgradePolicy: 1 key trusted besides those of the image, live"#]],
    );
    check(
        &[&policy],
        &[&replaced],
        &expect!["UpgradePolicy: 1 key trusted in place of those of the image, live"],
    );
    check(
        &[watchdog, &policy],
        &[],
        &expect![[r#"
            Watchdog: back to its default timeout, live
            UpgradePolicy: a new image has the default time to show that it is healthy, live
            UpgradePolicy: no image is taken that is older than one that was healthy, live
            UpgradePolicy: images are trusted by the keys of the running one alone, live"#]],
    );
    check(
        &[r#""kind":"UpgradePolicy""#],
        &[&replaced],
        &expect![[r#"
            UpgradePolicy: a new image has 60 s to show that it is healthy, live
            UpgradePolicy: images down to 1.2.0 are taken, live
            UpgradePolicy: 1 key trusted in place of those of the image, live"#]],
    );
}

#[test]
fn the_network_and_who_the_node_is() {
    let name = r#""kind":"Hostname","hostname":"web""#;
    let eth0 = r#""kind":"Link","name":"eth0","dhcp4":true"#;
    let eth1 = r#""kind":"Link","name":"eth1","mtu":1400,"addresses":["10.0.0.1/24"]"#;
    let resolver = r#""kind":"Resolver","servers":["::1"]"#;
    check(
        &[eth0],
        &[name, eth1, resolver],
        &expect![[r#"
        Hostname: becomes web, live
        Link eth1: configured, 10.0.0.1/24, MTU 1400, live
        Link eth0: no longer configured, its addresses and routes go, live
        Resolver: the name servers are ::1, live"#]],
    );
    check(
        &[name, eth0, eth1],
        &[],
        &expect![[r#"
        Hostname: from DHCP or the hardware address, live
        Link eth0: no longer configured, its addresses and routes go, live
        Link eth1: no longer configured, its addresses and routes go, live
        Link: none is configured, every Ethernet link uses DHCP, live"#]],
    );
    let first = plan(None, &config(&[]));
    assert_eq!(first[0].effect, Effect::Restart(vec!["apid".to_owned()]));
    expect![[r#"
        Identity: the API serves the node's own certificate, restarts apid
        Link: none is configured, every Ethernet link uses DHCP, live"#]]
    .assert_eq(&first.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
}

#[test]
fn links_that_the_kernel_makes() {
    let bond = |mode: &str| {
        format!(r#""kind":"Bond","name":"bond0","links":["eth1","eth2"],"mode":"{mode}""#)
    };
    let vlan = r#""kind":"VLAN","name":"storage","link":"bond0","id":5"#;
    let bridge = r#""kind":"Bridge","name":"br0""#;
    check(
        &[],
        &[&bond("802.3ad"), vlan, bridge],
        &expect![[r#"
        VLAN storage: made, network 5 of bond0, live
        Bridge br0: made, a switch with no link in it, live
        Bond bond0: made, 802.3ad with eth1, eth2, live"#]],
    );
    check(
        &[&bond("802.3ad"), vlan],
        &[&bond("active-backup")],
        &expect![[r#"
        Bond bond0: changed or made again, active-backup with eth1, eth2, live
        VLAN storage: removed, live"#]],
    );
}

#[test]
fn hosts() {
    let hosts =
        r#""kind":"Hosts","name":"a","hosts":[{"address":"192.0.2.7","names":["b.example","b"]}]"#;
    check(&[], &[hosts], &expect!["Hosts a: b.example is 192.0.2.7, live"]);
    check(&[hosts], &[], &expect!["Hosts a: name servers are asked for them again, live"]);
}

#[test]
fn routing_rules() {
    let rule = r#""kind":"RoutingRule","name":"a","priority":7,"from":"192.0.2.0/24","mark":5,"table":100"#;
    check(
        &[],
        &[rule],
        &expect![
            "RoutingRule a: packets from 192.0.2.0/24 with the mark 5 are routed by table 100, live"
        ],
    );
    check(&[rule], &[], &expect!["RoutingRule a: removed, live"]);
}

#[test]
fn the_kernel() {
    let swappiness =
        |value: &str| format!(r#""kind":"Sysctl","name":"vm.swappiness","value":"{value}""#);
    check(&[], &[&swappiness("10")], &expect!["Sysctl vm.swappiness: becomes 10, live"]);
    check(
        &[&swappiness("10")],
        &[&swappiness("20")],
        &expect!["Sysctl vm.swappiness: becomes 20, live"],
    );
    check(
        &[&swappiness("10")],
        &[],
        &expect!["Sysctl vm.swappiness: set back to what it was, live"],
    );
    let args = |args: &str| format!(r#""kind":"KernelArgs","args":[{args}]"#);
    check(
        &[],
        &[&args(r#""nosmt","hugepages=64""#)],
        &expect!["KernelArgs: the kernel starts with nosmt hugepages=64, with the next boot"],
    );
    check(
        &[&args(r#""nosmt""#)],
        &[],
        &expect![
            "KernelArgs: the kernel starts without arguments besides the image's own, with the next boot"
        ],
    );
    check(&[&args(r#""nosmt""#)], &[&args(r#""nosmt""#)], &expect![""]);
    let dummy = r#""kind":"KernelModule","name":"dummy","parameters":["numdummies=2"]"#;
    let plain = r#""kind":"KernelModule","name":"dummy""#;
    check(&[], &[dummy], &expect!["KernelModule dummy: loaded with numdummies=2, live"]);
    check(
        &[dummy],
        &[plain],
        &expect!["KernelModule dummy: unloaded, if nothing uses it, and loaded, live"],
    );
    check(
        &[plain],
        &[],
        &expect![
            "KernelModule dummy: unloaded, if nothing uses it; otherwise it stays until the next boot, live"
        ],
    );
}

#[test]
fn whom_the_machine_believes_and_where_it_looks() {
    let roots = r#""kind":"TrustedRoots","name":"ours","certificates":"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n""#;
    let mirror =
        r#""kind":"RegistryMirror","name":"r.example","endpoints":["https://m.example/a"]"#;
    let auth = r#""kind":"RegistryAuth","name":"m.example","username":"me","password":"first""#;
    let other = &auth.replace("first", "second");
    check(
        &[],
        &[roots, mirror, auth],
        &expect![[r#"
        TrustedRoots ours: 1 authority is believed, live
        RegistryMirror r.example: asked at https://m.example/a first, live
        RegistryAuth m.example: asked as me, live"#]],
    );
    check(
        &[auth],
        &[other],
        &expect!["RegistryAuth m.example: asked as me, with a password that may be another, live"],
    );
    check(
        &[roots, mirror, auth],
        &[],
        &expect![[r#"
        TrustedRoots ours: 1 authority is no longer believed, live
        RegistryMirror r.example: asked itself alone, live
        RegistryAuth m.example: asked without a password, live"#]],
    );
}

#[test]
fn what_services_find_around_them() {
    let proxy = |services: &str| {
        format!(
            r#""kind":"Environment","name":"proxy","services":[{services}],"variables":["A=1","B=s3cret"]"#
        )
    };
    let file =
        r#""kind":"Files","name":"app","files":[{"path":"/etc/opt/app/a","content":"s3cret"}]"#;
    check(
        &[],
        &[&proxy(r#""probe""#), file],
        &expect![[r#"
        Environment proxy: sets A, B, restarts probe
        Files app: writes /etc/opt/app/a, live"#]],
    );
    check(
        &[&proxy(r#""probe""#)],
        &[&proxy(r#""dhcp-eth0""#)],
        &expect!["Environment proxy: changes, and sets A, B, restarts dhcp-eth0, probe"],
    );
    check(
        &[&proxy(r#""probe""#), file],
        &[],
        &expect![[r#"
        Environment proxy: no longer sets A, B, restarts probe
        Files app: removes /etc/opt/app/a, live"#]],
    );
}
