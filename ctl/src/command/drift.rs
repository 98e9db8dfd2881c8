// SPDX-License-Identifier: Apache-2.0
//! `ctl drift`: where a machine differs from its configuration.
//!
//! Each document is held against the resource of its kind and name: what both speak of must agree, and a resource that
//! gives a reason for its state is not what it should be.

use super::active::Kept;
use crate::{
    app::{Answer, App, FormatArg, Outcome, Reach},
    client::Session,
    documents::Title,
    output::{self, Format, Table},
    resources::{self, Thing},
};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use stele_proto::v1::ListKindsRequest;

/// Arguments of `ctl drift`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    format: FormatArg,
}

/// One thing that is not as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Difference {
    /// Whose.
    document: Title,
    /// Which field.
    field: String,
    /// What is configured; empty where that is not a value.
    configured: String,
    /// What is.
    actual: String,
    /// Why, as the node has it.
    reason: String,
}

/// What was found on a node.
#[derive(Debug)]
struct Found {
    generation: u64,
    differences: Vec<Difference>,
}

/// Health checks and probes say how things are, not what the machine is.
const NOT_COMPARED: [&str; 2] = ["HealthCheck", "Probe"];

/// The state of what has no document any more and could not be taken away.
const STAYING: &str = "staying";

/// Compares.
pub(crate) async fn run(app: &App, args: &Args) -> Result<Outcome> {
    let targets = app.targets(Reach::Look)?;
    let many = targets.are_many();
    let answers = targets.each(|session| async move { find(&session).await }).await;
    let drifted = answers
        .iter()
        .filter_map(|answer| answer.result.as_ref().ok())
        .any(|found| !found.differences.is_empty());
    let outcome = match args.format.output {
        Format::Table => table(app, answers, many)?,
        format => {
            let value = |answer: Answer<Found>| Answer {
                node: answer.node,
                result: answer.result.map(|found| value(&found)),
            };
            app.print_values(format, answers.into_iter().map(value).collect())?
        }
    };
    Ok(if drifted { Outcome::Failed } else { outcome })
}

async fn find(session: &Session) -> Result<Found> {
    let active = Kept::active(session).await?.context("The node has no configuration yet")?;
    let documents: Vec<(Title, Value)> = active
        .documents
        .list
        .iter()
        .map(|document| Ok((Title::of(document), serde_json::to_value(document)?)))
        .collect::<Result<_>>()?;
    let tried = "Listing the kinds";
    let kinds = session.answer(tried, session.resources().list_kinds(ListKindsRequest {})).await?;
    let mut things = BTreeMap::new();
    for kind in kinds.kinds {
        let has_document = documents.iter().any(|(title, _)| title.kind == kind.name);
        let has_state = kind.columns.iter().any(|column| column.field == "state");
        if (has_document || has_state) && !NOT_COMPARED.contains(&kind.name.as_str()) {
            things.insert(kind.name.clone(), resources::list(session, &kind.name).await?);
        }
    }
    let mut differences = compare(&documents, &things);
    differences.extend(waiting(&resources::list_known(session, "Generation").await?));
    Ok(Found { generation: active.generation.number, differences })
}

fn compare(documents: &[(Title, Value)], things: &BTreeMap<String, Vec<Thing>>) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (title, document) in documents {
        let Some(things) = things.get(&title.kind) else { continue };
        let thing = match things.as_slice() {
            [only] if title.name.is_empty() => Some(only),
            // A link may have another name than the document that it is set up by.
            things => (things.iter().find(|thing| thing.text("document") == title.name))
                .or_else(|| things.iter().find(|thing| thing.name == title.name)),
        };
        match thing {
            Some(thing) => one(title, document, thing, &mut differences),
            None if title.name.is_empty() => {}
            None => differences.push(Difference {
                document: title.clone(),
                field: "state".to_owned(),
                configured: String::new(),
                actual: "absent".to_owned(),
                reason: "the machine does not know of it".to_owned(),
            }),
        }
    }
    for (kind, things) in things {
        for thing in things.iter().filter(|thing| thing.text("state") == STAYING) {
            let title = Title { kind: kind.clone(), name: thing.name.clone() };
            if documents.iter().all(|(other, _)| *other != title) {
                differences.push(state(title, thing));
            }
        }
    }
    differences
}

fn one(title: &Title, document: &Value, thing: &Thing, differences: &mut Vec<Difference>) {
    if !thing.text("reason").is_empty() {
        differences.push(state(title.clone(), thing));
    }
    for (field, configured) in document.as_object().into_iter().flatten() {
        let actual = thing.status.get(field).unwrap_or(&Value::Null);
        if !agree(configured, actual) {
            differences.push(Difference {
                document: title.clone(),
                field: field.clone(),
                configured: output::cell(document, field),
                actual: output::cell(&thing.status, field),
                reason: String::new(),
            });
        }
    }
}

fn state(document: Title, thing: &Thing) -> Difference {
    Difference {
        document,
        field: "state".to_owned(),
        configured: String::new(),
        actual: thing.text("state").to_owned(),
        reason: thing.text("reason").to_owned(),
    }
}

/// False if both speak of the same and say different things. A machine may have more than what a list asks for.
fn agree(configured: &Value, actual: &Value) -> bool {
    match (configured, actual) {
        (Value::Array(configured), Value::Array(actual)) => {
            let comparable = configured.iter().chain(actual).all(Value::is_string);
            !comparable || configured.iter().all(|one| actual.contains(one))
        }
        (Value::String(configured), Value::String(actual)) => {
            configured.split_whitespace().eq(actual.split_whitespace())
        }
        (Value::Number(configured), Value::Number(actual)) => {
            configured.as_f64() == actual.as_f64()
        }
        (Value::Bool(configured), Value::Bool(actual)) => configured == actual,
        _ => true,
    }
}

