// SPDX-License-Identifier: Apache-2.0
//! From configuration and leases to addresses, routes, names and the resolver.
//!
//! ```text
//! MachineConfig ─┐                  ┌─ plan::plan ──► [Action]
//! Dhcp per link ─┼─ Desired::derive ┤
//! Links ─────────┘                  └─ status::status ──► why each link is as it is
//! ```
//!
//! * [`acd`]: whether a fixed IPv4 address is ours, or another machine has it.
//! * [`lease`], [`lease6`]: what a DHCP server gave, checked; and how long it holds.
//! * [`advertised`]: name servers that routers advertise.
//! * [`dhcp6`]: whether a DHCPv6 server is asked, and why.
//! * [`delegation`]: networks out of a prefix that a server gave.
//! * [`given`]: what others than the configuration say, fitted to the links that there are.
//! * [`desired`]: what the links should have.
//! * [`virtual_link`]: the links that the kernel makes, and what is in what.
//! * [`vlans`]: which VLANs the ports of a bridge are in.
//! * [`wireguard`]: the keys and peers of tunnels.
//! * [`lookups`]: the addresses of the other ends of tunnels that are known by name.
//! * [`plan`]: the steps from what they have to what they should have.
//! * [`rules`]: which packets are routed by which table.
//! * [`firewall`]: which packets the machine takes and sends.
//! * [`kept`]: whether the machine keeps an address that somebody has connected to.
//! * [`names`]: the host name, `/etc/hosts`, `/etc/resolv.conf`, and the addresses the node is reached at.
//! * [`status`]: each link's state, with its reason.
//!
//! Two promises: a plan is empty once its actions were applied, and no plan removes what we did not add.

pub mod acd;
pub mod advertised;
pub mod delegation;
pub mod desired;
pub mod dhcp6;
pub mod firewall;
#[cfg(test)]
mod fixture;
pub mod given;
pub mod kept;
pub mod lease;
pub mod lease6;
pub mod lookups;
pub mod names;
pub mod plan;
pub mod rules;
pub mod status;
pub mod usable;
pub mod virtual_link;
pub mod vlans;
pub mod wanted;
pub mod wireguard;

use dhcp6::Says;
use rules::Rule;
use std::net::IpAddr;
use stele_config::{Cidr, Device, RouteType};
use virtual_link::Form;
use vlans::Vlans;

/// What the kernel has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// The links, by index.
    pub links: Vec<Link>,
    /// The addresses of all links.
    pub addresses: Vec<Address>,
    /// The unicast routes.
    pub routes: Vec<Route>,
    /// The routing rules.
    pub rules: Vec<Rule>,
}

impl Observed {
    /// The link of a name.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }
}

/// A link as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address, when that is an Ethernet one.
    pub mac: Option<[u8; 6]>,
    /// What is behind it.
    pub device: Device,
    /// The largest packet it carries.
    pub mtu: u32,
    /// The largest packet it carried when it was first seen: what its driver chose.
    pub first_mtu: u32,
    /// The largest packet that it can carry, where its driver says so.
    pub max_mtu: Option<u32>,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it has a carrier; always false while it is down.
    pub carrier: bool,
    /// Whether it finds hardware addresses by ARP.
    pub arp: bool,
    /// Whether it is an Ethernet link with a device behind it.
    pub physical: bool,
    /// What the kernel made it as, where we make such links.
    pub form: Option<Form>,
    /// Whether we made it.
    pub ours: bool,
    /// The link that it is in.
    pub master: Option<u32>,
    /// The link that it uses whenever it can, if it is a bond that has such a one.
    pub primary: Option<u32>,
    /// The VLANs that it is in, where it is a bridge of ours that looks at tags, or in one.
    pub vlans: Option<Vlans>,
    /// What its routers say of DHCPv6.
    pub says: Option<Says>,
}

impl Link {
    /// Whether it is below another physical link, which speaks for it: the virtual function of a paravirtual card, as Azure has.
    #[must_use]
    pub fn backs_another(&self, links: &[Link]) -> bool {
        let master = links.iter().find(|link| Some(link.index) == self.master);
        self.physical && master.is_some_and(|master| master.physical)
    }
}

/// An address as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The link it is on.
    pub index: u32,
    /// The address, with its prefix length.
    pub cidr: Cidr,
    /// Whether we added it.
    pub ours: bool,
    /// Whether the kernel still looks for another machine that has it.
    pub tentative: bool,
    /// Whether the kernel found another machine that has it.
    pub duplicate: bool,
}

impl Address {
    /// Whether packets can have it as their source.
    pub(crate) fn is_usable(&self) -> bool {
        !self.tentative && !self.duplicate
    }
}

/// A route as the kernel has it, or should have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The network it leads to.
    pub to: Cidr,
    /// The next router; none for what is on the link itself.
    pub via: Option<IpAddr>,
    /// The link it goes through.
    pub index: u32,
    /// Lower is preferred.
    pub metric: u32,
    /// The router is on the link, whatever the addresses of the link say.
    pub onlink: bool,
    /// The table that it is in.
    pub table: u32,
    /// The address that the machine's own packets have that take it, where that is set.
    pub source: Option<IpAddr>,
    /// How it leads nowhere, if it does. Such a route is one of the loopback link.
    pub nowhere: Option<RouteType>,
    /// Whether we added it.
    pub ours: bool,
}

impl Route {
    /// Which way it leads; who added it and how the router was found is not looked at.
    pub(crate) fn key(&self) -> Way {
        Way {
            place: self.place(),
            via: self.via,
            index: self.index,
            source: self.source,
            nowhere: self.nowhere.map(RouteType::as_str),
        }
    }

    /// By what the kernel tells it apart: of those that agree in this it has room for one.
    pub(crate) fn place(&self) -> (Cidr, u32, u32) {
        (self.to, self.metric, self.table)
    }
}

/// Which way a route leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Way {
    place: (Cidr, u32, u32),
    via: Option<IpAddr>,
    index: u32,
    source: Option<IpAddr>,
    nowhere: Option<&'static str>,
}
