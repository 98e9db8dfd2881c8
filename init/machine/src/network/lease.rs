// SPDX-License-Identifier: Apache-2.0
//! A DHCP lease. The agent that got it reads the bytes of strangers, so what it says is checked before it is believed.

use super::{acd::Claims, advertised::Advertised, dhcp6::Says, lease6::Lease6};
use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};
use stele_config::{Cidr, Domain, Hostname};

/// Most entries that are taken of each list of a lease.
const MOST: usize = 32;

/// What an agent says that a server gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claim {
    /// The address.
    pub address: Option<Ipv4Addr>,
    /// The prefix length of its network.
    pub prefix: u32,
    /// The default routers, best first.
    pub routers: Vec<Ipv4Addr>,
    /// Name servers.
    pub dns_servers: Vec<Ipv4Addr>,
    /// Time servers.
    pub ntp_servers: Vec<Ipv4Addr>,
    /// Other routes: network, prefix length, router; an unspecified router means that the network is on the link.
    pub routes: Vec<(Ipv4Addr, u32, Ipv4Addr)>,
    /// The domain of the network; may be empty.
    pub domain: String,
    /// Domains in which names without a dot are looked for, besides that one.
    pub search: Vec<String>,
    /// The name of this machine; may be empty.
    pub hostname: String,
    /// The largest packet of the network; 0 for none.
    pub mtu: u32,
    /// The server.
    pub server: Option<Ipv4Addr>,
    /// How long it holds, from when it was obtained.
    pub seconds: u32,
}

/// A lease that can be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    address: Cidr,
    routes: Vec<(Cidr, Option<IpAddr>)>,
    dns_servers: Vec<IpAddr>,
    ntp_servers: Vec<IpAddr>,
    domains: Vec<Domain>,
    hostname: Option<Hostname>,
    mtu: Option<u32>,
    server: Option<Ipv4Addr>,
    seconds: u32,
}

/// Why a lease can't be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// It has no address that a machine can have.
    #[error("the lease has no usable address")]
    Address,
    /// The prefix length of its network is out of range.
    #[error("the lease has a network prefix of {0} bits")]
    Prefix(u32),
}

impl TryFrom<Claim> for Lease {
    type Error = LeaseError;

    /// The address has to be right; whatever else is wrong is left out.
    fn try_from(claim: Claim) -> Result<Self, LeaseError> {
        let address =
            claim.address.filter(|address| unicast(*address)).ok_or(LeaseError::Address)?;
        let prefix = u8::try_from(claim.prefix).ok().filter(|prefix| *prefix > 0);
        let address = prefix
            .and_then(|prefix| Cidr::new(IpAddr::V4(address), prefix))
            .ok_or(LeaseError::Prefix(claim.prefix))?;
        Ok(Lease {
            address,
            routes: routes(&claim),
            dns_servers: servers(&claim.dns_servers),
            ntp_servers: servers(&claim.ntp_servers),
            domains: domains(&claim),
            hostname: claim.hostname.parse().ok(),
            // The range that a configuration may ask for.
            mtu: Some(claim.mtu).filter(|mtu| (1280..=9216).contains(mtu)),
            server: claim.server.filter(|server| unicast(*server)),
            seconds: claim.seconds,
        })
    }
}

impl Lease {
    /// The address, with its prefix length.
    #[must_use]
    pub fn address(&self) -> Cidr {
        self.address
    }

    /// The routes: network and router.
    #[must_use]
    pub fn routes(&self) -> &[(Cidr, Option<IpAddr>)] {
        &self.routes
    }

    /// Name servers.
    #[must_use]
    pub fn dns_servers(&self) -> &[IpAddr] {
        &self.dns_servers
    }

    /// Time servers.
    #[must_use]
    pub fn ntp_servers(&self) -> &[IpAddr] {
        &self.ntp_servers
    }

    /// Domains in which names without a dot are looked for: that of the network comes first.
    #[must_use]
    pub fn domains(&self) -> &[Domain] {
        &self.domains
    }

    /// What the server calls this machine.
    #[must_use]
    pub fn hostname(&self) -> Option<&Hostname> {
        self.hostname.as_ref()
    }

    /// The largest packet of the network.
    #[must_use]
    pub fn mtu(&self) -> Option<u32> {
        self.mtu
    }

    /// The server.
    #[must_use]
    pub fn server(&self) -> Option<Ipv4Addr> {
        self.server
    }
}

/// What ends some day.
pub trait Lasts {
    /// How long it holds from when it was said; none for ever (RFC 2131, section 3.3; RFC 8415, section 7.7).
    fn duration(&self) -> Option<Duration>;

