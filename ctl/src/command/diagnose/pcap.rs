// SPDX-License-Identifier: Apache-2.0
//! `ctl pcap`.

use super::{millis, next};
use crate::{
    app::{App, FormatArg, Misuse, Outcome, Reach},
    failure::Failure,
    output::{self, Format},
    span,
};
use anyhow::{Context as _, Result};
use serde_json::json;
use std::{
    fs::File,
    io::{self, IsTerminal as _, Write},
    path::{Path, PathBuf},
    time::Duration,
};
use stele_proto::v1::{CaptureEnd, CaptureFilter, CaptureRequest};

/// What may follow `proto`, and stand alone.
const PROTOCOLS: [&str; 7] = ["ip", "ip6", "arp", "tcp", "udp", "icmp", "icmp6"];

/// Arguments of `ctl pcap`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The link, as ctl get links names it; or lo
    link: String,
    /// The file to write; by default, or with "-", standard output
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Which packets: host ADDRESS, port NUMBER, and proto ip|ip6|arp|tcp|udp|icmp|icmp6, together with "and"
    #[arg(short, long, default_value = "", hide_default_value = true, value_parser = filter)]
    filter: CaptureFilter,
    /// End after so many packets, at most 1000000
    #[arg(short, long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    count: u64,
    /// End after that time, at most 10m
    #[arg(short, long, default_value = "10s", value_name = "DURATION", value_parser = millis)]
    duration: u32,
    /// End before the file is larger, at most 256M
    #[arg(short, long, default_value = "16M", value_name = "SIZE", value_parser = span::parse_bytes)]
    bytes: u64,
    /// Keep so many bytes of each packet
    #[arg(short, long, default_value_t = 65_535, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    snap_length: u32,
    /// With the connections of the node's API, this one among them
    #[arg(long)]
    with_api: bool,
    #[command(flatten)]
    format: FormatArg,
}

/// Captures packets of a node's link.
pub(crate) async fn run(app: &App, args: Args) -> Result<Outcome> {
    let targets = app.targets(Reach::Look)?;
    let [node] = targets.nodes.as_slice() else {
        let text = "Packets of one node make a file. Say which one is meant with -n";
        return Err(Misuse(text.to_owned()).into());
    };
    let file = args.write.filter(|file| file != Path::new("-"));
    if file.is_none() && (io::stdout().is_terminal() || args.format.output != Format::Table) {
        let text = "Packets are not text. Write them to a file with -w FILE, or into a program: ctl pcap eth0 | tcpdump -nr -";
        return Err(Misuse(text.to_owned()).into());
    }
    let request = CaptureRequest {
        link: args.link,
        filter: Some(args.filter),
        count: args.count,
        duration_ms: args.duration,
        bytes: args.bytes,
        snap_length: args.snap_length,
        with_api: args.with_api,
    };
    let tried = format!("Capturing on {}", request.link);
    let takes = Duration::from_millis(request.duration_ms.into());
    let failed = |status| Failure::status(tried.clone(), &status);
    let session = targets.connect(node).await?;
    let mut stream = session.diagnose().capture(request).await.map_err(failed)?.into_inner();
    let mut out: Option<Box<dyn Write>> = None;
    let mut end = CaptureEnd::default();
    while let Some(chunk) = next(&session, &tried, takes, &mut stream).await? {
        // Not before there is something to write: a refusal leaves no file.
        let out = match &mut out {
            Some(out) => out,
            None => out.insert(open(file.as_deref())?),
        };
        out.write_all(&chunk.pcap).and_then(|()| out.flush()).context("Writing the packets")?;
        end = chunk.end.unwrap_or(end);
    }
    say(args.format.output, file.as_deref(), &end)?;
    Ok(Outcome::Done)
}

fn open(file: Option<&Path>) -> Result<Box<dyn Write>> {
    Ok(match file {
        Some(file) => Box::new(
            File::create(file).with_context(|| format!("Making the file {}", file.display()))?,
        ),
        None => Box::new(io::stdout()),
    })
}

/// Says how it ended: beside the packets, which may be on standard output.
fn say(format: Format, file: Option<&Path>, end: &CaptureEnd) -> Result<()> {
    let CaptureEnd { packets, dropped, reason } = end;
    if format == Format::Table {
        let lost = match dropped {
            0 => String::new(),
            dropped => format!(", and {dropped} lost that came too fast"),
        };
        let why = match reason.as_str() {
            "count" => "as many as were asked for",
            "bytes" => "the file is full",
            _ => "the time is over",
        };
        let what = if *packets == 1 { "packet" } else { "packets" };
        eprintln!("{packets} {what}{lost}: {why}");
        return Ok(());
    }
    let file = file.map(|file| file.display().to_string());
    let value = json!({ "file": file, "packets": packets, "dropped": dropped, "reason": reason });
    output::print_value(format, &value)
}

/// Reads a filter: `host 10.0.0.5 and port 53 and udp`.
pub(super) fn filter(text: &str) -> Result<CaptureFilter, String> {
    let mut filter = CaptureFilter::default();
    let mut words = text.split_whitespace();
    let mut before = "";
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("nothing follows \"{word}\""));
        let twice = match word {
            "and" if before.is_empty() || before == "and" => {
                return Err("\"and\" stands between two conditions".to_owned());
            }
            "and" => false,
            "host" => !std::mem::replace(&mut filter.host, value()?.to_owned()).is_empty(),
            "port" => {
                let port = value()?;
                let number = port.parse::<u16>().ok().filter(|port| *port > 0);
                let number = number.ok_or_else(|| format!("\"{port}\" is not a port"))?;
                std::mem::replace(&mut filter.port, number.into()) != 0
            }
            "proto" => protocol(&mut filter, value()?)?,
            word => protocol(&mut filter, word)?,
        };
        if twice {
            return Err(format!("there are two of \"{word}\", and no packet has both"));
        }
        before = word;
    }
    if before == "and" {
        return Err("\"and\" stands between two conditions".to_owned());
    }
    if !filter.host.is_empty() && filter.host.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("\"{}\" is not an address", filter.host));
    }
    Ok(filter)
}

/// True if there was one before.
fn protocol(filter: &mut CaptureFilter, word: &str) -> Result<bool, String> {
    if !PROTOCOLS.contains(&word) {
        let known = PROTOCOLS.join(", ");
        return Err(format!("\"{word}\" is neither host, port nor proto, nor a protocol: {known}"));
    }
    Ok(!std::mem::replace(&mut filter.protocol, word.to_owned()).is_empty())
}
