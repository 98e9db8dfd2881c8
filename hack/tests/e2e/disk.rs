// SPDX-License-Identifier: Apache-2.0
//! A machine with a disk: its first boot, its memory, and disks that are not as they should be.

use crate::world::{Kept, World, field, resource, says, scratch};
use anyhow::{Context as _, Result, ensure};
use hack::{
    disk::{fill, partition},
    json,
    machine::{Machine, copy_sparse},
    node::{BOOT, Node},
    suite::Checks,
};
use std::{
    fs,
    io::{Seek as _, SeekFrom, Write as _},
    process::Command,
    time::Duration,
};

pub(crate) fn first_boot(world: &World, checks: &Checks) -> Result<()> {
    let mut node = Kept(world.unboxed("homeowner", 4)?);
    let fingerprint = node.fingerprint()?;
    let file = node.files.machine.to_string_lossy().into_owned();
    let apply = |fingerprint: &str| {
        ["apply-config", "--insecure", "--fingerprint", fingerprint, "-f", &file].map(str::to_owned)
    };

    checks.check("in maintenance mode it answers nobody's questions", || {
        node.ctl.fails(["version"]).map(drop)
    });
    checks.check("a wrong fingerprint is refused before anything is sent", || {
        let wrong = format!("SHA256:{}", "0".repeat(64));
        says(&node.ctl.fails(apply(&wrong))?, &["Nothing was sent", &fingerprint])
    });
    checks.check("no fingerprint is refused with the one that it has", || {
        says(&node.ctl.fails(["apply-config", "--insecure", "-f", &file])?, &[&fingerprint])
    });
    checks.check("the console's fingerprint configures it", || {
        node.ctl.run(apply(&fingerprint))?;
        node.wait_until_it_answers()
    });
    checks.check("from then on it takes no configuration from strangers", || {
        node.ctl.fails(apply(&fingerprint)).map(drop)
    });
    checks.check("the disk has grown into the room it found", || {
        let data = resource(&node, "volume", "DATA")?;
        ensure!(field(&data, "state")? == "mounted", "{data}");
        ensure!(field(&data, "size")?.parse::<f64>()? > 3e9, "{data}");
        Ok(())
    });
    checks.check("reboot keeps configuration and logs", || {
        node.ctl.run(["reboot"])?;
        ensure!(node.vm.launches() == 2);
        let printed = node.ctl.json(["version"])?;
        ensure!(json::number(&printed, "boot") == Some(2.0), "{printed}");
        says(
            &node.ctl.run(["logs", "kernel", "--boot", "-1"])?,
            &["Linux version", "stopping services"],
        )?;
        says(
            &node.ctl.run(["logs", "audit", "--boot", "-1"])?,
            &["ConfigService/Apply", "MachineService/Reboot"],
        )
    });
    checks.check("a power cut keeps them too", || {
        let boot = node.boot_id()?;
        node.vm.cut_power()?;
        node.vm.power_on()?;
        node.wait_for_another_boot(&boot)?;
        // The boot that was cut short may have come to no line on disk; the one before it was written down in order.
        says(
            &node.ctl.run(["logs", "kernel", "--boot", "-2"])?,
            &["Linux version", "stopping services"],
        )
    });
    checks.check("shutdown powers off", || {
        node.ctl.run(["shutdown"])?;
        let reason = node.vm.wait_until_off(BOOT)?;
        ensure!(reason == "guest-shutdown", "{reason}");
        Ok(())
    });
    checks.check("the file systems are left clean", || {
        let disk = node.vm.machine().drives.first().context("No disk")?.path.clone();
        for label in ["STATE", "DATA"] {
            let place = format!("{}?offset={}", disk.display(), partition(&disk, label)?.start);
            let output = Command::new("/usr/sbin/dumpe2fs").args(["-h", &place]).output()?;
            let said = String::from_utf8_lossy(&output.stdout);
            says(&said, &["Filesystem state:         clean"]).with_context(|| label.to_owned())?;
            // A file system that was not unmounted has a journal that is still to be replayed.
            ensure!(!said.contains("needs_recovery"), "{label} was not unmounted: {said}");
        }
        Ok(())
    });
    Ok(())
}

