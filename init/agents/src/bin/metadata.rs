// SPDX-License-Identifier: Apache-2.0
//! `metadata PLATFORM`: what the platform's metadata service says, on standard output: a line of JSON, and behind it the
//! user-data as it is.
//!
//! Exit 0 when it answered; 1 when it did not, with a line on standard error; 64 for a platform without one.

#![forbid(unsafe_code)]

use std::{io, process::ExitCode};
use stele_agents::{metadata, probe::explain};

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_default();
    let Some(service) = stele_platform::named(&name).and_then(|platform| platform.metadata) else {
        eprintln!("usage: metadata PLATFORM, of those that have a metadata service");
        return ExitCode::from(64);
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("starting: {error}");
            return ExitCode::FAILURE;
        }
    };
    let said = match runtime.block_on(metadata::converse(&service)) {
        Ok(said) => said,
        Err(error) => {
            eprintln!("{}", explain(&error));
            return ExitCode::FAILURE;
        }
    };
    match said.write(&mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("passing it on: {error}");
            ExitCode::FAILURE
        }
    }
}
