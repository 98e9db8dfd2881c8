// SPDX-License-Identifier: Apache-2.0
//! A configuration is a transaction: numbered, confirmed or taken back, over restarts and power cuts.

use crate::{
    raw, upgrade,
    web::{Mood, Web},
    world::{Kept, World, field, resource, resources, says, settle, version, with_more},
};
use anyhow::{Context as _, Result, ensure};
use hack::{
    disk::{damage_file, partition},
    node::BOOT,
    suite::Checks,
    variants::NEXT,
};
use std::{fs, path::PathBuf, time::Duration};
use stele_proto::v1::{
    ApplyRequest, ConfirmRequest, GenerationState, config_service_client::ConfigServiceClient,
};
use tonic::Code;

const SOON: Duration = Duration::from_secs(60);

/// The node's configuration with other name servers.
fn with_server(node: &Kept, server: &str) -> Result<PathBuf> {
    let document = format!("---\napiVersion: stele/v1\nkind: Resolver\nservers: [{server}]\n");
    let file = with_more(node, &document)?;
    let own = file.with_file_name(format!("{}.yaml", server.replace([':', '.'], "-")));
    fs::rename(file, &own)?;
    Ok(own)
}

fn apply(node: &Kept, server: &str, more: &[&str]) -> Result<String> {
    let file = with_server(node, server)?;
    let file = file.to_string_lossy();
    node.ctl.run([&["apply-config", "-f", &*file], more].concat())
}

fn refused(node: &Kept, server: &str, more: &[&str], needles: &[&str]) -> Result<()> {
    let file = with_server(node, server)?;
    let file = file.to_string_lossy();
    says(&node.ctl.fails([&["apply-config", "-f", &*file], more].concat())?, needles)
}

/// The number of the generation in force.
fn active(node: &Kept) -> Result<u64> {
    let generations = resources(node, "generation")?;
    let active = generations.iter().find(|one| one["status"]["active"] == true);
    let name = active.and_then(|one| one["name"].as_str()).context("No generation is active")?;
    Ok(name.parse()?)
}

fn state(node: &Kept, generation: u64) -> Result<String> {
    field(&resource(node, "generation", &generation.to_string())?, "state")
}

fn servers(node: &Kept) -> Result<String> {
    Ok(resource(node, "resolver", "resolver")?["status"]["servers"].to_string())
}

fn becomes(node: &Kept, generation: u64) -> Result<()> {
    node.wait_until("the generation is in force", SOON, || {
        Ok(active(node).is_ok_and(|active| active == generation))
    })
}

