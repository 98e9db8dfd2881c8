// SPDX-License-Identifier: Apache-2.0
//! Several nodes at once.

use crate::world::{Kept, World, says};
use anyhow::{Result, ensure};
use hack::suite::Checks;
use std::fs;

pub(crate) fn two_nodes(world: &World, checks: &Checks) -> Result<()> {
    let (one, two) = (Kept(world.live("fleet-one")?), Kept(world.live("fleet-two")?));
    let home = world.operator.dir().join("fleet-home");
    fs::create_dir_all(&home)?;
    let ctl = world.operator.ctl().at_home_in(&home);
    ctl.run(["config", "merge", &one.files.client.to_string_lossy()])?;
    let nodes = format!("fleet-one={},fleet-two={}", one.vm.api()?, two.vm.api()?);
    checks.check("one command shows both nodes side by side", || {
        says(&ctl.run(["version", "-n", &nodes])?, &["fleet-one", "fleet-two"])?;
        says(&ctl.run(["get", "hostname", "-n", &nodes])?, &["fleet-one", "fleet-two"])?;
        says(
            &ctl.run(["logs", "kernel", "--tail", "2", "-n", &nodes])?,
            &["fleet-one", "fleet-two"],
        )
    });
    checks.check("a dead node does not hide the other, and the exit code tells", || {
        two.vm.cut_power()?;
        let output = ctl.output(["version", "-n", &nodes])?;
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.code() == Some(1), "{}: {stdout}{stderr}", output.status);
        says(&stdout, &["fleet-one", "running"])?;
        says(&format!("{stdout}{stderr}"), &["fleet-two"])
    });
    Ok(())
}
