// SPDX-License-Identifier: Apache-2.0
//! `ctl get` and `ctl services`.

pub(crate) mod table;

use super::{active, submit, watch};
use crate::{
    app::{Answer, App, Misuse, Outcome, Reach},
    client::Session,
    output::{self, Format, Table},
    span,
    view::{View, ViewArg},
};
use anyhow::Result;
use serde_json::{Value, json};
use stele_config::yaml;
use stele_proto::v1::{
    GenerationState, GetRequest, GetResponse, Kind, ListKindsRequest, ListRequest, Resource,
};
use table::Columns;

/// Arguments of `ctl get`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The kind, in any case, singular or plural, or "config"; without one, the kinds are listed
    kind: Option<String>,
    /// Only the resource of this name
    name: Option<String>,
    /// Go on, and show each change as it happens
    #[arg(short, long)]
    watch: bool,
    /// With "config": this generation instead of the active one
    #[arg(long, value_name = "N")]
    generation: Option<u64>,
    #[command(flatten)]
    view: ViewArg,
}

/// Arguments of `ctl services`.
#[derive(Debug, clap::Args)]
pub(crate) struct ServicesArgs {
    /// Only the service of this name
    name: Option<String>,
    /// Go on, and show each change as it happens
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    view: ViewArg,
}

impl From<ServicesArgs> for Args {
    fn from(args: ServicesArgs) -> Args {
        Args {
            kind: Some("Service".to_owned()),
            name: args.name,
            watch: args.watch,
            generation: None,
            view: args.view,
        }
    }
}

/// Shows kinds, resources or the configuration.
pub(crate) async fn run(app: &App, args: Args) -> Result<Outcome> {
    let view = args.view.output;
    let Some(kind) = args.kind else {
        if args.watch {
            return Err(Misuse(
                "--watch needs a KIND: the kinds themselves do not change".to_owned(),
            )
            .into());
        }
        return kinds(app, &view).await;
    };
    if kind.eq_ignore_ascii_case("config") {
        if args.watch || args.name.is_some() {
            return Err(Misuse("ctl get config shows the whole configuration of a node; it has no NAME and no --watch".to_owned()).into());
        }
        return configuration(app, args.generation.unwrap_or(0), &view).await;
    }
    if args.generation.is_some() {
        return Err(Misuse("--generation goes with ctl get config".to_owned()).into());
    }
    if args.watch {
        return watch::run(app, kind, args.name.unwrap_or_default(), &view).await;
    }
    let targets = app.targets(Reach::Look)?;
    let many = targets.are_many();
    let name = args.name.unwrap_or_default();
    let one = !name.is_empty();
    let answers = targets
        .each(move |session| {
            let (kind, name) = (kind.clone(), name.clone());
            async move { list(&session, &kind, name).await }
        })
        .await;
    if !view.is_table() {
        let answers = answers.into_iter().map(|Answer { node, result }| {
            let result = result.map(|(_, resources)| {
                let mut values: Vec<Value> = resources.iter().map(resource).collect();
                if one && values.len() == 1 { values.remove(0) } else { Value::Array(values) }
            });
            Answer { node, result }
        });
        return view.print_values(app, answers.collect());
    }
    let (good, outcome) = app.sort(answers);
    // Nodes of different versions may know different columns: each row is made by its own node's.
    let Some((_, (kind, _))) = good.first() else { return Ok(outcome) };
    let columns = Columns { kind, many, wide: view.is_wide() };
    let mut table = Table::new(columns.header());
    for (node, (_, resources)) in &good {
        for resource in resources {
            table.row(columns.row(resource, &node.name()));
        }
    }
    if good.iter().all(|(_, (_, resources))| resources.is_empty()) {
        eprintln!("There is no {}.", kind.name);
        return Ok(outcome);
    }
    output::print(&table.render(app.paint))?;
    Ok(outcome)
}

/// A resource, for programs.
pub(crate) fn resource(resource: &Resource) -> Value {
    json!({
        "kind": resource.kind,
        "name": resource.name,
        "version": resource.version,
        "updated": resource.updated.as_ref().map(span::format_timestamp),
        "status": resource.status.as_ref().map(output::json_object),
    })
}

/// All resources of a kind, or the one of this name, with the kind itself.
pub(crate) async fn list(
    session: &Session,
    kind: &str,
    name: String,
) -> Result<(Kind, Vec<Resource>)> {
    let kind = find_kind(session, kind).await?;
    let request = ListRequest { kind: kind.name.clone(), name: name.clone() };
    let tried = format!("Listing {}", kind.name);
    let response = session.answer(&tried, session.resources().list(request)).await?;
    if !name.is_empty() && response.resources.is_empty() {
        anyhow::bail!(
            "There is no {} \"{name}\". ctl get {} shows what there is",
            kind.name,
            kind.name.to_lowercase()
        );
    }
    Ok((kind, response.resources))
}

