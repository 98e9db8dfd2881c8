// SPDX-License-Identifier: Apache-2.0
//! What the links should have, by configuration and leases.

use super::{
    Link, Observed,
    acd::Withheld,
    delegation::{self, Delegation},
    dhcp6::{self, Why},
    lease::Dhcp,
    rules::{self, Rule},
    virtual_link::{self, Form},
    vlans::{self, Vlans},
    wanted::Wanted,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};
use stele_config::{Cidr, Dhcp4, Dhcp6, RouteType, Table, VirtualLink};

/// The metric of routes that came by DHCP, to which the index of the link is added: of two links the first is preferred, and
/// a configured route over both.
pub const DHCP_METRIC: u32 = 1024;

/// The metric that the kernel gives an IPv6 route without one.
const IPV6_METRIC: u32 = 1024;

/// What the links should have, by name, or by what one that is not there is found by. A link that is not here is left
/// alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// The links that somebody wants.
    pub links: BTreeMap<String, DesiredLink>,
    /// The links that the kernel is to make.
    pub made: BTreeMap<String, Form>,
    /// The routing rules.
    pub rules: Vec<Rule>,
}

/// What a link should have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DesiredLink {
    /// Its largest packet; none for what its driver chose.
    pub mtu: Option<u32>,
    /// Its addresses.
    pub addresses: Vec<Cidr>,
    /// Those of IPv4 that other machines are asked for: somebody wrote them down, and nobody has looked yet whose they are.
    pub fixed: Vec<Ipv4Addr>,
    /// Those of its addresses that are not to be on it now.
    pub withheld: Vec<(Cidr, Withheld)>,
    /// Its routes.
    pub routes: Vec<DesiredRoute>,
    /// Whether a DHCP agent works on it, and what is taken from a server.
    pub dhcp4: Option<Dhcp4>,
    /// Whether a DHCPv6 agent works on it, and what is asked of a server.
    pub dhcp6: Option<Dhcp6>,
    /// Why that is so.
    pub why6: Why,
    /// Whether the kernel is to take nothing of what routers advertise.
    pub ignores_routers: bool,
    /// Which network of another link's prefix it has.
    pub delegation: Option<Delegation>,
    /// The link that it is in.
    pub master: Option<String>,
    /// The link that it uses whenever it can, of those that are in it.
    pub primary: Option<String>,
    /// The VLANs that it should be in; none where it is no bridge that looks at tags and in none.
    pub vlans: Option<Vlans>,
    /// The name of the document that says so; empty where none does.
    pub document: String,
}

/// A route that a link should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredRoute {
    /// The network it leads to.
    pub to: Cidr,
    /// The next router; none for what is on the link itself.
    pub via: Option<IpAddr>,
    /// Lower is preferred.
    pub metric: u32,
    /// The table that it is in; none for that of the link's VRF, or else the main one.
    pub table: Option<u32>,
    /// The address that the machine's own packets have that take it.
    pub source: Option<IpAddr>,
    /// How it leads nowhere, if it does.
    pub nowhere: Option<RouteType>,
}

impl DesiredRoute {
    /// Whether the machine has the address that its packets are to have. The kernel takes no other one, and with IPv6 none that
    /// it still asks for.
    pub(crate) fn has_source(&self, observed: &Observed) -> bool {
        self.source.is_none_or(|source| {
            let usable = observed.addresses.iter().filter(|address| address.is_usable());
            usable.map(|address| address.cidr.address()).any(|address| address == source)
        })
    }
}

