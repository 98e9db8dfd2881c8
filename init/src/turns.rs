// SPDX-License-Identifier: Apache-2.0
//! Turns: who has much to do gives PID 1's one thread back in time.
//!
//! The runtime looks at timers and sockets only between rounds of some sixty tasks. A round in which each of them sends to a
//! watcher would make everything else late.

use std::{cell::Cell, time::Duration};
use tokio::{task::yield_now, time::Instant};

/// How long all that is done in turns may take until timers and sockets are looked at.
const SLICE: Duration = Duration::from_millis(5);

/// When the turn that goes on began.
#[derive(Debug)]
pub(crate) struct Turns(Cell<Instant>);

impl Default for Turns {
    fn default() -> Turns {
        Turns(Cell::new(Instant::now()))
    }
}

impl Turns {
    /// Returns at once while the turn lasts, or else when timers and sockets have been looked at.
    pub(crate) async fn wait(&self) {
        loop {
            let began = self.0.get();
            if began.elapsed() < SLICE {
                return;
            }
            yield_now().await;
            // The first to come back begins the next one, and the others see how much of it is left.
            if self.0.get() == began {
                self.0.set(Instant::now());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{SLICE, Turns};
    use std::{cell::Cell, rc::Rc, time::Duration};
    use tokio::{runtime, task::LocalSet, time::sleep};

    /// Many tasks that would never wait by themselves, and one that sleeps: it comes to its turns among them.
    #[test]
    fn who_has_much_to_do_lets_others_pass() {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let most = LocalSet::new().block_on(&runtime, async {
            let (turns, now) = (Rc::new(Turns::default()), Rc::new(Cell::new(0)));
            for _ in 0..200 {
                let (turns, now) = (Rc::clone(&turns), Rc::clone(&now));
                tokio::task::spawn_local(async move {
                    loop {
                        turns.wait().await;
                        std::thread::sleep(SLICE / 5);
                        now.set(now.get() + 1);
                    }
                });
            }
            let mut most = 0;
            for _ in 0..10 {
                let before = now.get();
                sleep(Duration::from_millis(1)).await;
                most = most.max(now.get() - before);
            }
            most
        });
        // Without turns, a whole round of them passes each time.
        assert!(most < 30, "{most} others came first");
    }
}
