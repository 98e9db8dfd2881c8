// SPDX-License-Identifier: Apache-2.0
//! Name servers and search domains that routers advertise (RFC 8106), and how long they hold. The agent that hears them reads
//! the bytes of strangers, so what it says is checked before it is believed.

use super::lease6::is_elsewhere;
use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};
use stele_config::Domain;

/// Most entries that are kept of each for a link. Beyond that the one that ends first makes room.
const MOST: usize = 8;
/// For how long something is kept at most. Routers repeat themselves within half an hour (RFC 4861, section 6.2.1).
const LONGEST: Duration = Duration::from_secs(2 * 60 * 60);

/// What an agent says that a router advertises.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advertisement {
    /// Name servers.
    pub servers: Vec<Ipv6Addr>,
    /// Search domains.
    pub domains: Vec<String>,
    /// How long it may be used, from now; 0 when it may not any more, `u32::MAX` for ever.
    pub seconds: u32,
}

/// What holds of what the routers of a link advertised. Times are since boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advertised {
    servers: Vec<(IpAddr, Duration)>,
    domains: Vec<(Domain, Duration)>,
}

impl Advertised {
    /// Takes an advertisement in. What is wrong in it is left out. Returns whether there are other servers or domains now.
    pub fn hear(&mut self, advertisement: &Advertisement, now: Duration) -> bool {
        let lasts = Duration::from_secs(advertisement.seconds.into()).min(LONGEST);
        let until = (!lasts.is_zero()).then(|| now.saturating_add(lasts));
        let mut changed = false;
        let servers = advertisement.servers.iter().filter(|server| is_elsewhere(server));
        for server in servers.take(MOST) {
            changed |= set(&mut self.servers, IpAddr::V6(*server), until);
        }
        let domains = advertisement.domains.iter().filter_map(|domain| domain.parse().ok());
        for domain in domains.take(MOST) {
            changed |= set(&mut self.domains, domain, until);
        }
        changed
    }

    /// Lets go what has ended.
    pub fn expire(&mut self, now: Duration) {
        self.servers.retain(|(_, until)| *until > now);
        self.domains.retain(|(_, until)| *until > now);
    }

    /// When the next of it ends.
    #[must_use]
    pub fn until(&self) -> Option<Duration> {
        let servers = self.servers.iter().map(|(_, until)| *until);
        servers.chain(self.domains.iter().map(|(_, until)| *until)).min()
    }

    /// Whether nothing holds.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty() && self.domains.is_empty()
    }

    /// The name servers, those that were heard of first at the beginning.
    #[must_use]
    pub fn servers(&self) -> Vec<IpAddr> {
        self.servers.iter().map(|(server, _)| *server).collect()
    }

    /// The search domains.
    pub fn domains(&self) -> impl Iterator<Item = &Domain> {
        self.domains.iter().map(|(domain, _)| domain)
    }
}

/// Keeps an item until then, or not any more. Returns whether it was not there before, or is gone.
fn set<T: PartialEq>(all: &mut Vec<(T, Duration)>, item: T, until: Option<Duration>) -> bool {
    let known = all.iter().position(|(old, _)| *old == item);
    match (known, until) {
        (Some(known), Some(until)) => {
            if let Some((_, end)) = all.get_mut(known) {
                *end = until;
            }
            false
        }
        (Some(known), None) => {
            all.remove(known);
            true
        }
        (None, Some(until)) => {
            let first = (0..all.len()).min_by_key(|place| all.get(*place).map(|(_, end)| *end));
            if let Some(first) = first.filter(|_| all.len() >= MOST) {
                all.remove(first);
            }
            all.push((item, until));
            true
        }
        (None, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{Advertised, Advertisement, LONGEST, MOST};
    use std::{
        net::{IpAddr, Ipv6Addr},
        time::Duration,
    };

    fn server(last: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)
    }

    fn heard(servers: &[Ipv6Addr], seconds: u32) -> Advertisement {
        Advertisement { servers: servers.to_vec(), seconds, ..Advertisement::default() }
    }

    #[test]
    fn it_holds_until_it_ends_or_is_ended() {
        let at = Duration::from_secs;
        let mut all = Advertised::default();
        assert!(all.hear(&heard(&[server(1)], 60), at(1)));
        assert!(all.hear(&heard(&[server(2)], u32::MAX), at(1)));
        assert!(!all.hear(&heard(&[server(1)], 60), at(31)), "only its end has moved");
        assert_eq!((all.servers().len(), all.until()), (2, Some(at(91))));
        all.expire(at(91));
        let longest = at(1) + LONGEST;
        assert_eq!((all.servers(), all.until()), (vec![server(2).into()], Some(longest)));
        assert!(all.hear(&heard(&[server(2)], 0), at(92)));
        assert!(!all.hear(&heard(&[server(2)], 0), at(92)));
        assert_eq!(all, Advertised::default());
    }

    #[test]
    fn what_ends_first_makes_room() {
        let mut all = Advertised::default();
        let old: Vec<_> = (0..8).map(server).collect();
        all.hear(&heard(&old, 600), Duration::ZERO);
        all.hear(&heard(&[server(3)], 60), Duration::ZERO);
        assert!(all.hear(&heard(&[server(9)], 300), Duration::ZERO));
        let left = [0, 1, 2, 4, 5, 6, 7, 9].map(|last| IpAddr::V6(server(last)));
        assert_eq!(all.servers(), left);
    }

    #[test]
    fn what_is_wrong_or_too_much_is_left_out() {
        let mut all = Advertised::default();
        let near = "fe80::53".parse().expect("an address");
        all.hear(&heard(&[Ipv6Addr::LOCALHOST, near, Ipv6Addr::UNSPECIFIED], 60), Duration::ZERO);
        let domains = vec!["a.example\nnameserver 6.6.6.6".to_owned(), "b.example".to_owned()];
        all.hear(
            &Advertisement { domains, seconds: 60, ..Advertisement::default() },
            Duration::ZERO,
        );
        assert_eq!(all.domains().map(|one| one.as_str()).collect::<Vec<_>>(), ["b.example"]);
        assert_eq!(all.servers(), [] as [IpAddr; 0]);
        let many: Vec<_> = (1..100).map(server).collect();
        all.hear(&heard(&many, 60), Duration::ZERO);
        assert_eq!(all.servers().len(), MOST);
    }
}
