// SPDX-License-Identifier: Apache-2.0
//! Sends a configuration to a node, and says what came of it: the same for one that was written, patched, edited or
//! taken from the past.

use super::{
    active::{self, Kept},
    validate::Source,
};
use crate::{
    app::{Answer, App, FormatArg, Outcome},
    client::Session,
    diff::{self, Side},
    failure::Failure,
    findings,
    output::{self, Format, Paint, plain},
    span,
};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::{
    error::Error,
    fmt::{self, Write as _},
    time::Duration,
};
use stele_config::{Finding, yaml};
use stele_proto::v1::{
    ApplyMode, ApplyRequest, ApplyResponse, ConfigChange, Effect, Generation, GenerationState,
};
use tonic::Code;

/// What is done with a configuration.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Check it and say what would happen, change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// When it takes effect [default: live]
    #[arg(long, value_enum, value_name = "MODE")]
    mode: Option<Mode>,
    /// Go back by itself unless ctl confirm comes in time, from 10s to 24h
    #[arg(long, value_name = "DURATION", value_parser = parse_confirm_within)]
    confirm_within: Option<Duration>,
    #[command(flatten)]
    format: FormatArg,
}

/// When a configuration takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// Now, all of it; refused if a part needs a restart of the machine.
    Live,
    /// With the next restart of the machine.
    Staged,
    /// With a restart of the machine, now.
    Reboot,
}

fn parse_confirm_within(text: &str) -> Result<Duration> {
    let duration = span::parse_duration(text)?;
    if !(10..=86_400).contains(&duration.as_secs()) {
        anyhow::bail!("it is from 10s to 24h");
    }
    Ok(duration)
}

impl Options {
    /// Whether all of it is to be done now.
    fn is_live(&self) -> bool {
        matches!(self.mode, None | Some(Mode::Live))
    }

    /// The mode on the wire.
    pub(crate) fn mode(&self) -> ApplyMode {
        match self.mode {
            None => ApplyMode::Unspecified,
            Some(Mode::Live) => ApplyMode::Live,
            Some(Mode::Staged) => ApplyMode::Staged,
            Some(Mode::Reboot) => ApplyMode::Reboot,
        }
    }

    /// The time for a confirmation on the wire.
    pub(crate) fn confirm_within(&self) -> Option<prost_types::Duration> {
        self.confirm_within.and_then(|duration| prost_types::Duration::try_from(duration).ok())
    }

    /// The colours of a difference: none for programs.
    pub(crate) fn paint(&self, app: &App) -> Paint {
        if self.format.output == Format::Table { app.paint } else { Paint::new(false) }
    }
}

/// What a node answered to a configuration.
#[derive(Debug)]
pub(crate) struct Submitted {
    /// What was sent.
    pub(crate) source: Source,
    /// In what it differs from the one before.
    pub(crate) difference: String,
    /// The one before, as far as it may be read.
    pub(crate) before: Option<Generation>,
    /// The answer.
    pub(crate) response: ApplyResponse,
}

impl Submitted {
    /// Why a node that was only asked would refuse: it takes nothing live that needs a restart.
    fn refusal(&self, options: &Options) -> Option<String> {
        // The first configuration of a machine needs none.
        let before = self.before.as_ref().filter(|_| options.dry_run && options.is_live())?;
        let changes = self.response.changes.iter();
        let rebooting = changes.filter(|change| change.effect() == Effect::Reboot);
        let documents: Vec<_> = rebooting.map(|change| plain(&change.document)).collect();
        if documents.is_empty() {
            return None;
        }
        let how = match before.persistent {
            true => "apply it with --mode reboot, or with --mode staged for the next start",
            false => "and the machine has no STATE partition to keep it on meanwhile",
        };
        Some(format!(
            "It would be refused: {} needs a restart of the machine; {how}",
            documents.join(", ")
        ))
    }
}

