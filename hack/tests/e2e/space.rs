// SPDX-License-Identifier: Apache-2.0
//! Upgrades where there is no room for them, or nothing to remember them by; each with the power cut on top.

use crate::world::{Kept, World, field, resource, resources, says, scratch, settle, version};
use anyhow::{Context as _, Result, ensure};
use hack::{
    disk::{damage, fill, fill_esp, partition, remove_from_esp},
    node::BOOT,
    suite::Checks,
    variants::NEXT,
};
use std::{fs, path::Path, thread, time::Duration};

/// Bytes that the ESP gives out at a time.
const CLUSTER: u64 = 4096;
/// Into the middle of an upgrade.
const MIDDLE: Duration = Duration::from_secs(2);

pub(crate) fn esp_full(world: &World, checks: &Checks) -> Result<()> {
    let folder = scratch()?;
    let mut node = world.resumed("esp-full", |disk| fill_esp(disk, 0, folder.path()))?;
    node.wait_until_it_answers()?;
    checks.check("an upgrade onto a full ESP is refused, with both numbers", || {
        let said = refused(&node, &world.variants.next())?;
        says(&said, &[&size(&world.variants.next())?.to_string(), " 0 bytes"])
    });
    checks.check("and the node is what it was, also after a power cut on top", || {
        cut_into_an_upgrade(&mut node, &world.variants.next())?;
        unharmed(&node)
    });
    Ok(())
}

pub(crate) fn esp_nearly_full(world: &World, checks: &Checks) -> Result<()> {
    let next = world.variants.next();
    let folder = scratch()?;
    let little = room(&next)? - CLUSTER;
    let mut node = world.resumed("esp-tight", |disk| fill_esp(disk, little, folder.path()))?;
    node.wait_until_it_answers()?;
    checks.check("an upgrade that lacks one cluster is refused, with both numbers", || {
        let said = refused(&node, &next)?;
        says(&said, &[&size(&next)?.to_string(), &little.to_string()])
    });
    node.ctl.run(["shutdown"])?;
    node.vm.wait_until_off(BOOT)?;
    let enough = room(&next)?;
    remove_from_esp(&node.disk()?, "filler.bin")?;
    fill_esp(&node.disk()?, enough, folder.path())?;
    node.vm.power_on()?;
    node.wait_until_it_answers()?;
    checks.check("a power cut in the middle of one that just fits changes nothing", || {
        cut_into_an_upgrade(&mut node, &next)?;
        unharmed(&node)
    });
    checks.check("one that just fits is taken", || {
        node.ctl.run(["upgrade", "--image", &next.to_string_lossy()])?;
        ensure!(version(&node)? == NEXT);
        settle(&node)
    });
    Ok(())
}

pub(crate) fn data_full(world: &World, checks: &Checks) -> Result<()> {
    let mut node = world.resumed("data-full", |disk| fill(disk, partition(disk, "DATA")?))?;
    node.wait_until_it_answers()?;
    checks.check("an upgrade that has no room to arrive in is refused, and says where", || {
        let said = refused(&node, &world.variants.next())?;
        says(&said, &["data volume", "bytes"])
    });
    checks.check("and the node is what it was, also after a power cut on top", || {
        cut_into_an_upgrade(&mut node, &world.variants.next())?;
        unharmed(&node)
    });
    Ok(())
}

pub(crate) fn state_corrupt(world: &World, checks: &Checks) -> Result<()> {
    let node = world.settled("forgotten")?;
    let image = world.variants.next();
    node.ctl.run(["upgrade", "--stage-only", "--image", &image.to_string_lossy()])?;
    let mut node = node;
    node.vm.cut_power()?;
    let disk = node.disk()?;
    damage(&disk, partition(&disk, "STATE")?, 8 << 20)?;
    let mark = node.vm.console().mark();
    node.vm.power_on()?;
    checks.check(
        "a node that has lost STATE waits for a configuration, and keeps its image",
        || {
            let line = node.vm.wait_for_line_after(mark, "SHA256:", BOOT)?;
            let fingerprint = hack::node::fingerprint(&line)?;
            let file = node.files.machine.to_string_lossy();
            node.ctl.run([
                "apply-config",
                "--insecure",
                "--fingerprint",
                &fingerprint,
                "-f",
                &file,
            ])?;
            node.wait_until_it_answers()?;
            ensure!(version(&node)? == env!("CARGO_PKG_VERSION"));
            ensure!(!field(&resource(&node, "volume", "STATE")?, "reason")?.is_empty());
            Ok(())
        },
    );
    checks.check("a power cut on top of an upgrade of it leaves a node that starts", || {
        let upgrade = node.ctl.follow(["upgrade", "--image", &image.to_string_lossy()])?;
        thread::sleep(MIDDLE);
        node.vm.cut_power()?;
        drop(upgrade);
        let mark = node.vm.console().mark();
        node.vm.power_on()?;
        node.vm.wait_for_line_after(mark, "SHA256:", BOOT).map(drop)
    });
    Ok(())
}

fn size(image: &Path) -> Result<u64> {
    Ok(fs::metadata(image).with_context(|| format!("Looking at {}", image.display()))?.len())
}

/// The room that an image takes on the ESP.
fn room(image: &Path) -> Result<u64> {
    Ok(size(image)?.next_multiple_of(CLUSTER))
}

fn refused(node: &Kept, image: &Path) -> Result<String> {
    let said = node.ctl.fails(["upgrade", "--image", &image.to_string_lossy()])?;
    ensure!(resources(node, "slot")?.len() == 1, "there is a slot more: {said}");
    Ok(said)
}

/// Starts an upgrade, and cuts the power in it.
fn cut_into_an_upgrade(node: &mut Kept, image: &Path) -> Result<()> {
    let upgrade = node.ctl.follow(["upgrade", "--image", &image.to_string_lossy()])?;
    thread::sleep(MIDDLE);
    node.vm.cut_power()?;
    drop(upgrade);
    node.vm.power_on()?;
    node.wait_until_it_answers()
}

fn unharmed(node: &Kept) -> Result<()> {
    settle(node)?;
    ensure!(version(node)? == env!("CARGO_PKG_VERSION"));
    let slots = resources(node, "slot")?;
    let good = slots.iter().any(|slot| field(slot, "state").is_ok_and(|state| state == "good"));
    ensure!(good, "{slots:?}");
    Ok(())
}
