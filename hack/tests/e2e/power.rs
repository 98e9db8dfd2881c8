// SPDX-License-Identifier: Apache-2.0
//! The buttons of a machine.

use crate::world::{Kept, World, says};
use anyhow::{Result, ensure};
use hack::{node::BOOT, suite::Checks};
use std::time::Duration;

/// After how long a button is pressed again.
const AGAIN: Duration = Duration::from_secs(5);

pub(crate) fn buttons(world: &World, checks: &Checks) -> Result<()> {
    let node = Kept(world.live("buttons")?);
    checks.check("Ctrl-Alt-Del restarts in order", || {
        let (mark, boot) = (node.vm.console().mark(), node.boot_id()?);
        node.vm.press_keys(&["ctrl", "alt", "delete"])?;
        node.vm.wait_for_line_after(mark, "stopping services", BOOT)?;
        node.vm.wait_for_line_after(mark, "unmounting and restarting", BOOT)?;
        node.vm.wait_for_launch(2, BOOT)?;
        node.wait_for_another_boot(&boot)
    });
    checks.check("the power button powers off in order", || {
        let mark = node.vm.console().mark();
        // Who finds that nothing happens presses again: the button is listened to a moment after the API.
        let pressed = (0..6).any(|_| {
            node.vm.press_power_button().is_ok()
                && node.vm.wait_for_line_after(mark, "power button pressed", AGAIN).is_ok()
        });
        ensure!(pressed, "nobody listens to the power button");
        let reason = node.vm.wait_until_off(BOOT)?;
        ensure!(reason == "guest-shutdown", "{reason}");
        says(
            &node.vm.console().text_from(mark),
            &["power button pressed", "stopping services", "unmounting and powering off"],
        )
    });
    Ok(())
}
