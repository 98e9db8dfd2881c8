// SPDX-License-Identifier: Apache-2.0
//! What agents have said of each link: leases, what routers advertise, and who else has an address.

use super::{
    acd::{self, Acd, Finding},
    now,
    routers::Routers,
};
use crate::node::Node;
use std::{collections::BTreeMap, time::Duration};
use stele_config::Cidr;
use stele_machine::network::{
    Observed,
    advertised::{Advertised, Advertisement},
    desired::Desired,
    lease::{Dhcp, Held, Lasts as _, Lease, Report},
    lease6::Lease6,
};

/// What is known by them.
#[derive(Default)]
pub(super) struct Heard {
    /// By the name of the link.
    pub(super) links: BTreeMap<String, Dhcp>,
    /// The names of the links, by index.
    names: BTreeMap<u32, String>,
}

impl Heard {
    /// Takes what an agent says, unless its link has gone meanwhile.
    pub(super) fn hear(&mut self, node: &Node, link: &str, report: Report<Lease>) {
        let Some(Dhcp { four: dhcp, .. }) = self.links.get_mut(link) else { return };
        if let Report::Leased(lease) = &report
            && let Some(server) = lease.server()
        {
            node.dhcp_servers.borrow_mut().insert(link.to_owned(), server);
        }
        match &report {
            Report::Leased(lease) if dhcp.lease.as_ref() != Some(lease) => {
                let (address, server) =
                    (lease.address().to_string(), lease.server().map(|server| server.to_string()));
                tracing::info!(
                    link.name = link,
                    lease.address = address,
                    lease.server = server,
                    "got a lease"
                );
            }
            Report::Lost(reason) => tracing::warn!(link.name = link, reason, "lost the lease"),
            Report::Leased(_) | Report::Waiting(_) => {}
        }
        dhcp.hear(report, now());
    }

    /// The same of an agent of DHCPv6.
    pub(super) fn hear6(&mut self, link: &str, report: Report<Lease6>) {
        let Some(Dhcp { six: dhcp, .. }) = self.links.get_mut(link) else { return };
        match &report {
            Report::Leased(lease) if !dhcp.lease.as_ref().is_some_and(|old| lease.renews(old)) => {
                let text =
                    |all: &[Cidr]| all.iter().map(Cidr::to_string).collect::<Vec<_>>().join(" ");
                let (addresses, prefixes) = (text(lease.addresses()), text(lease.prefixes()));
                tracing::info!(
                    link.name = link,
                    lease.address = addresses,
                    lease.prefixes = prefixes,
                    lease.server = lease.server(),
                    "got a lease of DHCPv6"
                );
            }
            Report::Lost(reason) => {
                tracing::warn!(link.name = link, reason, "lost the lease of DHCPv6");
            }
            Report::Leased(_) | Report::Waiting(_) => {}
        }
        dhcp.hear(report, now());
    }

    /// Takes what routers advertise, and all of it that waits, where its link is one that somebody wants. Returns whether
    /// there is anything new in it.
    pub(super) fn heed(&mut self, heard: (u32, Advertisement), routers: &mut Routers) -> bool {
        let (mut next, mut new) = (Some(heard), false);
        while let Some((link, heard)) = next {
            let name = self.names.get(&link);
            if let Some(dhcp) = name.and_then(|name| self.links.get_mut(name)) {
                new |= dhcp.routers.hear(&heard, now());
            }
            next = routers.waiting();
        }
        new
    }

    /// Takes what is found out about fixed addresses, all of it that waits. Returns whether there is anything new in it.
    pub(super) fn find(&mut self, found: Finding, acd: &mut Acd) -> bool {
        let (mut next, mut new) = (Some(found), false);
        while let Some(found) = next {
            new |= found.take(&self.names, &mut self.links, now());
            next = acd.waiting();
        }
        new
    }

    /// A configuration has come: it does not answer for what was asked for before.
    pub(super) fn forgive(&mut self) {
        self.links.values_mut().for_each(|link| link.acd.forgive());
    }

    /// When something that was said holds no longer.
    pub(super) fn leases_until(&self) -> Option<Duration> {
        let ends = |link: &Dhcp| [link.four.until, link.six.until, link.routers.until()];
        let first = self.links.values().flat_map(ends).flatten().min();
        // A moment more, so that it has ended by then.
        first.map(|until| until.saturating_add(Duration::from_millis(10)))
    }

    /// Until when others are waited for who may have an address.
    pub(super) fn asked_until(&self) -> Option<Duration> {
        self.links.values().filter_map(|link| link.acd.until()).min()
    }

    /// A link that has gone, or has no DHCP any more, has no lease either; nor is a lease kept beyond its end.
    pub(super) fn settle(&mut self, desired: &Desired, observed: &Observed) {
        self.names = observed.links.iter().map(|link| (link.index, link.name.clone())).collect();
        let wanted = |name: &str| desired.links.contains_key(name);
        self.links.retain(|name, _| observed.link(name).is_some() && wanted(name));
        for link in observed.links.iter().filter(|link| wanted(&link.name)) {
            let Dhcp { four, six, routers, says, acd } =
                self.links.entry(link.name.clone()).or_default();
            acd::settle(acd, link, desired, observed, now());
            // A link without a carrier keeps what was advertised, as the kernel does: nothing asks the routers again when it
            // comes back.
            if desired.heeds_routers(&link.name) {
                *says = link.says.max(*says);
            } else {
                (*routers, *says) = (Advertised::default(), None);
            }
            routers.expire(now());
            if desired.takes(&link.name).is_none() {
                *four = Held::default();
            }
            if desired.takes6(&link.name).is_none() {
                *six = Held::default();
            }
            if four.expire(now()) | six.expire(now()) {
                tracing::warn!(
                    link.name = link.name,
                    "a lease has ended without having been renewed"
                );
            }
        }
    }
}
