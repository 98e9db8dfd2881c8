// SPDX-License-Identifier: Apache-2.0
//! The system's own checks: what the store says of services, networks and volumes, held against what must be.

use super::{
    now,
    rules::{NETWORK, Rules, SERVICES, VOLUMES},
};
use crate::{images::Network, node::Node, store::Kind, unit::Start};
use serde_json::Value;
use std::time::Duration;
use stele_config::Subject;
use stele_machine::probe::State;

/// A check's result: what is wrong, or what was seen.
type Seen = Result<String, String>;

/// Makes them all.
pub(super) fn look(node: &Node, rules: &Rules) {
    let mut seen = vec![
        (SERVICES.to_owned(), services(node)),
        (NETWORK.to_owned(), network(node)),
        (VOLUMES.to_owned(), volumes(node)),
    ];
    seen.extend(found_by(node, rules, |_| true));
    see(node, seen);
}

/// Makes those of them that are about a probe, whenever one of them can be reached now or can no longer.
pub(super) fn look_at_probes(node: &Node, rules: &Rules) {
    see(node, found_by(node, rules, |subject| matches!(subject, Subject::Probe(_))));
}

fn see(node: &Node, seen: Vec<(String, Seen)>) {
    let mut health = node.health.health.borrow_mut();
    for (check, result) in seen {
        let (ok, said) = match &result {
            Ok(said) => (true, said),
            Err(said) => (false, said),
        };
        health.see(&check, ok, said, now());
    }
}

/// What those checks of the configuration find that are about something that PID 1 knows.
fn found_by(node: &Node, rules: &Rules, wanted: impl Fn(&Subject) -> bool) -> Vec<(String, Seen)> {
    let wanted = rules.subjects().filter(|(_, subject)| wanted(subject));
    wanted.filter_map(|(check, subject)| Some((check, found(node, subject)?))).collect()
}

/// What one of them finds; nothing yet of a probe that was not tried often enough.
fn found(node: &Node, subject: &Subject) -> Option<Seen> {
    match subject {
        Subject::Service(service) => {
            Some(stable(node, service.name().as_str(), service.stable_for()))
        }
        Subject::Probe(name) => reachable(node, name.as_str()),
        Subject::Clock => Some(clock(node)),
        // Others try it.
        Subject::Target(_) => None,
    }
}

fn text<'a>(status: &'a Value, field: &str) -> &'a str {
    status.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Every service that starts with the machine runs, and none that was started waits to be started again.
fn services(node: &Node) -> Seen {
    for (name, unit) in &node.units {
        if unit.start == Start::Boot && node.store.status(Kind::Service, name).is_none() {
            return Err(format!("{name} was not started"));
        }
    }
    let names = node.store.names(Kind::Service);
    for name in &names {
        let Some(status) = node.store.status(Kind::Service, name) else { continue };
        let starts_with_the_machine =
            node.units.get(name).is_some_and(|unit| unit.start == Start::Boot);
        match text(&status, "state") {
            "running" | "held" | "stopped" | "stopping" if !starts_with_the_machine => {}
            "running" => {}
            state => {
                let reason = text(&status, "reason");
                let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
                return Err(format!("{name} is {state}{because}"));
            }
        }
    }
    Ok(format!("{} services are as they should be", names.len()))
}

/// A service runs, and has for this long.
fn stable(node: &Node, name: &str, stable_for: Duration) -> Seen {
    let Some(status) = node.store.status(Kind::Service, name) else {
        return Err(format!("there is no service {name}"));
    };
    let (state, reason) = (text(&status, "state"), text(&status, "reason"));
    if state != "running" {
        return Err(format!("{name} is {state}: {reason}"));
    }
    let since = status.get("since").and_then(Value::as_f64).unwrap_or(f64::MAX);
    let so_far = Duration::from_millis(now()).as_secs_f64() - since;
    if so_far < stable_for.as_secs_f64() {
        return Err(format!("{name} has been running for {so_far:.1} s"));
    }
    Ok(format!("{name} runs"))
}