pub(crate) fn confirmed_or_not(world: &World, checks: &Checks) -> Result<()> {
    let mut node = world.settled("transaction")?;
    let first = active(&node)?;

    checks.check("an accepted configuration is a generation: who, when, from which image", || {
        says(&apply(&node, "192.0.2.1", &[])?, &[&format!("generation {}", first + 1)])?;
        let shown = resource(&node, "generation", &(first + 1).to_string())?;
        ensure!(field(&shown, "state")? == "active" && !field(&shown, "serial")?.is_empty());
        ensure!(field(&shown, "image")? == env!("CARGO_PKG_VERSION"));
        ensure!(state(&node, first)? == "superseded");
        says(&servers(&node)?, &["192.0.2.1"])
    });
    checks.check("one made from a generation that is not in force is refused", || {
        refused(&node, "192.0.2.2", &["--base", &first.to_string()], &["generation"])?;
        ensure!(active(&node)? == first + 1);
        Ok(())
    });
    checks.check("of two at once, made from the same one, one wins and the other is told", || {
        let base = active(&node)?;
        let ask = |server: &str| -> Result<_> {
            let documents = fs::read(with_server(&node, server)?)?;
            Ok(ApplyRequest { documents, base, ..ApplyRequest::default() })
        };
        let (one, two) = (ask("192.0.2.11")?, ask("192.0.2.12")?);
        let credentials = node.credentials()?;
        let (one, two) = raw::block_on(async {
            let mut left = ConfigServiceClient::new(raw::channel(&node, Some(&credentials)).await?);
            let mut right = left.clone();
            anyhow::Ok(tokio::join!(left.apply(one), right.apply(two)))
        })??;
        let refused: Vec<_> = [one.err(), two.err()].into_iter().flatten().collect();
        ensure!(refused.len() == 1, "{refused:?}");
        ensure!(refused.iter().all(|status| status.code() == Code::Aborted), "{refused:?}");
        ensure!(active(&node)? == base + 1);
        Ok(())
    });
    checks.check("one that is confirmed over a new connection stays", || {
        let before = active(&node)?;
        apply(&node, "192.0.2.21", &["--confirm-within", "30s"])?;
        ensure!(state(&node, before + 1)? == "pending");
        refused(&node, "192.0.2.22", &[], &["confirm"])?;
        says(&node.ctl.run(["confirm"])?, &[&format!("generation {}", before + 1)])?;
        ensure!(state(&node, before + 1)? == "active");
        says(&node.ctl.fails(["confirm"])?, &["no configuration waits"])
    });
    checks.check(
        "a confirmation over the old connection, or by a reader, counts for nothing",
        || {
            let credentials = node.credentials()?;
            let documents = fs::read(with_server(&node, "192.0.2.23")?)?;
            let confirm_within = Some(prost_types::Duration { seconds: 12, nanos: 0 });
            let status = raw::block_on(async {
                let mut client =
                    ConfigServiceClient::new(raw::channel(&node, Some(&credentials)).await?);
                let request = ApplyRequest { documents, confirm_within, ..ApplyRequest::default() };
                let generation = client.apply(request).await?.into_inner().generation;
                ensure!(generation.is_some_and(|one| one.state() == GenerationState::Pending));
                anyhow::Ok(client.confirm(ConfirmRequest { generation: 0 }).await.err())
            })??;
            let status = status.context("It was confirmed")?;
            ensure!(status.code() == Code::FailedPrecondition, "{status}");
            says(status.message(), &["older than", "connect anew"])?;
            let reader = world.operator.client(&node, "eve", "os:reader", "1h")?;
            says(&reader.fails(["confirm"])?, &["os:admin"])
        },
    );
    checks.check("without a word in time the node is back by itself, and says why", || {
        let pending = active(&node)?;
        node.wait_until("it has gone back", SOON, || Ok(active(&node)? < pending))?;
        says(&servers(&node)?, &["192.0.2.21"])?;
        ensure!(state(&node, pending)? == "reverted");
        let shown = resource(&node, "generation", &pending.to_string())?;
        says(&field(&shown, "reason")?, &["not confirmed within 12 s"])?;
        says(&node.ctl.fails(["confirm", &pending.to_string()])?, &["no longer", "not confirmed"])
    });
    checks.check("one that cuts the network off is taken back by itself", || {
        let (before, last) = (active(&node)?, newest(&node)?);
        let document = "---\napiVersion: stele/v1\nkind: Link\nname: eth0\ndhcp4: false\naddresses: [192.0.2.77/24]\n";
        let file = with_more(&node, document)?;
        let file = file.to_string_lossy();
        // The answer may not get through.
        node.ctl.output(["apply-config", "-f", &file, "--confirm-within", "15s", "--timeout", "5s"])?;
        node.wait_until("it is reverted, and says so", SOON, || {
            Ok(state(&node, last + 1).is_ok_and(|state| state == "reverted"))
        })?;
        becomes(&node, before)
    });
    checks.check("one that turns out to be impossible leaves nothing behind", || {
        let before = active(&node)?;
        // The network's own router has the first one; the kernel does not take the second.
        let taken = "kind: Link\nname: eth0\ndhcp4: true\naddresses: [\"fec0::2/64\"]\n";
        let wrong = "kind: Sysctl\nname: vm.swappiness\nvalue: very\n";
        for (document, why) in [(taken, "fec0::2"), (wrong, "vm.swappiness")] {
            let file = with_more(&node, &format!("---\napiVersion: stele/v1\n{document}"))?;
            let said = node.ctl.fails(["apply-config", "-f", &file.to_string_lossy()])?;
            let back = format!("back on generation {before}");
            says(&said, &["could not be put in force", &back, why])?;
            ensure!(active(&node)? == before);
            ensure!(state(&node, newest(&node)?)? == "failed");
            ensure!(!node.ctl.run(["get", "address"])?.contains("fec0::2/"));
        }
        Ok(())
    });
    checks.check("a staged one is in force with the next start, and not before", || {
        let before = active(&node)?;
        says(&apply(&node, "192.0.2.31", &["--mode", "staged"])?, &["next"])?;
        ensure!(active(&node)? == before);
        let staged = newest(&node)?;
        ensure!(state(&node, staged)? == "staged");
        restart(&node)?;
        becomes(&node, staged)?;
        node.wait_until("it stays", SOON, || Ok(state(&node, staged)? == "active"))?;
        says(&servers(&node)?, &["192.0.2.31"])
    });
    checks.check("what happened before the start is still told", || {
        let told = node.ctl.run(["events", "--since", "30m"])?;
        says(&told, &["failed", "vm.swappiness"])?;
        ensure!(node.ctl.run(["events", "--since", "1s"])?.lines().count() < told.lines().count());
        Ok(())
    });
    checks.check("over a restart that it brings itself, one waits to be confirmed", || {
        let boot = node.boot_id()?;
        apply(&node, "192.0.2.41", &["--mode", "reboot", "--confirm-within", "5m"])?;
        node.wait_until("it has restarted", SOON * 3, || {
            Ok(node.boot_id().is_ok_and(|now| now != boot))
        })?;
        let pending = newest(&node)?;
        node.wait_until("it waits", SOON, || Ok(state(&node, pending)? == "pending"))?;
        node.ctl.run(["confirm"])?;
        ensure!(state(&node, pending)? == "active");
        Ok(())
    });
    let before = active(&node)?;
    apply(&node, "192.0.2.51", &["--confirm-within", "10m"])?;
    node.vm.cut_power()?;
    node.vm.power_on()?;
    node.wait_until_it_answers()?;
    checks.check("a power cut before the word leads back", || {
        becomes(&node, before)?;
        ensure!(state(&node, before + 1)? == "reverted");
        let shown = resource(&node, "generation", &(before + 1).to_string())?;
        says(&field(&shown, "reason")?, &["ended before it was confirmed"])
    });
    let pending = newest(&node)? + 1;
    let boot = node.boot_id()?;
    let document =
        "---\napiVersion: stele/v1\nkind: Sysctl\nname: kernel.unknown_nmi_panic\nvalue: 1\n";
    let file = with_more(&node, document)?;
    node.ctl.run(["apply-config", "-f", &file.to_string_lossy(), "--confirm-within", "10m"])?;
    node.vm.qmp("inject-nmi", serde_json::Value::Null)?;
    node.vm.wait_for_line("Kernel panic", BOOT)?;
    node.wait_for_another_boot(&boot)?;
    checks.check("so does a kernel that panics", || {
        becomes(&node, before)?;
        ensure!(state(&node, pending)? == "reverted");
        Ok(())
    });
    checks.check("history names them all, and rollback goes back to one", || {
        says(
            &node.ctl.run(["config", "history"])?,
            &["active", "reverted", "superseded", "failed"],
        )?;
        node.ctl.run(["config", "rollback", &first.to_string()])?;
        ensure!(!servers(&node)?.contains("192.0.2."), "{}", servers(&node)?);
        node.ctl.run(["config", "rollback"])?;
        says(&servers(&node)?, &["192.0.2.41"])
    });
    checks.check("the last twenty are kept, and those in use", || {
        for number in 0..22 {
            apply(&node, &format!("192.0.2.{}", 100 + number), &[])?;
        }
        let kept = resources(&node, "generation")?.len();
        ensure!((20..=22).contains(&kept), "{kept}");
        Ok(())
    });
    Ok(())
}

