// SPDX-License-Identifier: Apache-2.0
//! Services that misbehave.

use crate::world::{Kept, World, field, resource};
use anyhow::{Result, ensure};
use hack::{node::BOOT, suite::Checks};

pub(crate) fn crash_loop(world: &World, checks: &Checks) -> Result<()> {
    let node = Kept(world.live_from(&world.variants.crashing(), "crashing")?);
    let restarts = || -> Result<u64> {
        Ok(field(&resource(&node, "service", "crasher")?, "restarts")?.parse::<f64>()? as u64)
    };
    checks.check("a service that ends at once is started again, more and more slowly", || {
        node.wait_until("four restarts", BOOT, || Ok(restarts()? >= 4))?;
        // A loop without pauses would count hundreds.
        let before = restarts()?;
        ensure!(before < 40, "{before} restarts");
        Ok(())
    });
    checks.check("services shows that it waits, and why it ended", || {
        // In one look: it runs again a moment later.
        node.wait_until("it waits, and says why", BOOT, || {
            let crasher = resource(&node, "service", "crasher")?;
            let why = field(&crasher, "reason").is_ok_and(|reason| !reason.is_empty());
            Ok(field(&crasher, "state")? == "waiting" && why)
        })
    });
    checks.check("its output is in its log", || node.ctl.run(["logs", "crasher"]).map(drop));
    checks.check("the machine and its API do not mind", || {
        ensure!(field(&resource(&node, "service", "apid")?, "restarts")?.parse::<f64>()? == 0.0);
        ensure!(node.vm.launches() == 1);
        node.ctl.run(["version"]).map(drop)
    });
    Ok(())
}
