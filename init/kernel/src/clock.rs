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

/// Whether something keeps the clock right, by the kernel's own word: adjtimex(2).
///
/// # Errors
/// When the kernel does not say.
#[expect(unsafe_code, reason = "neither nix nor rustix has adjtimex(2)")]
pub fn is_synchronized() -> io::Result<bool> {
    let mut state = std::mem::MaybeUninit::<libc::timex>::zeroed();
    // The C library's function of that name makes another call, which can also set other clocks.
    // SAFETY: the memory is that of a timex, and without a mode the kernel only writes to it.
    let result = unsafe { libc::syscall(libc::SYS_adjtimex, state.as_mut_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all of it was zeroed, which is a valid timex, and then the kernel has filled it.
    let state = unsafe { state.assume_init() };
    Ok(state.status & libc::STA_UNSYNC == 0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_says_whether_the_clock_is_kept_right() {
        assert!(super::is_synchronized().is_ok());
    }
}
