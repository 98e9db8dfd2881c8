// SPDX-License-Identifier: Apache-2.0
//! Whether the machine keeps an address that somebody has connected to, once something else is wanted of its network.
//!
//! Who asks a server may get the same address again, so that only an address goes for which nobody does anything any more.

use super::{
    Address, Link, Observed,
    desired::{Desired, DesiredLink},
    dhcp6::Says,
    wanted::Wanted,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// The link that has this address and would lose it, if one would.
#[must_use]
pub fn loses<'a>(wanted: Wanted<'_>, observed: &'a Observed, address: IpAddr) -> Option<&'a str> {
    let had = observed.addresses.iter().find(|one| one.cidr.address() == address)?;
    let link = observed.links.iter().find(|link| link.index == had.index)?;
    // Without leases: what counts is whether somebody asks for one.
    let desired = Desired::derive(wanted, &BTreeMap::new(), &observed.links);
    let is_there = |name: &str| observed.link(name).is_some() || desired.made.contains_key(name);
    let fixed = desired.links.iter().any(|(name, link)| {
        is_there(name) && link.addresses.iter().any(|cidr| cidr.address() == address)
    });
    let kept = fixed
        || heirs(link, &desired, observed)
            .into_iter()
            .any(|heir| gives(heir, had, &desired, observed));
    (!kept).then_some(link.name.as_str())
}

/// The links that may have what a link has: itself, what it comes into, and what is in it, as that has its hardware address.
fn heirs<'a>(link: &'a Link, desired: &'a Desired, observed: &'a Observed) -> BTreeSet<&'a str> {
    let (mut heirs, mut next) = (BTreeSet::new(), vec![link.name.as_str()]);
    while let Some(name) = next.pop() {
        if !heirs.insert(name) {
            continue;
        }
        next.extend(desired.links.get(name).and_then(|link| link.master.as_deref()));
        let index = observed.link(name).map(|link| link.index);
        let inside = observed.links.iter().filter(|link| index.is_some() && link.master == index);
        next.extend(inside.map(|link| link.name.as_str()));
    }
    // What we made and nobody wants any more goes.
    heirs.retain(|name| {
        desired.made.contains_key(*name) || observed.link(name).is_some_and(|link| !link.ours)
    });
    heirs
}

