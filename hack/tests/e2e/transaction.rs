// SPDX-License-Identifier: Apache-2.0
//! A configuration is a transaction: numbered, confirmed or taken back, over restarts and power cuts.

use crate::{
    raw,
    world::{Kept, World, field, resource, resources, says, with_more},
};
use anyhow::{Context as _, Result, ensure};
use hack::suite::Checks;
use std::{path::PathBuf, time::Duration};
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
    std::fs::rename(file, &own)?;
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
            let documents = std::fs::read(with_server(&node, server)?)?;
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
            let documents = std::fs::read(with_server(&node, "192.0.2.23")?)?;
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
        let before = active(&node)?;
        let document = "---\napiVersion: stele/v1\nkind: Link\nname: eth0\ndhcp4: false\naddresses: [192.0.2.77/24]\n";
        let file = with_more(&node, document)?;
        let file = file.to_string_lossy();
        // The answer may not get through.
        node.ctl.output(["apply-config", "-f", &file, "--confirm-within", "15s", "--timeout", "5s"])?;
        node.wait_until("it can be reached again", SOON, || Ok(active(&node).is_ok()))?;
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
