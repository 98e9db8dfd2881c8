// SPDX-License-Identifier: Apache-2.0
//! What a new configuration will do to the machine, in sentences for the one who applies it.

use stele_config::{Link, MachineConfig};

/// Says what changes from one configuration to the next, one sentence each; nothing when they are the same.
#[must_use]
pub fn describe(old: Option<&MachineConfig>, new: &MachineConfig) -> Vec<String> {
    let mut changes = Vec::new();
    match old {
        None => {
            changes.push("identity: the API restarts with the node's own certificate".to_owned())
        }
        Some(old) if old.identity() != new.identity() => {
            changes.push("identity: the API serves a new certificate, live".to_owned());
        }
        Some(_) => {}
    }
    let hostname = new.hostname().map(ToString::to_string);
    if old.and_then(|old| old.hostname().map(ToString::to_string)) != hostname {
        changes.push(match hostname {
            Some(hostname) => format!("hostname: becomes {hostname}, live"),
            None => "hostname: from DHCP or the hardware address, live".to_owned(),
        });
    }
    let before = old.map(MachineConfig::links).unwrap_or_default();
    for link in new.links() {
        match before.iter().find(|candidate| candidate.name() == link.name()) {
            Some(same) if same == link => {}
            Some(_) => changes.push(format!("link {}: {}, live", link.name(), summary(link))),
            None => {
                changes.push(format!("link {}: configured, {}, live", link.name(), summary(link)))
            }
        }
    }
    for link in
        before.iter().filter(|link| new.links().iter().all(|other| other.name() != link.name()))
    {
        changes.push(format!(
            "link {}: no longer configured, its addresses and routes go, live",
            link.name()
        ));
    }
    if old.is_none_or(|old| !old.links().is_empty()) && new.links().is_empty() {
        changes.push("links: none is configured, every Ethernet link uses DHCP".to_owned());
    }
    if old.and_then(MachineConfig::resolver) != new.resolver() {
        changes.push("resolver: changes, live".to_owned());
    }
    changes
}

fn summary(link: &Link) -> String {
    let mut parts = Vec::new();
    if link.dhcp4() {
        parts.push("DHCP".to_owned());
    }
    parts.extend(link.addresses().iter().map(ToString::to_string));
    parts.extend(link.mtu().map(|mtu| format!("MTU {mtu}")));
    if parts.is_empty() { "up without addresses".to_owned() } else { parts.join(", ") }
}
