// SPDX-License-Identifier: Apache-2.0
//! `agent probe CHECKS`, where CHECKS is JSON. Reports on descriptor 3; see docs/architecture.md.

use std::{convert::Infallible, process::ExitCode};
use stele_agents::probe::{self, ProbeError, Surroundings};

pub(crate) fn run(arguments: &[&str]) -> ExitCode {
    match arguments {
        [checks] => crate::failed("probe", check(checks)),
        _ => crate::misused("agent probe CHECKS"),
    }
}

fn check(checks: &str) -> Result<Infallible, ProbeError> {
    let task = probe::parse(checks)?;
    let mut reports = crate::reports().map_err(ProbeError::Report)?;
    probe::run(task, Surroundings::of_this_machine(), &mut reports)
}