/// Whether a link may have the address by something else than a document that names it.
fn gives(heir: &str, had: &Address, desired: &Desired, observed: &Observed) -> bool {
    let wanted = desired.links.get(heir);
    let near = match had.cidr.address() {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    if had.cidr.address().is_ipv4() {
        // What others gave it stays with it.
        return !had.ours || wanted.is_some_and(|link| link.dhcp4.is_some());
    }
    let heeds = wanted.is_none_or(|link| !link.ignores_routers);
    // What the kernel made of an advertisement goes when none is heeded; a server may be asked once a router says so.
    near || if had.ours {
        let asks = |link: &DesiredLink| link.dhcp6.is_some() || link.delegation.is_some();
        let told = observed.link(heir).is_some_and(|link| link.says == Some(Says::Managed));
        wanted.is_some_and(asks) || (heeds && told)
    } else {
        heeds
    }
}

#[cfg(test)]
mod tests {
    use super::loses;
    use crate::network::{
        Address, Link, Observed,
        dhcp6::Says,
        fixture::link,
        given::{Given, Giver},
        virtual_link::Form,
        wanted::Wanted,
    };
    use stele_config::canonical;

    const DHCP: &str = r#"{"apiVersion":"stele/v2","kind":"Link","name":"eth0","dhcp4":{}}"#;
    const VLAN: &str = r#"{"apiVersion":"stele/v1","kind":"VLAN","name":"lan","link":"eth0","id":7},
        {"apiVersion":"stele/v2","kind":"Link","name":"lan","dhcp4":{}}"#;
    const BOND: &str = r#"{"apiVersion":"stele/v1","kind":"Bond","name":"bond0","links":["eth0"]}"#;
    const ON_BOND: &str = r#"{"apiVersion":"stele/v2","kind":"Link","name":"bond0","dhcp4":{}}"#;

    fn address(index: u32, cidr: &str, ours: bool) -> Address {
        Address {
            index,
            cidr: cidr.parse().expect("an address"),
            ours,
            tentative: false,
            duplicate: false,
        }
    }

    /// Which link loses the address, when these documents are all that there is.
    fn lost(observed: &Observed, documents: &str, address: &str) -> Option<String> {
        let given = canonical::read_network(format!("[{documents}]").as_bytes());
        let given = given.unwrap_or_else(|findings| panic!("{documents}: {findings:?}"));
        let given = Given { by: Giver::CommandLine, documents: given };
        let wanted = Wanted { config: None, given: Some(&given) };
        loses(wanted, observed, address.parse().expect("an address")).map(str::to_owned)
    }

    fn on(link: Link, addresses: &[(&str, bool)]) -> Observed {
        let index = link.index;
        let addresses = addresses.iter().map(|(cidr, ours)| address(index, cidr, *ours));
        Observed { addresses: addresses.collect(), links: vec![link], ..Observed::default() }
    }

    #[test]
    fn the_first_document_takes_dhcp_from_the_link_that_has_none() {
        let observed = on(link(2, "eth0"), &[("10.0.2.15/24", true)]);
        let lost = |documents: &str| lost(&observed, documents, "10.0.2.15");
        assert_eq!(lost(VLAN).as_deref(), Some("eth0"));
        assert_eq!(lost(&format!("{VLAN},{DHCP}")), None);
        // Without any document there is DHCP everywhere; and an address that is not the machine's is not its to lose.
        assert_eq!(lost(""), None);
        assert_eq!(super::loses(Wanted::default(), &observed, "192.0.2.1".parse().unwrap()), None);
    }

    #[test]
    fn an_address_that_is_written_down_is_kept_wherever_it_goes_to() {
        let observed = on(link(2, "eth0"), &[("10.0.2.15/24", true)]);
        let fixed = |name: &str, address: &str| {
            let document = format!(
                r#"{{"apiVersion":"stele/v2","kind":"Link","name":"{name}","addresses":["{address}"]}}"#
            );
            let bond = if name == "bond0" { format!("{BOND},") } else { String::new() };
            lost(&observed, &format!("{bond}{document}"), "10.0.2.15").is_some()
        };
        assert!(!fixed("eth0", "10.0.2.15/24"));
        assert!(!fixed("eth0", "10.0.2.15/32"));
        assert!(!fixed("bond0", "10.0.2.15/24"));
        assert!(fixed("bond0", "10.0.2.16/24"));
        // That link is not there.
        assert!(fixed("eth7", "10.0.2.15/24"));
    }

    #[test]
    fn what_a_link_comes_into_asks_in_its_place_and_so_does_what_was_in_it() {
        let observed = on(link(2, "eth0"), &[("10.0.2.15/24", true)]);
        assert_eq!(lost(&observed, &format!("{BOND},{ON_BOND}"), "10.0.2.15"), None);
        assert_eq!(lost(&observed, BOND, "10.0.2.15").as_deref(), Some("eth0"));
        let bond: Vec<_> = canonical::read_network(format!("[{BOND}]").as_bytes())
            .expect("a bond")
            .virtual_links()
            .iter()
            .flat_map(|bond| crate::network::virtual_link::made(bond, str::to_owned))
            .collect();
        let form = bond.into_iter().map(|(_, form)| form).next();
        assert!(matches!(form, Some(Form::Bond { .. })));
        let bond0 = Link { form, ours: true, physical: false, ..link(3, "bond0") };
        let mut observed = on(bond0, &[("10.0.2.15/24", true)]);
        observed.links.push(Link { master: Some(3), ..link(2, "eth0") });
        assert_eq!(lost(&observed, DHCP, "10.0.2.15"), None);
        assert_eq!(lost(&observed, "", "10.0.2.15"), None);
        let bare = r#"{"apiVersion":"stele/v2","kind":"Link","name":"eth0"}"#;
        assert_eq!(lost(&observed, bare, "10.0.2.15").as_deref(), Some("bond0"));
        // A document for what is not made any more gives nothing.
        assert_eq!(lost(&observed, ON_BOND, "10.0.2.15").as_deref(), Some("bond0"));
    }

    #[test]
    fn what_routers_and_others_gave_stays_unless_the_link_goes_or_heeds_none() {
        let all = [("2001:db8::5/64", false), ("fe80::5/64", false), ("10.9.9.9/24", false)];
        let observed = on(link(2, "eth0"), &all);
        let ignores = r#"{"apiVersion":"stele/v2","kind":"Link","name":"eth0","dhcp4":{},"routerAdvertisements":"ignore"}"#;
        for (documents, goes) in [(VLAN, false), (DHCP, false), (ignores, true)] {
            assert_eq!(lost(&observed, documents, "2001:db8::5").is_some(), goes, "{documents}");
            assert_eq!(lost(&observed, documents, "fe80::5"), None);
            assert_eq!(lost(&observed, documents, "10.9.9.9"), None);
        }
        let mut observed = on(link(2, "eth0"), &[("2001:db8::7/128", true)]);
        let asks = r#"{"apiVersion":"stele/v2","kind":"Link","name":"eth0","dhcp6":{},"routerAdvertisements":"ignore"}"#;
        for (documents, says, goes) in [
            (asks, None, false),
            (DHCP, Some(Says::Managed), false),
            // It was written down, and no server is asked for it.
            (DHCP, None, true),
            (ignores, Some(Says::Managed), true),
        ] {
            observed.links[0].says = says;
            assert_eq!(lost(&observed, documents, "2001:db8::7").is_some(), goes, "{documents}");
        }
        // A tunnel that goes takes what is on it along.
        let tunnel = Link { ours: true, form: Some(Form::Dummy), ..link(4, "wg0") };
        let observed = on(tunnel, &[("fe80::7/64", false)]);
        assert_eq!(lost(&observed, DHCP, "fe80::7").as_deref(), Some("wg0"));
    }
}
