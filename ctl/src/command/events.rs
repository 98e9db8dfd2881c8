// SPDX-License-Identifier: Apache-2.0
//! `ctl events`: what happened on nodes, who made it happen, and by which request.

use super::logs::since_now;
use crate::{
    app::{App, FormatArg, Outcome, Reach, Targets},
    client::Session,
    failure::Failure,
    node::Node,
    output::{self, Format, Paint, plain},
    span,
};
use anyhow::Result;
use serde_json::{Value, json};
use std::time::Duration;
use stele_proto::v1::{Event, EventsRequest};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::timeout;

/// Arguments of `ctl events`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Stay, and show what comes
    #[arg(short, long)]
    follow: bool,
    /// Only events from then on: 10m, 2h, or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = since_now)]
    since: Option<OffsetDateTime>,
    /// Only what this request caused, as ctl logs audit names it
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// Only the last N
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    tail: Option<u32>,
    #[command(flatten)]
    format: FormatArg,
}

/// How events are shown.
#[derive(Clone, Copy, Debug)]
struct Style {
    format: Format,
    paint: Paint,
    /// The width of the nodes' names, if there are several.
    width: Option<usize>,
}

/// Shows events.
pub(crate) async fn run(app: &App, args: Args) -> Result<Outcome> {
    let targets = app.targets(Reach::Look)?;
    let request = EventsRequest {
        follow: args.follow,
        since: args.since.map(span::to_timestamp),
        request: args.request.unwrap_or_default(),
        tail: args.tail.unwrap_or(0),
    };
    let width = targets.nodes.iter().map(|node| node.name().chars().count()).max().unwrap_or(0);
    let style = Style {
        format: args.format.output,
        paint: app.paint,
        width: targets.are_many().then_some(width),
    };
    let answers = targets
        .each_node(move |targets, node| {
            let request = request.clone();
            async move { show(&targets, &node, request, style).await }
        })
        .await;
    Ok(app.sort_streams(answers))
}

async fn show(targets: &Targets, node: &Node, request: EventsRequest, style: Style) -> Result<()> {
    let follow = request.follow;
    // Nothing may happen for long; that the node is there is seen by HTTP/2 pings.
    let patience = if follow { Duration::MAX } else { targets.deadlines.answer };
    let session = targets.connect(node).await?;
    each(&session, request, patience, |event| print(node, event, style)).await?;
    if follow {
        return Err(Failure::new(TRIED, "the node ended the stream", None).into());
    }
    Ok(())
}

const TRIED: &str = "Reading the events";

/// Reads events, and does something with those of each message.
pub(crate) async fn each(
    session: &Session,
    request: EventsRequest,
    patience: Duration,
    mut work: impl FnMut(&[Event]) -> Result<()>,
) -> Result<()> {
    let failed = |status| Failure::status(TRIED.to_owned(), &status);
    let mut stream = session.events().stream(request).await.map_err(failed)?.into_inner();
    loop {
        match timeout(patience, stream.message()).await {
            Ok(Ok(Some(chunk))) => work(&chunk.events)?,
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(status)) => return Err(failed(status).into()),
            Err(_) => return Err(Failure::timeout(TRIED.to_owned(), patience.as_secs_f64()).into()),
        }
    }
}

fn print(node: &Node, events: &[Event], style: Style) -> Result<()> {
    let name = node.name();
    if style.format != Format::Table {
        return events.iter().try_for_each(|event| {
            let mut value = value(event);
            if let (Some(map), true) = (value.as_object_mut(), style.width.is_some()) {
                map.insert("node".to_owned(), name.clone().into());
            }
            output::print_event(style.format, &value)
        });
    }
    let prefix = style.width.map(|width| format!("{name:<width$} | ")).unwrap_or_default();
    let lines: Vec<String> =
        events.iter().map(|event| format!("{prefix}{}\n", line(event, style.paint))).collect();
    output::print(&lines.concat())
}

/// An event as a line.
pub(crate) fn line(event: &Event, paint: Paint) -> String {
    let severity = severity(event);
    let padded = format!("{severity:<7}");
    let severity = match severity {
        "error" => paint.red(&padded),
        "warning" => paint.yellow(&padded),
        _ => padded,
    };
    let subject = [event.kind.as_str(), &event.name].join(" ");
    let by = match (event.subject.as_str(), event.request.as_str()) {
        ("", "") => String::new(),
        (subject, "") => format!(" ({})", plain(subject)),
        (subject, request) => format!(" ({}, request {})", plain(subject), plain(request)),
    };
    format!("{} {severity} {}: {}{by}", moment(event), plain(subject.trim()), plain(&event.message))
}

/// How bad it is, in a word.
pub(crate) fn severity(event: &Event) -> &'static str {
    match event.severity {
        0..=3 => "error",
        4 => "warning",
        _ => "info",
    }
}

/// When it happened, to the millisecond.
fn moment(event: &Event) -> String {
    let millis = i128::from(event.time_us / 1000);
    OffsetDateTime::from_unix_timestamp_nanos(millis * 1_000_000)
        .ok()
        .and_then(|moment| moment.format(&Rfc3339).ok())
        .unwrap_or_default()
}

/// An event, for programs.
pub(crate) fn value(event: &Event) -> Value {
    json!({
        "number": event.number,
        "time": moment(event),
        "boot": event.boot,
        "kind": event.kind,
        "name": event.name,
        "message": event.message,
        "severity": severity(event),
        "request": event.request,
        "subject": event.subject,
    })
}
