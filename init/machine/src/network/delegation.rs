// SPDX-License-Identifier: Apache-2.0
//! Networks for links, out of the prefixes that others were given by DHCPv6 (RFC 7084, section 4.3).

use super::{
    desired::{DesiredLink, DesiredRoute},
    lease::Dhcp,
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};
use stele_config::{Cidr, Dhcp6, RouteType};

/// The length of a network's prefix.
const NETWORK: u8 = 64;
/// What we are in each network.
const HOST: u128 = 1;
/// Whoever has another route to the same network is preferred.
pub const LAST: u32 = u32::MAX;

/// A network of another link's prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegation {
    /// The link by which the prefix comes.
    pub from: String,
    /// Which network, from 0.
    pub subnet: u32,
    /// The addresses that follow: one for each prefix that holds.
    pub addresses: Vec<Cidr>,
}

impl DesiredLink {
    /// Whether an address of it is out of a prefix that another link was given.
    #[must_use]
    pub fn has_delegated(&self, address: &Cidr) -> bool {
        self.delegation.as_ref().is_some_and(|it| it.addresses.contains(address))
    }
}

/// Gives each link its part of the prefixes, and has the rest lead nowhere: routers send all of a prefix here, and here is the
/// way back to them.
pub(super) fn divide(links: &mut BTreeMap<String, DesiredLink>, dhcp: &BTreeMap<String, Dhcp>) {
    let asks = |link: &DesiredLink| link.dhcp6.as_ref().and_then(Dhcp6::prefix).is_some();
    let prefixes: BTreeMap<String, Vec<Cidr>> = (links.iter())
        .filter(|(_, link)| asks(link))
        .filter_map(|(name, _)| {
            Some((name.clone(), dhcp.get(name)?.six.lease.as_ref()?.prefixes().to_vec()))
        })
        .collect();
    for (name, link) in links {
        // One that is a network itself is whole the link's that has it.
        let wide = prefixes.get(name).into_iter().flatten().filter(|it| it.prefix() < NETWORK);
        link.routes.extend(wide.map(|prefix| unreachable(*prefix)));
        let Some(delegation) = &mut link.delegation else { continue };
        let given = prefixes.get(&delegation.from).into_iter().flatten();
        delegation.addresses =
            given.filter_map(|prefix| address(*prefix, delegation.subnet)).collect();
        for address in &delegation.addresses {
            if !link.addresses.contains(address) {
                link.addresses.push(*address);
            }
        }
    }
}

fn unreachable(to: Cidr) -> DesiredRoute {
    let nowhere = Some(RouteType::Unreachable);
    DesiredRoute { to, via: None, metric: LAST, table: None, source: None, nowhere }
}

/// Our address in a network of a prefix, if the prefix has it.
fn address(prefix: Cidr, subnet: u32) -> Option<Cidr> {
    let IpAddr::V6(first) = prefix.address() else { return None };
    let bits = NETWORK.checked_sub(prefix.prefix())?;
    let fits = u64::from(subnet).checked_shr(bits.into()).unwrap_or_default() == 0;
    let network = first.to_bits() | u128::from(subnet) << NETWORK;
    Cidr::new(Ipv6Addr::from_bits(network | HOST).into(), NETWORK).filter(|_| fits)
}

/// Why a link does not have the network that it should have.
pub(super) fn lack(link: &DesiredLink, dhcp: &BTreeMap<String, Dhcp>) -> Option<String> {
    let Delegation { from, subnet, addresses } = link.delegation.as_ref()?;
    if !addresses.is_empty() {
        return None;
    }
    let lease = dhcp.get(from).and_then(|dhcp| dhcp.six.lease.as_ref());
    let Some(lease) = lease else { return Some(format!("Waiting for the prefix of {from}")) };
    let Some(prefix) = lease.prefixes().first() else {
        return Some(format!("The server that {from} asks gives no prefix"));
    };
    let bits = NETWORK.saturating_sub(prefix.prefix());
    let last = 1_u64.checked_shl(bits.into()).unwrap_or_default().saturating_sub(1);
    Some(match last {
        0 => {
            format!("The prefix of {from} is {prefix}, which has the network 0 alone, not {subnet}")
        }
        _ => format!(
            "The prefix of {from} is {prefix}, which has the networks 0 to {last}, not {subnet}"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::{Delegation, address, lack};
    use crate::network::{
        desired::DesiredLink,
        lease::{Dhcp, Report},
        lease6::{Claim6, Lease6},
    };
    use std::{collections::BTreeMap, time::Duration};

    #[test]
    fn a_prefix_has_as_many_networks_as_fit_into_it() {
        let address = |prefix: &str, subnet| {
            let prefix = prefix.parse().expect("a prefix");
            address(prefix, subnet).map(|address| address.to_string())
        };
        let is = |text: &str| Some(text.to_owned());
        assert_eq!(address("2001:db8:0:ff00::/56", 0), is("2001:db8:0:ff00::1/64"));
        assert_eq!(address("2001:db8:0:ff00::/56", 255), is("2001:db8:0:ffff::1/64"));
        assert_eq!(address("2001:db8:0:ff00::/56", 256), None);
        assert_eq!(address("2001:db8::/64", 0), is("2001:db8::1/64"));
        assert_eq!(address("2001:db8::/64", 1), None);
        assert_eq!(address("2001::/16", u32::MAX), is("2001:0:ffff:ffff::1/64"));
        assert_eq!(address("8000::/1", u32::MAX), is("8000:0:ffff:ffff::1/64"));
        assert_eq!(address("2001:db8::/65", 0), None);
        assert_eq!(address("192.0.2.0/24", 0), None);
    }

    #[test]
    fn a_link_says_why_it_has_no_network() {
        let link = |addresses| {
            let delegation = Some(Delegation { from: "eth0".to_owned(), subnet: 16, addresses });
            DesiredLink { delegation, ..DesiredLink::default() }
        };
        let after = |prefixes: &[&str]| {
            let network = |text: &&str| {
                let (address, length) = text.split_once('/').expect("a length");
                (address.parse().expect("an address"), length.parse().expect("a number"))
            };
            let prefixes = prefixes.iter().map(network).collect();
            let claim = Claim6 { prefixes, seconds: 60, ..Claim6::default() };
            let mut dhcp = Dhcp::default();
            dhcp.six.hear(Report::Leased(Lease6::from(claim)), Duration::ZERO);
            lack(&link(vec![]), &BTreeMap::from([("eth0".to_owned(), dhcp)]))
                .expect("something is missing")
        };
        let waits = lack(&link(vec![]), &BTreeMap::new());
        assert_eq!(waits.as_deref(), Some("Waiting for the prefix of eth0"));
        assert_eq!(after(&[]), "The server that eth0 asks gives no prefix");
        assert_eq!(
            after(&["2001:db8::/60"]),
            "The prefix of eth0 is 2001:db8::/60, which has the networks 0 to 15, not 16"
        );
        assert_eq!(
            after(&["2001:db8::/64"]),
            "The prefix of eth0 is 2001:db8::/64, which has the network 0 alone, not 16"
        );
        let has = vec!["2001:db8::1/64".parse().expect("an address")];
        assert_eq!(lack(&link(has), &BTreeMap::new()), None);
    }
}
