// SPDX-License-Identifier: Apache-2.0
//! `ctl status`: how a node is, in one look, and loudly so if it waits for a person.

use super::{boots, follow, health, machine};
use crate::{
    app::{Answer, App, FormatArg, Outcome, Reach},
    client::Session,
    output::{self, Format, Paint, Table, plain},
    resources::{Thing, list_known},
};
use anyhow::Result;
use serde_json::{Value, json};
use std::fmt::Write as _;
use stele_proto::v1::{Mode, VersionResponse};

/// Arguments of `ctl status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    format: FormatArg,
}

/// How a node is.
#[derive(Clone, Debug)]
struct Status {
    version: VersionResponse,
    /// The boots, newest first.
    boots: Vec<Thing>,
    generations: Vec<Thing>,
    slot: Option<Thing>,
    gate: Option<Thing>,
    checks: Vec<Thing>,
    services: Vec<Thing>,
    volumes: Vec<Thing>,
    watchdogs: Vec<Thing>,
}

async fn ask(session: &Session) -> Result<Status> {
    let version = follow::version(session).await?;
    let known = |kind| list_known(session, kind);
    let mut boots = known("Boot").await?;
    boots.sort_by_key(|boot| std::cmp::Reverse(boot.count()));
    let is = |thing: &Thing, field: &str| thing.status.get(field) == Some(&Value::Bool(true));
    Ok(Status {
        generations: known("Generation").await?,
        slot: known("Slot").await?.into_iter().find(|slot| is(slot, "running")),
        gate: known("Gate").await?.pop(),
        checks: known("HealthCheck").await?,
        services: known("Service").await?,
        volumes: known("Volume").await?,
        watchdogs: known("Watchdog").await?,
        version,
        boots,
    })
}

impl Status {
    fn is_safe(&self) -> bool {
        self.version.mode() == Mode::Safe
    }

    /// The configuration in force.
    fn active(&self) -> Option<&Thing> {
        let is_active = |one: &&Thing| one.status.get("active") == Some(&Value::Bool(true));
        self.generations.iter().find(is_active)
    }

    /// The configuration in force, and what is still to come of it or after it.
    fn generation(&self) -> String {
        let mut text = self.active().map_or("none".to_owned(), |active| active.name.clone());
        if self.active().is_some_and(|active| active.text("state") == "pending") {
            text.push_str(", goes back unless it is confirmed");
        }
        for staged in self.generations.iter().filter(|one| one.text("state") == "staged") {
            let _ = write!(text, "; {} with the next start", staged.name);
        }
        text
    }

    fn gate(&self) -> &str {
        self.gate.as_ref().map_or("", |gate| gate.text("state"))
    }

    /// Checks that fail, those that must not first.
    fn failing(&self) -> Vec<&Thing> {
        let mut failing: Vec<&Thing> =
            self.checks.iter().filter(|check| check.text("state") == "failing").collect();
        failing.sort_by_key(|check| (!health::is_broken(check), check.name.clone()));
        failing
    }

    /// Services that should run and do not.
    fn down(&self) -> Vec<&Thing> {
        let fine =
            |service: &&Thing| !matches!(service.text("state"), "running" | "stopped" | "stopping");
        self.services.iter().filter(fine).collect()
    }

    /// Volumes that do not outlive a restart.
    fn in_memory(&self) -> Vec<&Thing> {
        self.volumes.iter().filter(|volume| volume.text("device") == "tmpfs").collect()
    }

    fn outcome(&self) -> Outcome {
        let broken = self.checks.iter().any(health::is_broken);
        if self.is_safe() || broken || self.gate() == "failed" {
            Outcome::Failed
        } else {
            Outcome::Done
        }
    }

    /// What is wrong, a few words each.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        problems.extend(self.failing().iter().map(|check| format!("{} fails", check.name)));
        problems.extend(
            self.down()
                .iter()
                .map(|service| format!("{} is {}", service.name, service.text("state"))),
        );
        problems
            .extend(self.in_memory().iter().map(|volume| format!("{} is in memory", volume.name)));
        problems
    }

    fn image(&self) -> String {
        let version = plain(&self.version.version);
        match &self.slot {
            Some(slot) => format!("{version}, {}", plain(slot.text("state"))),
            None => version.into_owned(),
        }
    }

    /// Which boot this is, and why.
    fn boot(&self) -> String {
        let number = self.version.boot;
        let started = self.boots.first().map_or("", |boot| boot.text("started"));
        match (number, started) {
            (0, _) => "not counted: this machine keeps no state".to_owned(),
            (_, "") => number.to_string(),
            (_, started) => format!("{number}, {}", plain(started)),
        }
    }

    fn value(&self) -> Value {
        let named = |things: Vec<&Thing>| -> Vec<Value> {
            things.iter().map(|thing| thing.value("name", json!(thing.name))).collect()
        };
        json!({
            "mode": machine::mode(&self.version),
            "reason": self.version.reason,
            "hostname": self.version.hostname,
            "image": self.version.version,
            "slot": self.slot.as_ref().map(|slot| slot.value("id", json!(slot.name))),
            "boot": self.version.boot,
            "started": self.boots.first().map(|boot| boot.text("started")),
            "generation": self.active().map(Thing::count),
            "generationState": self.active().map(|active| active.text("state")),
            "gate": self.gate.as_ref().map(|gate| &gate.status),
            "checks": self.checks.len(),
            "failingChecks": named(self.failing()),
            "servicesDown": named(self.down()),
            "volumesInMemory": named(self.in_memory()),
            "watchdogs": named(self.watchdogs.iter().collect()),
        })
    }
}

