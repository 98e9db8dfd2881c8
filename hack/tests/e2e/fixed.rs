// SPDX-License-Identifier: Apache-2.0
//! Fixed IPv4 addresses on QEMU's user network, which answers for its gateway and its name server as other machines would.

use crate::{
    kinds::apply,
    world::{Kept, World, field, resource, resources, says, with_more},
};
use anyhow::{Context as _, Result, ensure};
use hack::{node::BOOT, suite::Checks};
use serde_json::Value;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);

/// The hardware address that QEMU makes up for its name server, 10.0.2.3.
const OTHER: &str = "52:55:0a:00:02:03";

const SECOND: [&str; 4] = [
    "-netdev",
    "user,id=second,restrict=on,net=10.0.3.0/24,dns=10.0.3.3",
    "-device",
    "virtio-net-pci,netdev=second,mac=52:54:00:00:03:01,romfile=",
];

/// The hardware addresses of both cards: the kernel finds them in any order.
pub(crate) const CARDS: [&str; 2] = ["52:54:00:12:34:56", "52:54:00:00:03:01"];

pub(crate) fn link(name: &str, mac: &str, more: &str) -> String {
    format!(
        "---\napiVersion: stele/v2\nkind: Link\nname: {name}\nmatch: {{mac: '{mac}'}}\n{more}\n"
    )
}

/// The link that the machine is reached by, with these addresses besides.
fn with(addresses: &str) -> String {
    let [uplink, _] = CARDS;
    link("first", uplink, &format!("dhcp4: {{}}\naddresses: [{addresses}]"))
}

/// Both links, the second with these addresses.
fn second(addresses: &str) -> String {
    let [uplink, other] = CARDS;
    let first = link("first", uplink, "dhcp4: {}");
    format!("{first}{}", link("second", other, &format!("addresses: [{addresses}]")))
}

/// The link that is set up by a document.
pub(crate) fn by_document(node: &Kept, document: &str) -> Result<Value> {
    let links = resources(node, "link")?;
    let mut found = links.into_iter().filter(|link| link["status"]["document"] == document);
    found.next().with_context(|| format!("no link is set up by {document}"))
}

fn state(node: &Kept, document: &str) -> Result<String> {
    field(&by_document(node, document)?, "state")
}

fn restart(node: &Kept) -> Result<()> {
    let boot = node.boot_id()?;
    node.ctl.run(["reboot"])?;
    node.wait_for_another_boot(&boot)
}

/// A document that has nothing to do with addresses.
fn unrelated(number: u8) -> String {
    format!(
        "---\napiVersion: stele/v1\nkind: Hosts\nname: far\nhosts: [{{address: 192.0.2.{number}, names: [far.test]}}]\n"
    )
}

/// How long a configuration takes to be in force.
fn timed(node: &Kept, more: &str) -> Result<Duration> {
    let begun = Instant::now();
    apply(node, more)?;
    Ok(begun.elapsed())
}

/// Whether the machine has an address, on whatever link.
fn has(node: &Kept, address: &str) -> Result<bool> {
    Ok(node.ctl.run(["get", "address"])?.contains(&format!("/{address}/")))
}

/// What became of the newest configuration, and why.
fn newest(node: &Kept) -> Result<(String, String)> {
    let generations = resources(node, "generation")?;
    let number = |one: &Value| one["name"].as_str()?.parse::<u64>().ok();
    let newest = generations.iter().max_by_key(|one| number(one));
    let newest = newest.context("there is no generation")?;
    Ok((field(newest, "state")?, field(newest, "reason").unwrap_or_default()))
}

