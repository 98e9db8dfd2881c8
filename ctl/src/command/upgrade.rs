// SPDX-License-Identifier: Apache-2.0
//! `ctl upgrade` and `ctl rollback`.
//!
//! ```text
//! push (or the node fetches) ─► staged ─► activated ─► reboot ─► another boot id ─► running slot good: done
//!                                                                                └► another slot runs: went back
//! ```

mod arrive;
mod bar;
mod plan;
mod push;

use super::follow;
use crate::{
    app::{Answer, App, FormatArg, Outcome, Reach, Targets},
    client::Session,
    failure::Failure,
    node::Node,
    output::{self, Format, plain},
    span,
};
use anyhow::Result;
use arrive::{Leaving, arrive};
use bar::Bars;
use plan::{From, Plan};
use serde_json::{Value, json};
use std::time::Duration;
use stele_proto::v1::{
    CancelRequest, Progress, RollbackRequest, Step, UpgradeRequest,
    upgrade_request::{Source, When},
};
use tonic::Streaming;

/// Arguments of `ctl rollback`.
#[derive(Debug, clap::Args)]
pub(crate) struct RollbackArgs {
    #[command(flatten)]
    wait: WaitArgs,
}

/// Whether and how long to wait.
#[derive(Clone, Debug, clap::Args)]
struct WaitArgs {
    /// Do not follow the node through its reboot
    #[arg(long)]
    no_wait: bool,
    /// How long to wait until the node is back and its image good
    #[arg(long, default_value = "10m", value_parser = span::parse_duration, value_name = "DURATION")]
    wait_timeout: Duration,
    #[command(flatten)]
    format: FormatArg,
}

/// What became of a node.
#[derive(Clone, Debug)]
struct Report {
    said: String,
    before: String,
    after: Option<String>,
    slot: String,
}

pub(crate) use plan::Args;

/// Moves nodes to another image.
pub(crate) async fn run(app: &App, args: Args) -> Result<Outcome> {
    let targets = app.targets(Reach::Change)?;
    let format = args.wait.format.output;
    if args.cancel {
        let answers = targets.each(|session| async move { cancel(&session).await });
        return finish(app, answers.await, format);
    }
    let plan = Plan::of(&args)?;
    let bars = Bars::new(&targets.nodes);
    let wait = args.wait.clone();
    let work = bars.clone();
    let answers = targets.each_node(move |targets, node| {
        let (bars, plan, wait) = (work.clone(), plan.clone(), wait.clone());
        async move {
            let result = upgrade(&targets, &node, &bars, plan, &wait).await;
            bars.end(&node);
            result
        }
    });
    finish(app, answers.await, format)
}

async fn cancel(session: &Session) -> Result<Report> {
    let mut upgrades = session.upgrade();
    let asked = upgrades.cancel(CancelRequest {});
    let slot = session.answer("Cancelling the upgrade", asked).await?.slot;
    let before = follow::version(session).await?.version;
    let said = if slot.is_empty() {
        "no upgrade was waiting".to_owned()
    } else {
        format!("{slot} waits no more; it stays staged")
    };
    Ok(Report { said, before, after: None, slot })
}

/// Sends nodes back to the image before.
pub(crate) async fn rollback(app: &App, args: RollbackArgs) -> Result<Outcome> {
    let targets = app.targets(Reach::Change)?;
    let bars = Bars::new(&targets.nodes);
    let (wait, work) = (args.wait.clone(), bars.clone());
    let answers = targets.each_node(move |targets, node| {
        let (bars, wait) = (work.clone(), wait.clone());
        async move {
            let result = back(&targets, &node, &bars, &wait).await;
            bars.end(&node);
            result
        }
    });
    finish(app, answers.await, args.wait.format.output)
}

fn finish(app: &App, answers: Vec<Answer<Report>>, format: Format) -> Result<Outcome> {
    if format != Format::Table {
        let value = |report: Report| json!({ "done": report.said, "before": report.before, "after": report.after, "slot": report.slot });
        let answers = answers
            .into_iter()
            .map(|Answer { node, result }| Answer { node, result: result.map(value) });
        return app.print_values(format, answers.collect::<Vec<Answer<Value>>>());
    }
    let (good, outcome) = app.sort(answers);
    for (node, report) in good {
        output::print(&format!("{}: {}\n", node.name(), plain(&report.said)))?;
    }
    Ok(outcome)
}