/// A probe can be reached.
fn reachable(node: &Node, name: &str) -> Option<Seen> {
    let probes = node.health.probes.borrow();
    let Some(probe) = probes.all().get(name) else {
        return Some(Err(format!("there is no probe {name}")));
    };
    match probe.state() {
        State::Unknown => None,
        State::Reachable => Some(Ok(format!("the probe {name} is reachable"))),
        State::Unreachable => {
            let why = probe.complaint();
            Some(Err(format!("the probe {name} is unreachable: {why}")))
        }
    }
}

/// The clock is right.
fn clock(node: &Node) -> Seen {
    if node.clock.known().is_some() {
        return Ok("the clock is right".to_owned());
    }
    let status = node.store.status(Kind::Time, "time").unwrap_or_default();
    Err(format!("the clock is not known to be right: {}", text(&status, "reason")))
}

/// The networks that are up: links with an address that is of use beyond them.
pub(crate) fn networks(node: &Node) -> Vec<Network> {
    let gateways: Vec<String> = node
        .store
        .names(Kind::Route)
        .iter()
        .filter_map(|name| node.store.status(Kind::Route, name))
        .filter(|status| matches!(text(status, "to"), "0.0.0.0/0" | "::/0"))
        .map(|status| text(&status, "link").to_owned())
        .collect();
    let up = |link: String| {
        let status = node.store.status(Kind::Link, &link)?;
        let addresses = status.get("addresses")?.as_array()?;
        let useful = |address: &Value| {
            address.as_str().is_some_and(|text| {
                !text.starts_with("fe80:") && !text.starts_with("127.") && text != "::1/128"
            })
        };
        let mac = text(&status, "mac").to_owned();
        let gateway = gateways.contains(&link);
        addresses.iter().any(useful).then_some(Network { link, mac, gateway })
    };
    node.store.names(Kind::Link).into_iter().filter_map(up).collect()
}

/// Every network that was up when the machine was last healthy is up.
fn network(node: &Node) -> Seen {
    let now = networks(node);
    let before = node.images.memory().networks;
    for Network { link, mac, gateway } in &before {
        let same = |other: &&Network| {
            if mac.is_empty() { other.link == *link } else { other.mac == *mac }
        };
        match now.iter().find(same) {
            // That is no fault of the image, and the other one has it too.
            None if conflicts(node, mac) => {}
            None => return Err(format!("{link} ({mac}) was up before and {}", missing(node, mac))),
            Some(found) if *gateway && !found.gateway => {
                return Err(format!("{link} ({mac}) had a default route before and has none"));
            }
            Some(_) => {}
        }
    }
    Ok(format!("{} of {} networks that were up before are up", before.len(), before.len()))
}

/// The status of the link with this hardware address.
fn by_mac(node: &Node, mac: &str) -> Option<Value> {
    let links = node.store.names(Kind::Link);
    let mut found = links.iter().filter_map(|name| node.store.status(Kind::Link, name));
    found.find(|status| text(status, "mac") == mac)
}

/// Whether another machine has the address of this link.
fn conflicts(node: &Node, mac: &str) -> bool {
    by_mac(node, mac).is_some_and(|status| text(&status, "state") == "conflict")
}

fn missing(node: &Node, mac: &str) -> String {
    match by_mac(node, mac) {
        None => "this image sees no such link".to_owned(),
        Some(status) => {
            let (state, reason) = (text(&status, "state"), text(&status, "reason"));
            format!("has no address now: it is {state}: {reason}")
        }
    }
}

/// State and data are on the disk.
fn volumes(node: &Node) -> Seen {
    for name in ["STATE", "DATA"] {
        let Some(status) = node.store.status(Kind::Volume, name) else {
            return Err(format!("{name} is not mounted"));
        };
        if text(&status, "device") == "tmpfs" {
            return Err(format!("{name} is in memory: {}", text(&status, "reason")));
        }
    }
    Ok("STATE and DATA are on the disk".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Release;
    use serde_json::json;
    use std::collections::BTreeMap;

    #[test]
    fn a_service_that_is_held_is_as_it_should_be() {
        let node = Node::new(BTreeMap::new(), Release::default());
        let said = |state: &str| {
            let status = json!({"state": state, "reason": "because"});
            node.store.put(Kind::Service, "log-sink-central", &status);
            services(&node)
        };
        assert_eq!(said("held"), Ok("1 services are as they should be".to_owned()));
        assert_eq!(said("waiting"), Err("log-sink-central is waiting: because".to_owned()));
    }
}
