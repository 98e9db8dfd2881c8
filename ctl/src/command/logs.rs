// SPDX-License-Identifier: Apache-2.0
//! `ctl logs` and `ctl dmesg`.
//!
//! Chunks are taken off the wire as bytes, and turned into lines without being decoded into messages first. Lines
//! gather while more is at hand, and are written when nothing is, or when there are many.

use crate::{
    app::{Answer, App, FormatArg, Outcome, Reach, Targets},
    client::Session,
    failure::Failure,
    lines::{Lines, Style},
    node::Node,
    output::{self, Format, Table},
    span,
};
use anyhow::{Context as _, Result};
use bytes::{Buf as _, Bytes};
use prost::Message as _;
use serde_json::{Value, json};
use std::{
    future::poll_fn,
    io::{self, IsTerminal as _, Write as _},
    pin::Pin,
    task::Poll,
    time::Duration,
};
use stele_proto::{
    method::Method,
    v1::{ListLogsRequest, LogRequest},
};
use time::OffsetDateTime;
use tokio::time::timeout;
use tokio_stream::{Stream as _, StreamExt as _};
use tonic::{
    Status, Streaming,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// Arguments of `ctl logs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The log: kernel, audit, panic or a service's; without one, the logs are listed
    name: Option<String>,
    #[command(flatten)]
    reading: Reading,
    /// Lines as they were written, without their time
    #[arg(long)]
    raw: bool,
    /// With the severity of each line
    #[arg(long, conflicts_with = "raw")]
    severity: bool,
}

/// Arguments of `ctl dmesg`.
#[derive(Debug, clap::Args)]
pub(crate) struct DmesgArgs {
    #[command(flatten)]
    reading: Reading,
    /// Lines as they were written, without their time and severity
    #[arg(long)]
    raw: bool,
}

/// Which part of a log, and how.
#[derive(Debug, clap::Args)]
struct Reading {
    /// Stay, and show what comes
    #[arg(short, long)]
    follow: bool,
    /// Only the last N entries
    #[arg(long, value_name = "N")]
    tail: Option<u32>,
    /// Only entries from then on: 10m, 2h, or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = since_now)]
    since: Option<OffsetDateTime>,
    /// Of which boot: its number (ctl boots), 0 for the running one, -1 for the one before
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    boot: i32,
    #[command(flatten)]
    format: FormatArg,
}

/// A moment that has been: at a time, or so long ago.
pub(crate) fn since_now(text: &str) -> Result<OffsetDateTime> {
    span::parse_since(text, OffsetDateTime::now_utc())
}

impl From<DmesgArgs> for Args {
    fn from(args: DmesgArgs) -> Args {
        Args {
            name: Some("kernel".to_owned()),
            reading: args.reading,
            raw: args.raw,
            severity: !args.raw,
        }
    }
}

/// Shows a log, or names those there are.
pub(crate) async fn run(app: &App, args: Args) -> Result<Outcome> {
    let Some(name) = args.name else { return list(app, args.reading.format.output).await };
    let targets = app.targets(Reach::Look)?;
    // To the API, a tail of 0 is everything.
    let since = match args.reading.tail {
        Some(0) if args.reading.follow => Some(OffsetDateTime::now_utc()),
        Some(0) => return Ok(Outcome::Done),
        Some(_) | None => args.reading.since,
    };
    let request = LogRequest {
        name,
        follow: args.reading.follow,
        tail: args.reading.tail.unwrap_or(0),
        since: since.map(span::to_timestamp),
        boot: args.reading.boot,
    };
    let style = match args.reading.format.output {
        Format::Json => Style::Json,
        Format::Yaml => Style::Yaml,
        Format::Table if args.raw => Style::Raw,
        Format::Table if args.severity => Style::Severe,
        Format::Table => Style::Timed,
    };
    let width = targets.nodes.iter().map(|node| node.name().chars().count()).max().unwrap_or(0);
    let many = targets.are_many();
    let answers = targets
        .each_node(move |targets, node| {
            let name = node.name();
            let lines = Lines::new(
                style,
                many.then_some((name.as_str(), width)),
                io::stdout().is_terminal(),
            );
            let request = request.clone();
            async move { stream(&targets, &node, request, lines).await }
        })
        .await;
    Ok(app.sort_streams(answers))
}

/// Most bytes of lines that gather before they are written.
const GATHER: usize = 256 * 1024;