impl Desired {
    /// Puts what is wanted and leases together. Without any `Link` document every physical Ethernet link gets DHCP, and with
    /// those of a platform, every one that they leave out.
    #[must_use]
    pub fn derive<'a>(
        wanted: impl Into<Wanted<'a>>,
        dhcp: &BTreeMap<String, Dhcp>,
        links: &[Link],
    ) -> Desired {
        let wanted = wanted.into();
        let documents = wanted.links();
        let mut desired: BTreeMap<String, DesiredLink> = BTreeMap::new();
        for document in documents {
            // Of two for one link the first counts; whoever brings them is told.
            let wanted = || DesiredLink {
                delegation: document.delegated().map(|delegated| Delegation {
                    from: actual(delegated.from.as_str(), documents, links),
                    subnet: delegated.subnet,
                    addresses: Vec::new(),
                }),
                fixed: if wanted.gives_links() { Vec::new() } else { asked(document) },
                ..configured(document)
            };
            desired.entry(interface(document, links)).or_insert_with(wanted);
        }
        if wanted.others_by_dhcp() {
            for link in links.iter().filter(|link| link.physical && !link.backs_another(links)) {
                desired.entry(link.name.clone()).or_insert_with(|| DesiredLink {
                    dhcp4: Some(Dhcp4::default()),
                    ..DesiredLink::default()
                });
            }
        }
        let mut made = BTreeMap::new();
        for document in wanted.virtual_links() {
            let actual = |name: &str| actual(name, documents, links);
            virtual_link(document, actual, &mut desired);
            made.extend(virtual_link::made(document, actual));
        }
        for (name, link) in &mut desired {
            let heeds = !link.ignores_routers && !is_inside(link, &made);
            let heard = heeds.then(|| dhcp.get(name).and_then(|dhcp| dhcp.says));
            (link.dhcp6, link.why6) = dhcp6::decide(link.dhcp6.as_ref(), &link.addresses, heard);
            let Some(here) = links.iter().find(|one| one.name == *name) else { continue };
            let own_mtu = link.mtu.filter(|_| !wanted.gives_links());
            if let Some(dhcp) = dhcp.get(name) {
                lease(link, dhcp, here.index);
                lease6(link, dhcp);
                link.withhold(dhcp);
            }
            // What others ask for is had as far as the link can.
            let most = most(here, made.get(name), links);
            link.mtu = own_mtu.or_else(|| Some(link.mtu?.min(most)));
        }
        delegation::divide(&mut desired, dhcp);
        choose_tables(&mut desired, &made);
        drop_rivals(&mut desired);
        let rules = rules::derive(wanted.config, |name| named(name, documents, links));
        Desired { links: desired, made, rules }
    }

    /// What a link takes from a DHCP server, if one is asked there.
    pub fn takes(&self, link: &str) -> Option<&Dhcp4> {
        self.links.get(link)?.dhcp4.as_ref()
    }

    /// Whether it counts what the routers of a link advertise.
    pub fn heeds_routers(&self, link: &str) -> bool {
        self.links.get(link).is_some_and(|link| !link.ignores_routers)
    }

    /// What a link asks of a DHCPv6 server, if one is asked there.
    pub fn takes6(&self, link: &str) -> Option<&Dhcp6> {
        self.links.get(link)?.dhcp6.as_ref()
    }

    /// The links on which a DHCP agent should run, and what is taken there: those that are there, so that a link that comes back
    /// gets a new one.
    pub fn dhcp_links<'a>(
        &'a self,
        links: &'a [Link],
    ) -> impl Iterator<Item = (&'a Link, &'a Dhcp4)> {
        links.iter().filter_map(|link| Some((link, self.takes(&link.name)?)))
    }

    /// The links on which a DHCPv6 agent should run, and what it asks for.
    pub fn dhcp6_links<'a>(
        &'a self,
        links: &'a [Link],
    ) -> impl Iterator<Item = (&'a Link, &'a Dhcp6)> {
        links.iter().filter_map(|link| Some((link, self.takes6(&link.name)?)))
    }
}

/// The name of the link that a document is for. What it is found by stands for a link that is not there: no link can be called
/// so.
pub fn interface(document: &stele_config::Link, links: &[Link]) -> String {
    match (document.matched(), found(document, links)) {
        (Some(matched), None) => matched.to_string(),
        (_, Some(name)) => name,
        (None, None) => document.name().to_string(),
    }
}

/// The name of the link that a document is for, unless that is to be found and is not there.
fn found(document: &stele_config::Link, links: &[Link]) -> Option<String> {
    let Some(matched) = document.matched() else { return Some(document.name().to_string()) };
    let mut fitting = links.iter().filter(|link| matched.fits(&link.device));
    // Bridges, bonds and VLANs have the address of what is below them.
    let found = fitting.clone().find(|link| link.physical && !link.backs_another(links));
    found.or_else(|| fitting.next()).map(|link| link.name.clone())
}

/// The name of the link that documents call so: what a `Link` is for, or else the link itself.
fn actual(name: &str, documents: &[stele_config::Link], links: &[Link]) -> String {
    let document = documents.iter().find(|document| document.name().as_str() == name);
    document.map_or_else(|| name.to_owned(), |document| interface(document, links))
}

/// The same for who may only name what can be there: none while that which a `Link` is for is not.
#[must_use]
pub fn named(name: &str, documents: &[stele_config::Link], links: &[Link]) -> Option<String> {
    let document = documents.iter().find(|document| document.name().as_str() == name);
    document.map_or_else(|| Some(name.to_owned()), |document| found(document, links))
}

/// What becomes of other links with one that the kernel makes: it is up, and so is what it is on and what is in it.
fn virtual_link(
    document: &VirtualLink,
    actual: impl Fn(&str) -> String,
    desired: &mut BTreeMap<String, DesiredLink>,
) {
    for name in document.makes().chain(document.parent()) {
        desired.entry(actual(name.as_str())).or_default();
    }
    for member in document.members() {
        let member = desired.entry(actual(member.as_str())).or_default();
        member.master = Some(document.name().to_string());
        // No document says that it should; those in a VRF are what they were.
        if member.document.is_empty() && !matches!(document, VirtualLink::Vrf(_)) {
            member.dhcp4 = None;
        }
    }
    match document {
        VirtualLink::Bridge(bridge) => {
            for (name, vlans) in vlans::of_bridge(bridge) {
                desired.entry(actual(name)).or_default().vlans = Some(vlans);
            }
        }
        VirtualLink::Bond(bond) => {
            let primary = bond.primary().map(|primary| actual(primary.as_str()));
            desired.entry(document.name().to_string()).or_default().primary = primary;
        }
        VirtualLink::Dummy(_)
        | VirtualLink::Veth(_)
        | VirtualLink::Vlan(_)
        | VirtualLink::Vrf(_)
        | VirtualLink::WireGuard(_) => {}
    }
}

