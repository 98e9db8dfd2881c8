// SPDX-License-Identifier: Apache-2.0
//! Health checks, the gate, and what happens when both images are bad.

use crate::{
    web::{Mood, Web, state_of},
    world::{World, field, mode, resources, says, settle, version, with_more},
};
use anyhow::{Result, ensure};
use hack::{node::BOOT, suite::Checks, variants::NEXT};
use std::{fs, time::Duration};

/// Three tries of one image and some of the other, each until its gate fails.
const BOTH: Duration = Duration::from_secs(900);

pub(crate) fn gate(world: &World, checks: &Checks) -> Result<()> {
    let node = world.settled("gated")?;
    checks.check("the system's own checks and the gate can be seen", || {
        node.wait_until("all of them pass", BOOT, || {
            // The API is tried by the gate alone.
            Ok(["system/services", "system/network", "system/volumes"]
                .iter()
                .all(|name| state_of(&node, name).is_ok_and(|state| state == "passing")))
        })?;
        says(&node.ctl.run(["health"])?, &["system/services", "passing"])
    });
    checks.check("what failed before an upgrade is not held against the new image", || {
        let more = "---\napiVersion: stele/v1\nkind: HealthCheck\nname: dead\ninterval: 1s\ntimeout: 1s\ndeadline: 30s\n\
                    tcp: {address: \"10.0.2.2:9\"}\n\
                    ---\napiVersion: stele/v1\nkind: HealthCheck\nname: nice\nneed: wanted\ninterval: 1s\ntimeout: 1s\ndeadline: 30s\n\
                    dns: {name: no-such-name.invalid}\n";
        let file = with_more(&node, more)?;
        node.ctl.run(["apply-config", "-f", &file.to_string_lossy()])?;
        node.wait_until("both fail", BOOT, || {
            Ok(state_of(&node, "dead")? == "failing" && state_of(&node, "nice")? == "failing")
        })?;
        let image = world.variants.next();
        let said = node.ctl.run(["upgrade", "--image", &image.to_string_lossy()])?;
        ensure!(version(&node)? == NEXT, "{said}");
        settle(&node)
    });
    checks.check("the boot's record says which checks passed when, and which was excused", || {
        let boots = resources(&node, "boot")?;
        let tried = boots.iter().find(|boot| field(boot, "image").is_ok_and(|image| image == NEXT));
        let told = tried.map(ToString::to_string).unwrap_or_default();
        says(&told, &["passed", "system/api", "dead", "excused", "nice", "wanted"])?;
        says(&node.ctl.run(["boots"])?, &[NEXT])
    });
    Ok(())
}

pub(crate) fn safe(world: &World, checks: &Checks) -> Result<()> {
    let node = world.settled("unlucky")?;
    let web = Web::watched(&node, "20s")?;
    let image = world.variants.next();
    let upgrade = node.ctl.follow(["upgrade", "--image", &image.to_string_lossy()])?;
    node.vm.wait_for_launch(2, BOOT)?;
    web.feel(Mood::Bad);
    checks.check("when both images fail, the node boots into safe mode", || {
        node.wait_until("it is in safe mode", BOTH, || {
            Ok(mode(&node).is_ok_and(|mode| mode.contains("safe")))
        })?;
        ensure!(version(&node)? == env!("CARGO_PKG_VERSION"));
        world.figure(format!("safe mode after {} boots", node.vm.launches()));
        Ok(())
    });
    drop(upgrade);
    checks.check("and says so loudly, on the console and to ctl, with the reason", || {
        says(&node.vm.console().text(), &["SAFE MODE"])?;
        // Nothing that looks at its exit code takes this for a node in order.
        says(&node.ctl.fails(["status"])?, &["SAFE MODE", "web"])
    });
    checks.check("nothing but the system's own checks is there", || {
        ensure!(state_of(&node, "web")?.is_empty());
        ensure!(!state_of(&node, "system/services")?.is_empty());
        Ok(())
    });
    checks.check("logs of the boots that failed are one command away", || {
        let boots = resources(&node, "boot")?;
        let failed =
            boots.iter().find(|boot| field(boot, "image").is_ok_and(|image| image == NEXT));
        let number = failed.and_then(|boot| boot["name"].as_str()).unwrap_or_default().to_owned();
        says(&node.ctl.run(["logs", "kernel", "--boot", &number])?, &["health gate", "web"])
    });
    checks.check("a configuration can be applied from there", || {
        let good = fs::read_to_string(&node.files.machine)?;
        ensure!(!good.contains("kind: HealthCheck"));
        node.ctl.run(["apply-config", "-f", &node.files.machine.to_string_lossy()]).map(drop)
    });
    checks.check("and an upgrade leads out of it", || {
        node.ctl.run(["upgrade", "--image", &image.to_string_lossy()])?;
        ensure!(version(&node)? == NEXT);
        settle(&node)?;
        ensure!(!mode(&node)?.contains("safe"));
        Ok(())
    });
    Ok(())
}
