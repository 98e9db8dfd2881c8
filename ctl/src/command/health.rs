// SPDX-License-Identifier: Apache-2.0
//! `ctl health`: the checks of a node, and the gate that a new image has to pass.

use super::get;
use crate::{
    app::{Answer, App, FormatArg, Outcome, Reach, Targets},
    client::Session,
    failure::Failure,
    node::Node,
    output::{self, Format, Paint, Table, plain},
    resources::{self, Thing, moment},
};
use anyhow::Result;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use stele_proto::v1::{Change, WatchRequest, WatchResponse};
use tokio::sync::mpsc;

/// Arguments of `ctl health`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Go on, and show each change as it happens
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    format: FormatArg,
}

/// The health of a node.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    /// The gate, on nodes that have one.
    pub(crate) gate: Option<Thing>,
    /// The checks, the system's own first.
    pub(crate) checks: Vec<Thing>,
    /// When the node started, by its clock; 0 if that is not known.
    start: i64,
}

/// Asks a node for its health.
pub(crate) async fn ask(session: &Session) -> Result<Health, Failure> {
    let mut checks = resources::list(session, "HealthCheck").await?;
    checks.sort_by_key(|check| (!is_system(check), check.name.clone()));
    let gate = resources::list_known(session, "Gate").await?.pop();
    let boots = resources::list_known(session, "Boot").await?;
    let last = boots.iter().max_by_key(|boot| boot.count());
    #[expect(clippy::cast_possible_truncation, reason = "seconds since the epoch are whole")]
    let start = last.and_then(|boot| boot.number("time")).unwrap_or(0.0) as i64;
    Ok(Health { gate, checks, start })
}

fn is_system(check: &Thing) -> bool {
    check.name.starts_with("system/")
}

/// Whether a check fails that must not.
pub(crate) fn is_broken(check: &Thing) -> bool {
    check.text("state") == "failing" && check.text("need") == "required"
}

impl Health {
    /// Whether something fails that must not.
    fn outcome(&self) -> Outcome {
        let failed = self.gate.as_ref().is_some_and(|gate| gate.text("state") == "failed");
        if failed || self.checks.iter().any(is_broken) { Outcome::Failed } else { Outcome::Done }
    }

    fn value(&self) -> Value {
        let checks: Vec<Value> =
            self.checks.iter().map(|check| check.value("name", json!(check.name))).collect();
        json!({ "gate": self.gate.as_ref().map(|gate| &gate.status), "checks": checks })
    }
}

/// The gate in a sentence.
pub(crate) fn headline(gate: &Thing, paint: Paint) -> String {
    let reason = plain(gate.text("reason"));
    match gate.text("state") {
        "passed" => "The running image has proved itself: its health gate is passed.".to_owned(),
        "pending" => {
            let limit = gate.number("deadline");
            let limit = limit.map_or_else(String::new, |limit| {
                format!(", until {limit:.0} s after its start at the latest")
            });
            paint.yellow(&format!("The running image is on trial: {reason}{limit}."))
        }
        "failed" => {
            paint.red(&format!("The running image failed its health gate, and is left: {reason}."))
        }
        _ => String::new(),
    }
}

/// Shows the health of nodes.
pub(crate) async fn run(app: &App, args: &Args) -> Result<Outcome> {
    let format = args.format.output;
    let targets = app.targets(Reach::Look)?;
    if args.watch {
        return watch(app, &targets, format).await;
    }
    let many = targets.are_many();
    let answers = targets.each(|session| async move { Ok(ask(&session).await?) }).await;
    let broken = answers.iter().any(|answer| {
        answer.result.as_ref().is_ok_and(|health| health.outcome() == Outcome::Failed)
    });
    if format != Format::Table {
        let answers = answers.into_iter().map(|Answer { node, result }| Answer {
            node,
            result: result.map(|health| health.value()),
        });
        let outcome = app.print_values(format, answers.collect())?;
        return Ok(if broken { Outcome::Failed } else { outcome });
    }
    let (good, outcome) = app.sort(answers);
    let mut table = Table::new(
        many.then_some("NODE").into_iter().chain(["CHECK", "STATE", "NEED", "SINCE", "REASON"]),
    );
    for (node, health) in &good {
        let headline = health.gate.as_ref().map(|gate| headline(gate, app.paint));
        if let Some(headline) = headline.filter(|text| !text.is_empty()) {
            let name = if many { format!("{}: ", node.name()) } else { String::new() };
            output::print(&format!("{name}{headline}\n"))?;
        }
        for check in &health.checks {
            let since = check.number("since").map(|since| moment(health.start, since));
            table.row(many.then(|| node.name()).into_iter().chain([
                check.name.clone(),
                check.text("state").to_owned(),
                check.text("need").to_owned(),
                since.unwrap_or_default(),
                check.text("reason").to_owned(),
            ]));
        }
    }
    if !good.is_empty() {
        output::print(&table.render(app.paint))?;
    }
    Ok(if broken { Outcome::Failed } else { outcome })
}

