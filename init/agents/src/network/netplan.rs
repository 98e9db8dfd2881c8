// SPDX-License-Identifier: Apache-2.0
//! NoCloud's network-config, version 2, which is netplan's.

use super::{Network, items, number, text};
use serde_json::{Map, Value, json};

pub(super) fn read(value: &Value, network: &mut Network) {
    for (id, device) in devices(value, "ethernets") {
        let matched = |key: &str| device.get("match").and_then(|matched| text(matched, key));
        let name = text(device, "set-name").or(matched("name")).unwrap_or(id);
        // A pattern is no name: it fits whatever link is left.
        let name = if is_pattern(name) { id } else { name };
        match (matched("macaddress"), matched("driver").filter(|driver| !is_pattern(driver))) {
            (Some(mac), _) => network.matched(name, mac),
            (None, Some(driver)) => network.driven(name, driver),
            (None, None) => {}
        }
        read_device(name, device, network);
    }
    for (name, device) in devices(value, "bonds") {
        let links = items(device.get("interfaces")).filter_map(Value::as_str);
        let parameters = device.get("parameters");
        let parameter = |key: &str| parameters.and_then(|parameters| parameters.get(key));
        let hash = parameter("transmit-hash-policy");
        network.bond(name, &links.collect::<Vec<_>>(), parameter("mode"), hash);
        read_device(name, device, network);
    }
    for (name, device) in devices(value, "vlans") {
        let (Some(link), Some(id)) = (text(device, "link"), device.get("id")) else { continue };
        network.vlan(name, link, id);
        read_device(name, device, network);
    }
}

fn devices<'a>(
    value: &'a Value,
    key: &str,
) -> impl Iterator<Item = (&'a str, &'a Value)> + use<'a> {
    let devices = value.get(key).and_then(Value::as_object).map(Map::iter);
    devices.into_iter().flatten().take(super::MOST).map(|(id, device)| (id.as_str(), device))
}

fn read_device(name: &str, device: &Value, network: &mut Network) {
    network.0.link(name);
    if device.get("dhcp4").is_some_and(is_true) {
        network.0.set(name, "dhcp4", json!({}));
    }
    if device.get("dhcp6").is_some_and(is_true) {
        network.0.set(name, "dhcp6", json!({}));
    }
    if let Some(mtu) = number(device, "mtu") {
        network.0.set(name, "mtu", mtu);
    }
    for address in items(device.get("addresses")) {
        // One with options is a mapping of one key.
        let options = address.as_object().and_then(|options| options.keys().next());
        if let Some(address) = address.as_str().or(options.map(String::as_str)) {
            network.address(name, address, None);
        }
    }
    network.gateway(name, device.get("gateway4"));
    network.gateway(name, device.get("gateway6"));
    for route in items(device.get("routes")) {
        if let Some(to) = text(route, "to") {
            network.route(name, to, text(route, "via"), number(route, "metric"));
        }
    }
    if let Some(servers) = device.get("nameservers") {
        items(servers.get("addresses")).for_each(|server| network.server(server));
        items(servers.get("search")).for_each(|domain| network.domain(domain));
    }
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// YAML of before 1.2 has other words for it.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Bool(value) => *value,
        Value::String(word) => matches!(word.to_ascii_lowercase().as_str(), "yes" | "true" | "on"),
        _ => false,
    }
}
