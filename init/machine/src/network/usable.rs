// SPDX-License-Identifier: Apache-2.0
//! Whether the addresses that we gave the links can be used.

use super::{Address, Link, Observed, desired::Desired, lease::Dhcp};
use std::collections::BTreeMap;
use stele_config::{Cidr, Mac};

/// How our addresses are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usable {
    /// They can be used.
    All,
    /// The kernel is still asking whether another machine has one of them, or a server has to find another one.
    NotYet,
    /// Another machine has this one.
    Never {
        /// The address.
        address: Cidr,
        /// The hardware address of that machine, where it is known.
        by: Option<Mac>,
    },
}

impl Usable {
    fn never(address: Cidr, by: Option<Mac>) -> Usable {
        Usable::Never { address, by }
    }
}

/// Judges. Of a leased address that another machine has, the agent tells the server, which then gives another one. What is out of a
/// prefix that another link was given is nobody's wish, and says nothing of a configuration; nor does a fixed IPv4 address that
/// was another machine's before the configuration came.
#[must_use]
pub fn usable(desired: &Desired, observed: &Observed, dhcp: &BTreeMap<String, Dhcp>) -> Usable {
    let unsure = || {
        let asked = |address: &&Address| address.ours && (address.duplicate || address.tentative);
        observed.addresses.iter().filter(asked).filter_map(|address| {
            let link = observed.links.iter().find(|link| link.index == address.index)?;
            let delegated =
                desired.links.get(&link.name).is_some_and(|link| link.has_delegated(&address.cidr));
            (!delegated).then_some((link, address))
        })
    };
    let leased = |(link, address): &(&Link, &Address)| {
        dhcp.get(&link.name).is_some_and(|dhcp| dhcp.six.gives(&address.cidr))
    };
    if let Some((_, address)) = unsure().find(|it| it.1.duplicate && !leased(it)) {
        return Usable::never(address.cidr, None);
    }
    let wanted = observed.links.iter().filter_map(|link| desired.links.get(&link.name));
    // What the configuration before had as well says nothing of this one.
    let mut withheld = wanted.flat_map(|link| &link.withheld).filter(|(_, why)| !why.old);
    let asking = withheld.clone().any(|(_, why)| why.by.is_none());
    if let Some((address, why)) = withheld.find(|(_, why)| why.by.is_some()) {
        return Usable::never(*address, why.by);
    }
    // Without a carrier the kernel can't ask, for as long as that takes. For IPv4 there is an end to that.
    if asking || unsure().any(|(link, address)| address.duplicate || link.carrier) {
        return Usable::NotYet;
    }
    Usable::All
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{
        Link,
        acd::Withheld,
        delegation::Delegation,
        desired::DesiredLink,
        fixture::link,
        lease6::{Claim6, Lease6},
    };

    fn address(index: u32, cidr: &str) -> Address {
        let cidr = cidr.parse().unwrap();
        Address { index, cidr, ours: true, tentative: false, duplicate: false }
    }

    #[test]
    fn a_leased_address_of_another_machine_is_for_the_server_to_replace() {
        let addresses = vec!["2001:db8::5".parse().unwrap()];
        let mut dhcp = BTreeMap::from([("eth0".to_owned(), Dhcp::default())]);
        dhcp.get_mut("eth0").unwrap().six.lease =
            Some(Lease6::from(Claim6 { addresses, ..Claim6::default() }));
        let mut observed = Observed {
            links: vec![link(1, "eth0"), link(2, "eth1")],
            addresses: vec![address(1, "2001:db8::5/128"), address(2, "2001:db8::6/64")],
            ..Observed::default()
        };
        assert_eq!(usable(&Desired::default(), &observed, &dhcp), Usable::All);
        observed.addresses[0].duplicate = true;
        assert_eq!(usable(&Desired::default(), &observed, &dhcp), Usable::NotYet);
        assert_eq!(
            usable(&Desired::default(), &observed, &BTreeMap::new()),
            Usable::never(observed.addresses[0].cidr, None)
        );
        observed.addresses[1].duplicate = true;
        assert_eq!(
            usable(&Desired::default(), &observed, &dhcp),
            Usable::never(observed.addresses[1].cidr, None)
        );
        observed.addresses.iter_mut().for_each(|address| address.ours = false);
        assert_eq!(usable(&Desired::default(), &observed, &dhcp), Usable::All);
        observed.addresses.push(Address { tentative: true, ..address(1, "2001:db8::7/64") });
        assert_eq!(usable(&Desired::default(), &observed, &dhcp), Usable::NotYet);
    }

    #[test]
    fn a_link_without_a_carrier_and_one_with_a_network_of_a_prefix_say_nothing() {
        let mut observed = Observed {
            links: vec![Link { carrier: false, ..link(1, "eth0") }, link(2, "lan")],
            addresses: vec![Address { tentative: true, ..address(1, "2001:db8::5/64") }],
            ..Observed::default()
        };
        let dhcp = BTreeMap::new();
        assert_eq!(usable(&Desired::default(), &observed, &dhcp), Usable::All);
        observed.addresses = vec![Address { duplicate: true, ..address(2, "2001:db8:1::1/64") }];
        let addresses = vec![observed.addresses[0].cidr];
        let delegation = Delegation { from: "eth0".to_owned(), subnet: 1, addresses };
        let lan = DesiredLink { delegation: Some(delegation), ..DesiredLink::default() };
        let desired =
            Desired { links: BTreeMap::from([("lan".to_owned(), lan)]), ..Desired::default() };
        assert_eq!(usable(&desired, &observed, &dhcp), Usable::All);
        let never = Usable::never(observed.addresses[0].cidr, None);
        assert_eq!(usable(&Desired::default(), &observed, &dhcp), never);
    }

    #[test]
    fn a_fixed_address_of_another_machine_is_the_fault_of_the_configuration_that_asks_for_it() {
        let cidr = "192.0.2.7/24".parse().unwrap();
        let mac = Mac::from([0x52, 0x54, 0, 0, 0, 1]);
        let judge = |by, old, carrier| {
            let withheld = vec![(cidr, Withheld { by, old })];
            let wanted = DesiredLink { withheld, ..DesiredLink::default() };
            let links = BTreeMap::from([("eth0".to_owned(), wanted)]);
            let desired = Desired { links, ..Desired::default() };
            let links = vec![Link { carrier, ..link(1, "eth0") }];
            let observed = Observed { links, ..Observed::default() };
            usable(&desired, &observed, &BTreeMap::new())
        };
        // A carrier that comes late finds it decided as well.
        for carrier in [true, false] {
            assert_eq!(judge(None, false, carrier), Usable::NotYet);
            assert_eq!(judge(Some(mac), false, carrier), Usable::never(cidr, Some(mac)));
            assert_eq!(judge(None, true, carrier), Usable::All);
            assert_eq!(judge(Some(mac), true, carrier), Usable::All);
        }
    }
}
