// SPDX-License-Identifier: Apache-2.0
//! `ctl traceroute`.

use super::{FamilyArgs, Style, end, millis, next, took};
use crate::{
    app::{App, FormatArg, Outcome, Reach, Targets},
    failure::Failure,
    node::Node,
    output::plain,
};
use anyhow::Result;
use serde_json::{Value, json};
use std::time::Duration;
use stele_proto::v1::{TracerouteHop, TracerouteRequest, TracerouteTry};

/// Arguments of `ctl traceroute`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The host at the end of the way: a name or an address
    host: String,
    /// How far to go
    #[arg(short, long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=64))]
    max_hops: u32,
    /// Requests for each hop
    #[arg(short = 'q', long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=5))]
    tries: u32,
    /// How long to wait at each hop, at most 5s
    #[arg(short = 'W', long, default_value = "1s", value_name = "DURATION", value_parser = millis)]
    wait: u32,
    #[command(flatten)]
    family: FamilyArgs,
    #[command(flatten)]
    format: FormatArg,
}

/// Shows the way from nodes to a host.
pub(crate) async fn run(app: &App, args: Args) -> Result<Outcome> {
    let targets = app.targets(Reach::Look)?;
    let style = Style::new(app, &targets, args.format.output);
    let request = TracerouteRequest {
        host: args.host,
        max_hops: args.max_hops,
        tries: args.tries,
        timeout_ms: args.wait,
        family: args.family.family(),
    };
    let answers = targets
        .each_node(move |targets, node| {
            let request = request.clone();
            async move { trace(&targets, &node, request, style).await }
        })
        .await;
    Ok(end(app, answers))
}

/// Says whether the host was reached.
async fn trace(
    targets: &Targets,
    node: &Node,
    request: TracerouteRequest,
    style: Style,
) -> Result<bool> {
    let tried = format!("Finding the way to {}", request.host);
    let takes = Duration::from_millis(request.timeout_ms.into());
    let session = targets.connect(node).await?;
    let failed = |status| Failure::status(tried.clone(), &status);
    let mut stream = session.diagnose().traceroute(request).await.map_err(failed)?.into_inner();
    let mut arrived = false;
    while let Some(hop) = next(&session, &tried, takes, &mut stream).await? {
        arrived = hop.last && hop.tries.iter().any(|tried| tried.reason.is_empty());
        style.print(node, &line(&hop), value(&hop))?;
    }
    Ok(arrived)
}

/// A hop: each router once, with its times.
pub(super) fn line(hop: &TracerouteHop) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut before = "";
    for TracerouteTry { address, time_us, reason } in &hop.tries {
        if address.is_empty() {
            words.push(if reason.is_empty() { "*".to_owned() } else { plain(reason).into_owned() });
            continue;
        }
        if address != before {
            words.push(plain(address).into_owned());
            before = address;
        }
        words.push(took(*time_us));
        if !reason.is_empty() {
            words.push(format!("({})", plain(reason)));
        }
    }
    format!("{:>2}  {}", hop.hop, words.join("  "))
}

fn value(hop: &TracerouteHop) -> Value {
    let tries = hop.tries.iter().map(|tried| {
        json!({ "address": tried.address, "timeUs": tried.time_us, "reason": tried.reason })
    });
    json!({ "hop": hop.hop, "tries": tries.collect::<Value>(), "last": hop.last })
}
