// SPDX-License-Identifier: Apache-2.0
//! `ctl version`, `ctl reboot` and `ctl shutdown`.

use super::follow::{self, Wait};
use crate::{
    app::{Answer, App, FormatArg, Outcome, Reach, Targets},
    failure::Failure,
    node::Node,
    output::{self, Format, Table},
    span,
};
use anyhow::Result;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use stele_proto::v1::{Mode, RebootRequest, ShutdownRequest, VersionResponse};

/// Arguments of `ctl version`.
#[derive(Debug, clap::Args)]
pub(crate) struct VersionArgs {
    /// Only ctl's own version, without asking a node
    #[arg(long)]
    client: bool,
    #[command(flatten)]
    format: FormatArg,
}

/// Arguments of `ctl reboot` and `ctl shutdown`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PowerArgs {
    /// Do not wait until it has happened
    #[arg(long)]
    no_wait: bool,
    /// How long to wait
    #[arg(long, default_value = "10m", value_parser = span::parse_duration, value_name = "DURATION")]
    wait_timeout: Duration,
    #[command(flatten)]
    format: FormatArg,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Shows what ctl and the nodes run.
pub(crate) async fn version(app: &App, args: &VersionArgs) -> Result<Outcome> {
    let format = args.format.output;
    if args.client {
        match format {
            Format::Table => output::print(&format!("ctl {VERSION}\n"))?,
            Format::Json | Format::Yaml => {
                output::print_value(format, &json!({ "client": VERSION }))?;
            }
        }
        return Ok(Outcome::Done);
    }
    let targets = app.targets(Reach::Look)?;
    let answers = targets.each(|session| async move { Ok(follow::version(&session).await?) }).await;
    if format != Format::Table {
        let answers = answers.into_iter().map(|Answer { node, result }| Answer {
            node,
            result: result.map(|version| value(&version)),
        });
        return app.print_values(format, answers.collect());
    }
    let (good, outcome) = app.sort(answers);
    output::print(&format!("ctl {VERSION}\n"))?;
    if good.is_empty() {
        return Ok(outcome);
    }
    let mut table =
        Table::new(["NODE", "HOSTNAME", "VERSION", "KERNEL", "ARCHITECTURE", "MODE", "BOOT"]);
    for (node, version) in good {
        let (mode, boot) = (
            mode(&version).to_owned(),
            if version.boot > 0 { version.boot.to_string() } else { String::new() },
        );
        table.row([
            node.name(),
            version.hostname,
            version.version,
            version.kernel,
            version.architecture,
            mode,
            boot,
        ]);
    }
    output::print(&table.render(app.paint))?;
    Ok(outcome)
}

/// The mode, in words.
pub(crate) fn mode(version: &VersionResponse) -> &'static str {
    match version.mode() {
        Mode::Unspecified => "unknown",
        Mode::Maintenance => "maintenance",
        Mode::Running => "running",
        Mode::Stopping => "stopping",
        Mode::Safe => "safe mode",
    }
}

/// What a node says of itself, for programs.
pub(crate) fn value(version: &VersionResponse) -> Value {
    json!({
        "client": VERSION,
        "version": version.version,
        "kernel": version.kernel,
        "architecture": version.architecture,
        "hostname": version.hostname,
        "bootId": version.boot_id,
        "boot": version.boot,
        "mode": mode(version),
        "reason": version.reason,
    })
}

/// What to do to the power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    Reboot,
    Shutdown,
}

/// Restarts nodes.
pub(crate) async fn reboot(app: &App, args: PowerArgs) -> Result<Outcome> {
    power(app, args, Power::Reboot).await
}

/// Powers nodes off.
pub(crate) async fn shutdown(app: &App, args: PowerArgs) -> Result<Outcome> {
    power(app, args, Power::Shutdown).await
}

async fn power(app: &App, args: PowerArgs, power: Power) -> Result<Outcome> {
    let targets = app.targets(Reach::Change)?;
    let format = args.format.output;
    let answers = targets.each_node(move |targets, node| {
        let args = args.clone();
        async move { one(&targets, &node, &args, power).await }
    });
    let answers = answers.await;
    if format != Format::Table {
        let answers = answers.into_iter().map(|Answer { node, result }| Answer {
            node,
            result: result.map(|done| json!({ "done": done })),
        });
        return app.print_values(format, answers.collect());
    }
    let (good, outcome) = app.sort(answers);
    for (node, done) in good {
        output::print(&format!("{}: {done}\n", node.name()))?;
    }
    Ok(outcome)
}

/// Does it to one node, and says what came of it.
async fn one(targets: &Targets, node: &Node, args: &PowerArgs, power: Power) -> Result<String> {
    let session = targets.connect(node).await?;
    let begun = Instant::now();
    let before = follow::version(&session).await?;
    let asked = match power {
        Power::Reboot => {
            session.answer("Rebooting", session.machine().reboot(RebootRequest {})).await.map(drop)
        }
        Power::Shutdown => session
            .answer("Shutting down", session.machine().shutdown(ShutdownRequest {}))
            .await
            .map(drop),
    };
    gone_is_fine(asked, !args.no_wait)?;
    drop(session);
    let wait = Wait::new(targets, node, args.wait_timeout);
    let took = || span::format_duration(begun.elapsed());
    Ok(match (power, args.no_wait) {
        (Power::Reboot, true) => "reboots".to_owned(),
        (Power::Shutdown, true) => "shuts down".to_owned(),
        (Power::Reboot, false) => {
            let after = wait.for_boot_after(&before.boot_id).await?;
            format!("back after {}, running {}", took(), after.version)
        }
        (Power::Shutdown, false) => {
            wait.for_silence().await?;
            format!("answers no more after {}", took())
        }
    })
}

/// A node that is going away may take the connection with it before it has answered; what follows shows whether it did.
pub(crate) fn gone_is_fine(asked: Result<(), Failure>, waits: bool) -> Result<(), Failure> {
    match asked {
        Err(failure) if failure.is_lost() && waits => Ok(()),
        other => other,
    }
}
