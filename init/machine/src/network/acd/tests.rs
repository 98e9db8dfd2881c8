// SPDX-License-Identifier: Apache-2.0
//! Whose the addresses are, and what becomes of the links meanwhile.

use super::{Claims, Mode, PATIENCE, Withheld};
use crate::network::{
    Address, Link, Observed, Route,
    desired::Desired,
    fixture,
    lease::Dhcp,
    plan::{Action, plan},
    wanted::Wanted,
};
use proptest::prelude::*;
use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};
use stele_config::{Mac, MachineConfig, canonical};

const OLD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 5);
const NEW: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

fn other() -> Mac {
    Mac::from([0x52, 0x54, 0, 0, 0, 9])
}

fn at(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn link(carrier: bool) -> Link {
    let mac = Some([0x52, 0x54, 0, 0, 0, 1]);
    Link { mac, carrier, ..fixture::link(2, "eth0") }
}

fn task(claims: &Claims) -> Vec<Mode> {
    claims.task().map(|(_, mode)| mode).collect()
}

fn configured(addresses: &str, routes: &str) -> MachineConfig {
    let pem = |label: &str| format!("-----BEGIN {label}-----\\nMAA=\\n-----END {label}-----\\n");
    let (certificate, key) = (pem("CERTIFICATE"), pem("PRIVATE KEY"));
    let text = format!(
        r#"[{{"apiVersion":"stele/v1","kind":"Identity","ca":"{certificate}","certificate":"{certificate}","key":"{key}"}},
        {{"apiVersion":"stele/v2","kind":"Link","name":"eth0","addresses":[{addresses}],"routes":[{routes}]}}]"#
    );
    canonical::read(text.as_bytes()).expect("a configuration")
}

/// A machine whose kernel is a table.
struct Machine {
    observed: Observed,
    dhcp: BTreeMap<String, Dhcp>,
    now: Duration,
}

impl Machine {
    fn new(carrier: bool) -> Machine {
        let observed = Observed { links: vec![link(carrier)], ..Observed::default() };
        Machine { observed, dhcp: BTreeMap::new(), now: at(1000) }
    }

    fn carrier(&mut self, carrier: bool) {
        self.observed.links = vec![link(carrier)];
    }

    /// One pass; what it does.
    fn pass(&mut self, config: &MachineConfig) -> Vec<String> {
        let wanted = Wanted::from(Some(config));
        let before = Desired::derive(wanted, &self.dhcp, &self.observed.links);
        let dhcp = self.dhcp.entry("eth0".to_owned()).or_default();
        let there = |address: Ipv4Addr| {
            self.observed.addresses.iter().any(|one| one.cidr.address() == address)
        };
        let [link] = &self.observed.links[..] else { panic!("a link") };
        dhcp.acd.settle(link, &before.links["eth0"].fixed, there, self.now);
        let desired = Desired::derive(wanted, &self.dhcp, &self.observed.links);
        let actions = plan(&desired, &self.observed);
        actions.iter().for_each(|action| self.apply(action));
        assert_eq!(plan(&desired, &self.observed), []);
        actions.iter().map(ToString::to_string).collect()
    }

    fn apply(&mut self, action: &Action) {
        let Observed { addresses, routes, .. } = &mut self.observed;
        match action {
            Action::AddAddress { index, cidr } => addresses.push(Address {
                index: *index,
                cidr: *cidr,
                ours: true,
                tentative: false,
                duplicate: false,
            }),
            Action::DelAddress { index, cidr } => {
                addresses.retain(|one| (one.index, one.cidr) != (*index, *cidr));
                if addresses.is_empty() {
                    routes.clear();
                }
            }
            Action::AddRoute(route) => {
                let place = |one: &Route| (one.to, one.metric, one.table);
                assert!(routes.iter().all(|one| place(one) != place(route)), "EEXIST");
                let near = |cidr: &Address| route.via.is_none_or(|via| cidr.cidr.contains(via));
                assert!(route.onlink || addresses.iter().any(near), "ENETUNREACH");
                routes.push(route.clone());
            }
            Action::DelRoute(route) => routes.retain(|one| one != route),
            other => panic!("{other}"),
        }
    }

    /// A configuration has come.
    fn forgive(&mut self) {
        self.dhcp.values_mut().for_each(|dhcp| dhcp.acd.forgive());
    }

