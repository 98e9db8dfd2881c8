// SPDX-License-Identifier: Apache-2.0
//! NoCloud's network-config, version 1: a list of devices with subnets.

use super::{Network, items, number, text};
use serde_json::{Value, json};

pub(super) fn read(value: &Value, network: &mut Network) {
    let mut routes = Vec::new();
    for device in items(value.get("config")) {
        if text(device, "type") == Some("nameserver") {
            items(device.get("address")).for_each(|server| network.server(server));
            items(device.get("search")).for_each(|domain| network.domain(domain));
            continue;
        }
        if text(device, "type") == Some("route") {
            routes.push(device);
            continue;
        }
        let Some(name) = text(device, "name") else { continue };
        match text(device, "type") {
            Some("physical") => {
                network.0.link(name);
                if let Some(mac) = text(device, "mac_address") {
                    network.matched(name, mac);
                }
            }
            Some("vlan") => {
                let (Some(link), Some(id)) = (text(device, "vlan_link"), device.get("vlan_id"))
                else {
                    continue;
                };
                network.vlan(name, link, id);
            }
            Some("bond") => {
                let links = items(device.get("bond_interfaces")).filter_map(Value::as_str);
                let parameters = device.get("params");
                network.bond(name, &links.collect::<Vec<_>>(), |word| {
                    let other = word.replace('-', "_");
                    let words =
                        [format!("bond-{word}"), format!("bond_{other}"), word.to_owned(), other];
                    words.iter().find_map(|word| parameters?.get(word))
                });
            }
            Some("bridge") => {
                let links = items(device.get("bridge_interfaces")).filter_map(Value::as_str);
                let tree = device.get("params").and_then(|parameters| parameters.get("bridge_stp"));
                network.bridge(name, &links.collect::<Vec<_>>(), tree);
            }
            _ => continue,
        }
        if let Some(mtu) = number(device, "mtu") {
            network.0.set(name, "mtu", mtu);
        }
        for subnet in items(device.get("subnets")) {
            read_subnet(name, subnet, network);
        }
    }
    // Those that name no device are of the one in whose network the next router is.
    for route in routes {
        let via = text(route, "gateway").and_then(|via| via.parse().ok());
        if let Some(name) = via.and_then(|via| network.0.link_towards(via)) {
            read_route(&name, route, network);
        }
    }
}

fn read_subnet(name: &str, subnet: &Value, network: &mut Network) {
    match text(subnet, "type").unwrap_or_default() {
        "dhcp" | "dhcp4" => network.0.set(name, "dhcp4", json!({})),
        "dhcp6" | "ipv6_dhcpv6-stateful" => network.0.set(name, "dhcp6", json!({})),
        "ipv6_dhcpv6-stateless" => network.0.set(name, "dhcp6", json!({ "address": false })),
        "static" | "static6" => {
            if let Some(address) = text(subnet, "address") {
                network.address(name, address, subnet.get("netmask"));
            }
            network.gateway(name, subnet.get("gateway"));
        }
        _ => {}
    }
    items(subnet.get("routes")).for_each(|route| read_route(name, route, network));
    items(subnet.get("dns_nameservers")).for_each(|server| network.server(server));
    items(subnet.get("dns_search")).for_each(|domain| network.domain(domain));
}

fn read_route(name: &str, route: &Value, network: &mut Network) {
    let Some(to) = text(route, "network").or_else(|| text(route, "destination")) else { return };
    let mask = route.get("netmask").or_else(|| route.get("prefix")).and_then(super::prefix);
    let to = match mask {
        Some(prefix) if !to.contains('/') => format!("{to}/{prefix}"),
        _ => to.to_owned(),
    };
    network.route(name, &to, text(route, "gateway"), number(route, "metric"));
}