/// A configuration that did not get as far as being judged by the node.
#[derive(Debug)]
pub(crate) enum Refused {
    /// It is not valid, and so was not sent.
    Invalid { source: Source, findings: Vec<Finding> },
    /// Another came between.
    Conflict { failure: Failure, difference: String, advice: String },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Invalid { source, findings } => {
                write!(f, "{}. Nothing was sent.", findings::count(findings, &source.name))
            }
            Refused::Conflict { failure, difference, advice } => {
                let hint = if difference.is_empty() {
                    "Look at it with ctl get config"
                } else {
                    "Above is what it changed"
                };
                write!(f, "{failure}\n  {hint}. Nothing was done; {advice}")
            }
        }
    }
}

impl Error for Refused {}

impl Refused {
    /// Says what the message does not.
    pub(crate) fn render(&self, app: &App) {
        match self {
            Refused::Invalid { source, findings } => {
                eprint!("{}", source.render(findings, app.paint_error));
            }
            Refused::Conflict { difference, .. } => eprint!("{difference}"),
        }
    }
}

/// The generation that has to be in force still when a configuration comes; 0 for any.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Base {
    /// Its number.
    pub(crate) number: u64,
    /// Whether the command has --base, by which a user can name another one.
    pub(crate) can_be_named: bool,
}

impl Base {
    /// The one that a command has begun from.
    pub(crate) fn begun_from(active: Option<&Kept>) -> Base {
        let number = active.map_or(0, |active| active.generation.number);
        Base { number, can_be_named: false }
    }
}

/// Sends a configuration that was made from a generation, or from whatever is in force.
pub(crate) async fn submit(
    session: &Session,
    source: Source,
    (active, base): (Option<&Kept>, Base),
    options: &Options,
    app: &App,
) -> Result<Submitted> {
    let config = match yaml::parse(&source.bytes) {
        Ok(config) => config,
        Err(findings) => return Err(Refused::Invalid { source, findings }.into()),
    };
    let difference = active::difference(active, &config, &source.name, options.paint(app))?;
    let request = ApplyRequest {
        documents: source.bytes.clone(),
        dry_run: options.dry_run,
        base: base.number,
        mode: options.mode().into(),
        confirm_within: options.confirm_within(),
    };
    let tried = "Applying the configuration";
    match session.answer(tried, session.config().apply(request)).await {
        Ok(response) => {
            let before = active.map(|active| active.generation.clone());
            Ok(Submitted { source, difference, before, response })
        }
        Err(failure) => Err(conflict(session, base, failure, app.paint_error).await),
    }
}

/// What came between, if that is why a node refused.
pub(crate) async fn conflict(
    session: &Session,
    base: Base,
    failure: Failure,
    paint: Paint,
) -> anyhow::Error {
    if failure.code != Some(Code::Aborted) || base.number == 0 {
        return failure.into();
    }
    let new = Kept::read(session, 0).await.ok();
    let advice = match new.as_ref().filter(|_| base.can_be_named) {
        Some(new) => format!(
            "begin again from it, or put into yours what is to stay of it and add --base {}",
            new.generation.number
        ),
        None => "begin again from it".to_owned(),
    };
    let difference = async {
        let (old, new) = (Kept::read(session, base.number).await?, new.context("It is gone")?);
        let (old_name, new_name) = (old.name(), new.name());
        let old = Side { name: &old_name, documents: &old.documents };
        diff::render(old, Side { name: &new_name, documents: &new.documents }, paint)
    };
    // The generation that it was made from may be gone by now.
    let difference = difference.await.unwrap_or_default();
    Refused::Conflict { failure, difference, advice }.into()
}