async fn upgrade(
    targets: &Targets,
    node: &Node,
    bars: &Bars,
    plan: Plan,
    wait: &WaitArgs,
) -> Result<Report> {
    let session = targets.connect(node).await?;
    let leaving = Leaving::ask(&session).await?;
    let before = leaving.version.version.clone();
    let mut told = Told::new("fetching");
    let (session, source) = match &plan.from {
        From::Image(image) => {
            let slot = push::push(targets, session, bars, image, plan.rate).await?;
            if matches!(plan.when, Some(When::StageOnly(_))) {
                let said = plan.later(&slot).unwrap_or_default();
                return Ok(Report { said, before, after: None, slot });
            }
            told.slot.clone_from(&slot);
            // The connection may be another one by now.
            (targets.connect(node).await?, Source::Slot(slot))
        }
        From::Node(source) => {
            if let Source::Slot(slot) = source {
                told.slot.clone_from(slot);
            }
            (session, source.clone())
        }
    };
    let request = UpgradeRequest { source: Some(source), when: plan.when, rate_limit: plan.rate };
    let asked = async {
        let stream = session
            .upgrade()
            .upgrade(request)
            .await
            .map_err(|status| Failure::status("Upgrading".to_owned(), &status))?;
        progress(node, bars, "Upgrading", stream.into_inner(), &mut told).await
    }
    .await;
    super::machine::gone_is_fine(asked, told.leaving && plan.when.is_none())?;
    let slot = told.slot;
    if let Some(said) = plan.later(&slot) {
        return Ok(Report { said, before, after: None, slot });
    }
    if wait.no_wait {
        return Ok(Report { said: format!("reboots into {slot}"), before, after: None, slot });
    }
    bars.say(node, "waiting until it is back");
    arrive(targets, node, bars, wait, leaving, &slot).await
}

/// What a node has said of its progress so far.
#[derive(Debug)]
struct Told {
    /// How the image comes to it, in a word.
    arriving: &'static str,
    /// The slot that it is about.
    slot: String,
    /// Past the point where the node goes down by itself, and may take the connection with it.
    leaving: bool,
}

impl Told {
    fn new(arriving: &'static str) -> Told {
        Told { arriving, slot: String::new(), leaving: false }
    }
}

/// Shows a stream of progress until it ends, and remembers what it said.
async fn progress(
    node: &Node,
    bars: &Bars,
    tried: &str,
    mut stream: Streaming<Progress>,
    told: &mut Told,
) -> Result<(), Failure> {
    while let Some(progress) =
        stream.message().await.map_err(|status| Failure::status(tried.to_owned(), &status))?
    {
        if !progress.slot.is_empty() {
            told.slot.clone_from(&progress.slot);
        }
        told.leaving |= matches!(progress.step(), Step::Activated | Step::Rebooting);
        match progress.step() {
            Step::Receiving if progress.total > 0 => {
                bars.begin(node, told.arriving, progress.total).at(node, progress.done);
            }
            Step::Writing if progress.total > 0 => {
                bars.begin(node, "writing", progress.total).at(node, progress.done);
            }
            step if progress.message.is_empty() => bars.say(node, word(step)),
            _ => bars.say(node, &plain(&progress.message)),
        }
    }
    Ok(())
}

fn word(step: Step) -> &'static str {
    match step {
        Step::Unspecified => "working",
        Step::Receiving => "receiving",
        Step::Verifying => "verifying",
        Step::Checking => "checking",
        Step::Writing => "writing",
        Step::Staged => "staged",
        Step::Scheduled => "scheduled",
        Step::Activated => "activated: the next boot tries it",
        Step::Rebooting => "rebooting",
    }
}

async fn back(targets: &Targets, node: &Node, bars: &Bars, wait: &WaitArgs) -> Result<Report> {
    let session = targets.connect(node).await?;
    let leaving = Leaving::ask(&session).await?;
    let before = leaving.version.version.clone();
    let mut told = Told::new("fetching");
    let asked = async {
        let stream = session
            .upgrade()
            .rollback(RollbackRequest {})
            .await
            .map_err(|status| Failure::status("Rolling back".to_owned(), &status))?;
        progress(node, bars, "Rolling back", stream.into_inner(), &mut told).await
    }
    .await;
    super::machine::gone_is_fine(asked, told.leaving)?;
    let slot = told.slot;
    if wait.no_wait {
        return Ok(Report {
            said: "reboots into the image before".to_owned(),
            before,
            after: None,
            slot,
        });
    }
    bars.say(node, "waiting until it is back");
    arrive(targets, node, bars, wait, leaving, &slot).await
}
