// SPDX-License-Identifier: Apache-2.0
//! A network of the prefix that another link asks for.

use super::Link;
use crate::InterfaceName;
use crate::node::Node;
use crate::record::{Check, did_you_mean, record};
use crate::report::Report;

record! {
    /// A network of 64 bits out of the prefix that a DHCPv6 server gives the machine by another link. The interface has its
    /// first address, `::1`, for as long as the server lets it. What of a prefix no interface has is unreachable, so that
    /// nothing goes in a circle.
    ///
    /// The machine forwards packets with the `Sysctl` `net.ipv6.conf.all.forwarding`, and then heeds routers on an interface
    /// with `net.ipv6.conf.INTERFACE.accept_ra` of 2 alone.
    pub struct Delegated as "Delegated" {
        /// The name of the `Link` with `dhcp6.prefix`.
        pub from: InterfaceName,
        /// Which network of the prefix, from 0. No other `Link` has it.
        pub subnet: u32,
    }
}

impl Check for Delegated {}

/// Says of a link, whose document is at `node`, that another has its network.
pub(super) fn check_beside(link: &Link, other: &Link, node: &Node, report: &mut Report) {
    if link.delegated.is_none() || link.delegated != other.delegated {
        return;
    }
    let message = format!("Link {} has it", other.name);
    let Some(entry) = node.entry("delegated") else { return };
    report.at("delegated", |report| {
        report.find_at(&entry.value, "subnet", message, "another network for each");
    });
}

/// Says which links take a network from where there is none.
pub(crate) fn check_together(links: &[(Link, u32)], report: &mut Report) {
    report.enter(0);
    for (link, line) in links {
        let Some(Delegated { from, .. }) = &link.delegated else { continue };
        let found = links.iter().find(|(other, _)| other.name == *from);
        let message = match found {
            // RFC 8415, section 18.2.10.1.
            Some(_) if link.name == *from => {
                "an interface can't have a network of the prefix that it asks for".to_owned()
            }
            Some((other, _)) if other.asks_prefix() => continue,
            Some(_) => format!("Link {from} asks for no prefix"),
            None => {
                let names: Vec<&str> = links.iter().map(|(link, _)| link.name.as_str()).collect();
                format!("there is no Link {from}{}", did_you_mean(from.as_str(), &names))
            }
        };
        let message = format!("of Link {}: {message}", link.name);
        report.at("delegated", |report| {
            report.at("from", |report| {
                report.find(*line, message, "the name of another Link, one with dhcp6.prefix");
            });
        });
    }
}
