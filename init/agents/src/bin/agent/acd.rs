// SPDX-License-Identifier: Apache-2.0
//! `agent acd TASK`: the task is in a file, which SIGHUP has it read again; reports go to descriptor 3; see docs/architecture.md.

use std::{convert::Infallible, path::Path, process::ExitCode};
use stele_agents::acd::{self, AcdError};

pub(crate) fn run(arguments: &[&str]) -> ExitCode {
    match arguments {
        [task] => crate::failed("acd", watch(Path::new(task))),
        _ => crate::misused("agent acd TASK"),
    }
}

fn watch(task: &Path) -> Result<Infallible, AcdError> {
    let mut reports = crate::reports().map_err(AcdError::Report)?;
    acd::run(task, &mut reports)
}
