// SPDX-License-Identifier: Apache-2.0
//! `agent probe FILE`: the task is in the file, as JSON. Reports on descriptor 3; see docs/architecture.md.

use std::{convert::Infallible, path::Path, process::ExitCode};
use stele_agents::probe::{self, ProbeError, Surroundings};

pub(crate) fn run(arguments: &[&str]) -> ExitCode {
    match arguments {
        [file] => crate::failed("probe", check(Path::new(file))),
        _ => crate::misused("agent probe FILE"),
    }
}

fn check(file: &Path) -> Result<Infallible, ProbeError> {
    let task = probe::read(file)?;
    let mut reports = crate::reports().map_err(ProbeError::Report)?;
    probe::run(task, Surroundings::of_this_machine(), &mut reports)
}