pub(crate) fn too_small(world: &World, checks: &Checks) -> Result<()> {
    let dir = scratch()?;
    let disk = dir.path().join("disk.raw");
    copy_sparse(&world.artefacts.disk()?, &disk)?;
    let machine = Machine::from_disk(&world.artefacts, dir.path(), disk)?;
    let node = Kept(Node::start(&world.operator, "cramped", machine, dir)?);
    checks.check("a disk without room is told of on the console", || {
        node.fingerprint()?;
        says(&node.vm.console().text(), &["disk"])
    });
    checks.check("the machine can be configured all the same, until it restarts", || {
        node.apply()?;
        node.wait_until_it_answers()?;
        let volume = resource(&node, "volume", "STATE")?;
        ensure!(field(&volume, "state")? != "mounted", "{volume}");
        ensure!(!field(&volume, "reason")?.is_empty(), "{volume}");
        Ok(())
    });
    Ok(())
}

pub(crate) fn full(world: &World, checks: &Checks) -> Result<()> {
    let dir = scratch()?;
    let machine = Machine::installed(&world.artefacts, dir.path(), 1)?;
    let mut node = Kept(Node::start(&world.operator, "stuffed", machine, dir)?);
    node.apply()?;
    node.wait_until_it_answers()?;
    node.ctl.run(["shutdown"])?;
    node.vm.wait_until_off(BOOT)?;
    let disk = node.vm.machine().drives.first().context("No disk")?.path.clone();
    fill(&disk, partition(&disk, "DATA")?)?;
    let mark = node.vm.console().mark();
    node.vm.power_on()?;
    checks.check("a node whose disk is full comes up and answers", || node.wait_until_it_answers());
    checks.check("it says so in the API", || {
        node.wait_until("it has noticed", Duration::from_secs(90), || {
            Ok(field(&resource(&node, "volume", "DATA")?, "state")? == "full")
        })
    });
    checks.check("and on the console", || {
        says(&node.vm.console().text_from(mark), &["No space left on device"])
    });
    checks.check("its logs can be read, and it restarts in order", || {
        says(&node.ctl.run(["logs", "apid"])?, &[])?;
        says(&node.ctl.run(["dmesg"])?, &["Linux version"])?;
        node.ctl.run(["reboot"]).map(drop)
    });
    Ok(())
}

pub(crate) fn state_corrupt(world: &World, checks: &Checks) -> Result<()> {
    let mut node = Kept(world.installed("forgetful")?);
    node.vm.cut_power()?;
    let disk = node.vm.machine().drives.first().context("No disk")?.path.clone();
    let place = partition(&disk, "STATE")?;
    let mut file = fs::OpenOptions::new().write(true).open(&disk)?;
    file.seek(SeekFrom::Start(place.start))?;
    for _ in 0..place.length >> 20 {
        file.write_all(&[0xa5; 1 << 20])?;
    }
    drop(file);
    let mark = node.vm.console().mark();
    node.vm.power_on()?;
    checks.check(
        "a machine whose STATE is garbage says so on the console, and waits for a configuration",
        || {
            let line = node.vm.wait_for_line_after(mark, "SHA256:", BOOT)?;
            says(&node.vm.console().text_from(mark), &["state"])?;
            let file = node.files.machine.to_string_lossy();
            let fingerprint = hack::node::fingerprint(&line)?;
            node.ctl
                .run(["apply-config", "--insecure", "--fingerprint", &fingerprint, "-f", &file])
                .map(drop)
        },
    );
    checks.check("and answers, and says so in the API", || {
        node.wait_until_it_answers()?;
        let volume = resource(&node, "volume", "STATE")?;
        ensure!(!field(&volume, "reason")?.is_empty(), "{volume}");
        Ok(())
    });
    Ok(())
}
