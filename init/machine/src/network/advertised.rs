// SPDX-License-Identifier: Apache-2.0
//! Name servers and search domains that routers advertise (RFC 8106), and how long they hold. The agent that hears them reads
//! the bytes of strangers, so what it says is checked before it is believed.

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};
use stele_config::Domain;

/// Most entries that are kept of each for a link. Who has them all taken only has its own taken.
const MOST: usize = 8;

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
    /// Takes an advertisement in. What is wrong in it is left out.
    pub fn hear(&mut self, advertisement: &Advertisement, now: Duration) {
        let until = match advertisement.seconds {
            0 => None,
            u32::MAX => Some(Duration::MAX),
            seconds => Some(now.saturating_add(Duration::from_secs(seconds.into()))),
        };
        for server in advertisement.servers.iter().filter(|server| usable(**server)) {
            set(&mut self.servers, IpAddr::V6(*server), until);
        }
        for domain in advertisement.domains.iter().filter_map(|domain| domain.parse().ok()) {
            set(&mut self.domains, domain, until);
        }
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
        let ends = servers.chain(self.domains.iter().map(|(_, until)| *until));
        ends.filter(|until| *until < Duration::MAX).min()
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

/// One that other links than its own don't have as well.
fn usable(server: Ipv6Addr) -> bool {
    !server.is_unspecified()
        && !server.is_multicast()
        && !server.is_loopback()
        && !server.is_unicast_link_local()
}

fn set<T: PartialEq>(all: &mut Vec<(T, Duration)>, item: T, until: Option<Duration>) {
    let room = all.len() < MOST;
    let known = all.iter_mut().find(|(old, _)| *old == item);
    match (known, until) {
        (Some((_, end)), Some(until)) => *end = until,
        (Some(_), None) => all.retain(|(old, _)| *old != item),
        (None, Some(until)) if room => all.push((item, until)),
        (None, _) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::{Advertised, Advertisement, MOST};
    use std::{net::Ipv6Addr, time::Duration};

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
        all.hear(&heard(&[server(1)], 60), at(1));
        all.hear(&heard(&[server(2)], u32::MAX), at(1));
        all.hear(&heard(&[server(1)], 60), at(31));
        assert_eq!((all.servers().len(), all.until()), (2, Some(at(91))));
        all.expire(at(91));
        assert_eq!((all.servers(), all.until()), (vec![server(2).into()], None));
        all.hear(&heard(&[server(2)], 0), at(92));
        assert_eq!(all, Advertised::default());
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
        assert_eq!(all.servers(), [] as [std::net::IpAddr; 0]);
        let many: Vec<_> = (1..100).map(server).collect();
        all.hear(&heard(&many, 60), Duration::ZERO);
        assert_eq!(all.servers().len(), MOST);
    }
}
