// SPDX-License-Identifier: Apache-2.0
//! When to ask again, and how long a lease holds (RFC 2131, section 4.1 and 4.4.5).

use crate::dhcp::message::Terms;
use std::time::Duration;

/// The longest wait between questions.
const LONGEST: Duration = Duration::from_secs(64);
/// The shortest between questions for a renewal.
const SHORTEST_RENEWAL: Duration = Duration::from_secs(60);

/// Numbers that need not be secret, only different between machines (SplitMix64).
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let once = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let twice = (once ^ (once >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        twice ^ (twice >> 31)
    }

    /// Any 32 bits.
    pub(crate) fn word(&mut self) -> u32 {
        let [a, b, c, d, ..] = self.next().to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    /// Anything from nothing to `limit`.
    pub(crate) fn up_to(&mut self, limit: Duration) -> Duration {
        let milliseconds = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let choice = self.next().checked_rem(milliseconds.saturating_add(1)).unwrap_or_default();
        Duration::from_millis(choice)
    }
}

/// The wait after the question of this number: 1, 2, 4, … 64 s, up to a quarter or a second more or less, so that machines
/// that started together do not ask together.
pub(crate) fn backoff(asked: u32, random: &mut Random) -> Duration {
    let base = doubled(Duration::from_secs(1), asked.saturating_sub(1));
    let spread = base.checked_div(4).unwrap_or_default().min(Duration::from_secs(1));
    base.saturating_sub(spread).saturating_add(random.up_to(spread.saturating_mul(2)))
}

/// The wait before another attempt after so many refusals: none at first, then 1, 2, 4, … 64 s.
pub(crate) fn after_failure(failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => Duration::ZERO,
        Some(more) => doubled(Duration::from_secs(1), more),
    }
}

fn doubled(first: Duration, times: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(times)).min(LONGEST)
}

/// When to ask for a renewal again: after half of what is left until `limit`, but not more often than once a minute.
pub(crate) fn renewal(now: Duration, limit: Duration) -> Duration {
    let half = limit.saturating_sub(now).checked_div(2).unwrap_or_default();
    now.saturating_add(half.max(SHORTEST_RENEWAL)).min(limit)
}

/// The times of a lease.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Times {
    /// T1.
    pub(super) renewal: Duration,
    /// T2.
    pub(super) rebinding: Duration,
    pub(super) end: Duration,
}

/// The times of a lease that was asked for at `start`. The server's wishes are followed where they make sense.
pub(super) fn times(terms: &Terms, start: Duration, random: &mut Random) -> Times {
    if terms.seconds == u32::MAX {
        return Times { renewal: Duration::MAX, rebinding: Duration::MAX, end: Duration::MAX };
    }
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    let length = seconds(terms.seconds);
    let half = length.checked_div(2).unwrap_or_default();
    let most = length.saturating_sub(length.checked_div(8).unwrap_or_default());
    let rebinding = terms
        .rebinding
        .map(seconds)
        .filter(|wish| *wish < length && !wish.is_zero())
        .unwrap_or(most);
    let renewal = terms.renewal.map(seconds).filter(|wish| *wish < rebinding && !wish.is_zero());
    let renewal = renewal.unwrap_or(if half < rebinding {
        half
    } else {
        rebinding.checked_div(2).unwrap_or_default()
    });
    let early = random.up_to(renewal.checked_div(32).unwrap_or_default());
    let at = |offset| start.saturating_add(offset);
    Times { renewal: at(renewal.saturating_sub(early)), rebinding: at(rebinding), end: at(length) }
}