/// How a node is, in a few lines.
pub(crate) async fn text(session: &Session) -> Result<String> {
    Ok(show(&session.node.name(), &ask(session).await?, Paint::new(false)))
}

/// Shows how nodes are.
pub(crate) async fn run(app: &App, args: &Args) -> Result<Outcome> {
    let format = args.format.output;
    let targets = app.targets(Reach::Look)?;
    let many = targets.are_many();
    let answers = targets.each(|session| async move { ask(&session).await }).await;
    let bad = answers.iter().any(|answer| {
        answer.result.as_ref().is_ok_and(|status| status.outcome() == Outcome::Failed)
    });
    if format != Format::Table {
        let answers = answers.into_iter().map(|Answer { node, result }| Answer {
            node,
            result: result.map(|status| status.value()),
        });
        let outcome = app.print_values(format, answers.collect())?;
        return Ok(if bad { Outcome::Failed } else { outcome });
    }
    let (good, outcome) = app.sort(answers);
    if many && !good.is_empty() {
        let mut table =
            Table::new(["NODE", "MODE", "IMAGE", "BOOT", "GENERATION", "GATE", "PROBLEMS"]);
        for (node, status) in &good {
            table.row([
                node.name(),
                machine::mode(&status.version).to_owned(),
                status.image(),
                status.boot(),
                status.generation(),
                status.gate().to_owned(),
                status.problems().join("; "),
            ]);
        }
        output::print(&table.render(app.paint))?;
    }
    for (node, status) in &good {
        if many && !status.is_safe() {
            continue;
        }
        let gap = if many { "\n" } else { "" };
        output::print(&format!("{gap}{}", show(&node.name(), status, app.paint)))?;
    }
    Ok(if bad { Outcome::Failed } else { outcome })
}

fn show(node: &str, status: &Status, paint: Paint) -> String {
    let mode = machine::mode(&status.version);
    let mut text = if status.is_safe() {
        alarm(node, status, paint)
    } else {
        format!("{}\n", paint.bold(&format!("{node}: {mode}")))
    };
    let mut line = |label: &str, value: &str| {
        let _ = writeln!(text, "  {label:<12}{value}");
    };
    line("image", &status.image());
    line("boot", &status.boot());
    line("generation", &status.generation());
    match &status.gate {
        Some(gate) if status.gate() != "none" => {
            let reason = gate.text("reason");
            let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            let said = format!("{}{because}", gate.text("state"));
            let said = plain(&said);
            line(
                "gate",
                &if gate.text("state") == "passed" {
                    said.into_owned()
                } else {
                    paint.yellow(&said)
                },
            );
        }
        Some(_) | None => {}
    }
    let failing = status.failing();
    let passing = status.checks.iter().filter(|check| check.text("state") == "passing").count();
    line("checks", &format!("{passing} of {} pass", status.checks.len()));
    for check in failing {
        let said = format!("{} ({}): {}", check.name, check.text("need"), check.text("reason"));
        let said = plain(&said);
        line("", &if health::is_broken(check) { paint.red(&said) } else { paint.yellow(&said) });
    }
    let down = status.down();
    let all = status.services.len();
    line("services", &format!("{} of {all} are as they should be", all - down.len()));
    for service in down {
        let said =
            format!("{} is {}: {}", service.name, service.text("state"), service.text("reason"));
        line("", &paint.red(&plain(&said)));
    }
    for volume in status.in_memory() {
        let said = format!(
            "{} is in memory, and lost at a restart: {}",
            volume.name,
            volume.text("reason")
        );
        line("volume", &paint.yellow(plain(&said).trim_end_matches(": ")));
    }
    for watchdog in status.watchdogs.iter().filter(|one| one.text("state") != "fed") {
        let said = format!("{} is {}", watchdog.text("identity"), watchdog.text("state"));
        line("watchdog", &paint.red(&plain(&said)));
    }
    text
}

/// What must not be overlooked: the machine waits for a person, why, and what can be done.
fn alarm(node: &str, status: &Status, paint: Paint) -> String {
    let rule = "!".repeat(72);
    let reason = plain(&status.version.reason);
    let failed = status.boots.iter().find(|boot| boot.text("health") == "failed");
    let failed = failed.or_else(|| {
        status
            .boots
            .iter()
            .find(|boot| boot.text("health") == "pending" && !boot.text("ended").is_empty())
    });
    let log = failed.and_then(boots::evidence);
    let mut text = format!(
        "{}\n{}\n",
        paint.red(&rule),
        paint.red(&format!(
            "{node} IS IN SAFE MODE: no image on it has been healthy, and it waits for a person."
        ))
    );
    let _ = writeln!(text, "  why         {reason}");
    let _ = writeln!(
        text,
        "  what runs   the system's own services, its network and its API, and nothing else"
    );
    let _ = writeln!(
        text,
        "  what to do  {:<36} which boots failed, and why",
        format!("ctl boots -n {node}")
    );
    if let Some(log) = log {
        let _ = writeln!(
            text,
            "              {:<36} what the last one left behind",
            format!("{log} -n {node}")
        );
    }
    for (command, what) in [
        ("ctl upgrade --image FILE", "a better image"),
        ("ctl apply-config -f FILE", "a better configuration"),
        ("ctl reboot", "another try of what there is"),
    ] {
        let _ = writeln!(text, "              {:<36} {what}", format!("{command} -n {node}"));
    }
    let _ = writeln!(text, "{}", paint.red(&rule));
    text
}
