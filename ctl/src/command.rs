// SPDX-License-Identifier: Apache-2.0
//! What each command does.

pub(crate) mod active;
pub(crate) mod apply;
pub(crate) mod boots;
pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod dashboard;
pub(crate) mod diagnose;
pub(crate) mod drift;
pub(crate) mod edit;
pub(crate) mod events;
pub(crate) mod follow;
pub(crate) mod generate;
pub(crate) mod generations;
pub(crate) mod get;
pub(crate) mod health;
pub(crate) mod logs;
pub(crate) mod machine;
pub(crate) mod patch;
pub(crate) mod slots;
pub(crate) mod status;
pub(crate) mod submit;
pub(crate) mod support;
pub(crate) mod upgrade;
pub(crate) mod validate;
pub(crate) mod watch;

use crate::{
    app::{App, Outcome},
    cli::Command,
};
use anyhow::Result;

/// Does it.
pub(crate) async fn run(app: &App, command: Command) -> Result<Outcome> {
    match command {
        Command::Gen(command) => generate::run(app, command),
        Command::Validate(args) => validate::run(app, &args),
        Command::Schema => validate::schema(),
        Command::ApplyConfig(args) => apply::run(app, args).await,
        Command::Confirm(args) => generations::confirm(app, &args).await,
        Command::Dashboard(args) => dashboard::run(app, &args).await,
        Command::Ping(args) => diagnose::ping::run(app, args).await,
        Command::Traceroute(args) => diagnose::traceroute::run(app, args).await,
        Command::Dig(args) => diagnose::dig::run(app, args).await,
        Command::Probe(command) => diagnose::probe::run(app, command).await,
        Command::Pcap(args) => diagnose::pcap::run(app, args).await,
        Command::Ps(args) => diagnose::machine::processes(app, args).await,
        Command::Netstat(args) => diagnose::machine::sockets(app, args).await,
        Command::Mounts(args) => diagnose::machine::mounts(app, args).await,
        Command::Memory(args) => diagnose::machine::memory(app, args).await,
        Command::Cgroups(args) => diagnose::machine::cgroups(app, args).await,
        Command::Pressure(args) => diagnose::machine::pressure(app, args).await,
        Command::Disks(args) => diagnose::machine::disks(app, args).await,
        Command::Drift(args) => drift::run(app, &args).await,
        Command::Events(args) => events::run(app, args).await,
        Command::Support(args) => support::run(app, args).await,
        Command::Edit(args) => edit::run(app, args).await,
        Command::Patch(args) => patch::run(app, args).await,
        Command::Get(args) => get::run(app, args).await,
        Command::Services(args) => get::run(app, args.into()).await,
        Command::Logs(args) => logs::run(app, args).await,
        Command::Dmesg(args) => logs::run(app, args.into()).await,
        Command::Status(args) => status::run(app, &args).await,
        Command::Health(args) => health::run(app, &args).await,
        Command::Boots(args) => boots::run(app, &args).await,
        Command::Version(args) => machine::version(app, &args).await,
        Command::Upgrade(args) => upgrade::run(app, args).await,
        Command::Rollback(args) => upgrade::rollback(app, args).await,
        Command::Slots(args) => slots::run(app, &args).await,
        Command::Reboot(args) => machine::reboot(app, args).await,
        Command::Shutdown(args) => machine::shutdown(app, args).await,
        Command::Config(command) => config::run(app, command).await,
        Command::Completion(args) => completion::run(&args),
    }
}
