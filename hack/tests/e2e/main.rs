// SPDX-License-Identifier: Apache-2.0
//! What a user does, on real boots.
//!
//! `cargo test -p hack --test e2e -- NAME…` runs the scenarios with one of these in their name. `hack test` builds what
//! they need first. The consoles of all machines are kept in `out/e2e/consoles`.

#![forbid(unsafe_code)]

mod api;
mod config;
mod disk;
mod fleet;
mod http;
mod images;
mod live;
mod power;
mod raw;
mod service;
mod source;
mod upgrade;
mod world;

use hack::suite::{self, Scenario};
use std::{env, process::ExitCode};
use world::World;

/// Long ones first: what runs side by side then ends together.
static SCENARIOS: [Scenario<World>; 16] = [
    Scenario { name: "upgrade::bad_image", machines: 1, run: upgrade::bad_image },
    Scenario { name: "upgrade::there_and_back", machines: 1, run: upgrade::there_and_back },
    Scenario { name: "upgrade::refused", machines: 1, run: images::refused },
    Scenario { name: "disk::first_boot", machines: 1, run: disk::first_boot },
    Scenario { name: "disk::full", machines: 1, run: disk::full },
    Scenario { name: "disk::state_corrupt", machines: 1, run: disk::state_corrupt },
    Scenario { name: "service::crash_loop", machines: 1, run: service::crash_loop },
    Scenario { name: "live::node", machines: 1, run: live::node },
    Scenario { name: "api::bad_input", machines: 1, run: api::bad_input },
    Scenario { name: "config::bad_input", machines: 1, run: config::bad_input },
    Scenario { name: "power::buttons", machines: 1, run: power::buttons },
    Scenario { name: "disk::too_small", machines: 1, run: disk::too_small },
    Scenario { name: "source::cidata", machines: 1, run: source::cidata },
    Scenario { name: "source::url", machines: 1, run: source::url },
    Scenario { name: "source::refused", machines: 1, run: source::refused },
    Scenario { name: "fleet::two_nodes", machines: 2, run: fleet::two_nodes },
];

fn main() -> ExitCode {
    // Flags are those of cargo's own test runner, which has no use here.
    let filters: Vec<String> = env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let outcome = World::new().and_then(|world| suite::run(&world, &SCENARIOS, &filters));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
