// SPDX-License-Identifier: Apache-2.0
//! `agent dhcp6 INTERFACE [--address] [--prefix LENGTH]`. Reports on descriptor 3; see docs/architecture.md.

use std::process::ExitCode;
use stele_agents::dhcp6::{agent, message::Wants};

pub(crate) fn run(arguments: &[&str]) -> ExitCode {
    match parse(arguments) {
        Some((interface, wants)) => {
            crate::failed(&format!("dhcp6 on {interface}"), agent::run(interface, wants))
        }
        None => crate::misused("agent dhcp6 INTERFACE [--address] [--prefix LENGTH]"),
    }
}

fn parse<'a>(arguments: &[&'a str]) -> Option<(&'a str, Wants)> {
    let (interface, mut rest) = arguments.split_first()?;
    let mut wants = Wants::default();
    loop {
        rest = match rest {
            [] => return Some((interface, wants)),
            ["--address", rest @ ..] => {
                wants.address = true;
                rest
            }
            ["--prefix", length, rest @ ..] => {
                wants.prefix = Some(length.parse().ok().filter(|length| *length <= 64)?);
                rest
            }
            _ => return None,
        };
    }
}
