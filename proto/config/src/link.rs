// SPDX-License-Identifier: Apache-2.0
//! A network link: how one interface is set up.

pub(crate) mod delegated;
mod dhcp6;
mod router_advertisements;
mod v1;

use crate::integer::Integer;
use crate::list::List;
use crate::node::Node;
use crate::record::{Check, record};
use crate::report::Report;
use crate::{Cidr, ClientId, Device, DevicePath, Hostname, InterfaceName, Mac, ModuleName, Route};
pub use delegated::Delegated;
pub use dhcp6::{Dhcp6, Dhcp6Start};
pub use router_advertisements::RouterAdvertisements;
use std::fmt;
pub(crate) use v1::LinkV1;

record! {
    /// How one network interface is set up: by DHCP, with fixed addresses, or both.
    ///
    /// A configuration has one document for each interface that it wants up. Interfaces that no document is for stay
    /// down. A configuration without any `Link` document has the network that the kernel command line or else its platform
    /// describes, and without such a word, or where the platform has none for it, DHCP on every physical Ethernet interface.
    ///
    /// A configuration is refused, unless it is applied with `--confirm-within`, that takes the address from an interface to which
    /// whoever applies it is connected: where no document names the address, and none has a server asked for one there.
    pub struct Link as "Link" {
        /// The name of the interface; with `match`, of the document. Each has at most one document.
        name: InterfaceName,
        /// Which interface it is, whatever its name.
        matched as "match": Option<LinkMatch>,
        /// The largest packet in bytes. Without it, what DHCP says, or else what the driver has. 1280 is the least that
        /// IPv6 works with.
        mtu: Option<Integer<1280, 9216>>,
        /// Get an IPv4 address by DHCP, and what else a server says: `dhcp4: {}` takes all of it.
        dhcp4: Option<Dhcp4>,
        /// Get an IPv6 address by DHCPv6, and what else a server says: `dhcp6: {}` takes all of it. Without it, a server is
        /// asked once a router advertises that there is one: for an address (its flag Managed) unless the document has a
        /// fixed IPv6 address, or else for the rest alone (its flag Other).
        dhcp6: Option<Dhcp6>,
        /// Whether IPv6 addresses, routes and name servers are taken that routers advertise. Without it, they are.
        router_advertisements as "routerAdvertisements": Option<RouterAdvertisements>,
        /// Get a network of the prefix that a DHCPv6 server gives the machine by another link.
        delegated: Option<Delegated>,
        /// Fixed addresses, IPv4 or IPv6, each with the prefix length of its network. One that another machine on the link has
        /// is not taken: a configuration that brings it is taken back, and a machine that starts with it says so in the state
        /// of the link. For IPv4 (RFC 5227) finding out takes half a second, and is tried again until the other one has left.
        addresses: List<Cidr, 0, 64>,
        /// Whether other machines are asked for the fixed IPv4 addresses before those are used, and heard later. Without it,
        /// they are; `false` is for networks with a router that answers for every address (proxy ARP).
        conflict_detection as "conflictDetection": Option<bool>,
        /// Fixed routes.
        routes: List<Route, 0, 256>,
    }
}

record! {
    /// Which interface a document is for: the one for which all of this holds. Of several, one with a device behind it
    /// comes first, then the first that there was.
    pub struct LinkMatch as "LinkMatch" {
        /// It was made with this hardware address, whatever it has while it is in a bond. One that was made with none, as
        /// those that the kernel makes, has this address.
        pub mac: Option<Mac>,
        /// It is this PCI device: its domain, bus, device and function.
        pub path: Option<DevicePath>,
        /// It has this driver, as `ctl get link -o yaml` shows it.
        pub driver: Option<ModuleName>,
    }
}

record! {
    /// What is taken from a DHCP server besides the address, and what it is told of the machine.
    pub struct Dhcp4 as "Dhcp4" {
        /// The metric of the routes. Without it, one that prefers the first of several interfaces, and fixed routes to
        /// all of them.
        pub metric: Option<u32>,
        /// Take the routes.
        pub routes: bool = true,
        /// Take the name servers.
        pub dns: bool = true,
        /// Take the search domains. Without it, as `dns` says.
        pub search: Option<bool>,
        /// Take the time servers.
        pub time: bool = true,
        /// The name that the server is told, in place of that of `Hostname`.
        pub hostname: Option<Hostname>,
        /// Whether the server is told a name. Without it, it is if there is one, by `hostname` or `Hostname`; with `true` also
        /// the one that the machine makes of its hardware address.
        pub send_hostname as "sendHostname": Option<bool>,
        /// By what the server knows the machine: `mac`, the hardware address of the interface; `duid`, the same as DHCPv6
        /// servers do (RFC 4361); or bytes in hexadecimal, the first of them the type. Without it, `mac`.
        pub client_id as "clientId": Option<ClientId>,
    }
}

impl Dhcp4 {
    /// Whether the search domains are taken.
    #[must_use]
    pub fn takes_search(&self) -> bool {
        self.search.unwrap_or(self.dns)
    }
}

impl Link {
    /// The name of the interface, or of the document alone.
    #[must_use]
    pub fn name(&self) -> &InterfaceName {
        &self.name
    }

