// SPDX-License-Identifier: Apache-2.0
//! OpenStack's network_data.json: links, networks on them, and services.

use super::{Network, items, number, prefix, text};
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(super) fn read(value: &Value, network: &mut Network) {
    // What the platform calls a link is too long for an interface: each gets a name of its own.
    let mut names = BTreeMap::new();
    for (index, link) in items(value.get("links")).enumerate() {
        let Some(id) = text(link, "id") else { continue };
        let name = match text(link, "type") {
            Some("bond") => format!("bond{index}"),
            Some("vlan") => format!("vlan{index}"),
            _ => format!("net{index}"),
        };
        names.insert(id, name);
    }
    for link in items(value.get("links")) {
        let Some(name) = text(link, "id").and_then(|id| names.get(id)) else { continue };
        match text(link, "type") {
            Some("bond") => {
                let links = items(link.get("bond_links")).filter_map(Value::as_str);
                let links =
                    links.filter_map(|id| names.get(id)).map(String::as_str).collect::<Vec<_>>();
                network.bond(name, &links, |word| {
                    link.get(format!("bond_{}", word.replace('-', "_")))
                });
            }
            Some("vlan") => {
                let below = text(link, "vlan_link").and_then(|id| names.get(id));
                let (Some(below), Some(id)) = (below, link.get("vlan_id")) else { continue };
                network.vlan(name, below, id);
            }
            _ => {
                let Some(mac) = text(link, "ethernet_mac_address") else { continue };
                network.matched(name, mac);
            }
        }
        if let Some(mtu) = number(link, "mtu") {
            network.0.set(name, "mtu", mtu);
        }
    }
    for one in items(value.get("networks")) {
        let Some(name) = text(one, "link").and_then(|id| names.get(id)) else { continue };
        read_network(name, one, network);
    }
    for service in items(value.get("services")) {
        if text(service, "type") == Some("dns") {
            items(service.get("address")).for_each(|server| network.server(server));
        }
    }
}

fn read_network(name: &str, one: &Value, network: &mut Network) {
    match text(one, "type").unwrap_or_default() {
        "ipv4_dhcp" => network.0.set(name, "dhcp4", json!({})),
        "ipv6_dhcp" | "ipv6_dhcpv6-stateful" => network.0.set(name, "dhcp6", json!({})),
        "ipv6_dhcpv6-stateless" => network.0.set(name, "dhcp6", json!({ "address": false })),
        "ipv4" | "ipv6" => {
            if let Some(address) = text(one, "ip_address") {
                network.address(name, address, one.get("netmask"));
            }
            network.gateway(name, one.get("gateway"));
            for route in items(one.get("routes")) {
                let to = text(route, "network");
                let prefix = route.get("netmask").and_then(prefix);
                let (Some(to), Some(prefix)) = (to, prefix) else { continue };
                let (to, via) = (format!("{to}/{prefix}"), text(route, "gateway"));
                network.route(name, &to, via, None);
            }
        }
        _ => {}
    }
    for service in items(one.get("services")) {
        if text(service, "type") == Some("dns") {
            items(service.get("address")).for_each(|server| network.server(server));
        }
    }
    items(one.get("dns_nameservers")).for_each(|server| network.server(server));
}