/// Generations that the disk has forgotten, one so that it is no JSON and one so that it is another configuration.
pub(crate) fn corrupted(world: &World, checks: &Checks) -> Result<()> {
    let mut node = world.settled("forgetful")?;
    for server in ["192.0.2.71", "192.0.2.72", "192.0.2.73"] {
        apply(&node, server, &[])?;
    }
    let newest = active(&node)?;
    node.ctl.run(["shutdown"])?;
    node.vm.wait_until_off(BOOT)?;
    let disk = node.disk()?;
    let place = partition(&disk, "STATE")?;
    let file = |number: u64| format!("/generations/{number}.json");
    damage_file(&disk, place, &file(newest), |bytes| bytes[200..264].fill(0xa5))?;
    damage_file(&disk, place, &file(newest - 1), |bytes| {
        // One hexadecimal digit of its digest.
        let at = bytes.windows(10).position(|window| window == b"\"sha256\":\"").unwrap_or(0) + 10;
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
    })?;
    let mark = node.vm.console().mark();
    node.vm.power_on()?;
    node.wait_until_it_answers()?;
    checks.check("the next older generation that is whole is in force", || {
        becomes(&node, newest - 2)?;
        says(&servers(&node)?, &["192.0.2.71"])
    });
    checks.check("and the node says so: on the console, in the history, as an event", || {
        for number in [newest, newest - 1] {
            ensure!(state(&node, number)? == "unreadable", "{}", state(&node, number)?);
        }
        let shown = resource(&node, "generation", &(newest - 1).to_string())?;
        says(&field(&shown, "reason")?, &["digest"])?;
        let (console, _) = node.vm.console().read_from(mark);
        says(&console, &["a saved configuration can't be read", &newest.to_string()])?;
        says(&node.ctl.run(["config", "history"])?, &["unreadable"])?;
        says(&node.ctl.run(["events"])?, &["unreadable"])
    });
    checks.check(
        "one that can't be read can't be gone back to, and the next one has a new number",
        || {
            node.ctl.fails(["config", "rollback", &newest.to_string()])?;
            apply(&node, "192.0.2.74", &[])?;
            ensure!(active(&node)? == newest + 1);
            Ok(())
        },
    );
    checks.check("which is there after a restart as well", || {
        restart(&node)?;
        becomes(&node, newest + 1)
    });
    Ok(())
}

