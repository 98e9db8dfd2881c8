// SPDX-License-Identifier: Apache-2.0
//! `agent dns`: the task is in a file, reports go to descriptor 3; see docs/architecture.md.

use std::{convert::Infallible, process::ExitCode};
use stele_agents::dns::{self, DnsError, Surroundings};

pub(crate) fn run(arguments: &[&str]) -> ExitCode {
    match arguments {
        [] => crate::failed("dns", serve()),
        _ => crate::misused("agent dns"),
    }
}

fn serve() -> Result<Infallible, DnsError> {
    let mut reports = crate::reports().map_err(DnsError::Report)?;
    dns::run(&Surroundings::of_this_machine(), &mut reports)
}
