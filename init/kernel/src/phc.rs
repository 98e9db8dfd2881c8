// SPDX-License-Identifier: Apache-2.0
//! A clock beside the machine's own, such as that of its hypervisor; see "dynamic clocks" in clock_getres(2).

use rustix::time::{ClockId, DynamicClockId, clock_gettime, clock_gettime_dynamic};
use std::{fs::File, io, os::fd::AsFd as _, path::Path};

/// An open clock.
#[derive(Debug)]
pub struct Phc(File);

impl Phc {
    /// Opens a clock by its device.
    ///
    /// # Errors
    /// When that can't be opened.
    pub fn open(device: &Path) -> io::Result<Phc> {
        File::open(device).map(Phc)
    }

    /// By how many seconds it is ahead of the machine's own clock, which is read before and after it.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn offset(&self) -> io::Result<f64> {
        let before = seconds(clock_gettime(ClockId::Realtime));
        let there = clock_gettime_dynamic(DynamicClockId::Dynamic(self.0.as_fd()))?;
        let after = seconds(clock_gettime(ClockId::Realtime));
        Ok(seconds(there) - f64::midpoint(before, after))
    }
}

fn seconds(time: rustix::time::Timespec) -> f64 {
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
