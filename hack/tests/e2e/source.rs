// SPDX-License-Identifier: Apache-2.0
//! Where a machine finds its configuration.

use crate::{
    http::Server,
    world::{Kept, World, field, resource, scratch},
};
use anyhow::{Context as _, Result, ensure};
use hack::{
    machine::Machine,
    node::{BOOT, Node},
    suite::Checks,
};
use std::{fs, process::Command};

pub(crate) fn cidata(world: &World, checks: &Checks) -> Result<()> {
    let dir = scratch()?;
    let seed = dir.path().join("seed.img");
    let machine = Machine::live(&world.artefacts)?;
    let node = Node::start_with(&world.operator, "cidata", machine, dir, |machine, files| {
        let output = Command::new("cloud-localds")
            .arg(&seed)
            .arg(&files.machine)
            .output()
            .context("Running cloud-localds")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(machine.with_drive(&seed))
    })?;
    let node = Kept(node);
    checks.check("a drive made by cloud-localds configures a machine", || {
        node.wait_until_it_answers()?;
        ensure!(field(&resource(&node, "source", "cidata")?, "state")? == "used");
        Ok(())
    });
    Ok(())
}

pub(crate) fn url(world: &World, checks: &Checks) -> Result<()> {
    let dir = scratch()?;
    let files = scratch()?;
    let server = Server::start(files.path())?;
    let machine = Machine::live(&world.artefacts)?;
    let node = Node::start_with(&world.operator, "url", machine, dir, |machine, made| {
        fs::copy(&made.machine, files.path().join("machine.yaml"))?;
        Ok(machine.append(&format!("stele.config={}", server.url("machine.yaml"))))
    })?;
    let node = Kept(node);
    checks.check("a URL on the kernel command line configures a machine", || {
        node.wait_until_it_answers()?;
        ensure!(field(&resource(&node, "source", "url")?, "state")? == "used");
        Ok(())
    });
    Ok(())
}

pub(crate) fn refused(world: &World, checks: &Checks) -> Result<()> {
    let dir = scratch()?;
    let machine = Machine::live(&world.artefacts)?;
    let bad = dir.path().join("bad.yaml");
    fs::write(&bad, "apiVersion: stele/v1\nkind: Hostnam\nhostname: web\n")?;
    let machine = machine.configured_by_fw_cfg(&bad);
    let node = Kept(Node::start(&world.operator, "refused", machine, dir)?);
    checks.check("a configuration that is not valid is not passed over in silence", || {
        node.vm.wait_for_line("Hostnam", BOOT).map(drop)
    });
    checks.check("the machine then waits in maintenance mode for a good one", || {
        node.apply()?;
        node.wait_until_it_answers()
    });
    checks.check("and says afterwards what was wrong with the first", || {
        let source = resource(&node, "source", "fw_cfg")?;
        ensure!(field(&source, "state")? == "refused", "{source}");
        Ok(())
    });
    Ok(())
}
