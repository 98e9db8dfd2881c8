// SPDX-License-Identifier: Apache-2.0
//! `agent routers`. Reports on descriptor 3; see docs/architecture.md.

use std::{convert::Infallible, process::ExitCode};
use stele_agents::routers::{self, RoutersError};

pub(crate) fn run(arguments: &[&str]) -> ExitCode {
    match arguments {
        [] => crate::failed("routers", listen()),
        _ => crate::misused("agent routers"),
    }
}

fn listen() -> Result<Infallible, RoutersError> {
    routers::run(&mut crate::reports().map_err(RoutersError::Report)?)
}