/// A node on an image that has yet to prove itself, and the server that decides when.
fn tried(world: &World, label: &str, deadline: &str) -> Result<(Kept, Web)> {
    let node = world.settled(label)?;
    let web = Web::watched(&node, deadline)?;
    // From now on each of its configurations has the check.
    fs::rename(node.files.machine.with_file_name("changed.yaml"), &node.files.machine)?;
    let image = world.variants.next();
    node.ctl.run(["upgrade", "--no-reboot", "--image", &image.to_string_lossy()])?;
    let boot = node.boot_id()?;
    // Who waits for the node to be back may come too late: its checks pass soon.
    node.ctl.run(["reboot", "--no-wait"])?;
    node.vm.wait_for_launch(2, BOOT)?;
    web.feel(Mood::Bad);
    node.wait_for_another_boot(&boot)?;
    ensure!(version(&node)? == NEXT);
    Ok((node, web))
}

fn gate(node: &Kept) -> Result<String> {
    field(resources(node, "gate")?.first().context("There is no gate")?, "state")
}

/// A configuration and an image have to prove themselves at the same time: an image that is good is remembered with the
/// machine's own configuration, which one that waits for its word is not.
pub(crate) fn on_trial(world: &World, checks: &Checks) -> Result<()> {
    let (mut node, web) = tried(world, "tried", "10m")?;
    let first = active(&node)?;
    checks.check("while an image is on trial, a configuration can be confirmed", || {
        apply(&node, "192.0.2.81", &["--confirm-within", "5m"])?;
        ensure!(state(&node, first + 1)? == "pending");
        node.ctl.run(["confirm"])?;
        ensure!(state(&node, first + 1)? == "active");
        ensure!(gate(&node)? == "pending", "{}", gate(&node)?);
        Ok(())
    });
    checks.check("and one can wait to be, while the image proves itself", || {
        apply(&node, "192.0.2.82", &["--confirm-within", "20m"])?;
        web.feel(Mood::Good);
        settle(&node)?;
        ensure!(field(&upgrade::slot(&node, NEXT)?, "state")? == "good");
        ensure!(state(&node, first + 2)? == "pending");
        says(&servers(&node)?, &["192.0.2.82"])
    });
    node.vm.cut_power()?;
    node.vm.power_on()?;
    node.wait_until_it_answers()?;
    checks.check("a power cut then takes the configuration back, and not the image", || {
        becomes(&node, first + 1)?;
        ensure!(version(&node)? == NEXT);
        ensure!(state(&node, first + 2)? == "reverted");
        says(&servers(&node)?, &["192.0.2.81"])
    });
    drop(node);
    let (node, _web) = tried(world, "failing", "30s")?;
    let first = active(&node)?;
    apply(&node, "192.0.2.83", &["--confirm-within", "1h"])?;
    checks.check("an image that fails takes the configuration that waits with it", || {
        node.wait_until("the image before is back", BOOT * 5, || {
            Ok(version(&node).is_ok_and(|version| version == env!("CARGO_PKG_VERSION")))
        })?;
        becomes(&node, first)?;
        ensure!(state(&node, first + 1)? == "reverted");
        let shown = resource(&node, "generation", &(first + 1).to_string())?;
        says(&field(&shown, "reason")?, &["ended before it was confirmed"])?;
        ensure!(!servers(&node)?.contains("192.0.2.83"));
        Ok(())
    });
    Ok(())
}

fn newest(node: &Kept) -> Result<u64> {
    let generations = resources(node, "generation")?;
    let numbers = generations.iter().filter_map(|one| one["name"].as_str()?.parse().ok());
    numbers.max().context("There is no generation")
}

fn restart(node: &Kept) -> Result<()> {
    let boot = node.boot_id()?;
    node.ctl.run(["reboot"])?;
    node.wait_until("it has restarted", SOON * 3, || {
        Ok(node.boot_id().is_ok_and(|now| now != boot))
    })
}
