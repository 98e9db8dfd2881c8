// SPDX-License-Identifier: Apache-2.0
//! Whether the addresses that we gave the links can be used.

use super::{Address, Observed, lease::Dhcp};
use std::collections::BTreeMap;
use stele_config::Cidr;

/// How our addresses are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usable {
    /// They can be used.
    All,
    /// The kernel is still asking whether another machine has one of them, or a server has to find another one.
    NotYet,
    /// Another machine has this one.
    Never(Cidr),
}

/// Judges. Of a leased address that another machine has, the agent tells the server, which then gives another one.
#[must_use]
pub fn usable(observed: &Observed, dhcp: &BTreeMap<String, Dhcp>) -> Usable {
    let leased = |address: &Address| {
        let link = observed.links.iter().find(|link| link.index == address.index);
        link.and_then(|link| dhcp.get(&link.name)).is_some_and(|dhcp| dhcp.six.gives(&address.cidr))
    };
    let ours = || observed.addresses.iter().filter(|address| address.ours);
    if let Some(address) = ours().find(|address| address.duplicate && !leased(address)) {
        return Usable::Never(address.cidr);
    }
    if ours().any(|address| address.duplicate || address.tentative) {
        return Usable::NotYet;
    }
    Usable::All
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{
        Link,
        lease6::{Claim6, Lease6},
    };
    use stele_config::Device;

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.to_owned(),
            mac: None,
            device: Device { mac: None, path: None, driver: None },
            mtu: 1500,
            first_mtu: 1500,
            max_mtu: None,
            up: true,
            carrier: true,
            physical: true,
            form: None,
            ours: false,
            master: None,
            primary: None,
            vlans: None,
            says: None,
        }
    }

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
        assert_eq!(usable(&observed, &dhcp), Usable::All);
        observed.addresses[0].duplicate = true;
        assert_eq!(usable(&observed, &dhcp), Usable::NotYet);
        assert_eq!(usable(&observed, &BTreeMap::new()), Usable::Never(observed.addresses[0].cidr));
        observed.addresses[1].duplicate = true;
        assert_eq!(usable(&observed, &dhcp), Usable::Never(observed.addresses[1].cidr));
        observed.addresses.iter_mut().for_each(|address| address.ours = false);
        assert_eq!(usable(&observed, &dhcp), Usable::All);
        observed.addresses.push(Address { tentative: true, ..address(1, "2001:db8::7/64") });
        assert_eq!(usable(&observed, &dhcp), Usable::NotYet);
    }
}
