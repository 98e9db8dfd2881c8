// SPDX-License-Identifier: Apache-2.0
//! `agent time`: the task is in a file, reports go to descriptor 3; see docs/architecture.md. `agent time --config FILE` is the
//! daemon that this starts.

use std::{convert::Infallible, process::ExitCode};
use stele_agents::time::{self, Surroundings, TimeError};

pub(crate) fn run(arguments: &[&str]) -> ExitCode {
    match arguments {
        [] => crate::failed("time", keep()),
        // It reads the arguments itself.
        ["--config", _file] => match ntpd::daemon_main() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("time: {error}");
                ExitCode::FAILURE
            }
        },
        _ => crate::misused("agent time"),
    }
}

fn keep() -> Result<Infallible, TimeError> {
    let mut reports = crate::reports().map_err(TimeError::Report)?;
    time::run(&Surroundings::of_this_machine(), &mut reports)
}
