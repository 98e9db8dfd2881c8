// SPDX-License-Identifier: Apache-2.0
//! The metrics agent: `metrics ADDRESS:PORT`. Asks PID 1 on its socket, reports on descriptor 3; see docs/architecture.md.

#![forbid(unsafe_code)]

use std::{env, fs::File, process::ExitCode};
use stele_agents::{
    metrics::{self, MetricsError},
    probe::explain,
};
use stele_kernel::inherited;

/// Where PID 1 listens to reports.
const REPORTS: i32 = 3;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address] = arguments.as_slice() else {
        eprintln!("usage: metrics ADDRESS:PORT");
        return ExitCode::FAILURE;
    };
    let Err(error) = run(address);
    eprintln!("metrics: {}", explain(&error));
    ExitCode::FAILURE
}

fn run(address: &str) -> Result<std::convert::Infallible, MetricsError> {
    let reports = inherited::descriptor(REPORTS).map_err(MetricsError::Report)?;
    metrics::run(address, metrics::SOCKET.into(), &mut File::from(reports))
}
