// SPDX-License-Identifier: Apache-2.0
//! The network of Equinix Metal's metadata service: <https://deploy.equinix.com/developers/docs/metal/server-metadata/metadata/>.
//!
//! Its interfaces are in a bond, mostly one, and all addresses belong to the first.

use super::{Network, items, text};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The number of LACP among the kernel's modes of bonds.
const LACP: u64 = 4;
/// Where private addresses lead to, if nothing says it.
const PRIVATE: &str = "10.0.0.0/8";
/// Its name servers, which the service does not name:
/// <https://deploy.equinix.com/developers/docs/metal/networking/ip-addresses/>.
const SERVERS: [&str; 2] = ["147.75.207.207", "147.75.207.208"];

pub(super) fn read(value: &Value, network: &mut Network) {
    let Some(said) = value.get("network") else { return };
    let mut bonds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut first = None;
    for one in items(said.get("interfaces")) {
        let (Some(name), Some(mac)) = (text(one, "name"), text(one, "mac")) else { continue };
        network.matched(name, mac);
        let bond = text(one, "bond");
        if let Some(bond) = bond {
            bonds.entry(bond).or_default().push(name);
        }
        first.get_or_insert(bond.unwrap_or(name));
    }
    let mode = said.get("bonding").and_then(|bonding| bonding.get("mode")?.as_u64());
    let more = match mode {
        Some(LACP) => Map::from_iter([
            ("hashPolicy".to_owned(), json!("layer3+4")),
            ("lacpRate".to_owned(), json!("fast")),
        ]),
        _ => Map::new(),
    };
    for (bond, links) in &bonds {
        let mode = mode.map_or("active-backup".to_owned(), |mode| mode.to_string());
        network.0.bond(bond, links, &mode, more.clone());
    }
    let Some(first) = first else { return };
    for one in items(said.get("addresses")) {
        let Some(address) = text(one, "address") else { continue };
        network.address(first, address, one.get("cidr").or_else(|| one.get("netmask")));
        let is = |key: &str| one.get(key).and_then(Value::as_bool);
        // Those that were added later come to the machine by the ways of the others.
        if is("management") == Some(false) {
            continue;
        }
        if is("public") != Some(false) {
            network.gateway(first, one.get("gateway"));
        } else if one.get("address_family").and_then(Value::as_u64) == Some(4) {
            let subnets: Vec<&str> =
                items(value.get("private_subnets")).filter_map(Value::as_str).collect();
            let subnets = if subnets.is_empty() { vec![PRIVATE] } else { subnets };
            for subnet in subnets {
                network.route(first, subnet, text(one, "gateway"), None);
            }
        }
    }
    SERVERS.iter().for_each(|server| network.server(&json!(server)));
}
