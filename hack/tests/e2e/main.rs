// SPDX-License-Identifier: Apache-2.0
//! What a user does, on real boots.
//!
//! `cargo test -p hack --test e2e -- NAME…` runs the scenarios with one of these in their name. `hack test` builds what
//! they need first. With `--thorough` all of them run, and power is cut as often as before a release. The consoles of all machines are kept in `out/e2e/consoles`.

#![forbid(unsafe_code)]

mod admission;
mod api;
mod arguments;
mod broken;
mod client;
mod clock;
mod clouds;
mod collectors;
mod config;
mod cuts;
mod diagnose;
mod disk;
mod faults;
mod fixed;
mod fleet;
mod health;
mod http;
mod hypervisor;
mod images;
mod kinds;
mod lan;
mod live;
mod load;
mod names;
mod network;
mod power;
mod probes;
mod proxy;
mod raw;
mod registry;
mod routers;
mod served;
mod service;
mod sinks;
mod source;
mod space;
mod transaction;
mod upgrade;
mod web;
mod world;

use hack::{
    check::THOROUGH,
    suite::{self, Scenario},
};
use std::{env, process::ExitCode};
use world::World;

/// Those with two machines first: they would wait for one that runs beside another. Then long ones first: what runs side by side
/// ends together.
static SCENARIOS: &[Scenario<World>] = &[
    Scenario { name: "cuts::every_write", machines: 2, run: cuts::every_write },
    Scenario { name: "clouds::walk", machines: 2, run: clouds::walk },
    Scenario { name: "cuts::every_apply", machines: 2, run: cuts::every_apply },
    Scenario { name: "network::peers", machines: 2, run: network::peers },
    Scenario { name: "fleet::two_nodes", machines: 2, run: fleet::two_nodes },
    Scenario { name: "clock::nts", machines: 1, run: clock::nts },
    Scenario { name: "transaction::on_trial", machines: 1, run: transaction::on_trial },
    Scenario { name: "arguments::beside_others", machines: 1, run: arguments::beside_others },
    Scenario { name: "health::safe", machines: 1, run: health::safe },
    Scenario { name: "arguments::there_and_back", machines: 1, run: arguments::there_and_back },
    Scenario { name: "broken::no_api", machines: 1, run: broken::fault::<10> },
    Scenario { name: "cuts::kills", machines: 1, run: cuts::kills },
    Scenario { name: "admission::versions", machines: 1, run: admission::versions },
    Scenario {
        name: "transaction::confirmed_or_not",
        machines: 1,
        run: transaction::confirmed_or_not,
    },
    Scenario { name: "upgrade::bad_image", machines: 1, run: upgrade::bad_image },
    Scenario { name: "clock::wrong_once", machines: 1, run: clock::wrong_once },
    Scenario { name: "broken::configuration", machines: 1, run: broken::fault::<14> },
    Scenario { name: "admission::signatures", machines: 1, run: admission::signatures },
    Scenario { name: "upgrade::there_and_back", machines: 1, run: upgrade::there_and_back },
    Scenario { name: "registry::real", machines: 1, run: registry::real },
    Scenario { name: "broken::panics", machines: 1, run: broken::fault::<6> },
    Scenario { name: "kinds::every", machines: 1, run: kinds::every },
    Scenario { name: "network::fixed", machines: 1, run: fixed::addresses },
    Scenario { name: "space::esp_nearly_full", machines: 1, run: space::esp_nearly_full },
    Scenario { name: "registry::resumed", machines: 1, run: registry::resumed },
    Scenario { name: "broken::hangs", machines: 1, run: broken::fault::<8> },
    Scenario { name: "network::kinds", machines: 1, run: network::kinds },
    Scenario { name: "hypervisor::guestinfo", machines: 1, run: hypervisor::guestinfo },
    Scenario { name: "upgrade::refused", machines: 1, run: images::refused },
    Scenario { name: "registry::troubled", machines: 1, run: registry::troubled },
    Scenario { name: "broken::corrupt_squashfs", machines: 1, run: broken::fault::<4> },
    Scenario { name: "source::instance", machines: 1, run: source::instance },
    Scenario { name: "load::watches", machines: 1, run: load::watches },
    Scenario { name: "network::served", machines: 1, run: served::by_real_servers },
    Scenario { name: "source::folder", machines: 1, run: source::folder },
    Scenario { name: "space::state_corrupt", machines: 1, run: space::state_corrupt },
    Scenario { name: "disk::full", machines: 1, run: disk::full },
    Scenario { name: "transaction::corrupted", machines: 1, run: transaction::corrupted },
    Scenario { name: "source::include", machines: 1, run: source::include },
    Scenario { name: "source::late", machines: 1, run: source::late },
    Scenario { name: "health::gate", machines: 1, run: health::gate },
    Scenario { name: "disk::first_boot", machines: 1, run: disk::first_boot },
    Scenario { name: "faults::around", machines: 1, run: faults::around },
    Scenario { name: "api::bad_input", machines: 1, run: api::bad_input },
    Scenario { name: "space::esp_full", machines: 1, run: space::esp_full },
    Scenario { name: "space::data_full", machines: 1, run: space::data_full },
    Scenario { name: "sinks::figures", machines: 1, run: sinks::figures },
    Scenario { name: "sinks::logs", machines: 1, run: sinks::logs },
    Scenario { name: "disk::state_corrupt", machines: 1, run: disk::state_corrupt },
    Scenario { name: "live::node", machines: 1, run: live::node },
    Scenario { name: "client::configuration", machines: 1, run: client::configuration },
    Scenario { name: "diagnose::every", machines: 1, run: diagnose::every },
    Scenario { name: "clouds::equinix", machines: 1, run: routers::equinix },
    Scenario { name: "power::buttons", machines: 1, run: power::buttons },
    Scenario { name: "broken::empty", machines: 1, run: broken::fault::<0> },
    Scenario { name: "clouds::cloudstack", machines: 1, run: routers::cloudstack },
    Scenario { name: "service::crash_loop", machines: 1, run: service::crash_loop },
    Scenario { name: "config::bad_input", machines: 1, run: config::bad_input },
    Scenario { name: "disk::too_small", machines: 1, run: disk::too_small },
    Scenario { name: "source::metadata", machines: 1, run: source::metadata },
    Scenario { name: "sinks::clients", machines: 1, run: sinks::clients },
    Scenario { name: "source::cidata", machines: 1, run: source::cidata },
    Scenario { name: "source::url", machines: 1, run: source::url },
    Scenario { name: "source::config_drive", machines: 1, run: source::config_drive },
    Scenario { name: "source::script", machines: 1, run: source::script },
    Scenario { name: "source::refused", machines: 1, run: source::refused },
];

