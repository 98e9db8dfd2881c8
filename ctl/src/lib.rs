// SPDX-License-Identifier: Apache-2.0
//! The client of Stele: makes secrets and configurations, and talks to nodes.
//!
//! * [`cli`]: the commands there are; [`command`]: what each does; [`app`]: what they share.
//! * [`context`], [`node`]: whom to talk to; [`pki`]: with what certificates.
//! * [`client`], [`tls`], [`verifier`], [`failure`]: one connection to one node, and what is said when it fails.
//! * [`documents`], [`diff`], [`patch`]: configurations, as they are compared and changed; [`age`]: encryption of archives.
//! * [`output`], [`view`], [`template`], [`findings`], [`lines`], [`span`]: how things are shown.
//!
//! It is a library with one function, [`run`], and what reads a patch, so that a fuzzer reaches it as well.
//!
//! Exit codes: 0 when all went well, 1 when a node failed or refused, 2 when what was given is not valid.

#![forbid(unsafe_code)]

mod age;
mod app;
mod cli;
mod client;
mod command;
mod context;
mod diff;
pub mod documents;
mod failure;
mod findings;
mod lines;
mod node;
mod output;
pub mod patch;
mod pki;
mod resources;
mod span;
mod template;
mod tls;
mod verifier;
mod view;

use app::{App, Misuse, Outcome};
use std::process::ExitCode;

/// Does what the command line says.
#[must_use]
pub fn run() -> ExitCode {
    let cli = cli::parse();
    let app = App::new(cli.global);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: Starting the runtime: {error}");
            return Outcome::Failed.into();
        }
    };
    let result = runtime.block_on(command::run(&app, cli.command));
    // Whatever still waits for a node or a terminal must not hold up the end.
    runtime.shutdown_background();
    match result {
        Ok(outcome) => outcome.into(),
        Err(error) if app::is_gone(&error) => Outcome::Done.into(),
        Err(error) => {
            app.complain(None, &error);
            if error.downcast_ref::<Misuse>().is_some() {
                Outcome::Invalid.into()
            } else {
                Outcome::Failed.into()
            }
        }
    }
}
