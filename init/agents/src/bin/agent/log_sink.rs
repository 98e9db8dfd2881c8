// SPDX-License-Identifier: Apache-2.0
//! `agent log-sink NAME`. Asks PID 1 on its socket, reports on descriptor 3; see docs/architecture.md.

use std::{convert::Infallible, process::ExitCode};
use stele_agents::{
    log_sink::{self, SinkError, Surroundings},
    probe,
};

pub(crate) fn run(arguments: &[&str]) -> ExitCode {
    match arguments {
        [name] => crate::failed("log-sink", send(name)),
        _ => crate::misused("agent log-sink NAME"),
    }
}

fn send(name: &str) -> Result<Infallible, SinkError> {
    let mut reports = crate::reports().map_err(SinkError::Report)?;
    let probe::Surroundings { names, roots } = probe::Surroundings::of_this_machine();
    let surroundings = Surroundings { socket: log_sink::SOCKET.into(), names, roots };
    log_sink::run(name, surroundings, &mut reports)
}
