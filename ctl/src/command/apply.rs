// SPDX-License-Identifier: Apache-2.0
//! `ctl apply-config`.

use super::validate::Source;
use crate::{
    app::{self, App, FormatArg, Misuse, Outcome, Reach, Targets},
    context::Contexts,
    failure::Approach,
    findings,
    output::{self, Format, plain},
    span,
    tls::{self, Fingerprint},
};
use anyhow::Result;
use serde_json::{Value, json};
use std::fmt::Write as _;
use stele_proto::v1::{ApplyRequest, ApplyResponse, Generation};

/// Arguments of `ctl apply-config`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration; - for standard input
    #[arg(short, long, value_name = "FILE")]
    file: String,
    /// Check it and say what would happen, change nothing
    #[arg(long)]
    dry_run: bool,
    /// The node is in maintenance mode and knows no client yet; needs --fingerprint
    #[arg(long)]
    insecure: bool,
    /// The SHA-256 of the node's certificate, as on its console: SHA256:… or hexadecimal digits
    #[arg(long, requires = "insecure", value_name = "SHA256:…")]
    fingerprint: Option<Fingerprint>,
    #[command(flatten)]
    format: FormatArg,
}

/// Checks a configuration here, then sends it.
pub(crate) async fn run(app: &App, args: Args) -> Result<Outcome> {
    let source = Source::read(&args.file)?;
    let wrong = source.findings();
    if !wrong.is_empty() {
        eprint!("{}", source.render(&wrong, "error", app.paint_error));
        eprintln!(
            "{}: {}. Nothing was sent.",
            app.paint_error.red("error"),
            findings::count(&wrong, &source.name)
        );
        return Ok(Outcome::Invalid);
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
    let request = ApplyRequest { documents: source.bytes.clone(), dry_run: args.dry_run };
    let answers = targets
        .each(move |session| {
            let request = request.clone();
            async move {
                Ok(session
                    .answer("Applying the configuration", session.config().apply(request))
                    .await?)
            }
        })
        .await;
    if args.format.output != Format::Table {
        let answers = answers.into_iter().map(|answer| app::Answer {
            node: answer.node,
            result: answer.result.map(|r| value(&r)),
        });
        return app.print_values(args.format.output, answers.collect());
    }
    let (good, outcome) = app.sort(answers);
    for (node, response) in good {
        let warnings: Vec<_> = response.warnings.iter().cloned().map(findings::from_wire).collect();
        eprint!("{}", source.render(&warnings, "warning", app.paint_error));
        output::print(&describe(&node.name(), &response, args.dry_run))?;
    }
    Ok(outcome)
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
    for action in &response.actions {
        let _ = writeln!(text, "  {} {}", if dry_run { "would:" } else { "-" }, plain(action));
    }
    text
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

fn value(response: &ApplyResponse) -> Value {
    let warnings: Vec<_> = response.warnings.iter().cloned().map(findings::from_wire).collect();
    json!({ "generation": response.generation.as_ref().map(generation), "actions": response.actions, "warnings": warnings })
}