    /// By what the interface is found, whatever its name.
    #[must_use]
    pub fn matched(&self) -> Option<&LinkMatch> {
        self.matched.as_ref()
    }

    /// The largest packet in bytes, where it is set.
    #[must_use]
    pub fn mtu(&self) -> Option<u32> {
        self.mtu.map(Integer::value)
    }

    /// What is taken from a DHCP server, if it is asked.
    #[must_use]
    pub fn dhcp4(&self) -> Option<&Dhcp4> {
        self.dhcp4.as_ref()
    }

    /// What is asked of a DHCPv6 server, and when, where that is set.
    #[must_use]
    pub fn dhcp6(&self) -> Option<&Dhcp6> {
        self.dhcp6.as_ref()
    }

    /// Whether nothing is taken of what routers advertise.
    #[must_use]
    pub fn ignores_routers(&self) -> bool {
        self.router_advertisements == Some(RouterAdvertisements::Ignore)
    }

    /// Which network of another link's prefix it has.
    #[must_use]
    pub fn delegated(&self) -> Option<&Delegated> {
        self.delegated.as_ref()
    }

    /// Whether it asks for a prefix, of which others may have networks.
    fn asks_prefix(&self) -> bool {
        let asks = |dhcp6: &Dhcp6| dhcp6.prefix().is_some() && dhcp6.start() != Dhcp6Start::Never;
        self.dhcp6.as_ref().is_some_and(asks)
    }

    /// Its fixed addresses.
    #[must_use]
    pub fn addresses(&self) -> &[Cidr] {
        &self.addresses
    }

    /// Whether other machines are asked for its fixed IPv4 addresses.
    #[must_use]
    pub const fn detects_conflicts(&self) -> bool {
        !matches!(self.conflict_detection, Some(false))
    }

    /// Its fixed routes.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    pub(crate) fn find_by(&mut self, found: LinkMatch) {
        self.matched = Some(found);
    }

    /// Whether it gives the interface neither addresses nor DHCP.
    pub(crate) fn is_bare(&self) -> bool {
        let dhcp6 = self.dhcp6.as_ref().is_some_and(|dhcp6| dhcp6.start() != Dhcp6Start::Never);
        self.addresses.is_empty() && self.dhcp4.is_none() && !dhcp6 && self.delegated.is_none()
    }

    /// Says that another document is for the same interface.
    pub(crate) fn check_beside(&self, other: &Link, node: &Node, report: &mut Report) {
        if self.matched.is_some() && self.matched == other.matched {
            let message = format!("Link {} is for the same interface", other.name);
            report.find_at(node, "match", message, "one Link for each interface");
        }
        delegated::check_beside(self, other, node, report);
    }
}

impl Default for Dhcp4 {
    fn default() -> Dhcp4 {
        Dhcp4 {
            metric: None,
            routes: true,
            dns: true,
            search: None,
            time: true,
            hostname: None,
            send_hostname: None,
            client_id: None,
        }
    }
}

impl Check for Link {
    fn check(&self, node: &Node, report: &mut Report) {
        check_addresses(&self.addresses, node, report);
        let waits = |dhcp6: &Dhcp6| dhcp6.start() == Dhcp6Start::Advertised;
        if self.ignores_routers() && self.dhcp6.as_ref().is_some_and(waits) {
            let message = "DHCPv6 starts when a router says so, and none is heeded";
            report.find_at(node, "routerAdvertisements", message, "accept");
        }
    }
}

impl LinkMatch {
    /// Whether all of it holds for a device.
    #[must_use]
    pub fn fits(&self, device: &Device) -> bool {
        let LinkMatch { mac, path, driver } = self;
        (mac.is_none() || *mac == device.mac)
            && (path.is_none() || *path == device.path)
            && (driver.is_none() || *driver == device.driver)
    }
}

/// No interface can be called so.
impl fmt::Display for LinkMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mac = self.mac.map(|mac| mac.to_string());
        let path = self.path.as_ref().map(ToString::to_string);
        let driver = self.driver.as_ref().map(|driver| format!("driver {driver}"));
        let all: Vec<String> = mac.into_iter().chain(path).chain(driver).collect();
        f.write_str(&all.join(", "))
    }
}

impl Check for LinkMatch {
    fn check(&self, node: &Node, report: &mut Report) {
        if *self == (LinkMatch { mac: None, path: None, driver: None }) {
            report.find(node.line, "there is nothing in it", "mac, path or driver");
        }
    }
}

impl Check for Dhcp4 {
    fn check(&self, node: &Node, report: &mut Report) {
        if let (Some(name), Some(false)) = (&self.hostname, self.send_hostname) {
            let message = format!("the server is told no name, and {name} is one to tell it");
            report.find_at(node, "sendHostname", message, "true, or no hostname");
        }
    }
}

fn check_addresses(addresses: &[Cidr], node: &Node, report: &mut Report) {
    for (index, address) in addresses.iter().map(Cidr::address).enumerate() {
        if address.is_unspecified() || address.is_multicast() {
            let message = format!("no interface can have {address}");
            report.find_item(node, ("addresses", index), message, "a unicast address");
        }
    }
}
