// SPDX-License-Identifier: Apache-2.0
//! The probe agent: `probe CHECKS`, where CHECKS is JSON. Reports on descriptor 3; see docs/architecture.md.

#![forbid(unsafe_code)]

use std::{env, fs::File, process::ExitCode};
use stele_agents::probe::{self, ProbeError, Surroundings};
use stele_kernel::inherited;

/// Where PID 1 listens.
const REPORTS: i32 = 3;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [checks] = arguments.as_slice() else {
        eprintln!("usage: probe CHECKS");
        return ExitCode::FAILURE;
    };
    let Err(error) = run(checks);
    eprintln!("probe: {}", probe::explain(&error));
    ExitCode::FAILURE
}

fn run(checks: &str) -> Result<std::convert::Infallible, ProbeError> {
    let task = probe::parse(checks)?;
    let reports = inherited::descriptor(REPORTS).map_err(ProbeError::Report)?;
    probe::run(task, Surroundings::of_this_machine(), &mut File::from(reports))
}