/// The kind that a user means: in any case, singular or plural.
pub(crate) async fn find_kind(session: &Session, wanted: &str) -> Result<Kind> {
    let response = session
        .answer("Listing the kinds", session.resources().list_kinds(ListKindsRequest {}))
        .await?;
    match response.kinds.iter().position(|kind| is_meant(&kind.name, wanted)) {
        Some(index) => Ok(response.kinds.into_iter().nth(index).unwrap_or_default()),
        None => {
            let names: Vec<&str> = response.kinds.iter().map(|kind| kind.name.as_str()).collect();
            anyhow::bail!("There is no kind \"{wanted}\". There is {}", names.join(", "))
        }
    }
}

fn is_meant(kind: &str, wanted: &str) -> bool {
    let (kind, wanted) = (kind.to_ascii_lowercase(), wanted.to_ascii_lowercase());
    let plural = if let Some(stem) = kind.strip_suffix('y') {
        format!("{stem}ies")
    } else if kind.ends_with(['s', 'x']) || kind.ends_with("ch") {
        format!("{kind}es")
    } else {
        format!("{kind}s")
    };
    wanted == kind || wanted == plural
}

async fn kinds(app: &App, view: &View) -> Result<Outcome> {
    let targets = app.targets(Reach::Look)?;
    let many = targets.are_many();
    let answers = targets
        .each(|session| async move {
            Ok(session
                .answer("Listing the kinds", session.resources().list_kinds(ListKindsRequest {}))
                .await?)
        })
        .await;
    if !view.is_table() {
        let answers = answers.into_iter().map(|Answer { node, result }| Answer {
            node,
            result: result.map(|r| r.kinds.iter().map(kind).collect()),
        });
        return view.print_values(app, answers.collect());
    }
    let (good, outcome) = app.sort(answers);
    let mut table = Table::new(many.then_some("NODE").into_iter().chain(["KIND", "WHAT IT IS"]));
    for (node, response) in good {
        for kind in response.kinds {
            table.row(many.then(|| node.name()).into_iter().chain([kind.name, kind.description]));
        }
    }
    output::print(&table.render(app.paint))?;
    Ok(outcome)
}

fn kind(kind: &Kind) -> Value {
    let columns: Vec<Value> = kind
        .columns
        .iter()
        .map(|column| json!({ "heading": column.heading, "field": column.field }))
        .collect();
    json!({ "name": kind.name, "description": kind.description, "columns": columns })
}

/// Shows the configuration of a generation; 0 is the one in force.
pub(crate) async fn configuration(app: &App, number: u64, view: &View) -> Result<Outcome> {
    let targets = app.targets(Reach::Look)?;
    let many = targets.are_many();
    let answers = targets
        .each(move |session| async move {
            let request = GetRequest { generation: number };
            Ok(session.answer("Getting the configuration", session.config().get(request)).await?)
        })
        .await;
    if matches!(view, View::Plain(Format::Json) | View::Template(_)) {
        let answers = answers.into_iter().map(|Answer { node, result }| Answer {
            node,
            result: result.and_then(|r| documents(&r)),
        });
        return view.print_values(app, answers.collect());
    }
    // YAML is what a configuration is written in: there is no table of it.
    let (good, outcome) = app.sort(answers);
    let mut text = String::new();
    for (node, response) in good {
        if many && !text.is_empty() {
            text.push_str("---\n");
        }
        text.push_str(&heading(&many.then(|| node.name()), number, &response));
        text.push_str(&yaml::print(&response.documents));
    }
    output::print(&text)?;
    Ok(outcome)
}

/// The generation, as a comment: what is printed can be applied again. The one in force is what that is then made from.
fn heading(node: &Option<String>, asked: u64, response: &GetResponse) -> String {
    let Some(generation) = &response.generation else { return String::new() };
    let state = generation.state();
    let in_force =
        asked == 0 || matches!(state, GenerationState::Active | GenerationState::Pending);
    let number = generation.number;
    let mark = match in_force {
        true => active::mark(number),
        false => format!("Not in force: generation {number}"),
    };
    let of = node.as_ref().map(|node| format!(" of {node}")).unwrap_or_default();
    let time = generation
        .time
        .as_ref()
        .map(|time| format!(", accepted {}", span::format_timestamp(time)))
        .unwrap_or_default();
    format!("# {mark}{of}{time}, from {}\n", output::plain(&generation.author))
}

fn documents(response: &GetResponse) -> Result<Value> {
    let documents: Value = serde_json::from_slice(&response.documents)?;
    Ok(
        json!({ "generation": response.generation.as_ref().map(submit::generation), "documents": documents }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_however_they_are_written() {
        for (kind, wanted) in [
            ("Link", "link"),
            ("Link", "LINKS"),
            ("Address", "addresses"),
            ("HealthCheck", "healthchecks"),
            ("Policy", "policies"),
        ] {
            assert!(is_meant(kind, wanted), "{kind} {wanted}");
        }
        assert!(!is_meant("Link", "lin") && !is_meant("Link", ""));
    }
}
