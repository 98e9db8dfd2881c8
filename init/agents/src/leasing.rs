// SPDX-License-Identifier: Apache-2.0
//! What both DHCP clients have around them: PID 1, which hears of leases, and the times at which they look and wait.

use crate::pid1::framed;
use rustix::{
    event::{PollFd, Timespec, poll},
    rand::{GetRandomFlags, getrandom},
};
use std::{
    fs::File,
    io::{self, Write as _},
    time::Duration,
};
use stele_kernel::{clock, inherited};
use stele_proto::internal::{LeaseReport, lease_report};

/// Messages that are taken at once; then time and link have their turn, whatever else has come.
pub(crate) const BATCH: usize = 64;

/// Where PID 1 listens.
const REPORTS: i32 = 3;
/// How often the link is looked at while it can be used, in the first seconds while it can't, and later.
const LOOK_USABLE: Duration = Duration::from_secs(2);
const LOOK_AWAITED: Duration = Duration::from_millis(100);
const LOOK_UNUSABLE: Duration = Duration::from_secs(1);
/// How long it is awaited eagerly: most take less for a carrier, and for the kernel to try the link's own address.
const EAGER: Duration = Duration::from_secs(10);

/// What goes wrong around a client.
#[derive(Debug, thiserror::Error)]
pub enum LeasingError {
    /// PID 1 can't be told.
    #[error("reporting on descriptor {REPORTS}")]
    Report(#[source] io::Error),
    /// The kernel gives no random numbers.
    #[error("getting random numbers")]
    Random(#[source] io::Error),
    /// Waiting failed.
    #[error("waiting for messages")]
    Wait(#[source] io::Error),
}

/// Tells PID 1.
#[derive(Debug)]
pub(crate) struct Reports(File);

impl Reports {
    pub(crate) fn open() -> Result<Reports, LeasingError> {
        inherited::descriptor(REPORTS)
            .map(|descriptor| Reports(File::from(descriptor)))
            .map_err(LeasingError::Report)
    }

    pub(crate) fn tell(&mut self, report: lease_report::Report) -> Result<(), LeasingError> {
        let report = LeaseReport { report: Some(report) };
        self.0.write_all(&framed(&report)).map_err(LeasingError::Report)
    }
}

/// What nobody on the link can foresee.
pub(crate) fn seed() -> Result<u64, LeasingError> {
    let mut seed = [0; 8];
    getrandom(&mut seed[..], GetRandomFlags::empty())
        .map_err(|errno| LeasingError::Random(errno.into()))?;
    Ok(u64::from_ne_bytes(seed))
}

/// Time since boot, suspended time included: leases go on while a machine sleeps.
pub(crate) fn now() -> Duration {
    clock::since_boot().unwrap_or_default()
}

/// When to look again at a link that can be used, or can't, since then.
pub(crate) fn look_again(usable: bool, since: Duration, time: Duration) -> Duration {
    time.saturating_add(match usable {
        true => LOOK_USABLE,
        false if time.saturating_sub(since) < EAGER => LOOK_AWAITED,
        false => LOOK_UNUSABLE,
    })
}

/// Waits for a message, or until this moment.
pub(crate) fn wait(sources: &mut [PollFd<'_>], until: Duration) -> Result<(), LeasingError> {
    // Rounded up, so that the moment has passed when the wait has.
    let limit = until.saturating_sub(now()).saturating_add(Duration::from_millis(1));
    match poll(sources, Timespec::try_from(limit).ok().as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(LeasingError::Wait(errno.into())),
    }
}
