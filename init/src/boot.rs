// SPDX-License-Identifier: Apache-2.0
//! Stage two: the machine comes up.
//!
//! ```text
//! mounts, clock ─► logs, socket, devices ─► disk ─► network, API ─► configuration: state, fw_cfg, cidata, URL ─► running
//!                                                                                   └ none: maintenance mode
//! ```
//!
//! Before the runtime starts, everything is done in a row and a failure ends the boot; after that, what fails says so
//! and the rest goes on: a machine that can still be reached can be repaired.

use crate::{
    api, arguments,
    boots::{self, Reason},
    cgroup,
    configuration::Restored,
    devices::Devices,
    dns, environment, etc_files, events,
    fault::{self, Fault},
    fence, figures, health, identity, kernel_log, lag, log_files, network,
    node::{Node, Release},
    platform::Here,
    power_button, readiness, report, shutdown, sinks, sources,
    state::State,
    time, trust, tuning, unit, upgrade, volumes, watchdog,
};
use std::{fs, io, path::Path, rc::Rc};
use stele_kernel::{
    power,
    signals::{Signals, Told},
};
use stele_machine::{boots::Start, service, time::Known};
use tokio::io::unix::AsyncFd;

/// Why the machine could not come up at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    #[error("listening to signals")]
    Signals(#[source] io::Error),
    #[error("preparing control groups")]
    Cgroups(#[source] cgroup::CgroupError),
    #[error("reading the image's units")]
    Units(#[source] unit::UnitError),
    #[error("starting the event loop")]
    Runtime(#[source] io::Error),
    #[error("opening PID 1's socket")]
    Socket(#[source] io::Error),
    #[error("making the folder of the API's identity")]
    Identity(#[source] io::Error),
    #[error("making the folders of what the agents know")]
    Trust(#[source] trust::TrustError),
    #[error("preparing to resolve names")]
    Dns(#[source] dns::DnsError),
    #[error("preparing to keep the clock right")]
    Time(#[source] time::TimeError),
    #[error("preparing to probe the network")]
    Probe(#[source] io::Error),
    #[error("the event loop ended")]
    Ended,
}

/// Runs the machine; returns only when it could not come up, or could not go down.
pub(crate) fn run() -> BootError {
    let node = match prepare() {
        Ok(node) => Rc::new(node),
        Err(error) => return error,
    };
    // Blocked before any thread starts, so that every thread inherits it.
    let signals = match Signals::open() {
        Ok(signals) => signals,
        Err(error) => return BootError::Signals(error),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .thread_stack_size(512 * 1024)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return BootError::Runtime(error),
    };
    match tokio::task::LocalSet::new().block_on(&runtime, live(node, signals)) {
        Ok(()) => BootError::Ended,
        Err(error) => error,
    }
}

/// What must be there before anything else.
fn prepare() -> Result<Node, BootError> {
    for (target, error) in volumes::mount_base() {
        tracing::error!(mount.target = target, error = %error, "mounting failed");
    }
    if let Err(error) = power::catch_ctrl_alt_del() {
        tracing::warn!(error = %error, "Ctrl-Alt-Del will restart the machine at once");
    }
    let release = Release::parse(&fs::read_to_string("/usr/lib/os-release").unwrap_or_default());
    time::keep_sane(Known::of_image(release.build_time));
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    tracing::info!(target: report::CONSOLE, "Stele {} on Linux {kernel}", release.version);
    volumes::mount_efivarfs(&kernel);
    cgroup::prepare().map_err(BootError::Cgroups)?;
    let units = unit::read_all().map_err(BootError::Units)?;
    Ok(Node::new(units, release))
}

/// The machine, until it ends.
async fn live(node: Rc<Node>, signals: Signals) -> Result<(), BootError> {
    let listener = api::listen(api::GATE).map_err(BootError::Socket)?;
    let metrics = api::listen(api::METRICS).map_err(BootError::Socket)?;
    let log_sink = api::listen(api::LOG_SINK).map_err(BootError::Socket)?;
    identity::prepare().map_err(BootError::Identity)?;
    trust::prepare().map_err(BootError::Trust)?;
    time::prepare().map_err(BootError::Time)?;
    dns::prepare().map_err(BootError::Dns)?;
    health::prepare().map_err(BootError::Probe)?;
    tokio::task::spawn_local(listen(
        Rc::clone(&node),
        readiness::watch(signals).map_err(BootError::Signals)?,
    ));
    tokio::task::spawn_local(kernel_log::follow(Rc::clone(&node)));
    tokio::task::spawn_local(lag::keep(Rc::clone(&node)));
    tokio::task::spawn_local(api::serve(Rc::clone(&node), api::GATE, listener));
    tokio::task::spawn_local(api::serve(Rc::clone(&node), api::METRICS, metrics));
    tokio::task::spawn_local(api::serve(Rc::clone(&node), api::LOG_SINK, log_sink));
    tokio::task::spawn_local(come_up(Rc::clone(&node)));
    let mut ending = node.ending.subscribe();
    let how = match ending.wait_for(Option::is_some).await {
        Ok(how) => *how,
        Err(_) => None,
    };
    if let Some(how) = how {
        shutdown::run(&node, how).await;
    }
    Ok(())
}

/// Hears signals for as long as the machine runs.
async fn listen(node: Rc<Node>, mut signals: AsyncFd<Signals>) {
    loop {
        let Ok(mut ready) = signals.readable_mut().await else { return };
        match ready.get_inner_mut().next() {
            Ok(Some(Told::ChildEnded)) => node.children.reap(),
            Ok(Some(Told::CtrlAltDel)) => {
                tracing::info!(target: report::CONSOLE, "Ctrl-Alt-Del pressed");
                node.end(power::End::Restart, Reason::asked("Ctrl-Alt-Del was pressed"));
            }
            Ok(Some(Told::Terminate)) => {
                node.end(power::End::PowerOff, Reason::asked("PID 1 was told to end"));
            }
            Ok(None) => ready.clear_ready(),
            Err(error) => tracing::error!(error = %error, "reading a signal failed"),
        }
    }
}

async fn come_up(node: Rc<Node>) {
    for (name, unit) in node.units.iter().filter(|(_, unit)| unit.start == unit::Start::Boot) {
        // The API starts now and waits for its identity, while the machine waits for its devices.
        node.supervisor.add(&node, name, unit.clone(), None).start();
    }
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let devices = match Devices::start(&node, &kernel) {
        Ok(devices) => node.devices.get_or_init(|| devices),
        Err(error) => {
            tracing::error!(error = %error, "caring for devices failed; nothing that needs a module will work");
            return;
        }
    };
    fault::commit(Fault::Panic);
    fault::commit(Fault::Exit);
    tokio::task::spawn_local(watchdog::keep(Rc::clone(&node)));
    tokio::task::spawn_local(power_button::listen(Rc::clone(&node)));
    let fw_cfg = tokio::task::spawn_local(sources::read_fw_cfg(Rc::clone(&node)));
    let here = Rc::new(Here::find(&node));
    devices.coldplugged().await;
    let esp = upgrade::esp_partition();
    if esp.is_none() {
        // Nothing says which disk is ours, if any: all of them must have had time to show themselves.
        devices.settled().await;
    }
    let (state_kept, data_kept) = volumes::mount_all(&node, esp.as_deref()).await;
    if !state_kept && node.arguments.started_for().is_some() {
        // It was asked for by a machine that had one, and without it nobody would know whose machine this is.
        let why = "with its kernel arguments the machine does not find its STATE volume";
        return node.end(power::End::Restart, Reason::own(why));
    }
    time::remember(&node, state_kept);
    tokio::task::spawn_local(volumes::watch(Rc::clone(&node)));
    fault::commit(Fault::Hang);
    let slots = upgrade::settle(&node).await;
    let boot = boots::begin(&node, state_kept, data_kept, slots.as_ref()).await;
    health::open_gate(&node);
    let state = State::begin(state_kept, boot);
    if node.state.set(state).is_err() {
        tracing::error!("the machine came up twice");
    }
    if data_kept && state.boot > 0 {
        if let Err(error) = node.logs.files().start(state.boot) {
            tracing::error!(error = %error, "keeping logs on disk failed; they are in memory only");
        }
    } else {
        node.logs.files().abandon();
    }
    // It fails only by panicking.
    let last = tokio::task::spawn_blocking(|| events::last_on_disk(Path::new(log_files::FOLDER)));
    let last = last.await.unwrap_or(0);
    node.store.events.start(state.boot, last, Rc::clone(node.logs.files()));
    let restored =
        if state_kept { node.configuration.restore(&node).await } else { Restored::Nothing };
    if arguments::settle(&node).await {
        return;
    }
    tokio::task::spawn_local(arguments::keep(Rc::clone(&node)));
    tokio::task::spawn_local(fence::keep(Rc::clone(&node), Rc::clone(&here)));
    tokio::task::spawn_local(trust::keep(Rc::clone(&node)));
    tokio::task::spawn_local(environment::keep(Rc::clone(&node)));
    tokio::task::spawn_local(etc_files::keep(Rc::clone(&node)));
    tokio::task::spawn_local(tuning::keep(Rc::clone(&node)));
    network::start(&node).await;
    tokio::task::spawn_local(dns::keep(Rc::clone(&node)));
    tokio::task::spawn_local(time::keep(Rc::clone(&node), Rc::clone(&here)));
    tokio::task::spawn_local(figures::agent::keep(Rc::clone(&node)));
    tokio::task::spawn_local(sinks::keep(Rc::clone(&node)));
    tokio::task::spawn_local(health::keep(Rc::clone(&node)));
    match restored {
        Restored::Done => sources::revisit(&node, &here),
        // It fails only by panicking, which ends the machine.
        Restored::Nothing => sources::search(&node, fw_cfg.await.unwrap_or_default(), &here).await,
        Restored::Unreadable(reason) if node.health.is_pending() => {
            return health::fail(&node, reason).await;
        }
        // A machine that was someone's is never open to everyone: its API stays closed.
        Restored::Unreadable(reason) => {
            node.health.is_up();
            return node.boots.give_up(&node, reason).await;
        }
    }
    tokio::task::spawn_local(identity::keep(Rc::clone(&node)));
    if let Some(apid) = node.supervisor.find("apid") {
        apid.reach(service::State::Running).await;
    }
    fault::commit(Fault::Stuck);
    tokio::task::spawn_local(fault::churn(Rc::clone(&node)));
    tokio::task::spawn_local(fault::kill_services(Rc::clone(&node)));
    node.health.is_up();
    arguments::is_up(&node).await;
    node.configuration.is_up(&node).await;
    let told = Rc::clone(&node);
    tokio::task::spawn_local(async move { here.check_in(&told).await });
    if node.boots.started() == Start::Ordinary {
        health::settle(&node, false).await;
    }
}
