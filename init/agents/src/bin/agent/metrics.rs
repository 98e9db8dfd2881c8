// SPDX-License-Identifier: Apache-2.0
//! `agent metrics ADDRESS:PORT`. Asks PID 1 on its socket, reports on descriptor 3; see docs/architecture.md.

use std::{convert::Infallible, process::ExitCode};
use stele_agents::metrics::{self, MetricsError};

pub(crate) fn run(arguments: &[&str]) -> ExitCode {
    match arguments {
        [address] => crate::failed("metrics", serve(address)),
        _ => crate::misused("agent metrics ADDRESS:PORT"),
    }
}

fn serve(address: &str) -> Result<Infallible, MetricsError> {
    let mut reports = crate::reports().map_err(MetricsError::Report)?;
    metrics::run(address, metrics::SOCKET.into(), &mut reports)
}
