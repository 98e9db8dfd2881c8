// SPDX-License-Identifier: Apache-2.0
//! The machine's switch; see reboot(2).

use nix::sys::reboot::{RebootMode, reboot, set_cad_enabled};
use std::io;

/// How the machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Start again.
    Restart,
    /// Power off.
    PowerOff,
}

/// Ends the machine now: nothing is synced or unmounted. Returns only on failure.
pub fn end(how: End) -> io::Error {
    let mode = match how {
        End::Restart => RebootMode::RB_AUTOBOOT,
        End::PowerOff => RebootMode::RB_POWER_OFF,
    };
    match reboot(mode) {
        Err(errno) => errno.into(),
    }
}

/// Lets Ctrl-Alt-Del send SIGINT to PID 1 instead of restarting the machine at once.
pub fn catch_ctrl_alt_del() -> io::Result<()> {
    Ok(set_cad_enabled(false)?)
}
