// SPDX-License-Identifier: Apache-2.0
//! The configurations that a node has had: `ctl config history`, `show`, `diff` and `rollback`, and `ctl confirm`.

use super::{
    active::Kept,
    get,
    submit::{self, Base, Options, Submitted},
    validate::Source,
};
use crate::{
    app::{Answer, App, FormatArg, Outcome, Reach},
    client::Session,
    diff::{self, Side},
    output::{self, Format, Table},
    span,
    view::ViewArg,
};
use anyhow::Result;
use serde_json::{Value, json};
use stele_proto::v1::{ConfirmRequest, GenerationState, HistoryRequest, RestoreRequest};
use tonic::Code;

/// Arguments of `ctl config history`.
#[derive(Debug, clap::Args)]
pub(crate) struct HistoryArgs {
    #[command(flatten)]
    format: FormatArg,
}

/// Arguments of `ctl config show`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// The generation, as ctl config history has it
    generation: u64,
    #[command(flatten)]
    view: ViewArg,
}

/// Arguments of `ctl config diff`.
#[derive(Debug, clap::Args)]
pub(crate) struct DiffArgs {
    /// The generation to begin from
    from: u64,
    /// The one to compare it with [default: the one in force]
    to: Option<u64>,
}

/// Arguments of `ctl config rollback`.
#[derive(Debug, clap::Args)]
pub(crate) struct RollbackArgs {
    /// The generation to go back to [default: the one before the one in force]
    generation: Option<u64>,
    #[command(flatten)]
    options: Options,
}

/// Arguments of `ctl confirm`.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfirmArgs {
    /// The generation to keep [default: the one that waits for it]
    generation: Option<u64>,
    #[command(flatten)]
    format: FormatArg,
}

/// Lists the generations.
pub(crate) async fn history(app: &App, args: &HistoryArgs) -> Result<Outcome> {
    let targets = app.targets(Reach::Look)?;
    let many = targets.are_many();
    let answers = targets
        .each(|session| async move {
            let tried = "Listing the generations";
            let request = HistoryRequest {};
            Ok(session.answer(tried, session.config().history(request)).await?.generations)
        })
        .await;
    let format = args.format.output;
    if format != Format::Table {
        let value = |answer: Answer<Vec<_>>| Answer {
            node: answer.node,
            result: answer.result.map(|all| all.iter().map(submit::generation).collect::<Value>()),
        };
        return app.print_values(format, answers.into_iter().map(value).collect());
    }
    let (good, outcome) = app.sort(answers);
    let header = ["GENERATION", "STATE", "TIME", "AUTHOR", "IMAGE", "SHA256", "REASON"];
    let mut table = Table::new(many.then_some("NODE").into_iter().chain(header));
    for (node, generations) in good {
        for one in generations {
            table.row(many.then(|| node.name()).into_iter().chain([
                one.number.to_string(),
                submit::state(&one).to_owned(),
                one.time.as_ref().map(span::format_timestamp).unwrap_or_default(),
                one.author.clone(),
                one.image.clone(),
                one.sha256.chars().take(12).collect(),
                reason(&one.reason, one.confirm_by.as_ref()),
            ]));
        }
    }
    output::print(&table.render(app.paint))?;
    Ok(outcome)
}

fn reason(reason: &str, confirm_by: Option<&prost_types::Timestamp>) -> String {
    match confirm_by {
        Some(by) if reason.is_empty() => {
            format!("goes back at {} unless confirmed", span::format_timestamp(by))
        }
        Some(_) | None => reason.to_owned(),
    }
}

/// Shows a generation.
pub(crate) async fn show(app: &App, args: &ShowArgs) -> Result<Outcome> {
    get::configuration(app, args.generation, &args.view.output).await
}