/// Says what came of it, with the difference if that is wanted.
pub(crate) fn report(
    app: &App,
    answers: Vec<Answer<Submitted>>,
    options: &Options,
    with_difference: bool,
) -> Result<Outcome> {
    let mut invalid = false;
    for error in answers.iter().filter_map(|answer| answer.result.as_ref().err()) {
        if let Some(refused) = error.downcast_ref::<Refused>() {
            refused.render(app);
            invalid |= matches!(refused, Refused::Invalid { .. });
        }
    }
    let outcome = if options.format.output == Format::Table {
        let (good, outcome) = app.sort(answers);
        for (node, submitted) in good {
            let Submitted { source, difference, response, .. } = &submitted;
            let warnings: Vec<_> =
                response.warnings.iter().cloned().map(findings::from_wire).collect();
            eprint!("{}", source.render(&warnings, app.paint_error));
            if with_difference {
                output::print(difference)?;
            }
            output::print(&describe(&node.name(), response, options))?;
            if let Some(refusal) = submitted.refusal(options) {
                output::print(&format!("{refusal}\n"))?;
            }
        }
        outcome
    } else {
        let answers = answers
            .into_iter()
            .map(|answer| Answer { node: answer.node, result: answer.result.map(|r| value(&r)) });
        app.print_values(options.format.output, answers.collect())?
    };
    Ok(if invalid { Outcome::Invalid } else { outcome })
}

fn describe(node: &str, response: &ApplyResponse, options: &Options) -> String {
    let mut text = match &response.generation {
        Some(generation) => format!("{node}: {}\n", accepted(generation)),
        None if options.dry_run => format!("{node}: valid; nothing was changed\n"),
        None => format!("{node}: accepted\n"),
    };
    for change in &response.changes {
        let (document, what) = (plain(&change.document), plain(&change.what));
        let mark = if options.dry_run { "would:" } else { "-" };
        let _ = writeln!(text, "  {mark} {document}: {what}, {}", takes(change));
    }
    if let Some(by) =
        response.generation.as_ref().and_then(|generation| generation.confirm_by.as_ref())
    {
        let _ = writeln!(
            text,
            "It goes back by itself at {} unless it is confirmed: ctl confirm -n {node}",
            span::format_timestamp(by)
        );
    }
    text
}

/// What became of a configuration, in a few words.
fn accepted(generation: &Generation) -> String {
    let how = match generation.state() {
        GenerationState::Staged => ", in force with the next start of the machine",
        _ if !generation.persistent => {
            ", until the next reboot: the machine has no STATE partition to keep it on"
        }
        _ => "",
    };
    format!("accepted as generation {}{how}", generation.number)
}

/// What a change takes, in words.
fn takes(change: &ConfigChange) -> String {
    match change.effect() {
        Effect::Restart => format!("restarts {}", plain(&change.services.join(", "))),
        Effect::Reboot => "with the next start of the machine".to_owned(),
        Effect::Live | Effect::Unspecified => "live".to_owned(),
    }
}

/// What became of a generation, in a word.
pub(crate) fn state(generation: &Generation) -> &'static str {
    match generation.state() {
        GenerationState::Unspecified => "unreadable",
        GenerationState::Active => "active",
        GenerationState::Pending => "pending",
        GenerationState::Staged => "staged",
        GenerationState::Superseded => "superseded",
        GenerationState::Reverted => "reverted",
        GenerationState::Failed => "failed",
    }
}

/// A generation, for programs.
pub(crate) fn generation(generation: &Generation) -> Value {
    json!({
        "number": generation.number,
        "sha256": generation.sha256,
        "time": generation.time.as_ref().map(span::format_timestamp),
        "author": generation.author,
        "serial": generation.serial,
        "request": generation.request,
        "image": generation.image,
        "state": state(generation),
        "reason": generation.reason,
        "confirmBy": generation.confirm_by.as_ref().map(span::format_timestamp),
        "persistent": generation.persistent,
    })
}

fn value(submitted: &Submitted) -> Value {
    let Submitted { difference, response, .. } = submitted;
    let warnings: Vec<_> = response.warnings.iter().cloned().map(findings::from_wire).collect();
    let change = |change: &ConfigChange| {
        let effect = match change.effect() {
            Effect::Live | Effect::Unspecified => "live",
            Effect::Restart => "restart",
            Effect::Reboot => "reboot",
        };
        json!({ "document": change.document, "what": change.what, "effect": effect, "services": change.services })
    };
    json!({
        "generation": response.generation.as_ref().map(generation),
        "changes": response.changes.iter().map(change).collect::<Vec<_>>(),
        "warnings": warnings,
        "difference": difference,
    })
}