    /// Whether nothing of it is new, but perhaps when it ends.
    fn renews(&self, before: &Self) -> bool;
}

impl Lasts for Lease {
    fn duration(&self) -> Option<Duration> {
        (self.seconds != u32::MAX).then(|| Duration::from_secs(self.seconds.into()))
    }

    fn renews(&self, before: &Lease) -> bool {
        self == before
    }
}

/// What is known about a link from others on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dhcp {
    /// By DHCPv4.
    pub four: Held<Lease>,
    /// By DHCPv6.
    pub six: Held<Lease6>,
    /// By router advertisements.
    pub routers: Advertised,
    /// The most that routers have said of DHCPv6.
    pub says: Option<Says>,
    /// Whether its fixed IPv4 addresses are ours.
    pub acd: Claims,
}

impl Dhcp {
    /// Whether a lease holds that gives this address.
    #[must_use]
    pub fn gives(&self, address: &Cidr) -> bool {
        self.four.lease.as_ref().is_some_and(|lease| lease.address() == *address)
            || self.six.gives(address)
    }
}

impl Held<Lease6> {
    /// Whether the lease gives this address.
    #[must_use]
    pub fn gives(&self, address: &Cidr) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.addresses().contains(address))
    }
}

/// What is known about the lease that an agent works for. Times are since boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held<L> {
    /// The lease, while it holds.
    pub lease: Option<L>,
    /// When the lease ends; none for never, or without a lease.
    pub until: Option<Duration>,
    /// What the agent said last, in a sentence.
    pub word: String,
    /// Since when that is so.
    pub since: Duration,
}

/// What an agent reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report<L> {
    /// A lease was obtained or renewed.
    Leased(L),
    /// The lease was lost; why.
    Lost(String),
    /// No lease yet; what is being tried.
    Waiting(String),
}

impl<L> Default for Held<L> {
    fn default() -> Held<L> {
        Held { lease: None, until: None, word: String::new(), since: Duration::ZERO }
    }
}

impl<L: Lasts> Held<L> {
    /// Takes a report in.
    pub fn hear(&mut self, report: Report<L>, now: Duration) {
        match report {
            Report::Leased(lease) => {
                self.until = lease.duration().map(|duration| now.saturating_add(duration));
                if !self.lease.as_ref().is_some_and(|before| lease.renews(before)) {
                    self.since = now;
                }
                self.word = String::new();
                self.lease = Some(lease);
            }
            Report::Lost(why) => *self = Held { lease: None, until: None, word: why, since: now },
            // An agent that was restarted waits while what its predecessor got still holds.
            Report::Waiting(what) => {
                if self.lease.is_none() && self.word.is_empty() {
                    self.since = now;
                }
                self.word = what;
            }
        }
    }

    /// Lets a lease go that has ended; its agent should have said so, but may be gone. Says whether it did.
    pub fn expire(&mut self, now: Duration) -> bool {
        let over = self.lease.is_some() && self.until.is_some_and(|until| until <= now);
        if over {
            let word = "The lease has ended, and was not renewed".to_owned();
            *self = Held { lease: None, until: None, word, since: now };
        }
        over
    }
}

/// An address that one machine can have.
fn unicast(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && first < 224 && !address.is_loopback()
}

fn servers(claimed: &[Ipv4Addr]) -> Vec<IpAddr> {
    let mut servers = Vec::new();
    for server in claimed.iter().copied().filter(|server| unicast(*server)).map(IpAddr::V4) {
        if servers.len() < MOST && !servers.contains(&server) {
            servers.push(server);
        }
    }
    servers
}

fn domains(claim: &Claim) -> Vec<Domain> {
    let mut domains = Vec::new();
    for domain in std::iter::once(&claim.domain).chain(&claim.search) {
        if let Ok(domain) = domain.parse()
            && domains.len() < MOST
            && !domains.contains(&domain)
        {
            domains.push(domain);
        }
    }
    domains
}