/// What a node's streams say.
enum Event {
    Changed(WatchResponse),
    Ended(anyhow::Error),
}

/// Shows what there is, then every change, as long as a node says something.
async fn watch(app: &App, targets: &Targets, format: Format) -> Result<Outcome> {
    let (sender, mut receiver) = mpsc::channel(256);
    for (index, node) in targets.nodes.iter().enumerate() {
        for kind in ["Gate", "HealthCheck"] {
            let (targets, node, sender) = (targets.clone(), node.clone(), sender.clone());
            tokio::spawn(async move {
                let error = follow(&targets, &node, kind, index, &sender).await;
                // The other side is gone when its reader is.
                let _ = sender.send((index, Event::Ended(error))).await;
            });
        }
    }
    drop(sender);
    let width = targets.nodes.iter().map(|node| node.name().chars().count()).max().unwrap_or(0);
    let mut last: BTreeMap<(usize, String), String> = BTreeMap::new();
    let mut complained = vec![false; targets.nodes.len()];
    while let Some((index, event)) = receiver.recv().await {
        let node = &targets.nodes[index];
        match event {
            Event::Ended(error) => {
                // Both streams of a node end by the same cause.
                if !std::mem::replace(&mut complained[index], true) {
                    app.complain(Some(node), &error);
                }
            }
            Event::Changed(WatchResponse { change, resource: Some(resource) }) => {
                let change = Change::try_from(change).unwrap_or_default();
                if format != Format::Table {
                    output::print_event(
                        format,
                        &json!({ "node": node.name(), "change": super::watch::name(change), "resource": get::resource(&resource) }),
                    )?;
                    continue;
                }
                let is_gate = resource.kind == "Gate";
                let thing = Thing::from(resource);
                let line = if is_gate {
                    headline(&thing, app.paint)
                } else {
                    line(&thing, change, app.paint)
                };
                // A check that goes on failing counts its tries; that is no news.
                let news = line.replace(|c: char| c.is_ascii_digit(), "");
                let before = last.insert((index, thing.name), news.clone());
                if before != Some(news) && !line.is_empty() {
                    let node = if targets.are_many() {
                        format!("{:<width$} | ", node.name())
                    } else {
                        String::new()
                    };
                    output::print(&format!("{node}{line}\n"))?;
                }
            }
            Event::Changed(_) => {}
        }
    }
    Ok(Outcome::Failed)
}

fn line(check: &Thing, change: Change, paint: Paint) -> String {
    let name = plain(&check.name);
    if change == Change::Removed {
        return format!("{name} is no longer checked");
    }
    state(check, paint, &name)
}

/// A check in a line.
fn state(check: &Thing, paint: Paint, name: &str) -> String {
    let reason = plain(check.text("reason"));
    let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    match check.text("state") {
        "passing" => format!("{name} is {}", paint.green("passing")),
        "failing" if is_broken(check) => format!("{name} is {}{because}", paint.red("failing")),
        state => format!(
            "{name} ({}) is {}{because}",
            plain(check.text("need")),
            paint.yellow(&plain(state))
        ),
    }
}

/// Passes a node's stream on until it ends, which it only does when something is wrong.
async fn follow(
    targets: &Targets,
    node: &Node,
    kind: &str,
    index: usize,
    sender: &mpsc::Sender<(usize, Event)>,
) -> anyhow::Error {
    let tried = format!("Watching {kind}");
    let session = match targets.connect(node).await {
        Ok(session) => session,
        Err(error) => return error.into(),
    };
    let request = WatchRequest { kind: kind.to_owned(), name: String::new() };
    let mut stream = match session.resources().watch(request).await {
        Ok(stream) => stream.into_inner(),
        Err(status) => return Failure::status(tried, &status).into(),
    };
    loop {
        match stream.message().await {
            Ok(Some(response)) => {
                if sender.send((index, Event::Changed(response))).await.is_err() {
                    return anyhow::anyhow!("nobody watches any more");
                }
            }
            Ok(None) => return Failure::new(tried, "the node ended the stream", None).into(),
            Err(status) => return Failure::status(tried, &status).into(),
        }
    }
}
