// SPDX-License-Identifier: Apache-2.0
//! The network in OpenNebula's `context.sh`:
//! <https://docs.opennebula.io/stable/management_and_operations/references/template.html#context-section>.

use super::{MOST, Network};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What its own guest tools take for a mask that is not said.
const MASK: &str = "255.255.255.0";
const PREFIX: &str = "64";

pub(super) fn read(variables: &BTreeMap<String, String>, network: &mut Network) {
    for index in 0..MOST {
        let said = |key: &str| {
            let value = variables.get(&format!("ETH{index}_{key}"))?;
            (!value.is_empty()).then(|| Value::from(value.as_str()))
        };
        let text = |key: &str| said(key).and_then(|value| value.as_str().map(str::to_owned));
        let method = text("METHOD");
        let Some(mac) = text("MAC").filter(|_| method.as_deref() != Some("skip")) else {
            continue;
        };
        let name = format!("eth{index}");
        network.matched(&name, &mac);
        match text("IP").filter(|_| method.as_deref() != Some("dhcp")) {
            Some(address) => {
                let mask = said("MASK").unwrap_or_else(|| MASK.into());
                network.address(&name, &address, Some(&mask));
                network.gateway(&name, said("GATEWAY").as_ref());
            }
            // An interface of IPv6 alone has no server to ask.
            None if method.as_deref() != Some("dhcp") && text("IP6").is_some() => {}
            None => network.0.set(&name, "dhcp4", json!({})),
        }
        if text("IP6_METHOD").as_deref() == Some("dhcp") {
            network.0.set(&name, "dhcp6", json!({}));
        }
        let prefix = said("IP6_PREFIX_LENGTH").unwrap_or_else(|| PREFIX.into());
        for address in [text("IP6"), text("IP6_ULA")].into_iter().flatten() {
            network.address(&name, &address, Some(&prefix));
        }
        let gateway = said("IP6_GATEWAY").or_else(|| said("GATEWAY6"));
        network.gateway(&name, gateway.as_ref());
        if let Some(mtu) = text("MTU").and_then(|mtu| mtu.parse::<u64>().ok()) {
            network.0.set(&name, "mtu", mtu);
        }
        words(text("DNS")).iter().for_each(|server| network.server(server));
        words(text("SEARCH_DOMAIN")).iter().for_each(|domain| network.domain(domain));
    }
    words(variables.get("DNS").cloned()).iter().for_each(|server| network.server(server));
}

fn words(text: Option<String>) -> Vec<Value> {
    text.unwrap_or_default().split_whitespace().map(Value::from).collect()
}
