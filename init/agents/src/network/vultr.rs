// SPDX-License-Identifier: Apache-2.0
//! The interfaces of Vultr's metadata service: <https://www.vultr.com/metadata/>.
//!
//! On a public one the first address comes by DHCP, and by a router for IPv6. Nobody gives addresses on a private one.

use super::{Network, items, text};
use serde_json::{Value, json};

pub(super) fn read(value: &Value, network: &mut Network) {
    for (index, one) in items(value.get("interfaces")).enumerate() {
        let Some(mac) = text(one, "mac") else { continue };
        let name = format!("net{index}");
        network.matched(&name, mac);
        let ipv4 = one.get("ipv4");
        if text(one, "network-type") == Some("private") {
            ipv4.into_iter().for_each(|given| add(&name, given, network));
        } else {
            network.0.set(&name, "dhcp4", json!({}));
        }
        for family in ipv4.into_iter().chain(one.get("ipv6")) {
            items(family.get("additional")).for_each(|given| add(&name, given, network));
        }
    }
}

fn add(name: &str, given: &Value, network: &mut Network) {
    if let Some(address) = text(given, "address") {
        network.address(name, address, given.get("netmask").or_else(|| given.get("prefix")));
    }
}
