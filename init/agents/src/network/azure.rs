// SPDX-License-Identifier: Apache-2.0
//! The interfaces of Azure's metadata service:
//! <https://learn.microsoft.com/en-us/azure/virtual-machines/instance-metadata-service#network-metadata>.
//!
//! The first address of each comes by DHCP, and of IPv6 by DHCPv6; of the others the machine has to know by itself.

use super::{Network, items, text};
use serde_json::{Value, json};

pub(super) fn read(value: &Value, network: &mut Network) {
    let interfaces = items(value.get("interface"));
    let mut interfaces: Vec<(String, &Value)> =
        interfaces.filter_map(|one| Some((with_colons(text(one, "macAddress")?)?, one))).collect();
    // They come in any order.
    interfaces.sort_by(|(mac, _), (other, _)| mac.cmp(other));
    for (index, (mac, one)) in interfaces.into_iter().enumerate() {
        let name = format!("net{index}");
        network.matched(&name, &mac);
        network.0.set(&name, "dhcp4", json!({}));
        if items(one.get("ipv6").and_then(|ipv6| ipv6.get("ipAddress"))).next().is_some() {
            network.0.set(&name, "dhcp6", json!({}));
        }
        for family in ["ipv4", "ipv6"].into_iter().filter_map(|family| one.get(family)) {
            let subnet = items(family.get("subnet")).next();
            for further in items(family.get("ipAddress")).skip(1) {
                if let Some(address) = text(further, "privateIpAddress") {
                    network.address(&name, address, subnet.and_then(|it| it.get("prefix")));
                }
            }
        }
    }
}

/// A hardware address of twelve digits.
fn with_colons(digits: &str) -> Option<String> {
    let digits: Vec<char> = digits.chars().collect();
    let bytes: Vec<String> = digits.chunks(2).map(String::from_iter).collect();
    (digits.len() == 12).then(|| bytes.join(":"))
}
