// SPDX-License-Identifier: Apache-2.0
//! The network of Scaleway's metadata service, `/conf`: <https://www.scaleway.com/en/developers/api/instances/>.
//!
//! It says the hardware addresses of private networks alone. The other interface is the one that the kernel finds first; of its
//! addresses one comes by DHCP, and for IPv6 by a router.

use super::{Network, items, text};
use serde_json::{Value, json};

const FIRST: &str = "eth0";

pub(super) fn read(value: &Value, network: &mut Network) {
    network.0.set(FIRST, "dhcp4", json!({}));
    let leased = value.get("public_ip").and_then(|ip| text(ip, "address"));
    let given = ["public_ips", "public_ips_v4", "public_ips_v6", "ipv6"];
    for given in given.into_iter().flat_map(|key| items(value.get(key))) {
        let Some(address) = text(given, "address").filter(|one| Some(*one) != leased) else {
            continue;
        };
        if matches!(text(given, "provisioning_mode"), Some("dhcp" | "slaac")) {
            continue;
        }
        network.address(FIRST, address, given.get("netmask"));
        if address.contains(':') {
            network.gateway(FIRST, given.get("gateway"));
        }
    }
    for (index, one) in items(value.get("private_nics")).enumerate() {
        let Some(mac) = text(one, "mac_address") else { continue };
        let name = format!("private{index}");
        network.matched(&name, mac);
        network.0.set(&name, "dhcp4", json!({}));
    }
}
