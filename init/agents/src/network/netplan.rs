// SPDX-License-Identifier: Apache-2.0
//! NoCloud's network-config, version 2, which is netplan's.

use super::{Network, is_true, items, number, text};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

pub(super) fn read<'a>(value: &'a Value, network: &mut Network) {
    // Others are on or of them by what they are called here.
    let mut names = BTreeMap::new();
    for (id, device) in devices(value, "ethernets") {
        let matched = |key: &str| {
            let text = device.get("match").and_then(|matched| text(matched, key));
            // A pattern is no name: it fits whatever link is left.
            text.filter(|text| !text.contains(['*', '?', '[']))
        };
        let named = matched("name");
        let new = text(device, "set-name").or(named).unwrap_or(id);
        let name = match (matched("macaddress"), matched("driver")) {
            (Some(mac), _) => {
                network.matched(new, mac);
                new
            }
            (None, Some(driver)) => {
                network.driven(new, driver);
                new
            }
            // What it is called without the description, for there is nothing else to find it by.
            (None, None) => named.unwrap_or(id),
        };
        names.insert(id, name);
        read_device(name, device, network);
    }
    let name_of = |id: &'a str| names.get(id).copied().unwrap_or(id);
    for (name, device) in devices(value, "bonds") {
        let parameters = device.get("parameters");
        network.bond(name, &interfaces(device, name_of), |word| parameters?.get(word));
        read_device(name, device, network);
    }
    for (name, device) in devices(value, "bridges") {
        let tree = device.get("parameters").and_then(|parameters| parameters.get("stp"));
        network.bridge(name, &interfaces(device, name_of), tree);
        read_device(name, device, network);
    }
    for (name, device) in devices(value, "vlans") {
        let (Some(link), Some(id)) = (text(device, "link"), device.get("id")) else { continue };
        network.vlan(name, name_of(link), id);
        read_device(name, device, network);
    }
}

fn interfaces<'a>(device: &'a Value, name_of: impl Fn(&'a str) -> &'a str) -> Vec<&'a str> {
    items(device.get("interfaces")).filter_map(Value::as_str).map(name_of).collect()
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
    for version in ["dhcp4", "dhcp6"] {
        if device.get(version).is_some_and(is_true) {
            let overrides = device.get(format!("{version}-overrides"));
            network.0.set(name, version, taken(overrides, version == "dhcp4"));
        }
    }
    if device.get("accept-ra").is_some_and(|accepts| !is_true(accepts)) {
        network.0.set(name, "routerAdvertisements", "ignore");
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

/// What is taken of a DHCP server; routes are those of DHCPv4 alone.
fn taken(overrides: Option<&Value>, routes: bool) -> Map<String, Value> {
    let said = |word: &str| overrides.and_then(|overrides| overrides.get(word));
    let mut keys = vec![("dns", "use-dns"), ("time", "use-ntp")];
    keys.extend(routes.then_some(("routes", "use-routes")));
    let taken = keys
        .into_iter()
        .filter_map(|(key, word)| Some((key.to_owned(), is_true(said(word)?).into())));
    let metric = said("route-metric").filter(|_| routes).cloned();
    taken.chain(metric.map(|metric| ("metric".to_owned(), metric))).collect()
}
