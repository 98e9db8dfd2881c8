// SPDX-License-Identifier: Apache-2.0
//! `ctl apply-config`.

use super::{
    active::{self, Kept},
    validate::Source,
};
use crate::{
    app::{self, Answer, App, FormatArg, Misuse, Outcome, Reach, Targets},
    client::Session,
    context::Contexts,
    failure::Approach,
    findings,
    output::{self, Format, Paint, plain},
    span,
    tls::{self, Fingerprint},
};
use anyhow::Result;
use serde_json::{Value, json};
use std::{
    error::Error,
    fmt::{self, Write as _},
};
use stele_config::{Finding, yaml};
use stele_proto::v1::{ApplyRequest, ApplyResponse, ConfigChange, Effect, Generation};

/// Arguments of `ctl apply-config`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration; - for standard input
    #[arg(short, long, value_name = "FILE")]
    file: String,
    /// The node is in maintenance mode and knows no client yet; needs --fingerprint
    #[arg(long)]
    insecure: bool,
    /// The SHA-256 of the node's certificate, as on its console: SHA256:… or hexadecimal digits
    #[arg(long, requires = "insecure", value_name = "SHA256:…")]
    fingerprint: Option<Fingerprint>,
    #[command(flatten)]
    options: Options,
}

/// What is done with a configuration.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Check it and say what would happen, change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    format: FormatArg,
}

/// What a node answered to a configuration.
#[derive(Debug)]
pub(crate) struct Submitted {
    source: Source,
    difference: String,
    response: ApplyResponse,
}

/// A configuration that is not valid, and so was not sent.
#[derive(Debug)]
struct Invalid {
    source: Source,
    findings: Vec<Finding>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. Nothing was sent.", findings::count(&self.findings, &self.source.name))
    }
}

impl Error for Invalid {}

/// Checks a configuration here, then sends it.
pub(crate) async fn run(app: &App, args: Args) -> Result<Outcome> {
    let source = Source::read(&args.file)?;
    let findings = source.findings();
    if !findings.is_empty() {
        let invalid = Invalid { source, findings };
        render_invalid(app, &invalid);
        return Err(Misuse(invalid.to_string()).into());
    }
    let targets = if args.insecure {
        maintenance(app, args.fingerprint).await?
    } else {
        app.targets(Reach::Change)?
    };
    if targets.are_many() {
        return Err(Misuse(
            "A configuration is of one machine: its Identity is its own. Say which with -n"
                .to_owned(),
        )
        .into());
    }
    let (options, insecure, paint) = (args.options.clone(), args.insecure, app.paint);
    let answers = targets
        .each(move |session| {
            let (source, options) = (source.clone(), options.clone());
            async move {
                // A node in maintenance mode has nothing to compare with.
                let active = if insecure { None } else { Kept::active(&session).await? };
                submit(&session, source, active.as_ref(), &options, paint).await
            }
        })
        .await;
    report(app, answers, &args.options, args.options.dry_run && !insecure)
}

/// Sends a configuration that was made from the active one.
pub(crate) async fn submit(
    session: &Session,
    source: Source,
    active: Option<&Kept>,
    options: &Options,
    paint: Paint,
) -> Result<Submitted> {
    let config = match yaml::parse(&source.bytes) {
        Ok(config) => config,
        Err(findings) => return Err(Invalid { source, findings }.into()),
    };
    let difference = active::difference(active, &config, &source.name, paint)?;
    let request = ApplyRequest {
        documents: source.bytes.clone(),
        dry_run: options.dry_run,
        ..ApplyRequest::default()
    };
    let response =
        session.answer("Applying the configuration", session.config().apply(request)).await?;
    Ok(Submitted { source, difference, response })
}

fn render_invalid(app: &App, invalid: &Invalid) {
    eprint!("{}", invalid.source.render(&invalid.findings, "error", app.paint_error));
}

/// Says what came of it, with the difference if that is wanted.
pub(crate) fn report(
    app: &App,
    answers: Vec<Answer<Submitted>>,
    options: &Options,
    with_difference: bool,
) -> Result<Outcome> {
    let mut invalid = Outcome::Done;
    for error in answers.iter().filter_map(|answer| answer.result.as_ref().err()) {
        if let Some(error) = error.downcast_ref::<Invalid>() {
            render_invalid(app, error);
            invalid = Outcome::Invalid;
        }
    }
    if options.format.output != Format::Table {
        let answers = answers
            .into_iter()
            .map(|answer| Answer { node: answer.node, result: answer.result.map(|r| value(&r)) });
        let outcome = app.print_values(options.format.output, answers.collect())?;
        return Ok(if invalid == Outcome::Invalid { invalid } else { outcome });
    }
    let (good, outcome) = app.sort(answers);
    for (node, Submitted { source, difference, response }) in good {
        let warnings: Vec<_> = response.warnings.iter().cloned().map(findings::from_wire).collect();
        eprint!("{}", source.render(&warnings, "warning", app.paint_error));
        if with_difference {
            output::print(&difference)?;
        }
        output::print(&describe(&node.name(), &response, options.dry_run))?;
    }
    Ok(if invalid == Outcome::Invalid { invalid } else { outcome })
}

