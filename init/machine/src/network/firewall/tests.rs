// SPDX-License-Identifier: Apache-2.0

use super::{Ruleset, admits, derive, merged};
use stele_config::{Direction, MachineConfig, canonical};

const API: u16 = 50_000;

fn config(document: &str) -> MachineConfig {
    let pem = |label: &str| format!("-----BEGIN {label}-----\\nMAA=\\n-----END {label}-----\\n");
    let (certificate, key) = (pem("CERTIFICATE"), pem("PRIVATE KEY"));
    let text = format!(
        r#"[{{"apiVersion":"stele/v1","kind":"Identity","ca":"{certificate}","certificate":"{certificate}","key":"{key}"}},
        {{"apiVersion":"stele/v1","kind":"Firewall",{document}}}]"#
    );
    canonical::read(text.as_bytes()).expect("a configuration")
}

/// The rules, where every link has the name that documents give it.
fn plain(config: &MachineConfig) -> Ruleset {
    derive(config.firewall().expect("a firewall"), |name| Some(name.to_owned()))
}

#[test]
fn whoever_locks_everybody_out_of_the_api_is_found() {
    for (document, expected) in [
        (r#""rules":[]"#, true),
        (r#""ingress":"drop""#, false),
        (r#""ingress":"drop","rules":[{"protocol":"tcp","ports":[50000]}]"#, true),
        (r#""ingress":"drop","rules":[{"protocol":"udp","ports":[50000]}]"#, false),
        (r#""ingress":"drop","rules":[{"direction":"egress"}]"#, false),
        (
            r#""ingress":"drop","rules":[{"from":["10.0.0.0/8"],"protocol":"tcp","ports":["1-65535"]}]"#,
            true,
        ),
        (r#""ingress":"drop","rules":[{"action":"drop"},{"protocol":"tcp"}]"#, false),
        (r#""rules":[{"action":"reject","protocol":"tcp","ports":[22,"40000-60000"]}]"#, false),
        (r#""rules":[{"action":"drop","from":["10.0.0.0/8"]}]"#, true),
        (r#""rules":[{"action":"drop","interfaces":["eth0"]}]"#, false),
        (r#""rules":[{"action":"drop","protocol":"icmp"}]"#, true),
        (r#""forward":"drop","rules":[{"direction":"forward","action":"drop"}]"#, true),
        (r#""ingress":"drop","rules":[{"direction":"forward"}]"#, false),
        (r#""ingress":"drop","rules":[{"protocol":"tcp","sourcePorts":[53]}]"#, false),
        (r#""rules":[{"action":"drop","protocol":"tcp","sourcePorts":["1-1023"]}]"#, true),
        (r#""rules":[{"action":"drop","protocol":"esp"}]"#, true),
    ] {
        let config = config(document);
        let firewall = config.firewall().expect("a firewall");
        assert_eq!(admits(firewall, API, None), expected, "{document}");
    }
}

#[test]
fn whoever_locks_himself_out_of_the_api_is_found() {
    for (document, four, six) in [
        (r#""rules":[]"#, true, true),
        (r#""ingress":"drop","rules":[{"from":["10.0.0.0/8"],"protocol":"tcp"}]"#, false, false),
        (
            r#""ingress":"drop","rules":[{"from":["192.0.2.0/24"],"ports":[50000],"protocol":"tcp"}]"#,
            true,
            false,
        ),
        (r#""ingress":"drop","rules":[{"from":["10.0.0.0/8","2001:db8::/32"]}]"#, false, true),
        (r#""ingress":"drop","rules":[{"to":["198.51.100.0/24"]}]"#, true, false),
        (r#""rules":[{"action":"drop","from":["192.0.2.7/32"]}]"#, false, true),
        (r#""rules":[{"action":"reject","from":["192.0.2.8/32"]}]"#, true, true),
        (
            r#""rules":[{"from":["192.0.2.7/32"]},{"action":"drop","from":["192.0.2.0/24","::/0"]}]"#,
            true,
            false,
        ),
        // Who is let in now and then, or at another address, is not shut out.
        (r#""rules":[{"action":"drop","from":["192.0.2.7/32"],"rate":"1/day"}]"#, true, true),
        (
            r#""rules":[{"action":"drop","from":["192.0.2.7/32"],"to":["198.51.100.1/32"]}]"#,
            true,
            true,
        ),
        (r#""rules":[{"action":"drop","from":["192.0.2.7/32"],"protocol":"udp"}]"#, true, true),
        // Nobody knows by which link they come.
        (r#""ingress":"drop","rules":[{"protocol":"tcp","interfaces":["eth1"]}]"#, false, false),
        (r#""rules":[{"action":"drop","interfaces":["wan"]}]"#, false, false),
    ] {
        let config = config(document);
        let firewall = config.firewall().expect("a firewall");
        let by = |source: &str| admits(firewall, API, source.parse().ok());
        assert_eq!((by("192.0.2.7"), by("2001:db8::7")), (four, six), "{document}");
        // Of the machine itself it is asked whether anybody gets in.
        assert_eq!(by("127.0.0.1"), admits(firewall, API, None), "{document}");
    }
    let shut = config(r#""ingress":"drop""#);
    assert!(!admits(shut.firewall().expect("a firewall"), API, "::1".parse().ok()));
}

#[test]
fn a_rule_is_one_for_each_family_that_it_names() {
    let config = config(
        r#""rules":[{"from":["10.0.0.0/9","10.128.0.0/9","2001:db8::/32"]},{"from":["::/0"],"action":"drop"},{"protocol":"icmp"},{}]"#,
    );
    let ruleset = plain(&config);
    let rules: Vec<String> = (ruleset.rules.iter().skip(8))
        .map(|rule| format!("{:?} {:?} {}", rule.ipv6, rule.from, rule.action))
        .collect();
    let expected = expect_test::expect![[r#"
        Some(false) [(10.0.0.0, 10.255.255.255)] accept
        Some(true) [(2001:db8::, 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff)] accept
        Some(true) [(::, ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff)] drop
        Some(false) [] accept
        Some(true) [] accept
        None [] accept"#]];
    expected.assert_eq(&rules.join("\n"));
}

#[test]
fn a_type_of_icmp_has_the_number_of_each_family() {
    let config = config(
        r#""rules":[{"protocol":"icmp","icmpTypes":["echo-request","echo-reply","packet-too-big"]},{"protocol":"icmp","icmpTypes":["timestamp-request"]}]"#,
    );
    let ruleset = plain(&config);
    let rules: Vec<String> = (ruleset.rules.iter().skip(8))
        .map(|rule| format!("{:?} {:?}", rule.ipv6, rule.icmp_types))
        .collect();
    let expected = expect_test::expect![[r#"
        Some(false) [(0, 0), (8, 8)]
        Some(true) [(2, 2), (128, 129)]
        Some(false) [(13, 13)]"#]];
    expected.assert_eq(&rules.join("\n"));
}

#[test]
fn any_protocol_can_be_told_apart() {
    let config = config(
        r#""rules":[{"protocol":"esp"},{"protocol":89},{"protocol":"sctp","ports":["5-9",4],"sourcePorts":[7,8]}]"#,
    );
    let ruleset = plain(&config);
    let rules: Vec<String> = (ruleset.rules.iter().skip(8))
        .map(|rule| format!("{:?} {:?} {:?}", rule.protocol, rule.ports, rule.source_ports))
        .collect();
    let expected = expect_test::expect![[r#"
        Some(Number(50)) [] []
        Some(Number(89)) [] []
        Some(Number(132)) [(4, 9)] [(7, 8)]"#]];
    expected.assert_eq(&rules.join("\n"));
}

#[test]
fn packets_that_are_passed_on_are_looked_at_when_somebody_says_so() {
    let forward = |document: &str| {
        let ruleset = plain(&config(document));
        let rules = ruleset.rules.iter().filter(|rule| rule.direction == Direction::Forward);
        let rules: Vec<String> = rules
            .map(|rule| format!("{} {:?} {:?}", rule.established, rule.incoming, rule.outgoing))
            .collect();
        (ruleset.drops_forward, rules.join(", "))
    };
    let established = r#"true [] []"#;
    assert_eq!(forward(r#""ingress":"drop","rules":[{}]"#), (None, String::new()));
    assert_eq!(forward(r#""forward":"accept""#), (None, String::new()));
    assert_eq!(forward(r#""forward":"drop""#), (Some(true), established.to_owned()));
    let rule = r#""rules":[{"direction":"forward","incoming":["eth1"],"outgoing":["eth0"]}]"#;
    let expected = format!(r#"{established}, false ["eth1"] ["eth0"]"#);
    assert_eq!(forward(rule), (Some(false), expected));
}

#[test]
fn a_rule_is_for_the_link_that_a_document_is_for() {
    let config = config(
        r#""rules":[{"interfaces":["uplink","eth0"],"action":"drop"},{"interfaces":["uplink"]},{"interfaces":["eth1"]},{"direction":"egress","interfaces":["uplink"]},{"direction":"forward","incoming":["eth1"],"outgoing":["uplink"]}]"#,
    );
    let rules = |uplink: Option<&str>| {
        let named = |name: &str| {
            if name == "uplink" { uplink.map(str::to_owned) } else { Some(name.to_owned()) }
        };
        let ruleset = derive(config.firewall().expect("a firewall"), named);
        let own = ruleset.rules.iter().skip(9);
        let text = own.map(|rule| format!("{:?} {:?}", rule.incoming, rule.outgoing));
        text.collect::<Vec<_>>().join("\n")
    };
    expect_test::expect![[r#"
        ["enp1s0", "eth0"] []
        ["enp1s0"] []
        ["eth1"] []
        [] ["enp1s0"]
        ["eth1"] ["enp1s0"]"#]]
    .assert_eq(&rules(Some("enp1s0")));
    // The same link twice is one.
    assert!(rules(Some("eth0")).starts_with(r#"["eth0"] []"#), "{}", rules(Some("eth0")));
    // Without it nothing is said of all links.
    expect_test::expect![[r#"
        ["eth0"] []
        ["eth1"] []"#]]
    .assert_eq(&rules(None));
}

#[test]
fn ranges_that_meet_become_one() {
    let next = |number: u8| number.checked_add(1);
    assert_eq!(merged(vec![(8, 9), (1, 3), (4, 5), (2, 2)], next), [(1, 5), (8, 9)]);
    assert_eq!(merged(vec![(250, 255), (0, 255), (3, 4)], next), [(0, 255)]);
}
