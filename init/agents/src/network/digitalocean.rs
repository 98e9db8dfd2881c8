// SPDX-License-Identifier: Apache-2.0
//! The interfaces of DigitalOcean's metadata service: <https://docs.digitalocean.com/reference/api/metadata/>.
//!
//! The way out is by a public one. What is sent to a reserved address arrives at the anchor address.

use super::{Network, items, text};
use serde_json::Value;

pub(super) fn read(value: &Value, network: &mut Network) {
    for (kind, leads_out) in [("public", true), ("private", false)] {
        let interfaces = value.get("interfaces").and_then(|interfaces| interfaces.get(kind));
        for (index, one) in items(interfaces).enumerate() {
            let Some(mac) = text(one, "mac") else { continue };
            let name = format!("{kind}{index}");
            network.matched(&name, mac);
            for (family, has_gateway) in [("ipv4", true), ("ipv6", true), ("anchor_ipv4", false)] {
                let Some(given) = one.get(family) else { continue };
                if let Some(address) = text(given, "ip_address") {
                    let mask = given.get("netmask").or_else(|| given.get("cidr"));
                    network.address(&name, address, mask);
                }
                if leads_out && has_gateway {
                    network.gateway(&name, given.get("gateway"));
                }
            }
        }
    }
    let servers = value.get("dns").and_then(|dns| dns.get("nameservers"));
    items(servers).for_each(|server| network.server(server));
}
