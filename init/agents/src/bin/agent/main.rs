// SPDX-License-Identifier: Apache-2.0
//! The agents that speak for the machine with others, by IP or with its hypervisor, in one program: `agent JOB ...`.
//!
//! Each process has one job and the sandbox of its unit. They are one program because each of them would bring the same
//! libraries of TLS and DNS into the image, and into memory, once more.

#![forbid(unsafe_code)]

mod acd;
mod dhcp;
mod dhcp6;
mod diagnose;
mod dns;
mod fetch;
mod guestinfo;
mod kvp;
mod log_sink;
mod metadata;
mod metrics;
mod probe;
mod routers;
mod time;

use std::{convert::Infallible, env, error::Error, ffi::CString, fs::File, io, process::ExitCode};
use stele_agents::probe::explain;
use stele_kernel::inherited;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let Some((job, arguments)) = arguments.split_first() else {
        return misused("agent JOB ...");
    };
    // What lists of processes show. A name with a zero byte in it is no job either.
    if let Ok(name) = CString::new(*job) {
        let _unnamed = rustix::thread::set_name(&name);
    }
    match *job {
        "acd" => acd::run(arguments),
        "dhcp" => dhcp::run(arguments),
        "dhcp6" => dhcp6::run(arguments),
        "diagnose" => diagnose::run(arguments),
        "dns" => dns::run(arguments),
        "fetch" => fetch::run(arguments),
        "guestinfo" => guestinfo::run(arguments),
        "kvp" => kvp::run(arguments),
        "log-sink" => log_sink::run(arguments),
        "metadata" => metadata::run(arguments),
        "metrics" => metrics::run(arguments),
        "probe" => probe::run(arguments),
        "routers" => routers::run(arguments),
        "time" => time::run(arguments),
        _ => misused(
            "agent acd|dhcp|dhcp6|diagnose|dns|fetch|guestinfo|kvp|log-sink|metadata|metrics|probe|routers|time ...",
        ),
    }
}

/// Called in a way that makes no sense.
fn misused(usage: &str) -> ExitCode {
    eprintln!("usage: {usage}");
    ExitCode::from(64)
}

/// The end of an agent that never ends by itself.
fn failed<E: Error>(name: &str, result: Result<Infallible, E>) -> ExitCode {
    let Err(error) = result;
    eprintln!("{name}: {}", explain(&error));
    ExitCode::FAILURE
}

/// The end of one that does one thing.
fn ended<E: Error>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", explain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Does a job that ends; a name that is still being looked up then is not waited for.
fn block_on<T>(job: impl Future<Output = T>) -> Result<T, ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        eprintln!("starting: {error}");
        ExitCode::FAILURE
    })?;
    let done = runtime.block_on(job);
    runtime.shutdown_background();
    Ok(done)
}

/// Where PID 1 listens to what an agent reports.
fn reports() -> io::Result<File> {
    inherited::descriptor(3).map(File::from)
}
