// SPDX-License-Identifier: Apache-2.0
//! Kernel arguments: that they come with a start, stay, go, and never stop a machine.

use crate::{
    upgrade,
    world::{Kept, World, field, resource, resources, says, version, with_more},
};
use anyhow::{Context as _, Result, ensure};
use hack::{artefacts::top, node::BOOT, suite::Checks, variants::NEXT};
use std::{fs, time::Duration};

/// A start without arguments and one with them.
const BOTH: Duration = Duration::from_secs(240);
/// Starts with arguments that may fail before the machine goes on without.
const TRIES: u32 = 3;

pub(crate) fn there_and_back(world: &World, checks: &Checks) -> Result<()> {
    let node = world.settled("arguments")?;
    let file = top().join("proto/config/examples/KernelArgs.yaml");
    let example = fs::read_to_string(&file).context("Reading the example")?;
    let example = format!("---\n{example}");

    checks.check("what no image allows is refused, with the key and what was meant", || {
        let said = refused(&node, &args("init=/bin/sh, hugepage=64, mitigations=off"), &[])?;
        says(&said, &["args[0]", "in the place of PID 1", "args[1]", "hugepages", "args[2]"])
    });
    checks.check("they take a restart, and whoever wants them live is told", || {
        says(&refused(&node, &example, &[])?, &["KernelArgs", "hugepages=64", "restart"])
    });
    checks.check("huge pages that leave no memory are refused", || {
        let said = refused(&node, &args("hugepages=460"), &["--mode", "reboot"])?;
        says(&said, &["920 MiB", "have to be left"])
    });
    checks.check("the example is in force after the restart that it brings", || {
        apply(&node, &example, &["--mode", "reboot"])?;
        in_force(&node, &["mitigations=auto", "hugepages=64"])?;
        says(&line(&node)?, &["lockdown=integrity", ":2 mitigations=auto hugepages=64"])?;
        let generations = resources(&node, "generation")?;
        let active = generations.iter().find(|one| one["status"]["active"] == true);
        node.wait_until("the generation stays", BOOT, || {
            let name = active.and_then(|one| one["name"].as_str()).unwrap_or_default();
            Ok(field(&resource(&node, "generation", name)?, "state")? == "active")
        })?;
        node.ctl.run(["drift"]).map(drop)
    });
    checks.check("the boots say how it came to it", || {
        says(&node.ctl.run(["boots"])?, &["start again", "ordinary, with kernel arguments"])
    });
    checks.check("a restart keeps them, and takes one start", || {
        let launches = node.vm.launches();
        restart(&node)?;
        in_force(&node, &["mitigations=auto", "hugepages=64"])?;
        ensure!(node.vm.launches() == launches + 1, "{} starts", node.vm.launches() - launches);
        Ok(())
    });
    checks.check("other things change live beside them", || {
        let more =
            format!("{example}---\napiVersion: stele/v1\nkind: Resolver\nservers: [192.0.2.9]\n");
        apply(&node, &more, &[])?;
        in_force(&node, &["hugepages=64"])
    });
    let mut node = node;
    node.vm.cut_power()?;
    node.vm.power_on()?;
    checks.check("after a power cut it starts again with them by itself", || {
        in_force(&node, &["mitigations=auto", "hugepages=64"])
    });
    checks.check("what the machine does not come up with leads back by itself", || {
        let before = newest(&node)?;
        // Without PCI there is no disk.
        apply(&node, &args("pci=off"), &["--mode", "reboot"])?;
        node.wait_until("it has gone back", BOTH * 2, || {
            let state = resource(&node, "generation", &(before + 1).to_string());
            Ok(state.and_then(|one| field(&one, "state")).is_ok_and(|state| state == "reverted"))
        })?;
        let shown = resource(&node, "generation", &(before + 1).to_string())?;
        says(
            &field(&shown, "reason")?,
            &["did not come up with its kernel arguments", "the disk"],
        )?;
        in_force(&node, &["mitigations=auto", "hugepages=64"])?;
        ensure!(!line(&node)?.contains("pci=off"));
        says(&node.ctl.run(["boots"])?, &["with kernel arguments", "did not find the disk"])
    });
    checks.check("without the document, the kernel is the image's own again", || {
        let boot = node.boot_id()?;
        apply(&node, "", &["--mode", "reboot"])?;
        node.wait_until("it has restarted", BOTH, || {
            Ok(node.boot_id().is_ok_and(|now| now != boot)
                && resources(&node, "kernelargs").is_ok_and(|all| all.is_empty()))
        })?;
        ensure!(!line(&node)?.contains("stele.args="), "{}", line(&node)?);
        Ok(())
    });
    Ok(())
}

