// SPDX-License-Identifier: Apache-2.0
//! `ctl probe`.

use super::{answered, millis, took};
use crate::{
    app::{Answer, App, FormatArg, Outcome, Reach},
    output::{self, Format, plain},
    pki, span,
};
use anyhow::Result;
use serde_json::{Value, json};
use std::{fmt::Write as _, time::Duration};
use stele_proto::v1::{
    HttpProbe, ProbeRequest, ProbeResponse, TcpProbe, TlsProbe, probe_request::Target,
};

/// What is tried.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a connection and close it again
    #[command(after_help = "Example:
  ctl probe tcp db.example.com:5432 -n web1")]
    Tcp {
        /// HOST:PORT or [IPv6]:PORT
        address: String,
        #[command(flatten)]
        more: More,
    },
    /// Follow a TLS handshake, and show what the server proves
    #[command(after_help = "Examples:
  ctl probe tls example.com:443
  ctl probe tls 10.0.0.5:443 --server-name example.com --alpn h2

Exit code 1 if the node does not trust the server: its certificates are shown all the same.")]
    Tls {
        /// HOST:PORT or [IPv6]:PORT
        address: String,
        /// Whom the server must prove to be, if that is not the host
        #[arg(long, default_value = "", hide_default_value = true)]
        server_name: String,
        /// The application's protocols to offer
        #[arg(long, value_name = "PROTOCOL,…", value_delimiter = ',')]
        alpn: Vec<String>,
        #[command(flatten)]
        more: More,
    },
    /// Ask a web server, and show its status
    #[command(after_help = "Examples:
  ctl probe http https://example.com/
  ctl probe http http://10.0.0.5:8080/health --head

Redirects are not followed. Exit code 0 whatever the status is.")]
    Http {
        /// http or https
        url: String,
        /// HEAD instead of GET
        #[arg(long)]
        head: bool,
        #[command(flatten)]
        more: More,
    },
}

/// What all have.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct More {
    /// How long it may take, at most 30s
    #[arg(short = 'W', long, default_value = "5s", value_name = "DURATION", value_parser = millis)]
    wait: u32,
    #[command(flatten)]
    format: FormatArg,
}

/// Tries to reach a server from nodes.
pub(crate) async fn run(app: &App, command: Command) -> Result<Outcome> {
    let targets = app.targets(Reach::Look)?;
    let (target, what, more) = target(command);
    let takes = Duration::from_millis(more.wait.into());
    let tried = format!("Probing {what}");
    let request = ProbeRequest { target: Some(target), timeout_ms: more.wait };
    let answers = targets
        .each(move |session| {
            let (request, tried) = (request.clone(), tried.clone());
            async move {
                answered(&session, &tried, takes, session.diagnose().probe(request)).await
            }
        })
        .await;
    let all = answers.iter().all(|answer| answer.result.as_ref().is_ok_and(|seen| seen.ok));
    let outcome = |outcome| if all { outcome } else { Outcome::Failed };
    if more.format.output != Format::Table {
        let answers = answers.into_iter().map(|Answer { node, result }| Answer {
            node,
            result: result.map(|response| value(&response)),
        });
        return Ok(outcome(app.print_values(more.format.output, answers.collect())?));
    }
    let many = targets.are_many();
    let (good, sorted) = app.sort(answers);
    for (node, response) in good {
        let name = if many { format!("{}: ", node.name()) } else { String::new() };
        let mut text = format!("{name}{}", lines(&what, &response));
        if !response.ok {
            let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
            text = format!("{}\n{rest}", app.paint.red(first));
        }
        output::print(&text)?;
    }
    Ok(outcome(sorted))
}

fn target(command: Command) -> (Target, String, More) {
    match command {
        Command::Tcp { address, more } => {
            (Target::Tcp(TcpProbe { address: address.clone() }), address, more)
        }
        Command::Tls { address, server_name, alpn, more } => {
            (Target::Tls(TlsProbe { address: address.clone(), server_name, alpn }), address, more)
        }
        Command::Http { url, head, more } => {
            (Target::Http(HttpProbe { url: url.clone(), head }), url, more)
        }
    }
}

/// What a node saw, for people.
pub(super) fn lines(what: &str, seen: &ProbeResponse) -> String {
    let mut text = String::new();
    let at = match seen.address.as_str() {
        "" => String::new(),
        address => format!(" at {}", plain(address)),
    };
    let total = took(seen.total_us);
    // Writing to a string does not fail.
    let _ = if seen.ok {
        writeln!(text, "{what} answers{at} after {total}")
    } else {
        writeln!(text, "{what} fails{at} after {total}: {}", plain(&seen.reason))
    };
    if let Some(tls) = &seen.tls {
        let alpn = match tls.alpn.as_str() {
            "" => String::new(),
            alpn => format!(", {}", plain(alpn)),
        };
        let _ = writeln!(
            text,
            "  connection {}, handshake {}: {}, {}{alpn}",
            took(seen.connect_us),
            took(seen.handshake_us),
            plain(&tls.version),
            plain(&tls.cipher)
        );
        for certificate in &tls.certificates {
            let _ = writeln!(text, "  {}", certificate_line(certificate));
        }
    }
    if let Some(http) = &seen.http {
        let facts = [("", &http.content_type), ("server ", &http.server), ("to ", &http.location)];
        let facts = facts.iter().filter(|(_, fact)| !fact.is_empty());
        let facts: String = facts.map(|(what, fact)| format!(", {what}{}", plain(fact))).collect();
        let size = span::format_bytes(http.body_bytes);
        let _ = writeln!(text, "  {} {}, {size}{facts}", plain(&http.version), http.status);
    }
    text
}

fn certificate_line(der: &[u8]) -> String {
    match (pki::summarize(der), pki::issuer_name(der)) {
        (Ok(summary), Ok(issuer)) => format!(
            "certificate of {}, signed by {}, until {}",
            plain(&summary.name),
            plain(&issuer),
            span::format_moment(summary.not_after)
        ),
        _ => "a certificate that can't be read".to_owned(),
    }
}

fn value(seen: &ProbeResponse) -> Value {
    let certificate = |der: &Vec<u8>| {
        let summary = pki::summarize(der).ok();
        json!({
            "name": summary.as_ref().map(|summary| summary.name.clone()),
            "issuer": pki::issuer_name(der).ok(),
            "notAfter": summary.map(|summary| span::format_moment(summary.not_after)),
        })
    };
    let mut value = json!({
        "ok": seen.ok,
        "reason": seen.reason,
        "address": seen.address,
        "resolveUs": seen.resolve_us,
        "connectUs": seen.connect_us,
        "handshakeUs": seen.handshake_us,
        "totalUs": seen.total_us,
    });
    if let Some(tls) = &seen.tls {
        value["tls"] = json!({
            "version": tls.version,
            "cipher": tls.cipher,
            "alpn": tls.alpn,
            "certificates": tls.certificates.iter().map(certificate).collect::<Value>(),
        });
    }
    if let Some(http) = &seen.http {
        value["http"] = json!({
            "status": http.status,
            "version": http.version,
            "contentType": http.content_type,
            "location": http.location,
            "server": http.server,
            "bodyBytes": http.body_bytes,
        });
    }
    value
}
