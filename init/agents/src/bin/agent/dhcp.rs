// SPDX-License-Identifier: Apache-2.0
//! `agent dhcp INTERFACE [--hostname NAME] [--client-id duid|BYTES]`. Reports on descriptor 3; see docs/architecture.md.

use std::process::ExitCode;
use stele_agents::dhcp::agent::{self, Id};

pub(crate) fn run(arguments: &[&str]) -> ExitCode {
    match parse(arguments) {
        Some((interface, id, hostname)) => {
            crate::failed(&format!("dhcp on {interface}"), agent::run(interface, id, hostname))
        }
        None => crate::misused("agent dhcp INTERFACE [--hostname NAME] [--client-id duid|BYTES]"),
    }
}

fn parse<'a>(arguments: &[&'a str]) -> Option<(&'a str, Option<Id>, Option<String>)> {
    let (interface, mut rest) = arguments.split_first()?;
    let (mut id, mut hostname) = (None, None);
    loop {
        rest = match rest {
            [] => return Some((interface, id, hostname)),
            ["--hostname", name, rest @ ..] => {
                hostname = Some((*name).to_owned());
                rest
            }
            ["--client-id", bytes, rest @ ..] => {
                id = Some(Id::parse(bytes)?);
                rest
            }
            _ => return None,
        };
    }
}
