// SPDX-License-Identifier: Apache-2.0
//! `ctl ping`.

use super::{FamilyArgs, Style, end, millis, next, took};
use crate::{
    app::{App, FormatArg, Outcome, Reach, Targets},
    failure::Failure,
    node::Node,
    output::{Format, plain},
};
use anyhow::Result;
use serde_json::{Value, json};
use std::time::Duration;
use stele_proto::v1::{PingReply, PingRequest};

/// Arguments of `ctl ping`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Whom the node sends echo requests to: a name or an address
    host: String,
    /// How many
    #[arg(short, long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
    count: u32,
    /// From one to the next: 200ms to 10s
    #[arg(short, long, default_value = "1s", value_name = "DURATION", value_parser = millis)]
    interval: u32,
    /// How long to wait for each answer, at most 10s
    #[arg(short = 'W', long, default_value = "1s", value_name = "DURATION", value_parser = millis)]
    wait: u32,
    /// Bytes that each carries
    #[arg(short, long, default_value_t = 56, value_parser = clap::value_parser!(u32).range(16..=8192))]
    size: u32,
    #[command(flatten)]
    family: FamilyArgs,
    #[command(flatten)]
    format: FormatArg,
}

/// Sends echo requests from nodes.
pub(crate) async fn run(app: &App, args: Args) -> Result<Outcome> {
    let targets = app.targets(Reach::Look)?;
    let style = Style::new(app, &targets, args.format.output);
    let request = PingRequest {
        host: args.host,
        count: args.count,
        interval_ms: args.interval,
        timeout_ms: args.wait,
        size: args.size,
        family: args.family.family(),
    };
    let answers = targets
        .each_node(move |targets, node| {
            let request = request.clone();
            async move { ping(&targets, &node, request, style).await }
        })
        .await;
    Ok(end(app, answers))
}

/// Says whether anything was answered.
async fn ping(targets: &Targets, node: &Node, request: PingRequest, style: Style) -> Result<bool> {
    let tried = format!("Pinging {}", request.host);
    let takes = Duration::from_millis(request.interval_ms.max(request.timeout_ms).into());
    let session = targets.connect(node).await?;
    let failed = |status| Failure::status(tried.clone(), &status);
    let mut stream = session.diagnose().ping(request).await.map_err(failed)?.into_inner();
    let mut seen = Vec::new();
    while let Some(reply) = next(&session, &tried, takes, &mut stream).await? {
        let mut line = line(&reply);
        if !is_echo(&reply) {
            line = style.paint.yellow(&line);
        }
        style.print(node, &line, value(&reply))?;
        seen.push(reply);
    }
    if style.format == Format::Table {
        style.line(node, &summary(&seen))?;
    }
    Ok(seen.iter().any(is_echo))
}

fn is_echo(reply: &PingReply) -> bool {
    !reply.address.is_empty() && reply.reason.is_empty()
}

fn line(reply: &PingReply) -> String {
    let sequence = reply.sequence;
    let time = took(reply.time_us);
    let (address, reason) = (plain(&reply.address), plain(&reply.reason));
    match (reply.address.is_empty(), reply.reason.is_empty()) {
        (true, true) => format!("{sequence}: no answer from {}", plain(&reply.host)),
        (true, false) => format!("{sequence}: {reason}"),
        (false, false) => format!("{sequence}: {address} says after {time}: {reason}"),
        (false, true) if reply.ttl > 0 => {
            format!("{sequence}: {address} answers after {time}, time to live {}", reply.ttl)
        }
        (false, true) => format!("{sequence}: {address} answers after {time}"),
    }
}

pub(super) fn summary(replies: &[PingReply]) -> String {
    let mut times: Vec<u64> =
        replies.iter().filter(|reply| is_echo(reply)).map(|reply| reply.time_us).collect();
    times.sort_unstable();
    let counts = format!("{} of {} answered", times.len(), replies.len());
    match (times.first(), times.get(times.len() / 2), times.last()) {
        (Some(least), Some(median), Some(most)) => format!(
            "{counts}: {} at least, {} median, {} at most",
            took(*least),
            took(*median),
            took(*most)
        ),
        _ => counts,
    }
}

fn value(reply: &PingReply) -> Value {
    json!({
        "sequence": reply.sequence,
        "host": reply.host,
        "address": reply.address,
        "timeUs": reply.time_us,
        "ttl": reply.ttl,
        "reason": reply.reason,
        "answered": is_echo(reply),
    })
}
