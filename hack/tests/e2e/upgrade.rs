// SPDX-License-Identifier: Apache-2.0
//! From one image to the next, and back.

use crate::{
    http::Server,
    world::{Kept, World, field, resources, says, version},
};
use anyhow::{Context as _, Result, ensure};
use hack::{
    broken::Fault,
    node::BOOT,
    suite::Checks,
    variants::{BROKEN, NEXT},
};
use serde_json::Value;

pub(crate) fn there_and_back(world: &World, checks: &Checks) -> Result<()> {
    let node = Kept(world.installed("traveller")?);
    let first = version(&node)?;
    checks.check("upgrade --image ends when the new image runs and is good", || {
        let image = world.variants.next();
        node.ctl.run(["upgrade", "--image", &image.to_string_lossy()])?;
        ensure!(version(&node)? == NEXT);
        ensure!(state(&node, NEXT)? == "good", "{}", slot(&node, NEXT)?);
        ensure!(field(&slot(&node, NEXT)?, "running")? == "true");
        Ok(())
    });
    checks.check("the configuration and the logs of the boot before are still there", || {
        ensure!(node.ctl.run(["get", "config"])?.contains("traveller"));
        says(
            &node.ctl.run(["logs", "kernel", "--boot", "-1"])?,
            &["Linux version", "stopping services"],
        )
    });
    checks.check("the image that ran before stays good", || {
        ensure!(state(&node, &first)? == "good", "{}", slot(&node, &first)?);
        says(&node.ctl.run(["slots"])?, &[&first, NEXT])
    });
    checks.check("rollback goes back to it", || {
        let boot = node.boot_id()?;
        node.ctl.run(["rollback"])?;
        node.wait_for_another_boot(&boot)?;
        ensure!(version(&node)? == first);
        ensure!(state(&node, NEXT)? == "bad", "{}", slot(&node, NEXT)?);
        Ok(())
    });
    checks.check("upgrade --url makes the node fetch the image by itself", || {
        let server =
            Server::start(world.variants.next().parent().context("The image has no folder")?)?;
        node.ctl.run(["upgrade", "--url", &server.url("next.efi")])?;
        ensure!(version(&node)? == NEXT);
        Ok(())
    });
    checks.check("it stays there after a power cut", || {
        // The node owns its machine; switching it on again needs the machine alone.
        ensure!(state(&node, NEXT)? == "good", "{}", slot(&node, NEXT)?);
        let boot = node.boot_id()?;
        node.vm.press_reset_button()?;
        node.wait_for_another_boot(&boot)?;
        ensure!(version(&node)? == NEXT);
        Ok(())
    });
    Ok(())
}

pub(crate) fn bad_image(world: &World, checks: &Checks) -> Result<()> {
    let node = Kept(world.installed("survivor")?);
    let first = version(&node)?;
    let boot = node.boot_id()?;
    checks.check("an image that never comes up is given up, and ctl says so", || {
        let image = world.variants.broken(Fault::Panics);
        let said = node.ctl.fails(["upgrade", "--image", &image.to_string_lossy()])?;
        says(&said, &[BROKEN])
    });
    checks.check("the node is back on the image that works", || {
        node.wait_until("it is back", 2 * BOOT, || {
            Ok(node.boot_id().is_ok_and(|now| now != boot))
        })?;
        ensure!(version(&node)? == first);
        // One boot of the good image, three tries, and one boot back.
        ensure!(node.vm.launches() == 5, "{} boots", node.vm.launches());
        Ok(())
    });
    checks.check("the image that failed is known to be bad", || {
        ensure!(state(&node, BROKEN)? == "bad", "{}", slot(&node, BROKEN)?);
        ensure!(state(&node, &first)? == "good", "{}", slot(&node, &first)?);
        Ok(())
    });
    checks.check("and a good one can follow it", || {
        let image = world.variants.next();
        node.ctl.run(["upgrade", "--image", &image.to_string_lossy()]).map(drop)
    });
    Ok(())
}

/// The slot that holds this version.
pub(crate) fn slot(node: &Kept, version: &str) -> Result<Value> {
    let slots = resources(node, "slot")?;
    let found = slots
        .iter()
        .find(|slot| field(slot, "version").is_ok_and(|found| found == version))
        .cloned();
    found.with_context(|| format!("No slot holds {version}: {}", Value::from(slots)))
}

fn state(node: &Kept, version: &str) -> Result<String> {
    field(&slot(node, version)?, "state")
}
