// SPDX-License-Identifier: Apache-2.0
//! How late PID 1's one thread is: a task that sleeps, and counts how much longer it slept than it wanted to. What takes the
//! thread for long, or from it, shows here, whatever it was.

use crate::node::Node;
use std::{cell::Cell, rc::Rc, time::Duration};
use tokio::time::Instant;

/// How long it sleeps: short enough to meet most of what takes long, long enough to cost nothing.
const SLEEP: Duration = Duration::from_millis(100);
/// What counts as late, and how the figure says it, in seconds.
const LATE: [(Duration, &str); 3] = [
    (Duration::from_millis(10), "0.01"),
    (Duration::from_millis(50), "0.05"),
    (Duration::from_millis(500), "0.5"),
];

/// How often the loop was late, by how much.
#[derive(Debug, Default)]
pub(crate) struct Lag([Cell<u64>; LATE.len()]);

impl Lag {
    fn note(&self, late: Duration) {
        for ((limit, _), count) in LATE.iter().zip(&self.0) {
            if late >= *limit {
                count.set(count.get().saturating_add(1));
            }
        }
    }

    /// Each limit in seconds, and how often it was reached.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        LATE.iter().zip(&self.0).map(|((_, name), count)| (*name, count.get()))
    }
}

/// Counts for as long as the machine runs.
pub(crate) async fn keep(node: Rc<Node>) {
    loop {
        let wanted = Instant::now() + SLEEP;
        tokio::time::sleep_until(wanted).await;
        node.lag.note(Instant::now().saturating_duration_since(wanted));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_that_was_reached_counts() {
        let lag = Lag::default();
        for millis in [1, 10, 49, 70, 600] {
            lag.note(Duration::from_millis(millis));
        }
        let counts: Vec<_> = lag.counts().collect();
        assert_eq!(counts, [("0.01", 4), ("0.05", 2), ("0.5", 1)]);
    }
}