/// Arguments beside what else starts a machine again: a new image, and a configuration that nobody confirms.
pub(crate) fn beside_others(world: &World, checks: &Checks) -> Result<()> {
    let node = world.settled("stubborn")?;
    apply(&node, &args("mitigations=auto, hugepages=64"), &["--mode", "reboot"])?;
    in_force(&node, &["hugepages=64"])?;
    checks.check("an upgrade proves itself with the arguments, and is good", || {
        let image = world.variants.next();
        node.ctl.run(["upgrade", "--image", &image.to_string_lossy()])?;
        in_force(&node, &["mitigations=auto", "hugepages=64"])?;
        ensure!(version(&node)? == NEXT);
        ensure!(field(&upgrade::slot(&node, NEXT)?, "state")? == "good");
        says(&line(&node)?, &["hugepages=64"])
    });
    checks.check("what nobody confirms goes by itself, with a start", || {
        let more = args("hugepages=32");
        apply(&node, &more, &["--mode", "reboot", "--confirm-within", "60s"])?;
        in_force(&node, &["hugepages=32"])?;
        let number = newest(&node)?;
        node.wait_until("it has gone back", BOTH * 2, || {
            let state = resource(&node, "generation", &number.to_string());
            Ok(state.and_then(|one| field(&one, "state")).is_ok_and(|state| state == "reverted"))
        })?;
        in_force(&node, &["mitigations=auto", "hugepages=64"])
    });
    Ok(())
}

/// Arguments that the power goes away under, again and again.
pub(crate) fn given_up(world: &World, checks: &Checks) -> Result<()> {
    let mut node = world.settled("unlucky-arguments")?;
    apply(&node, &args("hugepages=64"), &["--mode", "reboot"])?;
    in_force(&node, &["hugepages=64"])?;
    node.vm.cut_power()?;
    let mut starts_with_them = 0;
    loop {
        // Counted by what PID 1 says first: a cut before that could come before the loader has taken them.
        let starts = |node: &Kept| node.vm.console().text().matches(" on Linux ").count();
        let before = starts(&node);
        node.vm.power_on()?;
        // One start without them, and one with; or it stays without.
        let with_them = || starts(&node) > before + 1;
        node.wait_until("it starts with them or answers", BOTH, || {
            Ok(with_them() || version(&node).is_ok())
        })?;
        if !with_them() {
            break;
        }
        starts_with_them += 1;
        ensure!(starts_with_them <= TRIES, "It starts with them for ever");
        node.vm.cut_power()?;
    }
    checks.check("after starts that did not come up it goes on without them, and says so", || {
        ensure!(starts_with_them == TRIES, "{starts_with_them} starts with them");
        let shown = resource(&node, "kernelargs", "kernel")?;
        ensure!(field(&shown, "state")? == "failed", "{shown}");
        says(&field(&shown, "reason")?, &["starts with them did not come up"])?;
        ensure!(!line(&node)?.contains("hugepages=64"));
        Ok(())
    });
    Ok(())
}

fn args(args: &str) -> String {
    format!("---\napiVersion: stele/v1\nkind: KernelArgs\nargs: [{args}]\n")
}

fn apply(node: &Kept, more: &str, flags: &[&str]) -> Result<String> {
    let file = with_more(node, more)?;
    node.ctl.run([&["apply-config", "-f", &*file.to_string_lossy()], flags].concat())
}

fn refused(node: &Kept, more: &str, flags: &[&str]) -> Result<String> {
    let file = with_more(node, more)?;
    node.ctl.fails([&["apply-config", "-f", &*file.to_string_lossy()], flags].concat())
}

/// Waits until the kernel has these.
fn in_force(node: &Kept, args: &[&str]) -> Result<()> {
    node.wait_until("the arguments are in force", BOTH, || {
        let Ok(shown) = resource(node, "kernelargs", "kernel") else { return Ok(false) };
        let has = |arg: &&str| shown["status"]["args"].to_string().contains(*arg);
        Ok(field(&shown, "state")? == "active" && args.iter().all(has))
    })
}

/// The command line, as the kernel's log has it.
fn line(node: &Kept) -> Result<String> {
    let log = node.ctl.run(["logs", "kernel"])?;
    let line = log.lines().find(|line| line.contains("Command line: "));
    Ok(line.context("The kernel does not say its command line")?.to_owned())
}

fn restart(node: &Kept) -> Result<()> {
    let boot = node.boot_id()?;
    node.ctl.run(["reboot"])?;
    node.wait_for_another_boot(&boot)
}

fn newest(node: &Kept) -> Result<u64> {
    let generations = resources(node, "generation")?;
    let numbers = generations.iter().filter_map(|one| one["name"].as_str()?.parse().ok());
    numbers.max().context("There is no generation")
}
