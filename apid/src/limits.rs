// SPDX-License-Identifier: Apache-2.0
//! Every bound that apid puts on strangers and clients, in one place.
//!
//! Each of them refuses, none of them waits: a client that goes over one gets an answer that says so, or is closed, and the
//! other clients notice nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// The port of the API.
pub const PORT: u16 = 50000;

/// Connections at the same time. When they are taken, the one that has been idle longest makes room.
pub const CONNECTIONS: usize = 256;
/// Connections at the same time from one source (an IPv4 address, or an IPv6 /64).
pub const CONNECTIONS_PER_SOURCE: usize = 128;
/// Time from the accepted connection to the end of the TLS handshake.
pub const HANDSHAKE: Duration = Duration::from_secs(10);
/// Time without a call after which a connection is closed.
pub const IDLE: Duration = Duration::from_secs(300);
/// How often a silent peer is asked whether it is still there.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long it may take to answer that.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long calls may go on after the order to end.
pub const DRAIN: Duration = Duration::from_secs(2);
/// How long calls may go on whose client may do less than when they began.
pub const WITHDRAWN: Duration = Duration::from_secs(1);

/// Time from the headers of a call to the end of its first message: a call keeps its connection from making room, so
/// strangers may not hold one open for nothing.
pub const FIRST_MESSAGE: Duration = Duration::from_secs(60);
/// Calls at the same time on one connection.
pub const STREAMS: u32 = 128;
/// Calls at the same time on all connections: what PID 1 has to serve at most.
pub const CALLS: usize = 256;
/// Of these, what only administrators get: whoever can repair a node finds room when the others have taken theirs.
pub const CALLS_OF_ADMINS: usize = 32;
/// Idle connections to PID 1 that are kept for the next call.
pub const POOL: usize = 64;
/// Size of a call's headers, uncompressed.
pub const HEADERS: u32 = 16 << 10;
/// Bytes of one call that a client may send ahead of what PID 1 has taken.
pub const STREAM_WINDOW: u32 = 1 << 20;
/// The same for all calls of a connection together.
pub const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes of a connection's answers that wait for its peer.
pub const SEND_BUFFER: usize = 256 << 10;

/// The largest frame on the socket to PID 1, as its contract says.
pub const FRAME: usize = 2 << 20;
/// The largest message of a call: what fits into a frame together with the frame's own bytes.
pub const MESSAGE: usize = FRAME - 16;
/// From this size on, a message is counted against [`ASSEMBLY`] while it arrives.
pub const LARGE_MESSAGE: usize = 64 << 10;
/// Bytes of large messages that have not wholly arrived, in all calls together.
pub const ASSEMBLY: usize = 24 << 20;

/// Bytes of the audit log that wait for PID 1. Beyond them, calls wait.
pub const AUDIT: usize = 256 << 10;
/// Refused handshakes that are logged in a burst; what is beyond is counted.
pub const REFUSALS_BURST: u32 = 64;
/// Refused handshakes that are logged each second in the long run.
pub const REFUSALS_PER_SECOND: u32 = 4;

/// A number of things that may be in use at the same time.
#[derive(Clone, Debug)]
pub struct Budget {
    left: Arc<AtomicUsize>,
}

impl Budget {
    /// A budget of `total`.
    #[must_use]
    pub fn new(total: usize) -> Self {
        Self { left: Arc::new(AtomicUsize::new(total)) }
    }

    /// Takes `amount` until the result is dropped; `None` when less than that and the reserve are left.
    #[must_use]
    pub fn take(&self, amount: usize, reserve: usize) -> Option<Share> {
        let rest = |left: usize| left.checked_sub(amount).filter(|rest| *rest >= reserve);
        let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest);
        taken.ok().map(|_| Share { budget: self.clone(), amount })
    }
}

/// A part of a [`Budget`], given back when dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    amount: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.amount, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_returns_when_dropped() {
        let budget = Budget::new(3);
        assert!(budget.take(3, 1).is_none());
        let two = budget.take(2, 1).unwrap();
        assert!(budget.take(2, 0).is_none());
        drop(two);
        assert!(budget.take(3, 0).is_some());
    }
}