fn configured(document: &stele_config::Link) -> DesiredLink {
    let default = |to: Cidr| if to.address().is_ipv4() { 0 } else { IPV6_METRIC };
    let route = |route: &stele_config::Route| DesiredRoute {
        to: route.to.network(),
        via: route.via,
        // IPv6 has no metric 0: the kernel makes it the default.
        metric: route
            .metric
            .filter(|metric| *metric != 0 || route.to.address().is_ipv4())
            .unwrap_or_else(|| default(route.to)),
        table: route.table.map(Table::number),
        source: route.source,
        nowhere: route.leads,
    };
    DesiredLink {
        mtu: document.mtu(),
        addresses: document.addresses().to_vec(),
        fixed: Vec::new(),
        withheld: Vec::new(),
        routes: document.routes().iter().map(route).collect(),
        dhcp4: document.dhcp4().cloned(),
        // As it is written; whether it is heeded is decided later.
        dhcp6: document.dhcp6().cloned(),
        why6: Why::default(),
        ignores_routers: document.ignores_routers(),
        delegation: None,
        master: None,
        primary: None,
        vlans: None,
        document: document.name().to_string(),
    }
}

/// The addresses of a document that other machines are asked for.
fn asked(document: &stele_config::Link) -> Vec<Ipv4Addr> {
    let addresses = document.addresses().iter().filter(|_| document.detects_conflicts());
    let four = addresses.filter_map(|cidr| match cidr.address() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    four.collect()
}

/// Whether a link is a part of another one, which then speaks for it. Those in a VRF speak for themselves.
fn is_inside(link: &DesiredLink, made: &BTreeMap<String, Form>) -> bool {
    let whole = link.master.as_ref().and_then(|master| made.get(master));
    whole.is_some_and(|whole| !matches!(whole, Form::Vrf { .. }))
}

/// The largest MTU that a link can have: a device has its own, a VLAN that of the link below it.
fn most(link: &Link, form: Option<&Form>, links: &[Link]) -> u32 {
    let below = match form {
        Some(Form::Vlan { link, .. }) => links.iter().find(|one| one.name == *link),
        Some(_) | None => None,
    };
    let limits = link.max_mtu.into_iter().chain(below.map(|below| below.mtu));
    limits.min().unwrap_or(u32::MAX)
}

/// Adds what a lease brings; the configuration comes first.
fn lease(link: &mut DesiredLink, dhcp: &Dhcp, index: u32) {
    let (Some(lease), Some(takes)) = (&dhcp.four.lease, &link.dhcp4) else { return };
    let (takes_routes, metric) = (takes.routes, takes.metric);
    link.mtu = link.mtu.or_else(|| lease.mtu());
    if !link.addresses.contains(&lease.address()) {
        link.addresses.push(lease.address());
    }
    if !takes_routes {
        return;
    }
    let metric = metric.unwrap_or_else(|| DHCP_METRIC.saturating_add(index));
    link.routes.extend(lease.routes().iter().map(|(to, via)| DesiredRoute {
        to: *to,
        via: *via,
        metric,
        table: None,
        source: None,
        nowhere: None,
    }));
}

/// Adds what a lease of DHCPv6 brings: addresses alone, for routes are what routers advertise.
fn lease6(link: &mut DesiredLink, dhcp: &Dhcp) {
    let (Some(lease), Some(_)) = (&dhcp.six.lease, &link.dhcp6) else { return };
    for address in lease.addresses() {
        if !link.addresses.iter().any(|own| own.address() == address.address()) {
            link.addresses.push(*address);
        }
    }
}

/// Puts the routes of links in a VRF, and of the VRF itself, into its table.
fn choose_tables(links: &mut BTreeMap<String, DesiredLink>, made: &BTreeMap<String, Form>) {
    for (name, link) in links {
        let table = match made.get(link.master.as_ref().unwrap_or(name)) {
            Some(Form::Vrf { table }) => *table,
            Some(_) | None => Table::MAIN.number(),
        };
        for route in &mut link.routes {
            route.table.get_or_insert(table);
        }
    }
}

/// Of several routes to one network with one metric the first stays: the kernel has room for one only.
fn drop_rivals(links: &mut BTreeMap<String, DesiredLink>) {
    let mut taken = BTreeSet::new();
    for link in links.values_mut() {
        link.routes.retain(|route| taken.insert((route.to, route.metric, route.table)));
    }
}
