// SPDX-License-Identifier: Apache-2.0
//! When a machine that hangs is reset.

use crate::record::{Check, record};
use crate::span::Span;
use std::time::Duration;

record! {
    /// When a machine that hangs is reset: by its hardware, or by the kernel where it has none for that. Without it, the
    /// default holds.
    pub struct Watchdog as "Watchdog" {
        /// How long the machine may give no sign of life. Hardware that does not go so far is set as far as it goes.
        timeout: Span<10, 600> = "30s",
    }
}

impl Watchdog {
    /// How long the machine may give no sign of life.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout.duration()
    }
}

impl Check for Watchdog {}
