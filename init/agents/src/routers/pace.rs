// SPDX-License-Identifier: Apache-2.0
//! How much of what routers advertise is passed on. Anyone on a link can be a router, as often as he likes.

use std::{collections::BTreeMap, time::Duration};

/// How much of a link is passed on within a second. Two routers with name servers and domains say less; more is not missed, since
/// routers repeat themselves.
const MOST: u32 = 8;
/// The second.
const WINDOW: Duration = Duration::from_secs(1);

/// What has been passed on of each link since the window began.
#[derive(Debug, Default)]
pub struct Pace {
    began: Duration,
    passed: BTreeMap<u32, u32>,
}

impl Pace {
    /// Whether one more of this link may be passed on. `now` is a time that only grows.
    pub fn allows(&mut self, link: u32, now: Duration) -> bool {
        if now.saturating_sub(self.began) >= WINDOW {
            self.began = now;
            self.passed.clear();
        }
        let passed = self.passed.entry(link).or_default();
        *passed = passed.saturating_add(1);
        *passed <= MOST
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST, Pace};
    use std::time::Duration;

    #[test]
    fn who_floods_one_link_is_heard_a_few_times_a_second_and_others_as_well() {
        let mut pace = Pace::default();
        let at = Duration::from_millis;
        let passed = (0..100).filter(|_| pace.allows(1, at(5000))).count();
        assert_eq!(u32::try_from(passed), Ok(MOST));
        assert!(pace.allows(2, at(5999)));
        assert!(!pace.allows(1, at(5999)));
        assert!(pace.allows(1, at(6000)));
    }
}
