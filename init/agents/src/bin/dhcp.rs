// SPDX-License-Identifier: Apache-2.0
//! The DHCP agent: `dhcp INTERFACE [--hostname NAME]`. Reports on descriptor 3; see docs/architecture.md.

#![forbid(unsafe_code)]

use std::{env, error::Error, process::ExitCode};
use stele_agents::dhcp::agent;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (interface, hostname) = match arguments.as_slice() {
        [interface] => (*interface, None),
        [interface, "--hostname", hostname] => (*interface, Some((*hostname).to_owned())),
        _ => {
            eprintln!("usage: dhcp INTERFACE [--hostname NAME]");
            return ExitCode::FAILURE;
        }
    };
    let Err(error) = agent::run(interface, hostname);
    let mut text = format!("dhcp on {interface}: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    eprintln!("{text}");
    ExitCode::FAILURE
}
