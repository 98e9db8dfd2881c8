// SPDX-License-Identifier: Apache-2.0
//! Diagnostics of nodes: their network, and what their kernels say of the machines.

pub(crate) mod dig;
pub(crate) mod machine;
pub(crate) mod pcap;
pub(crate) mod ping;
pub(crate) mod probe;
pub(crate) mod traceroute;

use crate::{
    app::{Answer, App, Outcome, Targets},
    client::Session,
    failure::Failure,
    node::Node,
    output::{self, Format, Paint},
    span,
};
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::{io, time::Duration};
use stele_proto::v1::Family;
use tokio::time::timeout;
use tonic::{Response, Status, Streaming};

/// Which IP.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct FamilyArgs {
    /// Only IPv4
    #[arg(short = '4', long)]
    ipv4: bool,
    /// Only IPv6
    #[arg(short = '6', long, conflicts_with = "ipv4")]
    ipv6: bool,
}

impl FamilyArgs {
    fn family(self) -> i32 {
        let family = match (self.ipv4, self.ipv6) {
            (true, _) => Family::Ipv4,
            (false, true) => Family::Ipv6,
            (false, false) => Family::Unspecified,
        };
        family.into()
    }
}

/// Reads a duration in milliseconds: `200ms`, or as elsewhere.
fn millis(text: &str) -> Result<u32> {
    let millis = match text.strip_suffix("ms") {
        Some(number) => number.parse().ok(),
        None => u32::try_from(span::parse_duration(text)?.as_millis()).ok(),
    };
    let millis = millis.filter(|millis| *millis > 0);
    millis.with_context(|| format!("\"{text}\" is not a duration such as 200ms or 5s"))
}

/// A time as people read it.
fn took(micros: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
    let millis = micros as f64 / 1000.0;
    format!("{millis:.2} ms")
}

/// Awaits an answer that takes a while by itself.
async fn answered<T>(
    session: &Session,
    tried: &str,
    takes: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T> {
    let patience = session.patience().saturating_add(takes);
    match timeout(patience, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(Failure::status(tried.to_owned(), &status).into()),
        Err(_) => Err(Failure::timeout(tried.to_owned(), patience.as_secs_f64()).into()),
    }
}

/// The next of a stream of answers; none at its good end.
async fn next<T>(
    session: &Session,
    tried: &str,
    takes: Duration,
    stream: &mut Streaming<T>,
) -> Result<Option<T>> {
    let patience = session.patience().saturating_add(takes);
    match timeout(patience, stream.message()).await {
        Ok(Ok(message)) => Ok(message),
        Ok(Err(status)) => Err(Failure::status(tried.to_owned(), &status).into()),
        Err(_) => Err(Failure::timeout(tried.to_owned(), patience.as_secs_f64()).into()),
    }
}

/// How answers are shown while they come from several nodes.
#[derive(Clone, Copy, Debug)]
struct Style {
    format: Format,
    paint: Paint,
    /// The width of the nodes' names, if there are several.
    width: Option<usize>,
}

impl Style {
    fn new(app: &App, targets: &Targets, format: Format) -> Style {
        let width = targets.nodes.iter().map(|node| node.name().chars().count()).max();
        let width = width.filter(|_| targets.are_many());
        Style { format, paint: app.paint, width }
    }

    /// Prints a line for people.
    fn line(self, node: &Node, line: &str) -> Result<()> {
        let name = node.name();
        let prefix = self.width.map(|width| format!("{name:<width$} | ")).unwrap_or_default();
        output::print(&format!("{prefix}{line}\n"))
    }

    /// Prints an answer in the form that was asked for.
    fn print(self, node: &Node, line: &str, mut value: Value) -> Result<()> {
        if self.format == Format::Table {
            return self.line(node, line);
        }
        if let (Some(map), true) = (value.as_object_mut(), self.width.is_some()) {
            map.insert("node".to_owned(), node.name().into());
        }
        output::print_event(self.format, &value)
    }
}

/// How a command ends whose answers were shown as they came: well if each of them says that it is well.
fn end(app: &App, answers: Vec<Answer<bool>>) -> Outcome {
    // A reader that has gone, as in ctl ping | head, is nobody's failure.
    let gone = |error: &anyhow::Error| {
        error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    if answers.iter().any(|answer| answer.result.as_ref().is_err_and(gone)) {
        return Outcome::Done;
    }
    let (good, outcome) = app.sort(answers);
    if good.iter().all(|(_, well)| *well) { outcome } else { Outcome::Failed }
}

#[cfg(test)]
mod tests;
