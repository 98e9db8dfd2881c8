// SPDX-License-Identifier: Apache-2.0
//! Who is connected, and who makes room when the house is full.
//!
//! ```text
//! Handshaking ──► Idle ◄──► Active (calls)
//!      └────────────┴── evicted, oldest first
//! ```
//!
//! A connection with a call is never evicted. So neither a thousand idle connections nor a thousand half-made ones keep the next good
//! call out, and a source that takes more than its part makes room among its own.

use crate::limits;
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// All connections.
#[derive(Clone, Debug)]
pub struct Connections {
    table: Arc<Mutex<Table>>,
    epoch: Instant,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<u64, Entry>,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    source: IpAddr,
    state: Arc<State>,
}

/// What changes with each call, so it takes no lock.
#[derive(Debug)]
struct State {
    address: IpAddr,
    reached: Option<IpAddr>,
    epoch: Instant,
    made: Instant,
    // Since when it has been as it is, in microseconds after the epoch.
    since: AtomicU64,
    established: AtomicBool,
    calls: AtomicU32,
    called: AtomicBool,
    evict: Notify,
}

impl State {
    fn touch(&self, now: Instant) {
        let since = now.saturating_duration_since(self.epoch).as_micros();
        self.since.store(u64::try_from(since).unwrap_or(u64::MAX), Relaxed);
    }
}

impl Connections {
    /// Nobody yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { table: Arc::default(), epoch: now }
    }

    /// Admits a connection from this address, and to that one of the machine's, if need be in the place of another; `None` when
    /// all have calls.
    #[must_use]
    pub fn admit(
        &self,
        address: IpAddr,
        reached: Option<IpAddr>,
        now: Instant,
    ) -> Option<Connection> {
        let source = source(address);
        let mut table = self.table();
        if table.entries.values().filter(|entry| entry.source == source).count()
            >= limits::CONNECTIONS_PER_SOURCE
        {
            table.evict(|entry| entry.source == source)?;
        } else if table.entries.len() >= limits::CONNECTIONS {
            table.evict(|_| true)?;
        }
        let state = Arc::new(State {
            address: address.to_canonical(),
            reached: reached.map(|reached| reached.to_canonical()),
            epoch: self.epoch,
            made: now,
            since: AtomicU64::default(),
            established: AtomicBool::default(),
            calls: AtomicU32::default(),
            called: AtomicBool::default(),
            evict: Notify::new(),
        });
        state.touch(now);
        let id = table.next;
        table.next += 1;
        table.entries.insert(id, Entry { source, state: Arc::clone(&state) });
        drop(table);
        Some(Connection { connections: self.clone(), id, state })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.table().entries.len()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Evicts the one that has been without a call for longest; those that have not finished their handshake first.
    fn evict(&mut self, among: impl Fn(&Entry) -> bool) -> Option<()> {
        let idle = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.state.calls.load(Relaxed) == 0 && among(entry));
        let (id, _) = idle.min_by_key(|(_, entry)| {
            (entry.state.established.load(Relaxed), entry.state.since.load(Relaxed))
        })?;
        let id = *id;
        self.entries.remove(&id)?.state.evict.notify_one();
        Some(())
    }
}

/// The part of an address that one owner commonly has: an IPv4 address, or an IPv6 /64.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address @ IpAddr::V4(_) => address,
    }
}

/// One connection; it leaves the table when it is dropped.
#[derive(Debug)]
pub struct Connection {
    connections: Connections,
    id: u64,
    state: Arc<State>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.table().entries.remove(&self.id);
    }
}

impl Connection {
    /// Notes the end of the handshake.
    pub fn established(&self) {
        self.state.established.store(true, Relaxed);
    }

    /// Begins a call, which ends when the result is dropped.
    #[must_use]
    pub fn begin(&self) -> Active {
        self.state.calls.fetch_add(1, Relaxed);
        self.state.called.store(true, Relaxed);
        Active { state: Arc::clone(&self.state) }
    }

    /// Completes when this connection has to make room.
    pub async fn evicted(&self) {
        self.state.evict.notified().await;
    }

