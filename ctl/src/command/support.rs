// SPDX-License-Identifier: Apache-2.0
//! `ctl support`: one archive of all that a node tells of itself, without its secrets.
//!
//! What can't be read is named in the archive, and does not keep the rest out of it: a node that needs support may
//! answer half of what it is asked.

use super::{active::Kept, diagnose, events, follow, get, logs, submit};
use crate::{
    age::Recipient,
    app::{App, Misuse, Outcome, Reach},
    client::Session,
    context,
    failure::Failure,
    output, span,
};
use anyhow::{Context as _, Result};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use std::{fmt::Write as _, path::PathBuf, time::Duration};
use stele_proto::v1::{
    EventsRequest, HistoryRequest, ListKindsRequest, ListLogsRequest, ListRequest, Log, LogRequest,
};
use time::OffsetDateTime;

/// Arguments of `ctl support`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder to write to
    #[arg(short, long, default_value = ".", value_name = "DIR")]
    output: PathBuf,
    /// Encrypt it to this key of age's
    #[arg(long, value_name = "age1…", value_parser = Recipient::parse)]
    age: Option<Recipient>,
    /// Only the last N entries of each log
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    tail: u32,
}

/// Writes an archive for each node.
pub(crate) async fn run(app: &App, args: Args) -> Result<Outcome> {
    if !args.output.is_dir() {
        return Err(Misuse(format!("There is no folder {}", args.output.display())).into());
    }
    let targets = app.targets(Reach::Look)?;
    let (tail, now) = (args.tail, OffsetDateTime::now_utc());
    let answers = targets
        .each(move |session| async move {
            let mut archive = Archive::new(&session, now);
            archive.collect(&session, tail).await;
            archive.finish()
        })
        .await;
    let (good, outcome) = app.sort(answers);
    for (node, (bytes, missing)) in good {
        let (ending, bytes) = match &args.age {
            Some(recipient) => (".age", recipient.encrypt(&bytes)?),
            None => ("", bytes),
        };
        let name = safe(&format!("stele-support-{}-{}", node.name(), span::format_moment(now)));
        let path = args.output.join(format!("{name}.tar.gz{ending}"));
        context::write_file(&path, &bytes, 0o600)?;
        output::print(&format!(
            "Wrote {}: {}{}.\n",
            path.display(),
            span::format_bytes(bytes.len() as u64),
            if missing > 0 {
                format!(", without {missing} parts that its README names")
            } else {
                String::new()
            }
        ))?;
    }
    Ok(outcome)
}

/// A name without what file systems and shells care about.
fn safe(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    name.chars().map(safe).collect()
}

/// An archive in the making.
struct Archive {
    tar: tar::Builder<GzEncoder<Vec<u8>>>,
    folder: String,
    now: OffsetDateTime,
    patience: Duration,
    /// What could not be read, a line each.
    missing: Vec<String>,
}

impl Archive {
    fn new(session: &Session, now: OffsetDateTime) -> Archive {
        Archive {
            tar: tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default())),
            folder: safe(&session.node.name()),
            now,
            patience: session.patience(),
            missing: Vec::new(),
        }
    }

    async fn collect(&mut self, session: &Session, tail: u32) {
        self.take("version.json", version(session).await);
        self.take("slots.json", slots(session).await);
        self.take("configuration.yaml", configuration(session).await);
        self.take("generations.json", generations(session).await);
        self.take("events.jsonl", events(session, self.patience).await);
        for (name, value) in diagnose::machine::all(session).await {
            let text = value.map_err(Into::into).and_then(|value| pretty(&value));
            self.take(&format!("machine/{name}.json"), text);
        }
        let kinds = session
            .answer("Listing the kinds", session.resources().list_kinds(ListKindsRequest {}))
            .await
            .map(|response| response.kinds);
        for kind in self.known("resources", kinds) {
            self.take(
                &format!("resources/{}.json", safe(&kind.name)),
                resources(session, kind.name).await,
            );
        }
        let logs = session
            .answer("Listing the logs", session.logs().list_logs(ListLogsRequest {}))
            .await
            .map(|response| response.logs);
        for log in self.known("logs", logs) {
            let name = format!("logs/boot{}/{}.log", log.boot, safe(&log.name));
            self.take(&name, read_log(session, log, tail).await);
        }
    }

    /// The items of a list, or none, which is then noted.
    fn known<T>(&mut self, name: &str, list: Result<Vec<T>, Failure>) -> Vec<T> {
        list.unwrap_or_else(|failure| {
            self.missing.push(format!("{name}: {failure}"));
            Vec::new()
        })
    }

    /// Adds a file, or notes why it is missing.
    fn take(&mut self, name: &str, content: Result<Vec<u8>>) {
        let added = content.and_then(|content| self.add(name, &content));
        if let Err(error) = added {
            self.missing.push(format!("{name}: {error:#}"));
        }
    }

    fn add(&mut self, name: &str, content: &[u8]) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(self.now.unix_timestamp()).unwrap_or(0));
        let path = format!("{}/{name}", self.folder);
        self.tar
            .append_data(&mut header, path, content)
            .with_context(|| format!("Archiving {name}"))
    }

    /// The archive, and how many things are not in it.
    fn finish(mut self) -> Result<(Vec<u8>, usize)> {
        let mut text = format!(
            "Made by ctl {} at {}. Secrets of the configuration are not in it.\n",
            env!("CARGO_PKG_VERSION"),
            span::format_moment(self.now)
        );
        for missing in &self.missing {
            let _ = writeln!(text, "Missing: {missing}");
        }
        self.add("README", text.as_bytes())?;
        Ok((self.tar.into_inner()?.finish()?, self.missing.len()))
    }
}

fn pretty(value: &Value) -> Result<Vec<u8>> {
    Ok(format!("{value:#}\n").into_bytes())
}

async fn version(session: &Session) -> Result<Vec<u8>> {
    let version = follow::version(session).await?;
    pretty(&super::machine::value(&version))
}

async fn slots(session: &Session) -> Result<Vec<u8>> {
    let status = follow::slots(session).await?;
    pretty(&super::slots::value(&status))
}

/// The configuration in force, with marks in the place of its secrets.
async fn configuration(session: &Session) -> Result<Vec<u8>> {
    let kept = Kept::active(session).await?.context("The node has no configuration")?;
    Ok(format!("# {}\n{}", kept.name(), kept.documents.print()?).into_bytes())
}

async fn generations(session: &Session) -> Result<Vec<u8>> {
    let tried = "Listing the generations";
    let history = session.answer(tried, session.config().history(HistoryRequest {})).await?;
    pretty(&history.generations.iter().map(submit::generation).collect())
}

async fn events(session: &Session, patience: Duration) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    events::each(session, EventsRequest::default(), patience, |events| {
        for event in events {
            text.extend_from_slice(format!("{}\n", events::value(event)).as_bytes());
        }
        Ok(())
    })
    .await?;
    Ok(text)
}

async fn resources(session: &Session, kind: String) -> Result<Vec<u8>> {
    let tried = format!("Listing {kind}");
    let request = ListRequest { kind, name: String::new() };
    let response = session.answer(&tried, session.resources().list(request)).await?;
    pretty(&json!(response.resources.iter().map(get::resource).collect::<Vec<_>>()))
}

async fn read_log(session: &Session, log: Log, tail: u32) -> Result<Vec<u8>> {
    let request = LogRequest { name: log.name, boot: log.boot, tail, ..LogRequest::default() };
    logs::read(session, request).await
}
