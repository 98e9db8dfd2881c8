// SPDX-License-Identifier: Apache-2.0
//! `apid [PORT]`: the gate between the network and PID 1. See the library.

#![forbid(unsafe_code)]

use apid::{
    audit::Sink,
    identity, limits, listener,
    server::{self, Control, Options},
    upstream,
};
use std::{env, path::PathBuf, process::ExitCode};
use tokio::signal::unix::{SignalKind, signal};
use tracing::level_filters::LevelFilter;

fn main() -> ExitCode {
    let level = env::var("STELE_LOG")
        .ok()
        .and_then(|level| level.parse().ok())
        .unwrap_or(LevelFilter::INFO);
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .without_time()
        .with_ansi(false)
        .with_target(false)
        .init();
    // One thread: what is shared needs no waiting, and the memory of a second one buys little on machines of this kind.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run()),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = server::chain(error.as_ref()), "apid cannot serve");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    // First of all: an order that comes before its handler would end the process.
    let control = obey()?;
    let audit = Sink::inherited();
    let port = match env::args().nth(1) {
        Some(port) => port.parse()?,
        None => limits::PORT,
    };
    let listener = listener::bind(port)?;
    let path = |name, default: &str| {
        env::var_os(name).map_or_else(|| PathBuf::from(default), PathBuf::from)
    };
    let identity = path("STELE_IDENTITY", identity::PATH);
    let init = path("STELE_INIT_SOCKET", upstream::PATH);
    Ok(server::serve(Options { listener, identity, init, audit, control }).await?)
}

/// Turns signals into orders.
fn obey() -> std::io::Result<Control> {
    let control = Control::default();
    for (kind, order) in [
        (SignalKind::hangup(), &control.reload),
        (SignalKind::terminate(), &control.stop),
        (SignalKind::interrupt(), &control.stop),
    ] {
        let mut signals = signal(kind)?;
        let order = order.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                order.notify_one();
            }
        });
    }
    Ok(control)
}