pub(crate) fn addresses(world: &World, checks: &Checks) -> Result<()> {
    // A second card, on a network of its own, whose name server can be another one the next time.
    let mut node = world.resumed_as(
        "fixed",
        |_| Ok(()),
        |mut machine| {
            machine.extra.extend(SECOND.map(str::to_owned));
            Ok(machine)
        },
    )?;
    node.wait_until_it_answers()?;
    checks.check("an address that another machine has is refused, and leaves no trace", || {
        apply(&node, &link("first", CARDS[0], "dhcp4: {}"))?;
        let before = by_document(&node, "first")?;
        let file = with_more(&node, &with("10.0.2.3/24"))?;
        let refused = node.ctl.fails(["apply-config", "-f", &file.to_string_lossy()])?;
        says(&refused, &["10.0.2.3/24", "another machine", OTHER])?;
        let (state, reason) = newest(&node)?;
        ensure!(state == "failed", "it is {state}");
        says(&reason, &["10.0.2.3/24", OTHER])?;
        ensure!(!has(&node, "10.0.2.3")?, "the machine has it");
        let after = by_document(&node, "first")?;
        ensure!(after["status"] == before["status"], "{after}");
        node.wait_until("nobody asks any more", SOON, || {
            Ok(field(&resource(&node, "service", "acd")?, "state")? == "stopped")
        })?;
        node.ctl.run(["ping", "10.0.2.2", "-c", "1"]).map(drop)
    });
    checks.check("one that nobody has is there soon, and other changes wait for nobody", || {
        let plain = timed(&node, &unrelated(1))?;
        let asked = timed(&node, &format!("{}{}", with("10.0.2.77/24"), unrelated(1)))?;
        ensure!(has(&node, "10.0.2.77")?, "it is not there");
        ensure!(state(&node, "first")? == "ready");
        node.ctl.run(["drift"])?;
        let agent = resource(&node, "service", "acd")?;
        let other = timed(&node, &format!("{}{}", with("10.0.2.77/24"), unrelated(2)))?;
        ensure!(asked < plain + Duration::from_secs(4), "{asked:?} after {plain:?}");
        ensure!(asked > Duration::from_millis(400), "nobody was asked");
        ensure!(other < asked, "{other:?} after {asked:?}");
        let agent_now = resource(&node, "service", "acd")?;
        ensure!(field(&agent_now, "pid")? == field(&agent, "pid")?, "{agent_now}");
        // The same once more while the agent runs.
        let again = timed(&node, &with("10.0.2.77/24, 10.0.2.78/24"))?;
        ensure!(has(&node, "10.0.2.78")?, "it is not there");
        let agent_now = resource(&node, "service", "acd")?;
        ensure!(field(&agent_now, "pid")? == field(&agent, "pid")?, "{agent_now}");
        ensure!(field(&agent_now, "restarts")? == "0", "{agent_now}");
        world.figure(format!(
            "in force after {plain:?}; with a new address {asked:?}, another one {again:?}, none but another host {other:?}"
        ));
        apply(&node, "")
    });
    checks.check("an address that it has by DHCP becomes a fixed one without a question", || {
        let more = "addresses: [10.0.2.15/24]\nroutes: [{to: 0.0.0.0/0, via: 10.0.2.2}]";
        let fixed = &link("first", CARDS[0], more);
        let took = timed(&node, fixed)?;
        world.figure(format!("from DHCP to a fixed address after {took:?}"));
        ensure!(state(&node, "first")? == "ready");
        // Nothing has it now but the document: the next start asks.
        restart(&node)?;
        node.wait_until("the link is ready", SOON, || Ok(state(&node, "first")? == "ready"))?;
        let log = node.ctl.run(["logs", "init"])?;
        says(&log, &["no other machine has the address"])?;
        ensure!(!log.contains("nobody has said"), "{log}");
        apply(&node, "")
    });
    checks.check("a staged one that turns out so at the start is taken back", || {
        let file = with_more(&node, &with("10.0.2.3/24"))?;
        node.ctl.run(["apply-config", "-f", &file.to_string_lossy(), "--mode", "staged"])?;
        restart(&node)?;
        node.wait_until("it goes back", SOON * 3, || Ok(newest(&node)?.0 == "reverted"))?;
        says(&newest(&node)?.1, &["10.0.2.3/24", OTHER])?;
        ensure!(!has(&node, "10.0.2.3")? && has(&node, "10.0.2.15")?, "the machine has it");
        Ok(())
    });
    apply(&node, &second("10.0.3.7/24"))?;
    node.wait_until("it has the address", SOON, || Ok(state(&node, "second")? == "ready"))?;
    node.ctl.run(["shutdown"])?;
    node.vm.wait_until_off(BOOT)?;
    for argument in &mut node.vm.machine().extra {
        *argument = argument.replace("dns=10.0.3.3", "dns=10.0.3.7");
    }
    node.vm.power_on()?;
    node.wait_until_it_answers()?;
    checks.check("an address of its own that is taken meanwhile is left, and told", || {
        node.wait_until("it says so", SOON, || Ok(state(&node, "second")? == "conflict"))?;
        let link = by_document(&node, "second")?;
        says(&field(&link, "reason")?, &["10.0.3.7", "52:55:0a:00:03:07", "tried again"])?;
        ensure!(field(&link, "since")?.parse::<f64>()? > 0.0, "{link}");
        ensure!(!link["status"]["addresses"].to_string().contains("10.0.3.7"), "{link}");
        says(&node.ctl.run(["events"])?, &["conflict"])?;
        // What was so before is not the fault of what comes now.
        apply(&node, &format!("{}{}", second("10.0.3.7/24"), unrelated(1)))?;
        ensure!(state(&node, "second")? == "conflict");
        let file = with_more(&node, &second("10.0.3.7/24, 10.0.3.2/24"))?;
        let refused = node.ctl.fails(["apply-config", "-f", &file.to_string_lossy()])?;
        says(&refused, &["10.0.3.2/24", "another machine"])?;
        apply(&node, &second("10.0.3.8/24"))?;
        ensure!(state(&node, "second")? == "ready");
        Ok(())
    });
    checks.check("nobody is asked where the document says so", || {
        let [uplink, other] = CARDS;
        let unasked = link("second", other, "addresses: [10.0.3.7/24]\nconflictDetection: false");
        apply(&node, &format!("{}{unasked}", link("first", uplink, "dhcp4: {}")))?;
        ensure!(has(&node, "10.0.3.7")?, "it is not there");
        ensure!(state(&node, "second")? == "ready");
        node.wait_until("nobody asks any more", SOON, || {
            Ok(field(&resource(&node, "service", "acd")?, "state")? == "stopped")
        })
    });
    Ok(())
}
