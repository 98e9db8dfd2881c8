// SPDX-License-Identifier: Apache-2.0
//! `agent dhcp INTERFACE [--hostname NAME]`. Reports on descriptor 3; see docs/architecture.md.

use std::process::ExitCode;
use stele_agents::dhcp::agent;

pub(crate) fn run(arguments: &[&str]) -> ExitCode {
    let (interface, hostname) = match arguments {
        [interface] => (*interface, None),
        [interface, "--hostname", hostname] => (*interface, Some((*hostname).to_owned())),
        _ => return crate::misused("agent dhcp INTERFACE [--hostname NAME]"),
    };
    crate::failed(&format!("dhcp on {interface}"), agent::run(interface, hostname))
}