/// The routes; those of option 121 replace the routers of option 3 (RFC 3442).
fn routes(claim: &Claim) -> Vec<(Cidr, Option<IpAddr>)> {
    let everything = (Ipv4Addr::UNSPECIFIED, 0);
    let classic =
        claim.routers.iter().find(|router| unicast(**router)).map(|router| (everything, *router));
    let classless = claim.routes.iter().map(|(to, prefix, via)| ((*to, *prefix), *via));
    let all: Vec<_> =
        if claim.routes.is_empty() { classic.into_iter().collect() } else { classless.collect() };
    all.into_iter()
        .filter(|((to, _), via)| {
            (unicast(*to) || to.is_unspecified()) && (unicast(*via) || via.is_unspecified())
        })
        .filter_map(|((to, prefix), via)| {
            let to = Cidr::new(IpAddr::V4(to), u8::try_from(prefix).ok()?)?.network();
            Some((to, (!via.is_unspecified()).then_some(IpAddr::V4(via))))
        })
        .take(MOST)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Claim, Held, Lease, LeaseError, Report};
    use std::{net::Ipv4Addr, time::Duration};

    const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

    fn claim() -> Claim {
        Claim {
            address: Some(Ipv4Addr::new(10, 0, 2, 15)),
            prefix: 24,
            seconds: 60,
            ..Claim::default()
        }
    }

    fn lease(claim: Claim) -> Lease {
        Lease::try_from(claim).expect("a lease")
    }

    fn routes(lease: &Lease) -> Vec<String> {
        let via = |via: Option<_>| {
            via.map_or(String::new(), |via: std::net::IpAddr| format!(" via {via}"))
        };
        lease.routes().iter().map(|(to, router)| format!("{to}{}", via(*router))).collect()
    }

    #[test]
    fn an_address_that_no_machine_can_have_is_no_lease() {
        for address in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "255.255.255.255"] {
            let claim = Claim { address: Some(address.parse().expect("an address")), ..claim() };
            assert_eq!(Lease::try_from(claim), Err(LeaseError::Address));
        }
        assert_eq!(Lease::try_from(Claim { address: None, ..claim() }), Err(LeaseError::Address));
        for prefix in [0, 33, 288] {
            assert_eq!(
                Lease::try_from(Claim { prefix, ..claim() }),
                Err(LeaseError::Prefix(prefix))
            );
        }
    }

    #[test]
    fn what_else_is_wrong_is_left_out() {
        let lease = lease(Claim {
            routers: vec![Ipv4Addr::BROADCAST, ROUTER],
            dns_servers: vec![Ipv4Addr::UNSPECIFIED, ROUTER, ROUTER],
            domain: "a.example\nnameserver 6.6.6.6".to_owned(),
            search: ["-", "b.example", "B.example", "a b"].map(str::to_owned).to_vec(),
            hostname: "Node-7".to_owned(),
            mtu: 68,
            ..claim()
        });
        assert_eq!(routes(&lease), ["0.0.0.0/0 via 10.0.2.2"]);
        assert_eq!(lease.dns_servers(), [ROUTER]);
        assert_eq!(
            (lease.domains(), lease.mtu()),
            (&["b.example".parse().expect("one")][..], None)
        );
        assert_eq!(lease.hostname().map(|name| name.as_str()), Some("node-7"));
    }

    #[test]
    fn classless_routes_replace_the_router() {
        let lease = lease(Claim {
            routers: vec![ROUTER],
            routes: vec![
                (ROUTER, 32, Ipv4Addr::UNSPECIFIED),
                (Ipv4Addr::new(192, 0, 2, 77), 24, ROUTER),
                (Ipv4Addr::new(192, 0, 2, 77), 99, ROUTER),
            ],
            ..claim()
        });
        assert_eq!(routes(&lease), ["10.0.2.2/32", "192.0.2.0/24 via 10.0.2.2"]);
    }

    #[test]
    fn a_lease_ends_by_itself_but_not_by_a_restart_of_its_agent() {
        let at = Duration::from_secs;
        let mut dhcp = Held::<Lease>::default();
        dhcp.hear(Report::Waiting("Looking for a server".to_owned()), at(1));
        assert_eq!((dhcp.word.as_str(), dhcp.since), ("Looking for a server", at(1)));
        dhcp.hear(Report::Leased(lease(claim())), at(2));
        assert_eq!((dhcp.until, dhcp.since), (Some(at(62)), at(2)));
        dhcp.hear(Report::Waiting("Asking for the address it had".to_owned()), at(10));
        assert!(dhcp.lease.is_some());
        dhcp.hear(Report::Leased(lease(claim())), at(40));
        assert_eq!((dhcp.until, dhcp.since), (Some(at(100)), at(2)));
        assert!(!dhcp.expire(at(99)));
        assert!(dhcp.expire(at(100)));
        assert!(!dhcp.expire(at(101)));
        assert_eq!(dhcp.lease, None);
        dhcp.hear(Report::Leased(lease(Claim { seconds: u32::MAX, ..claim() })), at(120));
        assert!(!dhcp.expire(at(u64::MAX)));
        dhcp.hear(Report::Lost("10.0.2.15 is used by another machine".to_owned()), at(130));
        assert_eq!(dhcp.lease, None);
    }
}
