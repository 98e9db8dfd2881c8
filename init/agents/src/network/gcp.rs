// SPDX-License-Identifier: Apache-2.0
//! The interfaces of Google's metadata service: <https://cloud.google.com/compute/docs/metadata/predefined-metadata-keys>.
//!
//! Their own addresses come by DHCP, and by DHCPv6 where they have some. Addresses that are forwarded to the machine, and aliases, arrive as they are, so it has to
//! have them; ranges of many are for what it runs.

use super::{Network, items, text};
use serde_json::{Value, json};

pub(super) fn read(value: &Value, network: &mut Network) {
    for (index, one) in items(Some(value)).enumerate() {
        let Some(mac) = text(one, "mac") else { continue };
        let name = format!("net{index}");
        network.matched(&name, mac);
        network.0.set(&name, "dhcp4", json!({}));
        if items(one.get("ipv6s")).next().is_some() {
            network.0.set(&name, "dhcp6", json!({}));
        }
        for key in ["forwardedIps", "targetInstanceIps", "ipAliases", "forwardedIpv6s"] {
            let hosts = items(one.get(key)).filter_map(Value::as_str).filter_map(host);
            hosts.for_each(|address| network.address(&name, address, None));
        }
    }
}

/// The one address of a range.
fn host(range: &str) -> Option<&str> {
    match range.split_once('/') {
        None => Some(range),
        Some((address, "32" | "128")) => Some(address),
        Some(_) => None,
    }
}