/// Compares two generations.
pub(crate) async fn diff(app: &App, args: &DiffArgs) -> Result<Outcome> {
    let targets = app.targets(Reach::Look)?;
    let many = targets.are_many();
    let (from, to, paint) = (args.from, args.to.unwrap_or(0), app.paint);
    let answers = targets
        .each(move |session| async move {
            let (old, new) = (Kept::read(&session, from).await?, Kept::read(&session, to).await?);
            let (old_name, new_name) = (old.name(), new.name());
            let old = Side { name: &old_name, documents: &old.documents };
            diff::render(old, Side { name: &new_name, documents: &new.documents }, paint)
        })
        .await;
    let (good, outcome) = app.sort(answers);
    for (node, text) in good {
        let heading = if many { format!("# {}\n", node.name()) } else { String::new() };
        output::print(&format!("{heading}{text}"))?;
    }
    Ok(outcome)
}

/// Goes back to a generation.
pub(crate) async fn rollback(app: &App, args: RollbackArgs) -> Result<Outcome> {
    let targets = app.targets(Reach::Change)?;
    let (number, options) = (args.generation, args.options);
    let (here, how) = (app.clone(), options.clone());
    let answers = targets
        .each(move |session| {
            let (app, options) = (here.clone(), how.clone());
            async move {
                let active = Kept::active(&session).await?;
                let base = Base::begun_from(active.as_ref());
                let before = match (number, &active) {
                    (None, Some(active)) => one_before(&session, active).await?,
                    (named, _) => named,
                };
                let (name, difference) = match (before, &active) {
                    (Some(number), Some(active)) => {
                        let old = Kept::read(&session, number).await?;
                        let (active_name, old_name) = (active.name(), old.name());
                        let now = Side { name: &active_name, documents: &active.documents };
                        let then = Side { name: &old_name, documents: &old.documents };
                        let text = diff::render(now, then, options.paint(&app))?;
                        (old_name, text)
                    }
                    (Some(_) | None, _) => ("the generation before".to_owned(), String::new()),
                };
                let request = RestoreRequest {
                    generation: number.unwrap_or(0),
                    dry_run: options.dry_run,
                    base: base.number,
                    mode: options.mode().into(),
                    confirm_within: options.confirm_within(),
                };
                let tried = format!("Going back to {name}");
                let source = Source { name, bytes: Vec::new(), shown: None };
                match session.answer(&tried, session.config().restore(request)).await {
                    Ok(response) => {
                        let before = active.map(|active| active.generation);
                        Ok(Submitted { source, difference, before, response })
                    }
                    Err(failure) => {
                        Err(submit::conflict(&session, base, failure, app.paint_error).await)
                    }
                }
            }
        })
        .await;
    submit::report(app, answers, &options, true)
}

/// The generation to which a node goes back when none is named: the last one that was kept. None if there is none, or the
/// client may not list them.
async fn one_before(session: &Session, active: &Kept) -> Result<Option<u64>> {
    let tried = "Listing the generations";
    let response = match session.answer(tried, session.config().history(HistoryRequest {})).await {
        Err(failure) if failure.code == Some(Code::PermissionDenied) => return Ok(None),
        response => response?,
    };
    let mut older = response.generations.iter().filter(|one| one.number < active.generation.number);
    Ok(older.find(|one| one.state() == GenerationState::Superseded).map(|one| one.number))
}

/// Keeps a generation that waits for it.
pub(crate) async fn confirm(app: &App, args: &ConfirmArgs) -> Result<Outcome> {
    let targets = app.targets(Reach::Change)?;
    let number = args.generation.unwrap_or(0);
    let answers = targets
        .each(move |session| async move {
            let request = ConfirmRequest { generation: number };
            let tried = "Confirming the configuration";
            let response = session.answer(tried, session.config().confirm(request)).await?;
            Ok(response.generation.unwrap_or_default())
        })
        .await;
    let format = args.format.output;
    if format != Format::Table {
        let value = |answer: Answer<_>| Answer {
            node: answer.node,
            result: answer.result.map(|one| json!({ "generation": submit::generation(&one) })),
        };
        return app.print_values(format, answers.into_iter().map(value).collect());
    }
    let (good, outcome) = app.sort(answers);
    for (node, generation) in good {
        output::print(&format!("{}: generation {} stays\n", node.name(), generation.number))?;
    }
    Ok(outcome)
}