    /// How long it has been without a call; `None` while it has one.
    #[must_use]
    pub fn idle(&self, now: Instant) -> Option<Duration> {
        let since = Duration::from_micros(self.state.since.load(Relaxed));
        let age = now.saturating_duration_since(self.state.epoch).saturating_sub(since);
        (self.state.calls.load(Relaxed) == 0).then_some(age)
    }

    /// True if there ever was a call.
    #[must_use]
    pub fn called(&self) -> bool {
        self.state.called.load(Relaxed)
    }
}

/// A call of a connection.
#[derive(Debug)]
pub struct Active {
    state: Arc<State>,
}

impl Active {
    /// How long ago its connection was made.
    #[must_use]
    pub fn connection_age(&self) -> Duration {
        self.state.made.elapsed()
    }

    /// Where its connection comes from.
    #[must_use]
    pub fn source(&self) -> IpAddr {
        self.state.address
    }

    /// The address of the machine that it is to, where that is known.
    #[must_use]
    pub fn reached(&self) -> Option<IpAddr> {
        self.state.reached
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.state.touch(Instant::now());
        self.state.calls.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: usize) -> IpAddr {
        IpAddr::from(u32::try_from(number).unwrap().to_be_bytes())
    }

    async fn timeout(future: impl Future<Output = ()>) -> Option<()> {
        tokio::time::timeout(Duration::ZERO, future).await.ok()
    }

    #[tokio::test]
    async fn the_oldest_idle_one_makes_room() {
        let now = Instant::now();
        let connections = Connections::new(now);
        let mut all: Vec<_> = (0..limits::CONNECTIONS)
            .map(|number| {
                let at = now + Duration::from_secs(u64::try_from(number).unwrap());
                let connection = connections.admit(address(number), None, at).unwrap();
                connection.established();
                connection
            })
            .collect();
        let calls: Vec<_> = all.iter().take(10).map(Connection::begin).collect();
        let new = connections.admit(address(1000), None, now).unwrap();
        all[10].evicted().await;
        assert_eq!(connections.count(), limits::CONNECTIONS);
        // The new one has not finished its handshake: it goes before those that have.
        let newer = connections.admit(address(1001), None, now).unwrap();
        new.evicted().await;
        drop((calls, newer));
        all.clear();
        drop(new);
        assert_eq!(connections.count(), 0);
    }

    #[tokio::test]
    async fn a_greedy_source_makes_room_among_its_own() {
        let now = Instant::now();
        let connections = Connections::new(now);
        let other = connections.admit(address(1), None, now).unwrap();
        let greedy: Vec<_> = (0..limits::CONNECTIONS_PER_SOURCE)
            .map(|_| connections.admit(address(2), None, now).unwrap())
            .collect();
        let _one_more = connections.admit(address(2), None, now).unwrap();
        assert_eq!(connections.count(), 1 + limits::CONNECTIONS_PER_SOURCE);
        assert!(timeout(other.evicted()).await.is_none(), "the other source is left in peace");
        let mut evicted = 0;
        for connection in &greedy {
            evicted += usize::from(timeout(connection.evicted()).await.is_some());
        }
        assert_eq!(evicted, 1);
    }

    #[test]
    fn nobody_with_a_call_makes_room() {
        let now = Instant::now();
        let connections = Connections::new(now);
        let all: Vec<_> = (0..limits::CONNECTIONS_PER_SOURCE)
            .map(|_| connections.admit(address(2), None, now).unwrap())
            .collect();
        let _calls: Vec<_> = all.iter().map(Connection::begin).collect();
        assert!(connections.admit(address(2), None, now).is_none());
        assert!(connections.admit(address(3), None, now).is_some());
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let other: IpAddr = "2001:db8::ffff".parse().unwrap();
        let far: IpAddr = "2001:db8:0:1::1".parse().unwrap();
        assert_eq!(source(one), source(other));
        assert_ne!(source(one), source(far));
        assert_eq!(source("::ffff:10.0.0.1".parse().unwrap()), address(0x0a00_0001));
    }
}
