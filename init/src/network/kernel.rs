// SPDX-License-Identifier: Apache-2.0
//! Between what the kernel crate says of the network and what the decisions are made on: by number there, by name here.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};
use stele_config::{Cidr, Device, Mac, RouteType};
use stele_kernel::net::{
    self, BondForm, BridgeForm, LinkForm, LinkInfo, NetError, Netlink, NewLink, VlanEnd, VlanRange,
};
use stele_machine::network::{
    Address, Link, Observed, Route,
    dhcp6::Says,
    plan::Action,
    rules::Rule,
    virtual_link::Form,
    vlans::{Membership, Range, Vlans},
};

/// What is behind a link.
fn device(link: &LinkInfo) -> Device {
    Device {
        mac: link.permanent.or(link.mac).map(Mac::from),
        path: link.pci.as_ref().and_then(|pci| format!("pci-{pci}").parse().ok()),
        driver: link.driver.as_ref().and_then(|driver| driver.parse().ok()),
    }
}

/// Looks at everything.
pub(super) fn observe(
    netlink: &mut Netlink,
    first_mtu: &mut BTreeMap<u32, u32>,
) -> Result<Observed, NetError> {
    let links = netlink.links()?;
    first_mtu.retain(|index, _| links.iter().any(|link| link.index == *index));
    let names: BTreeMap<u32, &str> =
        links.iter().map(|link| (link.index, link.name.as_str())).collect();
    let vlans = observe_vlans(netlink, &links)?;
    let links = links.iter().map(|link| Link {
        first_mtu: *first_mtu.entry(link.index).or_insert(link.mtu),
        index: link.index,
        name: link.name.clone(),
        mac: link.mac,
        device: device(link),
        mtu: link.mtu,
        max_mtu: link.max_mtu,
        up: link.up,
        carrier: link.carrier,
        arp: link.arp,
        physical: link.physical,
        form: form(link, &names),
        ours: link.ours,
        master: link.master,
        primary: link.primary,
        vlans: vlans.get(&link.index).cloned(),
        says: Says::read(link.managed, link.other),
    });
    let addresses = netlink.addresses()?.into_iter().filter_map(|address| {
        Some(Address {
            index: address.index,
            cidr: Cidr::new(address.address, address.prefix)?,
            ours: address.protocol == net::OWNER,
            tentative: address.tentative,
            duplicate: address.duplicate,
        })
    });
    let routes = netlink.routes()?.into_iter().filter_map(|route| {
        Some(Route {
            to: Cidr::new(route.to, route.prefix)?,
            via: route.via,
            index: route.index,
            metric: route.metric,
            onlink: route.onlink,
            table: route.table,
            source: route.source,
            nowhere: route.nowhere.map(|nowhere| match nowhere {
                net::Nowhere::Blackhole => RouteType::Blackhole,
                net::Nowhere::Unreachable => RouteType::Unreachable,
                net::Nowhere::Prohibit => RouteType::Prohibit,
            }),
            ours: route.protocol == net::OWNER,
        })
    });
    let rules = netlink.rules()?.into_iter().filter_map(|rule| {
        Some(Rule {
            ipv6: rule.ipv6,
            priority: rule.priority,
            from: network(rule.from)?,
            to: network(rule.to)?,
            incoming: rule.incoming,
            mark: rule.mark,
            table: rule.table,
            ours: rule.protocol == net::OWNER,
        })
    });
    Ok(Observed {
        links: links.collect(),
        addresses: addresses.collect(),
        routes: routes.collect(),
        rules: rules.collect(),
    })
}

/// The VLANs of our bridges that look at tags, and of all links in them. Where there is none, nothing is asked.
fn observe_vlans(
    netlink: &mut Netlink,
    links: &[LinkInfo],
) -> Result<BTreeMap<u32, Vlans>, NetError> {
    let looks = |link: &&LinkInfo| match &link.form {
        Some(LinkForm::Bridge(bridge)) => link.ours && bridge.vlan_filtering,
        Some(_) | None => false,
    };
    let bridges: BTreeSet<u32> = links.iter().filter(looks).map(|link| link.index).collect();
    if bridges.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut all = netlink.vlans()?;
    let inside = |link: &&LinkInfo| {
        bridges.contains(&link.index) || link.master.is_some_and(|whole| bridges.contains(&whole))
    };
    let vlans = |link: &LinkInfo| {
        let ranges = all.remove(&link.index).unwrap_or_default();
        (link.index, ranges.into_iter().map(range).collect())
    };
    Ok(links.iter().filter(inside).map(vlans).collect())
}

fn range(range: VlanRange) -> Range {
    let VlanRange { first, last, untagged, native } = range;
    Range { first, last, membership: Membership { untagged, native } }
}

fn to_range(range: Range) -> VlanRange {
    let Range { first, last, membership: Membership { untagged, native } } = range;
    VlanRange { first, last, untagged, native }
}

fn vlan_end(index: u32, bridge: bool) -> VlanEnd {
    if bridge { VlanEnd::Bridge(index) } else { VlanEnd::Port(index) }
}

/// None where the kernel says what is no network.
fn network(found: Option<(IpAddr, u8)>) -> Option<Option<Cidr>> {
    match found {
        Some((address, prefix)) => Cidr::new(address, prefix).map(Some),
        None => Some(None),
    }
}

