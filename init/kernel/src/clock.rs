// SPDX-License-Identifier: Apache-2.0
//! The machine's clock; see clock_settime(2).

use nix::{
    sys::time::{TimeSpec, TimeValLike as _},
    time::{ClockId, clock_gettime, clock_settime},
};
use std::{io, time::Duration};

/// Seconds since the epoch.
pub fn now() -> io::Result<i64> {
    Ok(clock_gettime(ClockId::CLOCK_REALTIME)?.num_seconds())
}

/// Sets the clock.
pub fn set(seconds: i64) -> io::Result<()> {
    Ok(clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::seconds(seconds))?)
}

/// Time since boot, suspended time included.
pub fn since_boot() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_BOOTTIME)?.into())
}
