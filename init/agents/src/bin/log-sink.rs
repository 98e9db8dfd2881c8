// SPDX-License-Identifier: Apache-2.0
//! The log-sink agent: `log-sink NAME`. Asks PID 1 on its socket, reports on descriptor 3; see docs/architecture.md.

#![forbid(unsafe_code)]

use std::{env, fs::File, process::ExitCode};
use stele_agents::{
    log_sink::{self, SinkError, Surroundings},
    probe::{self, explain},
};
use stele_kernel::inherited;

/// Where PID 1 listens to reports.
const REPORTS: i32 = 3;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [name] = arguments.as_slice() else {
        eprintln!("usage: log-sink NAME");
        return ExitCode::FAILURE;
    };
    let Err(error) = run(name);
    eprintln!("log-sink: {}", explain(&error));
    ExitCode::FAILURE
}

fn run(name: &str) -> Result<std::convert::Infallible, SinkError> {
    let reports = inherited::descriptor(REPORTS).map_err(SinkError::Report)?;
    let probe::Surroundings { names, roots } = probe::Surroundings::of_this_machine();
    let surroundings = Surroundings { socket: log_sink::SOCKET.into(), names, roots };
    log_sink::run(name, surroundings, &mut File::from(reports))
}