fn form(link: &LinkInfo, names: &BTreeMap<u32, &str>) -> Option<Form> {
    let parent = link.parent.and_then(|parent| names.get(&parent)).copied().unwrap_or_default();
    Some(match link.form.clone()? {
        LinkForm::Dummy => Form::Dummy,
        LinkForm::Veth => Form::Veth { peer: parent.to_owned() },
        LinkForm::Vlan { id, service } => Form::Vlan { link: parent.to_owned(), id, service },
        LinkForm::Bridge(BridgeForm { stp, forward_delay, priority, vlan_filtering }) => {
            Form::Bridge { stp, forward_delay, priority, vlan_filtering }
        }
        LinkForm::Bond(BondForm {
            mode,
            miimon,
            up_delay,
            down_delay,
            arp_interval,
            arp_targets,
            nd_targets,
            arp_validate,
            lacp_fast,
            hash_policy,
        }) => Form::Bond {
            mode,
            miimon,
            up_delay,
            down_delay,
            arp_interval,
            arp_targets,
            nd_targets,
            arp_validate,
            lacp_fast,
            hash_policy,
        },
        LinkForm::Vrf { table } => Form::Vrf { table },
        LinkForm::WireGuard => Form::WireGuard,
    })
}

fn to_form(form: &Form) -> LinkForm {
    match form.clone() {
        Form::Dummy => LinkForm::Dummy,
        Form::Veth { .. } => LinkForm::Veth,
        Form::Vlan { id, service, .. } => LinkForm::Vlan { id, service },
        Form::Bridge { stp, forward_delay, priority, vlan_filtering } => {
            LinkForm::Bridge(BridgeForm { stp, forward_delay, priority, vlan_filtering })
        }
        Form::Bond {
            mode,
            miimon,
            up_delay,
            down_delay,
            arp_interval,
            arp_targets,
            nd_targets,
            arp_validate,
            lacp_fast,
            hash_policy,
        } => LinkForm::Bond(BondForm {
            mode,
            miimon,
            up_delay,
            down_delay,
            arp_interval,
            arp_targets,
            nd_targets,
            arp_validate,
            lacp_fast,
            hash_policy,
        }),
        Form::Vrf { table } => LinkForm::Vrf { table },
        Form::WireGuard => LinkForm::WireGuard,
    }
}

/// Does one step.
pub(super) fn apply(netlink: &mut Netlink, action: &Action) -> Result<(), NetError> {
    match action {
        Action::MakeLink { name, form, parent } => {
            let peer = match form {
                Form::Veth { peer } => Some(peer.as_str()),
                Form::Dummy
                | Form::Vlan { .. }
                | Form::Bridge { .. }
                | Form::Bond { .. }
                | Form::Vrf { .. }
                | Form::WireGuard => None,
            };
            netlink.make_link(NewLink { name, form: &to_form(form), parent: *parent, peer })
        }
        Action::ChangeForm { index, form } => netlink.change_form(*index, &to_form(form)),
        Action::RemoveLink { index } => netlink.remove_link(*index),
        Action::SetDown { index } => netlink.set_down(*index),
        Action::SetMaster { index, master } => netlink.set_master(*index, *master),
        Action::SetPrimary { index, primary } => netlink.set_primary(*index, *primary),
        Action::AddVlans { index, bridge, range } => {
            netlink.add_vlans(vlan_end(*index, *bridge), to_range(*range))
        }
        Action::DelVlans { index, bridge, range } => {
            netlink.del_vlans(vlan_end(*index, *bridge), to_range(*range))
        }
        Action::SetUp { index } => netlink.set_up(*index),
        Action::SetMtu { index, mtu } => netlink.set_mtu(*index, *mtu),
        Action::AddAddress { index, cidr } => {
            netlink.add_address(*index, cidr.address(), cidr.prefix())
        }
        Action::DelAddress { index, cidr } => {
            netlink.del_address(*index, cidr.address(), cidr.prefix())
        }
        Action::AddRoute(route) => netlink.add_route(&to_kernel(route)),
        Action::AddRule(rule) => netlink.add_rule(&to_rule(rule)),
        Action::DelRule(rule) => netlink.del_rule(&to_rule(rule)),
        Action::DelRoute(route) => netlink.del_route(&to_kernel(route)),
    }
}

fn to_rule(rule: &Rule) -> net::Rule {
    let network = |cidr: Cidr| (cidr.address(), cidr.prefix());
    net::Rule {
        ipv6: rule.ipv6,
        priority: rule.priority,
        from: rule.from.map(network),
        to: rule.to.map(network),
        incoming: rule.incoming.clone(),
        mark: rule.mark,
        table: rule.table,
        protocol: net::OWNER,
    }
}

fn to_kernel(route: &Route) -> net::Route {
    net::Route {
        to: route.to.address(),
        prefix: route.to.prefix(),
        via: route.via,
        index: route.index,
        metric: route.metric,
        protocol: net::OWNER,
        onlink: route.onlink,
        table: route.table,
        source: route.source,
        nowhere: route.nowhere.map(|nowhere| match nowhere {
            RouteType::Blackhole => net::Nowhere::Blackhole,
            RouteType::Unreachable => net::Nowhere::Unreachable,
            RouteType::Prohibit => net::Nowhere::Prohibit,
        }),
    }
}