/// Generations that are not yet what the machine is, or may not stay.
fn waiting(generations: &[Thing]) -> Vec<Difference> {
    let reason = |state: &str| match state {
        "staged" => Some("it comes into force with the next start of the machine"),
        "pending" => Some("it goes back unless it is confirmed"),
        _ => None,
    };
    let difference = |generation: &Thing| {
        let state = generation.text("state");
        Some(Difference {
            document: Title { kind: "Generation".to_owned(), name: generation.name.clone() },
            field: "state".to_owned(),
            configured: String::new(),
            actual: state.to_owned(),
            reason: reason(state)?.to_owned(),
        })
    };
    generations.iter().filter_map(difference).collect()
}

fn table(app: &App, answers: Vec<Answer<Found>>, many: bool) -> Result<Outcome> {
    let (good, outcome) = app.sort(answers);
    let header = ["DOCUMENT", "FIELD", "CONFIGURED", "ACTUAL", "REASON"];
    let mut table = Table::new(many.then_some("NODE").into_iter().chain(header));
    let mut same = String::new();
    for (node, Found { generation, differences }) in &good {
        if differences.is_empty() {
            same.push_str(&format!("{}: it is what generation {generation} says\n", node.name()));
        }
        for difference in differences {
            table.row(many.then(|| node.name()).into_iter().chain([
                difference.document.to_string(),
                difference.field.clone(),
                difference.configured.clone(),
                difference.actual.clone(),
                difference.reason.clone(),
            ]));
        }
    }
    if good.iter().any(|(_, found)| !found.differences.is_empty()) {
        output::print(&table.render(app.paint))?;
    }
    output::print(&same)?;
    Ok(outcome)
}

fn value(found: &Found) -> Value {
    let difference = |difference: &Difference| {
        json!({
            "kind": difference.document.kind, "name": difference.document.name, "field": difference.field,
            "configured": difference.configured, "actual": difference.actual, "reason": difference.reason,
        })
    };
    json!({
        "generation": found.generation,
        "differences": found.differences.iter().map(difference).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thing(name: &str, status: Value) -> Thing {
        Thing { name: name.to_owned(), status }
    }

    #[track_caller]
    fn check(documents: &[Value], things: Vec<(&str, Vec<Thing>)>, expected: &[&str]) {
        let things = things.into_iter().map(|(kind, list)| (kind.to_owned(), list)).collect();
        let titled = |one: &Value| (Title::of(&serde_yaml::to_value(one).unwrap()), one.clone());
        let documents: Vec<_> = documents.iter().map(titled).collect();
        let found: Vec<String> = compare(&documents, &things)
            .iter()
            .map(|d| {
                format!("{} {}: {} / {} {}", d.document, d.field, d.configured, d.actual, d.reason)
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_machine_that_is_what_it_should_be_has_no_drift() {
        let documents = [
            json!({"kind": "Hostname", "hostname": "web1"}),
            json!({"kind": "Link", "name": "eth0", "addresses": ["10.0.0.5/24"], "mtu": 1500, "dhcp4": true}),
            json!({"kind": "Sysctl", "name": "kernel.printk", "value": "4 4 1 7"}),
            json!({"kind": "Identity", "ca": "…"}),
            json!({"kind": "Watchdog", "timeout": "30s"}),
        ];
        let things = vec![
            (
                "Hostname",
                vec![thing("web1", json!({"hostname": "web1", "origin": "configuration"}))],
            ),
            (
                "Link",
                vec![thing(
                    "eth0",
                    json!({"state": "ready", "mtu": 1500.0, "addresses": ["fe80::1/64", "10.0.0.5/24"], "reason": ""}),
                )],
            ),
            (
                "Sysctl",
                vec![thing("kernel.printk", json!({"state": "set", "value": "4\t4\t1\t7"}))],
            ),
            ("Watchdog", vec![thing("watchdog0", json!({"timeout": 30}))]),
        ];
        check(&documents, things, &[]);
    }

    #[test]
    fn what_differs_is_told_with_its_reason() {
        let documents = [
            json!({"kind": "Hostname", "hostname": "web1"}),
            json!({"kind": "Link", "name": "eth0", "addresses": ["10.0.0.5/24"], "mtu": 9000}),
            json!({"kind": "Link", "name": "eth7"}),
        ];
        let link = json!({"state": "no-carrier", "mtu": 1500, "addresses": [], "reason": "nothing is plugged in"});
        let things = vec![
            ("Hostname", vec![thing("x", json!({"hostname": "web2"}))]),
            ("Link", vec![thing("eth0", link), thing("lo", json!({"state": "unmanaged"}))]),
            (
                "KernelModule",
                vec![thing("dummy", json!({"state": "staying", "reason": "it is in use"}))],
            ),
        ];
        check(
            &documents,
            things,
            &[
                "Hostname hostname: web1 / web2 ",
                "Link eth0 state:  / no-carrier nothing is plugged in",
                "Link eth0 addresses: 10.0.0.5/24 /  ",
                "Link eth0 mtu: 9000 / 1500 ",
                "Link eth7 state:  / absent the machine does not know of it",
                "KernelModule dummy state:  / staying it is in use",
            ],
        );
    }

    #[test]
    fn what_waits_for_a_start_or_a_confirmation_is_told() {
        let states = ["active", "staged", "pending", "superseded"];
        let generations: Vec<Thing> =
            states.iter().map(|state| thing("7", json!({"state": state}))).collect();
        let told: Vec<String> = waiting(&generations).into_iter().map(|one| one.actual).collect();
        assert_eq!(told, ["staged", "pending"]);
    }
}
