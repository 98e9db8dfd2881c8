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
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// All connections.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<u64, Entry>,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    source: IpAddr,
    established: bool,
    calls: u32,
    called: bool,
    since: Instant,
    evict: Arc<Notify>,
}

impl Connections {
    /// Admits a connection from this address, if need be in the place of another; `None` when all have calls.
    #[must_use]
    pub fn admit(&self, address: IpAddr, now: Instant) -> Option<Connection> {
        let source = source(address);
        let mut table = self.table();
        if table.entries.values().filter(|entry| entry.source == source).count()
            >= limits::CONNECTIONS_PER_SOURCE
        {
            table.evict(|entry| entry.source == source)?;
        } else if table.entries.len() >= limits::CONNECTIONS {
            table.evict(|_| true)?;
        }
        let evict = Arc::new(Notify::new());
        let id = table.next;
        table.next += 1;
        let entry = Entry {
            source,
            established: false,
            calls: 0,
            called: false,
            since: now,
            evict: Arc::clone(&evict),
        };
        table.entries.insert(id, entry);
        drop(table);
        Some(Connection { shared: Arc::new(Shared { connections: self.clone(), id, evict }) })
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
    /// Evicts the one without a call that has been so longest; those that have not finished their handshake first.
    fn evict(&mut self, among: impl Fn(&Entry) -> bool) -> Option<()> {
        let candidates = self.entries.iter().filter(|(_, entry)| entry.calls == 0 && among(entry));
        let (id, _) = candidates.min_by_key(|(_, entry)| (entry.established, entry.since))?;
        let id = *id;
        self.entries.remove(&id)?.evict.notify_one();
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

/// One connection; it leaves the table when its last copy is dropped.
#[derive(Clone, Debug)]
pub struct Connection {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    connections: Connections,
    id: u64,
    evict: Arc<Notify>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.connections.table().entries.remove(&self.id);
    }
}

impl Connection {
    /// Notes the end of the handshake.
    pub fn established(&self) {
        self.with(|entry| entry.established = true);
    }

    /// Begins a call, which ends when the result is dropped.
    #[must_use]
    pub fn begin(&self) -> Active {
        self.with(|entry| {
            entry.calls += 1;
            entry.called = true;
        });
        Active { connection: self.clone() }
    }

    /// Completes when this connection has to make room.
    pub async fn evicted(&self) {
        self.shared.evict.notified().await;
    }

    /// How long it has been without a call; `None` while it has one.
    #[must_use]
    pub fn idle(&self, now: Instant) -> Option<Duration> {
        self.with(|entry| (entry.calls == 0).then(|| now.duration_since(entry.since))).flatten()
    }

    /// True if there ever was a call.
    #[must_use]
    pub fn called(&self) -> bool {
        self.with(|entry| entry.called).unwrap_or(true)
    }

    fn with<T>(&self, with: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        self.shared.connections.table().entries.get_mut(&self.shared.id).map(with)
    }
}

/// A call of a connection.
#[derive(Debug)]
pub struct Active {
    connection: Connection,
}

impl Drop for Active {
    fn drop(&mut self) {
        self.connection.with(|entry| {
            entry.calls = entry.calls.saturating_sub(1);
            entry.since = Instant::now();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: usize) -> IpAddr {
        IpAddr::from(u32::try_from(number).unwrap().to_be_bytes())
    }

    #[tokio::test]
    async fn the_oldest_idle_one_makes_room() {
        let connections = Connections::default();
        let now = Instant::now();
        let mut all: Vec<_> = (0..limits::CONNECTIONS)
            .map(|number| {
                let at = now + Duration::from_secs(u64::try_from(number).unwrap());
                let connection = connections.admit(address(number), at).unwrap();
                connection.established();
                connection
            })
            .collect();
        let calls: Vec<_> = all.iter().take(10).map(Connection::begin).collect();
        let new = connections.admit(address(1000), now).unwrap();
        all[10].evicted().await;
        assert_eq!(connections.count(), limits::CONNECTIONS);
        // The new one has not finished its handshake: it goes before those that have.
        let newer = connections.admit(address(1001), now).unwrap();
        new.evicted().await;
        drop((calls, newer));
        all.clear();
        drop(new);
        assert_eq!(connections.count(), 0);
    }

    #[tokio::test]
    async fn a_greedy_source_makes_room_among_its_own() {
        let connections = Connections::default();
        let now = Instant::now();
        let other = connections.admit(address(1), now).unwrap();
        let greedy: Vec<_> = (0..limits::CONNECTIONS_PER_SOURCE)
            .map(|_| connections.admit(address(2), now).unwrap())
            .collect();
        let _one_more = connections.admit(address(2), now).unwrap();
        assert!(other.idle(now).is_some());
        assert_eq!(greedy.iter().filter(|connection| connection.idle(now).is_none()).count(), 1);
    }

    #[test]
    fn nobody_with_a_call_makes_room() {
        let connections = Connections::default();
        let now = Instant::now();
        let all: Vec<_> = (0..limits::CONNECTIONS_PER_SOURCE)
            .map(|_| connections.admit(address(2), now).unwrap())
            .collect();
        let _calls: Vec<_> = all.iter().map(Connection::begin).collect();
        assert!(connections.admit(address(2), now).is_none());
        assert!(connections.admit(address(3), now).is_some());
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
