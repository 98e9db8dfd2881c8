// SPDX-License-Identifier: Apache-2.0
//! What changes of the time.

use super::Change;
use stele_config::{MachineConfig, Time, TimeServer};

pub(super) fn time(old: Option<&MachineConfig>, new: &MachineConfig) -> Option<Change> {
    let time = new.time();
    if old.and_then(MachineConfig::time) == time {
        return None;
    }
    let servers: Vec<String> =
        time.map(Time::servers).unwrap_or_default().iter().map(describe).collect();
    let what = match servers.as_slice() {
        [] => "the time comes from the servers that DHCP brings or the platform has".to_owned(),
        servers => format!("the time comes from {}", servers.join(", ")),
    };
    Some(Change::live("Time", what))
}

fn describe(server: &TimeServer) -> String {
    if server.nts { format!("{} with NTS", server.server) } else { server.server.to_string() }
}