/// The one node in maintenance mode, by its fingerprint.
async fn maintenance(app: &App, fingerprint: Option<Fingerprint>) -> Result<Targets> {
    let path = Contexts::path(app.global.config.as_deref())?;
    let contexts = Contexts::load(&path)?;
    let selected = contexts.select(app.global.context.as_deref(), &path).ok();
    let nodes = app::choose(&app.global.nodes, selected, Reach::Look)?;
    let [node] = nodes.as_slice() else {
        return Err(
            Misuse("--insecure is for one node at a time: say which with -n".to_owned()).into()
        );
    };
    let (tls, pin) = tls::pinned(fingerprint)?;
    let targets = Targets {
        nodes: nodes.clone(),
        tls,
        approach: Approach::Pinned,
        deadlines: app.deadlines(),
    };
    // Whether it is the right node is known before anything is sent to it.
    let Err(failure) = targets.connect(node).await else { return Ok(targets) };
    let Some(presented) = pin.presented() else { return Err(failure.into()) };
    let (address, shown) = (node.address(), presented.fingerprint);
    match fingerprint {
        _ if presented.configured => Err(anyhow::anyhow!(
            "{address} is not in maintenance mode: it is configured already. Nothing was sent\n  \
             Leave --insecure and --fingerprint away, and use its context"
        )),
        None => Err(Misuse(format!(
            "--insecure needs --fingerprint: a configuration holds a private key, and goes to no one unknown\n  \
             {address} has the fingerprint {shown}\n  \
             If the node's own console shows the same, add: --fingerprint {shown}"
        ))
        .into()),
        Some(expected) if expected != shown => Err(anyhow::anyhow!(
            "{address} is not the node that was meant. Nothing was sent\n  expected  {expected}\n  presented {shown}\n  \
             Compare with the node's console. A node that has started again in maintenance mode has a new certificate"
        )),
        Some(_) => Err(failure.into()),
    }
}

fn describe(node: &str, response: &ApplyResponse, dry_run: bool) -> String {
    let mut text = match (&response.generation, dry_run) {
        (Some(generation), _) => {
            format!("{node}: accepted as generation {}{}\n", generation.number, kept(generation))
        }
        (None, true) => format!("{node}: valid; nothing was changed\n"),
        (None, false) => format!("{node}: accepted\n"),
    };
    for change in &response.changes {
        let (document, what, takes) = (plain(&change.document), plain(&change.what), takes(change));
        let _ = writeln!(
            text,
            "  {} {document}: {what}, {takes}",
            if dry_run { "would:" } else { "-" }
        );
    }
    text
}

/// What a change takes, in words.
fn takes(change: &ConfigChange) -> String {
    match change.effect() {
        Effect::Restart => format!("restarts {}", plain(&change.services.join(", "))),
        Effect::Reboot => "with the next boot".to_owned(),
        Effect::Live | Effect::Unspecified => "live".to_owned(),
    }
}

fn kept(generation: &Generation) -> &'static str {
    if generation.persistent {
        ""
    } else {
        ", until the next reboot: the machine has no STATE partition to keep it on"
    }
}

/// A generation, for programs.
pub(crate) fn generation(generation: &Generation) -> Value {
    json!({
        "number": generation.number,
        "sha256": generation.sha256,
        "time": generation.time.as_ref().map(span::format_timestamp),
        "author": generation.author,
        "persistent": generation.persistent,
    })
}

fn change(change: &ConfigChange) -> Value {
    let effect = match change.effect() {
        Effect::Restart => "restart",
        Effect::Reboot => "reboot",
        Effect::Live | Effect::Unspecified => "live",
    };
    json!({
        "document": change.document,
        "what": change.what,
        "effect": effect,
        "services": change.services,
    })
}

fn value(submitted: &Submitted) -> Value {
    let Submitted { source: _, difference, response } = submitted;
    let warnings: Vec<_> = response.warnings.iter().cloned().map(findings::from_wire).collect();
    let changes: Vec<_> = response.changes.iter().map(change).collect();
    json!({
        "generation": response.generation.as_ref().map(generation),
        "changes": changes,
        "warnings": warnings,
        "difference": difference,
    })
}
