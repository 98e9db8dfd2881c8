// SPDX-License-Identifier: Apache-2.0
//! What goes wrong around a node that is well: agents that are killed, a cable that is never still, and more links than anyone
//! has.

use crate::{
    collectors::{late, with_figures},
    kinds::{apply, links},
    world::{Kept, World, field, resource, resources, says},
};
use anyhow::{Context as _, Result, ensure};
use hack::{
    machine::Machine,
    node::{BOOT, Node},
    suite::Checks,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    thread::sleep,
    time::{Duration, Instant},
};

const FLAPS: u32 = 100;
const LINKS: u32 = 500;
const DAY: f64 = 86_400.0;
/// What every configuration here has.
const BASE: &str = "---\napiVersion: stele/v1\nkind: Metrics\naddress: \"0.0.0.0:9100\"
---\napiVersion: stele/v2\nkind: Link\nname: eth0\ndhcp4: {}\ndhcp6: {}\naddresses: [10.0.2.77/24]
---\napiVersion: stele/v1\nkind: Resolver\nstub: true
---\napiVersion: stele/v1\nkind: Time\nservers: [{server: 10.0.2.2}]
---\napiVersion: stele/v1\nkind: HealthCheck\nname: shut\nneed: wanted\ntcp: {address: \"10.0.2.2:9\"}\n";

pub(crate) fn around(world: &World, checks: &Checks) -> Result<()> {
    let machine = Machine::live(&world.variants.churning())?.append("stele.fault=kills");
    let (node, port) = with_figures(world, "faults", machine)?;
    apply(&node, BASE)?;
    checks.check("each agent that is killed is back, and no address goes", || killed(world, &node));
    let late_before = late(port, "0.5")?;
    checks.check("a link that goes and comes a hundred times is as it was", || flap(&node));
    checks.check("500 links come and go live", || many(world, &node));
    let late = late(port, "0.5")? - late_before;
    world.figure(format!(
        "{FLAPS} flaps and {LINKS} links, made and removed: PID 1 late by 500 ms {late} times"
    ));
    checks.check("and nothing was restarted by any of it", || {
        ensure!(node.vm.launches() == 1);
        let addresses = resource(&node, "link", "eth0")?.to_string();
        says(&addresses, &["10.0.2.15"])
    });
    Ok(())
}

/// Each service but the API's, with how often it was started again.
fn restarts(node: &Node) -> Result<BTreeMap<String, (u64, String)>> {
    let services = resources(node, "service")?;
    let told = |service: &Value| {
        let name = service["name"].as_str()?.to_owned();
        let restarts = service["status"]["restarts"].as_u64()?;
        (name != "apid").then_some((name, (restarts, field(service, "state").ok()?)))
    };
    Ok(services.iter().filter_map(told).collect())
}

fn killed(world: &World, node: &Kept) -> Result<()> {
    let mut known = BTreeMap::new();
    let deadline = Instant::now() + BOOT;
    while known.is_empty() || known.values().any(|(restarts, _)| *restarts == 0) {
        ensure!(Instant::now() < deadline, "Not all were killed: {known:?}");
        let eth0 = resource(node, "link", "eth0")?;
        ensure!(eth0.to_string().contains("10.0.2.15"), "the address has gone: {eth0}");
        known = restarts(node)?;
        sleep(Duration::from_millis(200));
    }
    node.wait_until("all of them run again", BOOT, || {
        Ok(restarts(node)?.values().all(|(_, state)| state == "running"))
    })?;
    world.figure(format!(
        "{} agents killed, one after the other; all back, {:.2} s later at the most: {:?}",
        known.len(),
        longest_absence(node)?,
        known.keys().collect::<Vec<_>>()
    ));
    Ok(())
}

/// For how many seconds a service was away that was killed, by the events.
fn longest_absence(node: &Node) -> Result<f64> {
    let (mut away, mut longest) = (BTreeMap::new(), 0.0_f64);
    for event in node.ctl.run(["events", "-o", "json"])?.lines() {
        let event: Value = serde_json::from_str(event)?;
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let at = of_the_day(&text("time")).with_context(|| event.to_string())?;
        match (text("kind").as_str(), text("message").as_str()) {
            ("Service", message) if message.contains("SIGKILL") => {
                away.insert(text("name"), at);
            }
            ("Service", "running") => {
                let since = away.remove(&text("name"));
                longest = longest.max(since.map_or(0.0, |since: f64| (at - since).rem_euclid(DAY)));
            }
            _ => {}
        }
    }
    ensure!(longest > 0.0, "nothing was away");
    Ok(longest)
}

/// Seconds of the day, of a time as RFC 3339 has it.
fn of_the_day(time: &str) -> Option<f64> {
    let (_, clock) = time.trim_end_matches('Z').split_once('T')?;
    clock.split(':').try_fold(0.0, |sum, part| Some(sum * 60.0 + part.parse::<f64>().ok()?))
}

fn flap(node: &Kept) -> Result<()> {
    for _ in 0..FLAPS {
        for up in [false, true] {
            node.vm.qmp("set_link", json!({ "name": "nic0", "up": up }))?;
            sleep(Duration::from_millis(30));
        }
    }
    // It waits for a DHCPv6 server, which is not there.
    node.wait_until("the link has its address", BOOT, || {
        let Ok(eth0) = resource(node, "link", "eth0") else { return Ok(false) };
        Ok(eth0["status"]["carrier"] == true && eth0.to_string().contains("10.0.2.15"))
    })
}

fn many(world: &World, node: &Kept) -> Result<()> {
    let dummies: String = (0..LINKS)
        .map(|number| format!("---\napiVersion: stele/v1\nkind: Dummy\nname: d{number}\n"))
        .collect();
    let began = Instant::now();
    apply(node, &format!("{BASE}{dummies}"))?;
    let came = began.elapsed();
    let there = links(node)?;
    ensure!(there.split(' ').count() == 502, "{there}");
    let began = Instant::now();
    apply(node, BASE)?;
    ensure!(links(node)? == "eth0 lo", "{}", links(node)?);
    world.figure(format!(
        "{LINKS} links live, from ctl's start to its end: made in {:.1} s, removed in {:.1} s",
        came.as_secs_f32(),
        began.elapsed().as_secs_f32()
    ));
    Ok(())
}
