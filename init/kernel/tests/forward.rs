// SPDX-License-Identifier: Apache-2.0
//! The firewall of a machine between two others, asked by their ping(8) and shown by nft(8).

use nix::sched::{CloneFlags, unshare};
use std::{
    fs,
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};
use stele_kernel::net::{Direction, Firewall, FirewallRule, Netlink, Transport, Verdict};

fn run(program: &str, arguments: &str) -> Output {
    let output = Command::new(program).args(arguments.split(' ')).output();
    output.unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn ip(arguments: &str) {
    let output = run("ip", arguments);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments} (this test needs root): {complaint}");
}

/// This thread's network namespace is the machine's, between those of two others. They go with this.
struct Machine {
    others: [String; 2],
}

impl Machine {
    fn new() -> Machine {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace (this test needs root)");
        let name = |side: &str| format!("stele-forward-{side}-{}", std::process::id());
        let machine = Machine { others: ["left", "right"].map(name) };
        let write = |file: &str, text: &str| {
            fs::write(format!("/proc/sys/net/{file}"), text).expect("a setting");
        };
        // Addresses are there at once.
        write("ipv6/conf/default/accept_dad", "0");
        ip("link set lo up");
        for (number, (side, name)) in ["left", "right"].iter().zip(&machine.others).enumerate() {
            ip(&format!("netns add {name}"));
            ip(&format!("link add {side} type veth peer name eth0 netns {name}"));
            ip(&format!("address add 10.77.{number}.1/24 dev {side}"));
            ip(&format!("address add 2001:db8:{number}::1/64 dev {side} nodad"));
            ip(&format!("link set {side} up"));
            ip(&format!("-n {name} link set eth0 up"));
            ip(&format!("-n {name} address add 10.77.{number}.2/24 dev eth0"));
            ip(&format!("-n {name} address add 2001:db8:{number}::2/64 dev eth0 nodad"));
            ip(&format!("-n {name} route add default via 10.77.{number}.1"));
            ip(&format!("-n {name} route add default via 2001:db8:{number}::1"));
        }
        write("ipv4/ip_forward", "1");
        write("ipv6/conf/all/forwarding", "1");
        machine
    }

    /// Whether the left one, or the right one, hears from an address.
    fn hears(&self, side: usize, address: &str) -> bool {
        let name = &self.others[side];
        let arguments = format!("netns exec {name} ping -n -c 1 -W 0.3 {address}");
        run("ip", &arguments).status.success()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for name in &self.others {
            run("ip", &format!("netns delete {name}"));
        }
    }
}

fn anything(direction: Direction) -> FirewallRule {
    FirewallRule {
        direction,
        ipv6: None,
        from: vec![],
        to: vec![],
        incoming: vec![],
        outgoing: vec![],
        transport: None,
        ports: vec![],
        source_ports: vec![],
        icmp_types: vec![],
        rate: None,
        established: false,
        verdict: Verdict::Accept,
    }
}

fn icmp(direction: Direction, ipv6: bool, kind: u8) -> FirewallRule {
    FirewallRule {
        ipv6: Some(ipv6),
        transport: Some(Transport::Icmp),
        icmp_types: vec![(kind, kind)],
        ..anything(direction)
    }
}

const LEFT: usize = 0;
const RIGHT: usize = 1;
const ON_THE_RIGHT: [&str; 2] = ["10.77.1.2", "2001:db8:1::2"];
const ON_THE_LEFT: [&str; 2] = ["10.77.0.2", "2001:db8:0::2"];

#[test]
fn what_is_passed_on_is_what_the_rules_let_through() {
    let body = || {
        let machine = Machine::new();
        let mut netlink = Netlink::new();
        let mut set = |drops_forward, rules: &[FirewallRule]| {
            let rules = rules.to_vec();
            let firewall =
                Firewall { drops_ingress: true, drops_egress: false, drops_forward, rules };
            netlink.set_firewall(&firewall, b"").expect("replacing");
        };
        let begun = Instant::now();
        while !ON_THE_RIGHT.iter().all(|address| machine.hears(LEFT, address)) {
            assert!(begun.elapsed() < Duration::from_secs(10), "nothing is passed on at all");
        }
        let hears = |side, addresses: [&str; 2]| addresses.map(|one| machine.hears(side, one));
        // What becomes of packets to the machine is not said of those that it passes on.
        set(None, &[]);
        assert_eq!(hears(LEFT, ON_THE_RIGHT), [true, true]);
        let known = FirewallRule { established: true, ..anything(Direction::Forward) };
        set(Some(true), std::slice::from_ref(&known));
        assert_eq!(hears(LEFT, ON_THE_RIGHT), [false, false]);
        // By the links that they come in by and go out by; the answers belong to the questions.
        let there = FirewallRule {
            incoming: vec!["left".to_owned()],
            outgoing: vec!["right".to_owned()],
            ..anything(Direction::Forward)
        };
        set(Some(true), &[known.clone(), there]);
        assert_eq!(hears(LEFT, ON_THE_RIGHT), [true, true]);
        assert_eq!(hears(RIGHT, ON_THE_LEFT), [false, false]);
        // By type: an answer alone is not a question.
        let six = icmp(Direction::Forward, true, 128);
        set(Some(true), &[known.clone(), icmp(Direction::Forward, false, 0), six.clone()]);
        assert_eq!(hears(RIGHT, ON_THE_LEFT), [false, true]);
        let refuse = |rule: FirewallRule| FirewallRule { verdict: Verdict::Reject, ..rule };
        set(Some(false), &[known.clone(), refuse(six)]);
        assert_eq!(hears(LEFT, ON_THE_RIGHT), [true, false]);
        // The machine itself is another direction, whose neighbours have to be found.
        let own = [(false, 8), (true, 128), (true, 135), (true, 136)]
            .map(|(ipv6, kind)| icmp(Direction::Ingress, ipv6, kind));
        set(Some(true), &own);
        assert_eq!(hears(LEFT, ["10.77.0.1", "2001:db8:0::1"]), [true, true]);
        assert_eq!(hears(LEFT, ON_THE_RIGHT), [false, false]);
        let shown = run("nft", "list table inet stele");
        let shown = String::from_utf8_lossy(&shown.stdout);
        for word in
            ["hook forward", "policy drop", "type icmp_type", "echo-request", "nd-neighbor-solicit"]
        {
            assert!(shown.contains(word), "{word} is not in {shown}");
        }
    };
    thread::spawn(body).join().expect("the test in its namespace");
}
