// SPDX-License-Identifier: Apache-2.0
//! `agent diagnose ACTION`: a message on standard input, messages on standard output; see docs/architecture.md.
//!
//! Exit 0 when all is answered; 64 when the request makes no sense, and 1 when it failed: a line on standard error says why.

use std::{
    io::{self, Read as _},
    process::ExitCode,
};
use stele_agents::{
    diagnose,
    probe::{Surroundings, explain},
};

/// The longest request.
const LONGEST: u64 = 64 * 1024;

pub(crate) fn run(arguments: &[&str]) -> ExitCode {
    let [action] = arguments else {
        return crate::misused("agent diagnose ACTION");
    };
    let mut request = Vec::new();
    if let Err(error) = io::stdin().lock().take(LONGEST).read_to_end(&mut request) {
        eprintln!("reading the request: {error}");
        return ExitCode::FAILURE;
    }
    let surroundings = Surroundings::of_this_machine();
    match diagnose::run(action, &request, surroundings, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", explain(&error));
            ExitCode::from(if error.is_of_the_request() { 64 } else { 1 })
        }
    }
}
