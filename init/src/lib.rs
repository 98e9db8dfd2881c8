// SPDX-License-Identifier: Apache-2.0
//! PID 1.
//!
//! One program, three lives: stage one runs from the initramfs and ends by running this program again from the real
//! root; stage two is the init of the machine; and the executor, a short-lived child of it, becomes a service. See
//! docs/architecture.md.
//!
//! It is a library with one function, [`run`], so that what strangers say to it can be said to it by a fuzzer as well: see the feature `rig`.
//!
//! Reading order: [`stage1`], [`boot`], [`node`], then whatever the node is made of.

#![forbid(unsafe_code)]

mod agent;
mod api;
mod arguments;
mod boot;
mod boots;
mod cgroup;
mod configuration;
mod convergence;
mod descriptors;
mod devices;
mod diagnose;
mod dns;
mod environment;
mod etc_files;
mod events;
mod evidence;
mod executor;
mod fault;
mod fence;
mod figures;
#[cfg(test)]
mod fixture;
mod handlers;
mod health;
mod identity;
mod images;
mod kernel_log;
mod kernel_modules;
mod lag;
mod log_files;
mod logs;
mod memory;
mod network;
mod node;
mod one_shot;
mod platform;
mod power_button;
mod process;
mod readiness;
mod report;
#[cfg(feature = "rig")]
pub mod rig;
mod shutdown;
mod sinks;
mod sources;
mod stage1;
mod state;
mod store;
mod supervisor;
mod sysctls;
mod time;
mod trust;
mod tuning;
mod turns;
mod unit;
mod upgrade;
mod volumes;
mod watchdog;

use std::{env, path::Path, process::ExitCode};

/// What this process is for: to be PID 1, or the executor.
#[must_use]
pub fn run() -> ExitCode {
    if std::process::id() == 1 {
        if Path::new(stage1::ROOT_IMAGE).exists() {
            report::die(&stage1::run());
        }
        report::install();
        report::die(&boot::run());
    }
    let mut arguments = env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some(executor::ARGUMENT), Some(task)) => executor::run(&task),
        _ => {
            report::complain("this program is PID 1 of Stele and does nothing when run by hand");
            ExitCode::FAILURE
        }
    }
}