    fn has(&self, address: Ipv4Addr) -> bool {
        self.observed.addresses.iter().any(|one| one.cidr.address() == address)
    }

    /// Whether it has this address because a configuration says so.
    fn holds(&self, config: &MachineConfig, address: Ipv4Addr) -> bool {
        let desired = Desired::derive(Some(config), &self.dhcp, &self.observed.links);
        let wanted = &desired.links["eth0"];
        let mut here = self.observed.addresses.iter().filter(|one| one.cidr.address() == address);
        here.any(|one| wanted.addresses.contains(&one.cidr) && !wanted.withholds(&one.cidr))
    }

    fn hear(&mut self, address: Ipv4Addr, by: Option<Mac>) -> bool {
        self.dhcp.get_mut("eth0").expect("the link").acd.hear(address, by, self.now)
    }
}

const NOTHING: [&str; 0] = [];

#[test]
fn an_address_comes_once_nobody_else_has_it_and_the_old_one_goes_then() {
    let router = r#"{"to":"0.0.0.0/0","via":"192.0.2.1"}"#;
    let (old, new) = (
        configured(r#""192.0.2.5/24""#, router),
        configured(r#""192.0.2.7/24""#, r#"{"to":"0.0.0.0/0","via":"192.0.2.254"}"#),
    );
    let mut machine = Machine::new(true);
    assert_eq!(machine.pass(&old), NOTHING);
    assert_eq!(task(&machine.dhcp["eth0"].acd), [Mode::Ask]);
    assert!(machine.hear(OLD, None));
    let add = ["add 192.0.2.5/24 to link 2", "add the route to 0.0.0.0/0 via 192.0.2.1 on link 2"];
    assert_eq!(machine.pass(&old), add);
    assert_eq!(task(&machine.dhcp["eth0"].acd), [Mode::Hold]);
    assert_eq!(machine.pass(&new), NOTHING, "the connection may be by the old one");
    assert!(machine.hear(NEW, None));
    let moved = [
        "remove the route to 0.0.0.0/0 via 192.0.2.1 on link 2",
        "add 192.0.2.7/24 to link 2",
        "add the route to 0.0.0.0/0 via 192.0.2.254 on link 2",
        "remove 192.0.2.5/24 from link 2",
    ];
    assert_eq!(machine.pass(&new), moved);
    assert!(!machine.hear(NEW, None), "it is known");
}

#[test]
fn a_change_of_something_else_asks_nobody() {
    let one = configured(r#""192.0.2.5/24""#, "");
    let two = configured(r#""192.0.2.5/24","192.0.2.7/24""#, "");
    let mut machine = Machine::new(true);
    machine.pass(&one);
    machine.hear(OLD, None);
    machine.pass(&one);
    machine.now = at(60_000);
    assert_eq!(machine.pass(&two), NOTHING);
    assert_eq!(task(&machine.dhcp["eth0"].acd), [Mode::Hold, Mode::Ask]);
    // It had this one by DHCP, or whoever started the machine had given it.
    let mut machine = Machine::new(true);
    machine.apply(&Action::AddAddress { index: 2, cidr: "192.0.2.5/24".parse().expect("one") });
    assert_eq!(machine.pass(&one), NOTHING);
    assert_eq!(task(&machine.dhcp["eth0"].acd), [Mode::Hold]);
}

#[test]
fn an_address_of_another_machine_is_left_to_it_until_it_is_free() {
    let router = r#"{"to":"0.0.0.0/0","via":"192.0.2.1"},{"to":"198.51.100.0/24"}"#;
    let config = configured(r#""192.0.2.5/24""#, router);
    let mut machine = Machine::new(true);
    machine.pass(&config);
    assert!(machine.hear(OLD, Some(other())));
    assert_eq!(machine.pass(&config), NOTHING, "neither has it the routes");
    let withheld = |machine: &Machine| {
        machine.dhcp["eth0"].acd.withheld(&["192.0.2.5/24".parse().expect("an address")])
    };
    let [(_, Withheld { by: Some(by), old: false })] = withheld(&machine)[..] else { panic!() };
    assert_eq!(by, other());
    // Nor is it forgotten with the carrier.
    machine.carrier(false);
    machine.pass(&config);
    machine.carrier(true);
    assert_eq!(machine.pass(&config), NOTHING);
    assert_eq!(task(&machine.dhcp["eth0"].acd), [Mode::Ask]);
    machine.forgive();
    assert!(!machine.hear(OLD, Some(other())), "it is known");
    let [(_, Withheld { by: Some(_), old: true })] = withheld(&machine)[..] else { panic!() };
    assert_eq!(machine.dhcp["eth0"].acd.until(), None, "for as long as that takes");
    assert!(machine.hear(OLD, None));
    assert_eq!(machine.pass(&config).len(), 3);
}

#[test]
fn a_change_that_is_to_be_taken_back_has_taken_nothing_away() {
    let router = r#"{"to":"0.0.0.0/0","via":"192.0.2.1"}"#;
    let old = configured(r#""192.0.2.5/24""#, router);
    let new = configured(r#""192.0.2.7/24""#, router);
    let mut machine = Machine::new(true);
    machine.pass(&old);
    machine.hear(OLD, None);
    machine.pass(&old);
    machine.forgive();
    assert_eq!(machine.pass(&new), NOTHING);
    assert!(machine.hear(NEW, Some(other())));
    assert_eq!(machine.pass(&new), NOTHING);
    machine.forgive();
    assert_eq!(machine.pass(&old), NOTHING);
    assert_eq!(task(&machine.dhcp["eth0"].acd), [Mode::Hold], "nobody has to be asked again");
}

#[test]
fn an_address_that_is_ours_stays_whatever_others_say() {
    let config = configured(r#""192.0.2.5/24""#, "");
    let mut machine = Machine::new(true);
    machine.pass(&config);
    machine.hear(OLD, None);
    machine.pass(&config);
    assert!(machine.hear(OLD, Some(other())));
    assert_eq!(machine.pass(&config), NOTHING);
    let claims = &machine.dhcp["eth0"].acd;
    assert_eq!(claims.rivals().collect::<Vec<_>>(), [(OLD, other())]);
    assert_eq!(task(claims), [Mode::Contest]);
    assert!(machine.hear(OLD, None));
    assert_eq!(machine.dhcp["eth0"].acd.rivals().count(), 0);
}

#[test]
fn a_cable_that_comes_back_is_asked_while_the_address_is_used() {
    let config = configured(r#""192.0.2.5/24""#, "");
    let mut machine = Machine::new(true);
    machine.pass(&config);
    machine.hear(OLD, None);
    machine.pass(&config);
    machine.carrier(false);
    assert_eq!(machine.pass(&config), NOTHING);
    assert_eq!(task(&machine.dhcp["eth0"].acd), []);
    assert!(!machine.hear(OLD, Some(other())), "said before the cable went");
    machine.carrier(true);
    assert_eq!(machine.pass(&config), NOTHING);
    assert_eq!(task(&machine.dhcp["eth0"].acd), [Mode::Check]);
    assert!(machine.hear(OLD, None));
    assert_eq!(task(&machine.dhcp["eth0"].acd), [Mode::Hold]);
}

#[test]
fn nothing_is_waited_for_for_ever() {
    let config = configured(r#""192.0.2.5/24""#, "");
    for carrier in [false, true] {
        let mut machine = Machine::new(carrier);
        assert_eq!(machine.pass(&config), NOTHING);
        let end = machine.dhcp["eth0"].acd.until().expect("an end");
        assert_eq!(end, machine.now + PATIENCE);
        machine.now = end;
        assert_eq!(machine.pass(&config), ["add 192.0.2.5/24 to link 2"]);
        machine.carrier(true);
        machine.now += PATIENCE;
        let steps = machine.pass(&config);
        let claims = &machine.dhcp["eth0"].acd;
        if carrier {
            // Whoever asks was late. Somebody may be connected by it now.
            assert_eq!((steps, task(claims)), (vec![], vec![Mode::Check]));
            assert!(machine.hear(OLD, Some(other())));
            assert_eq!(machine.pass(&config), NOTHING);
        } else {
            // Now there is somebody to ask.
            assert_eq!(steps, ["remove 192.0.2.5/24 from link 2"]);
            assert_eq!(task(claims), [Mode::Ask]);
            machine.hear(OLD, None);
            assert_eq!(machine.pass(&config), ["add 192.0.2.5/24 to link 2"]);
        }
    }
}

#[test]
fn a_carrier_that_comes_in_time_finds_the_address_not_there_yet() {
    let config = configured(r#""192.0.2.5/24""#, "");
    let mut machine = Machine::new(false);
    machine.pass(&config);
    machine.now += at(3000);
    machine.carrier(true);
    assert_eq!(machine.pass(&config), NOTHING);
    machine.now += at(3000);
    assert_eq!(machine.pass(&config), NOTHING, "the time begins with the carrier");
    machine.hear(OLD, None);
    assert_eq!(machine.pass(&config), ["add 192.0.2.5/24 to link 2"]);
}

#[test]
fn where_nobody_can_be_asked_nobody_is() {
    let config = configured(r#""192.0.2.5/24""#, "");
    let mut machine = Machine::new(true);
    machine.observed.links = vec![Link { arp: false, ..link(true) }];
    assert_eq!(machine.pass(&config), ["add 192.0.2.5/24 to link 2"]);
    assert_eq!(task(&machine.dhcp["eth0"].acd), []);
}

/// What may happen.
#[derive(Debug, Clone)]
enum Event {
    Configured(usize),
    Carrier(bool),
    Heard(bool, bool),
    Passed(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..4_usize).prop_map(Event::Configured),
        any::<bool>().prop_map(Event::Carrier),
        any::<[bool; 2]>().prop_map(|[new, taken]| Event::Heard(new, taken)),
        (0..7000_u64).prop_map(Event::Passed),
    ]
}

proptest! {
    /// Whatever happens, one pass does all there is to do (see [`Machine::pass`]); no address that another machine has comes
    /// to a link with a carrier; and without any word each address is there in the end.
    #[test]
    fn no_address_of_another_machine_is_taken_and_none_is_withheld_for_ever(
        events in prop::collection::vec(event(), 1..40),
    ) {
        let router = r#"{"to":"0.0.0.0/0","via":"192.0.2.1"}"#;
        let other_router = r#"{"to":"0.0.0.0/0","via":"203.0.113.1"}"#;
        let configs = [
            configured(r#""192.0.2.5/24""#, router),
            configured(r#""192.0.2.7/24","203.0.113.5/24""#, other_router),
            configured(r#""192.0.2.5/24","192.0.2.7/24","2001:db8::1/64""#, router),
            configured(r#""192.0.2.7/16""#, ""),
        ];
        let mut machine = Machine::new(true);
        let mut config = &configs[0];
        for event in events {
            let (before, mut taken_from) = (machine.observed.addresses.clone(), None);
            match event {
                Event::Configured(which) => {
                    config = &configs[which];
                    machine.forgive();
                }
                Event::Carrier(carrier) => machine.carrier(carrier),
                Event::Heard(new, taken) => {
                    let address = if new { NEW } else { OLD };
                    let had = machine.has(address);
                    let held = machine.holds(config, address);
                    if machine.dhcp.contains_key("eth0") && machine.hear(address, taken.then(other)) && taken {
                        taken_from = Some((address, had, held));
                    }
                }
                Event::Passed(milliseconds) => machine.now += at(milliseconds),
            }
            machine.pass(config);
            if let Some((address, had, held)) = taken_from {
                prop_assert!(had || !machine.has(address), "it does not come when another machine has it");
                prop_assert!(!held || machine.has(address), "nor does it go while it is used");
            }
            let desired = Desired::derive(Some(config), &machine.dhcp, &machine.observed.links);
            if desired.links["eth0"].withheld.iter().any(|(_, why)| why.by.is_some() && !why.old) {
                let wanted = |one: &&Address| !desired.links["eth0"].withholds(&one.cidr);
                let gone = before.iter().filter(wanted).find(|one| !machine.observed.addresses.contains(one));
                prop_assert_eq!(gone, None, "what is to be taken back can be");
            }
        }
        machine.forgive();
        machine.now += PATIENCE;
        machine.pass(config);
        machine.now += PATIENCE;
        machine.pass(config);
        let desired = Desired::derive(Some(config), &machine.dhcp, &machine.observed.links);
        let wanted = &desired.links["eth0"];
        prop_assert!(!wanted.is_undecided());
        let there = |cidr| machine.observed.addresses.iter().any(|one| one.cidr == cidr);
        prop_assert!(wanted.addresses.iter().all(|cidr| wanted.withholds(cidr) != there(*cidr)));
        prop_assert!(machine.observed.addresses.iter().all(|one| wanted.addresses.contains(&one.cidr)));
    }
}
