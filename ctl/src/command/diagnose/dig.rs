// SPDX-License-Identifier: Apache-2.0
//! `ctl dig`.

use super::{answered, millis, took};
use crate::{
    app::{Answer, App, FormatArg, Outcome, Reach},
    output::{self, Format, Table, plain},
};
use anyhow::Result;
use serde_json::{Value, json};
use std::time::Duration;
use stele_proto::v1::{DnsRecord, ResolveRequest, ResolveResponse};

/// Servers that a node may have to ask, one after the other.
const SERVERS: u32 = 4;

/// Arguments of `ctl dig`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The name to ask for, complete; or an address, to ask for its name
    name: String,
    /// A, AAAA, CAA, CNAME, DNSKEY, DS, HTTPS, MX, NS, PTR, SOA, SRV, SVCB, TXT or ANY
    #[arg(short, long, default_value = "", hide_default_value = true)]
    r#type: String,
    /// The server to ask instead of the node's own: ADDRESS or ADDRESS:PORT
    #[arg(short, long, default_value = "", hide_default_value = true)]
    server: String,
    /// How long to wait for each server, at most 10s
    #[arg(short = 'W', long, default_value = "2s", value_name = "DURATION", value_parser = millis)]
    wait: u32,
    #[command(flatten)]
    format: FormatArg,
}

/// Asks name servers from nodes.
pub(crate) async fn run(app: &App, args: Args) -> Result<Outcome> {
    let targets = app.targets(Reach::Look)?;
    let many = targets.are_many();
    let tried = format!("Asking for {}", args.name);
    let takes = Duration::from_millis(args.wait.saturating_mul(SERVERS).into());
    let request = ResolveRequest {
        name: args.name,
        r#type: args.r#type,
        server: args.server,
        timeout_ms: args.wait,
    };
    let answers =
        targets
            .each(move |session| {
                let (request, tried) = (request.clone(), tried.clone());
                async move {
                    answered(&session, &tried, takes, session.diagnose().resolve(request)).await
                }
            })
            .await;
    let fine = |response: &ResolveResponse| response.code == "NoError";
    let all = answers.iter().all(|answer| answer.result.as_ref().is_ok_and(fine));
    let outcome = |outcome| if all { outcome } else { Outcome::Failed };
    if args.format.output != Format::Table {
        let answers = answers.into_iter().map(|Answer { node, result }| Answer {
            node,
            result: result.map(|response| value(&response)),
        });
        return Ok(outcome(app.print_values(args.format.output, answers.collect())?));
    }
    let (good, sorted) = app.sort(answers);
    for (node, response) in good {
        let name = if many { format!("{}: ", node.name()) } else { String::new() };
        output::print(&format!("{name}{}\n", head(&response)))?;
        output::print(&records(&response).render_rows(&records(&response).widths()))?;
    }
    Ok(outcome(sorted))
}

/// What the server said, in a line.
pub(super) fn head(response: &ResolveResponse) -> String {
    let right = if response.authoritative { ", which speaks for the name" } else { "" };
    format!(
        "{} from {}{right}, after {}",
        plain(&response.code),
        plain(&response.server),
        took(response.time_us)
    )
}

/// The records as in a zone file; who speaks for the name only when there is no answer.
fn records(response: &ResolveResponse) -> Table {
    let mut table = Table::new(["", "", "", ""]);
    let shown = if response.answers.is_empty() { &response.authorities } else { &response.answers };
    for DnsRecord { name, r#type, ttl, data } in shown {
        table.row([name.clone(), ttl.to_string(), r#type.clone(), data.clone()]);
    }
    table
}

fn value(response: &ResolveResponse) -> Value {
    let records = |records: &[DnsRecord]| -> Value {
        let record = |record: &DnsRecord| {
            json!({
                "name": record.name,
                "type": record.r#type,
                "ttl": record.ttl,
                "data": record.data,
            })
        };
        records.iter().map(record).collect()
    };
    json!({
        "code": response.code,
        "server": response.server,
        "authoritative": response.authoritative,
        "answers": records(&response.answers),
        "authorities": records(&response.authorities),
        "timeUs": response.time_us,
    })
}
