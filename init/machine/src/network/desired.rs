// SPDX-License-Identifier: Apache-2.0
//! What the links should have, by configuration and leases.

use super::{Link, lease::Dhcp};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};
use stele_config::{Cidr, MachineConfig};

/// The metric of routes that came by DHCP, to which the index of the link is added: of two links the first is preferred, and
/// a configured route over both.
pub const DHCP_METRIC: u32 = 1024;

/// The metric that the kernel gives an IPv6 route without one.
const IPV6_METRIC: u32 = 1024;

/// What the links should have, by name. A link that is not here is left alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// The links that somebody wants.
    pub links: BTreeMap<String, DesiredLink>,
}

/// What a link should have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DesiredLink {
    /// Its largest packet; none for what its driver chose.
    pub mtu: Option<u32>,
    /// Its addresses.
    pub addresses: Vec<Cidr>,
    /// Its routes.
    pub routes: Vec<DesiredRoute>,
    /// Whether a DHCP agent works on it.
    pub dhcp4: bool,
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
}

impl Desired {
    /// Puts configuration and leases together. Without configuration, or without a `Link` document in it, every physical
    /// Ethernet link gets DHCP.
    #[must_use]
    pub fn derive(
        config: Option<&MachineConfig>,
        dhcp: &BTreeMap<String, Dhcp>,
        links: &[Link],
    ) -> Desired {
        let documents = config.map(MachineConfig::links).unwrap_or_default();
        let mut desired: BTreeMap<String, DesiredLink> = if documents.is_empty() {
            let automatic = || DesiredLink { dhcp4: true, ..DesiredLink::default() };
            links
                .iter()
                .filter(|link| link.physical)
                .map(|link| (link.name.clone(), automatic()))
                .collect()
        } else {
            documents
                .iter()
                .map(|document| (document.name().as_str().to_owned(), configured(document)))
                .collect()
        };
        for (name, link) in desired.iter_mut().filter(|(_, link)| link.dhcp4) {
            let index = links.iter().find(|one| one.name == *name).map(|one| one.index);
            if let (Some(index), Some(dhcp)) = (index, dhcp.get(name)) {
                lease(link, dhcp, index);
            }
        }
        drop_rivals(&mut desired);
        Desired { links: desired }
    }

    /// The links on which a DHCP agent should run: those that are there, so that a link that comes back gets a new one.
    pub fn dhcp_links<'a>(&'a self, links: &'a [Link]) -> impl Iterator<Item = &'a Link> {
        links.iter().filter(|link| self.links.get(&link.name).is_some_and(|desired| desired.dhcp4))
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
    };
    DesiredLink {
        mtu: document.mtu(),
        addresses: document.addresses().to_vec(),
        routes: document.routes().iter().map(route).collect(),
        dhcp4: document.dhcp4(),
    }
}

/// Adds what a lease brings; the configuration comes first.
fn lease(link: &mut DesiredLink, dhcp: &Dhcp, index: u32) {
    let Some(lease) = &dhcp.lease else { return };
    link.mtu = link.mtu.or_else(|| lease.mtu());
    if !link.addresses.contains(&lease.address()) {
        link.addresses.push(lease.address());
    }
    let metric = DHCP_METRIC.saturating_add(index);
    link.routes.extend(lease.routes().iter().map(|(to, via)| DesiredRoute {
        to: *to,
        via: *via,
        metric,
    }));
}

/// Of several routes to one network with one metric the first stays: the kernel has room for one only.
fn drop_rivals(links: &mut BTreeMap<String, DesiredLink>) {
    let mut taken = BTreeSet::new();
    for link in links.values_mut() {
        link.routes.retain(|route| taken.insert((route.to, route.metric)));
    }
}
