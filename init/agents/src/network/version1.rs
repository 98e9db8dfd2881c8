// SPDX-License-Identifier: Apache-2.0
//! NoCloud's network-config, version 1: a list of devices with subnets.

use super::{Network, items, number, text};
use serde_json::{Value, json};

pub(super) fn read(value: &Value, network: &mut Network) {
    for device in items(value.get("config")) {
        if text(device, "type") == Some("nameserver") {
            items(device.get("address")).for_each(|server| network.server(server));
            items(device.get("search")).for_each(|domain| network.domain(domain));
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
                let parameter = |key: &str| {
                    let parameters = device.get("params")?;
                    parameters.get(format!("bond-{key}")).or_else(|| parameters.get(key))
                };
                let hash = parameter("xmit-hash-policy").or_else(|| parameter("xmit_hash_policy"));
                network.bond(name, &links.collect::<Vec<_>>(), parameter("mode"), hash);
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
    for route in items(subnet.get("routes")) {
        let to = text(route, "network").or_else(|| text(route, "destination"));
        let Some(to) = to else { continue };
        let mask = route.get("netmask").or_else(|| route.get("prefix")).and_then(super::prefix);
        let to = match mask {
            Some(prefix) if !to.contains('/') => format!("{to}/{prefix}"),
            _ => to.to_owned(),
        };
        network.route(name, &to, text(route, "gateway"), number(route, "metric"));
    }
    items(subnet.get("dns_nameservers")).for_each(|server| network.server(server));
    items(subnet.get("dns_search")).for_each(|domain| network.domain(domain));
}
