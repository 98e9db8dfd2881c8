// SPDX-License-Identifier: Apache-2.0
//! The interfaces of Oracle's metadata service, `/opc/v2/vnics/`:
//! <https://docs.oracle.com/en-us/iaas/Content/Network/Tasks/managingVNICs.htm>.
//!
//! The first has DHCP, and DHCPv6 if it has IPv6; nobody gives addresses on the others. Those of bare metal, which say on which port they are, are VLANs with
//! a hardware address of their own, and are left to the configuration.

use super::{Network, items, text};
use serde_json::{Value, json};

pub(super) fn read(value: &Value, network: &mut Network) {
    for (index, one) in items(Some(value)).enumerate() {
        let Some(mac) = text(one, "macAddr") else { continue };
        let name = format!("net{index}");
        if index == 0 {
            network.matched(&name, mac);
            network.0.set(&name, "dhcp4", json!({}));
            if items(one.get("ipv6Addresses")).next().is_some() {
                network.0.set(&name, "dhcp6", json!({}));
            }
        } else if one.get("nicIndex").is_none() {
            network.matched(&name, mac);
            let prefix = text(one, "subnetCidrBlock").and_then(|subnet| subnet.split('/').nth(1));
            if let (Some(address), Some(prefix)) = (text(one, "privateIp"), prefix) {
                network.address(&name, address, Some(&prefix.into()));
            }
        }
    }
}
