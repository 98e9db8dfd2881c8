// SPDX-License-Identifier: Apache-2.0
//! What of a pass failed, and when it is tried again.

use super::NetworkError;
use crate::report;
use std::{collections::VecDeque, time::Duration};

/// The first wait after a failure.
pub(super) const FIRST: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST: Duration = Duration::from_secs(60);
/// How many failures are known to be told.
const MOST: usize = 64;

/// Failures since everything went well for the last time.
#[derive(Default)]
pub(super) struct Failures {
    wait: Duration,
    again: Option<Duration>,
    told: VecDeque<String>,
}

impl Failures {
    /// Says each failure once, and waits for longer than before.
    pub(super) fn take(&mut self, errors: &[NetworkError], now: Duration) {
        for error in errors.iter().map(|error| report::chain(error)) {
            if !self.told.contains(&error) {
                tracing::error!(error, "the network is not as it should be; trying again");
                self.told.push_back(error);
                if self.told.len() > MOST {
                    self.told.pop_front();
                }
            }
        }
        self.wait = self.wait.saturating_mul(2).clamp(FIRST, LONGEST);
        self.again = Some(now.saturating_add(self.wait));
    }

    /// When it is tried again, since boot.
    pub(super) fn again(&self) -> Option<Duration> {
        self.again
    }
}

#[cfg(test)]
mod tests {
    use super::Failures;
    use std::time::Duration;

    #[test]
    fn what_fails_is_tried_again_later_and_later() {
        let (mut failures, mut now) = (Failures::default(), Duration::ZERO);
        let mut waits = Vec::new();
        for _ in 0..8 {
            failures.take(&[], now);
            let again = failures.again().expect("a time");
            waits.push((again - now).as_secs());
            now = again;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