/// What takes long and is like others: for who asks for it by name, or wants the tests to be thorough.
static MORE: &[Scenario<World>] = &[
    Scenario { name: "broken::no_network", machines: 1, run: broken::fault::<11> },
    Scenario { name: "broken::check_fails", machines: 1, run: broken::fault::<12> },
    Scenario { name: "broken::check_flaps", machines: 1, run: broken::fault::<13> },
    Scenario { name: "broken::stuck", machines: 1, run: broken::fault::<9> },
    Scenario { name: "broken::exits", machines: 1, run: broken::fault::<7> },
    Scenario { name: "broken::zeros", machines: 1, run: broken::fault::<1> },
    Scenario { name: "broken::truncated_kernel", machines: 1, run: broken::fault::<2> },
    Scenario { name: "broken::corrupt_initrd", machines: 1, run: broken::fault::<3> },
    Scenario { name: "broken::no_init", machines: 1, run: broken::fault::<5> },
    Scenario { name: "arguments::given_up", machines: 1, run: arguments::given_up },
];

fn main() -> ExitCode {
    let (flags, filters): (Vec<String>, Vec<String>) =
        env::args().skip(1).partition(|argument| argument.starts_with("--"));
    // Others are those of cargo's own test runner, which has no use here.
    let thorough = flags.iter().any(|flag| flag == THOROUGH);
    let more = if thorough || !filters.is_empty() { MORE } else { &[] };
    let outcome = World::new(thorough).and_then(|world| {
        let sound = suite::run(&world, SCENARIOS.iter().chain(more), &filters)?;
        world.print_figures();
        Ok(sound)
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