async fn stream(
    targets: &Targets,
    node: &Node,
    request: LogRequest,
    mut lines: Lines,
) -> Result<()> {
    let tried = format!("Reading the log {}", request.name);
    let follow = request.follow;
    let session = targets.connect(node).await?;
    let mut client = tonic::client::Grpc::new(session.connection());
    let path = http::uri::PathAndQuery::from_static(Method::LogStream.path());
    let failed = |status: &Status| Failure::status(tried.clone(), status);
    let response = client
        .server_streaming(tonic::Request::new(request), path, Chunks)
        .await
        .map_err(|status| failed(&status))?;
    let mut stream = response.into_inner();
    // A log that is followed may be silent for long; that its node is there is seen by HTTP/2 pings.
    let patience = if follow { Duration::MAX } else { targets.deadlines.answer };
    let mut out = Vec::with_capacity(GATHER * 2);
    loop {
        let next = match at_hand(&mut stream).await {
            Some(next) => next,
            None => {
                write(&mut out)?;
                match timeout(patience, stream.next()).await {
                    Ok(next) => next,
                    Err(_) => return Err(Failure::timeout(tried, patience.as_secs_f64()).into()),
                }
            }
        };
        match next {
            Some(Ok(chunk)) => {
                lines
                    .chunk(&chunk, &mut out)
                    .context("The node sent a log chunk that cannot be read")?;
                if out.len() >= GATHER {
                    write(&mut out)?;
                }
            }
            Some(Err(status)) => {
                write(&mut out)?;
                return Err(failed(&status).into());
            }
            None => {
                write(&mut out)?;
                return if follow {
                    Err(Failure::new(tried, "the node ended the stream", None).into())
                } else {
                    Ok(())
                };
            }
        }
    }
}

/// Reads a log to its end, as lines with their time and severity.
pub(crate) async fn read(session: &Session, request: LogRequest) -> Result<Vec<u8>> {
    let tried = format!("Reading the log {}", request.name);
    let failed = |status| Failure::status(tried.clone(), &status);
    let mut stream = session.logs().stream(request).await.map_err(failed)?.into_inner();
    let mut lines = Lines::new(Style::Severe, None, false);
    let mut text = Vec::new();
    loop {
        match timeout(session.patience(), stream.message()).await {
            Ok(Ok(Some(chunk))) => lines.chunk(&chunk.encode_to_vec(), &mut text)?,
            Ok(Ok(None)) => return Ok(text),
            Ok(Err(status)) => return Err(failed(status).into()),
            Err(_) => return Err(Failure::timeout(tried, session.patience().as_secs_f64()).into()),
        }
    }
}

/// The next chunk if it is there already; none if one would have to wait.
async fn at_hand(stream: &mut Streaming<Bytes>) -> Option<Option<Result<Bytes, Status>>> {
    poll_fn(|cx| {
        Poll::Ready(match Pin::new(&mut *stream).poll_next(cx) {
            Poll::Ready(next) => Some(next),
            Poll::Pending => None,
        })
    })
    .await
}

fn write(out: &mut Vec<u8>) -> io::Result<()> {
    if !out.is_empty() {
        let mut stdout = io::stdout().lock();
        // Standard output is buffered by lines, and each lock of it holds whole ones: nodes do not mix within a line.
        stdout.write_all(out)?;
        stdout.flush()?;
        out.clear();
    }
    Ok(())
}

/// Hands over response messages as they are on the wire.
#[derive(Clone, Copy, Debug, Default)]
struct Chunks;

impl Codec for Chunks {
    type Encode = LogRequest;
    type Decode = Bytes;
    type Encoder = Chunks;
    type Decoder = Chunks;

    fn encoder(&mut self) -> Chunks {
        Chunks
    }

    fn decoder(&mut self) -> Chunks {
        Chunks
    }
}

impl Encoder for Chunks {
    type Item = LogRequest;
    type Error = Status;

    fn encode(&mut self, item: LogRequest, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Chunks {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

async fn list(app: &App, format: Format) -> Result<Outcome> {
    let targets = app.targets(Reach::Look)?;
    let many = targets.are_many();
    let answers = targets
        .each(|session| async move {
            Ok(session
                .answer("Listing the logs", session.logs().list_logs(ListLogsRequest {}))
                .await?
                .logs)
        })
        .await;
    if format != Format::Table {
        let answers = answers.into_iter().map(|Answer { node, result }| {
            let value = |log: &stele_proto::v1::Log| json!({ "name": log.name, "boot": log.boot, "size": log.size });
            Answer { node, result: result.map(|logs| logs.iter().map(value).collect::<Value>()) }
        });
        return app.print_values(format, answers.collect());
    }
    let (good, outcome) = app.sort(answers);
    let mut table = Table::new(many.then_some("NODE").into_iter().chain(["NAME", "BOOT", "SIZE"]));
    for (node, logs) in good {
        for log in logs {
            table.row(many.then(|| node.name()).into_iter().chain([
                log.name,
                log.boot.to_string(),
                span::format_bytes(log.size),
            ]));
        }
    }
    output::print(&table.render(app.paint))?;
    Ok(outcome)
}
