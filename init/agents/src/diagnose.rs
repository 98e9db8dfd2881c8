// SPDX-License-Identifier: Apache-2.0
//! Diagnose: one question about the network or about the machine, answered once.
//!
//! * A question is a message of the API on standard input, and an action that says which one. PID 1 has looked at its limits.
//! * Answers are messages of the API on standard output, each behind its length as a big-endian u32.
//! * It has a network and no files of the machine, or files and no network, as its unit says: see `init/units/`.
//! * What strangers say is read as far as it has to be, and passed on as text without control characters.

mod capture;
mod cgroups;
mod disks;
mod echo;
mod filter;
mod memory;
mod mounts;
mod pcap;
mod ping;
mod processes;
mod reach;
mod readiness;
mod resolve;
mod sockets;
mod traceroute;

use crate::pid1::framed;
use crate::probe::{Names, Surroundings};
use prost::Message;
use std::{
    error::Error,
    fs,
    io::{self, Write},
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use stele_proto::v1::{
    CgroupsResponse, DisksResponse, Family, MountsResponse, PressureResponse, ProcessesRequest,
    ProcessesResponse, SocketsResponse,
};
use tokio::time::timeout;

/// How long a host's name may take to look up.
const LOOKUP: Duration = Duration::from_secs(10);
/// The longest answer of those that are lists.
const LONGEST: usize = 1024 * 1024;
/// The longest text of a stranger that is passed on, in characters.
const LONGEST_TEXT: usize = 1000;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum DiagnoseError {
    /// No action has this name.
    #[error("there is no action {0}")]
    Action(String),
    /// Not what the action needs.
    #[error("understanding the request")]
    Request(#[source] prost::DecodeError),
    /// The request says something that is not possible.
    #[error("{0}")]
    Impossible(String),
    /// The runtime could not be made.
    #[error("starting")]
    Start(#[source] io::Error),
    /// Nobody takes the answers.
    #[error("answering")]
    Output(#[source] io::Error),
    /// A host has no address.
    #[error("looking up {host}")]
    Host {
        /// Which host.
        host: String,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The kernel did not do what it should.
    #[error("{doing}")]
    Kernel {
        /// What was tried.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A file of the kernel could not be read.
    #[error("reading {}", file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl DiagnoseError {
    /// Whether another request could do better.
    #[must_use]
    pub fn is_of_the_request(&self) -> bool {
        matches!(self, Self::Action(_) | Self::Request(_) | Self::Impossible(_))
    }
}

/// Where answers go.
struct Answers<'w>(&'w mut dyn Write);

impl Answers<'_> {
    fn send(&mut self, answer: &impl Message) -> Result<(), DiagnoseError> {
        self.0
            .write_all(&framed(answer))
            .and_then(|()| self.0.flush())
            .map_err(DiagnoseError::Output)
    }
}

/// Does what was asked for.
///
/// # Errors
/// When there is no answer, or not all of it.
pub fn run(
    action: &str,
    request: &[u8],
    surroundings: Surroundings,
    output: &mut dyn Write,
) -> Result<(), DiagnoseError> {
    let answers = &mut Answers(output);
    match action {
        "ping" | "traceroute" | "resolve" | "addresses" | "probe" | "capture" => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(DiagnoseError::Start)?;
            runtime.block_on(over_the_network(action, request, surroundings, answers))
        }
        _ => of_the_machine(action, request, answers),
    }
}

async fn over_the_network(
    action: &str,
    request: &[u8],
    surroundings: Surroundings,
    answers: &mut Answers<'_>,
) -> Result<(), DiagnoseError> {
    let names = &surroundings.names;
    match action {
        "ping" => ping::run(decode(request)?, names, answers).await,
        "traceroute" => traceroute::run(decode(request)?, names, answers).await,
        "resolve" => answers.send(&resolve::run(decode(request)?, names).await?),
        "addresses" => answers.send(&resolve::addresses(decode(request)?, names).await?),
        "probe" => answers.send(&reach::run(decode(request)?, surroundings).await?),
        _ => capture::run(decode(request)?, answers).await,
    }
}

fn of_the_machine(
    action: &str,
    request: &[u8],
    answers: &mut Answers<'_>,
) -> Result<(), DiagnoseError> {
    let proc = Path::new("/proc");
    match action {
        "processes" => {
            let ProcessesRequest { arguments } = decode(request)?;
            let (processes, left_off) = fitting(processes::all(proc, arguments)?);
            answers.send(&ProcessesResponse { processes, left_off })
        }
        "sockets" => {
            let (sockets, left_off) = fitting(sockets::all(&proc.join("net"))?);
            answers.send(&SocketsResponse { sockets, left_off })
        }
        "mounts" => {
            let (mounts, left_off) = fitting(mounts::all(proc)?);
            answers.send(&MountsResponse { mounts, left_off })
        }
        "memory" => answers.send(&memory::parse(&read(proc.join("meminfo"))?)),
        "cgroups" => {
            let (groups, left_off) = fitting(cgroups::all(Path::new("/sys/fs/cgroup"))?);
            answers.send(&CgroupsResponse { groups, left_off })
        }
        "pressure" => answers.send(&PressureResponse { stalls: memory::stalls(proc) }),
        "disks" => {
            let (disks, left_off) = fitting(disks::all(Path::new("/sys/block"))?);
            answers.send(&DisksResponse { disks, left_off })
        }
        _ => Err(DiagnoseError::Action(action.to_owned())),
    }
}

fn decode<M: Message + Default>(request: &[u8]) -> Result<M, DiagnoseError> {
    M::decode(request).map_err(DiagnoseError::Request)
}

/// As many of these as fit into an answer, and how many do not.
fn fitting<M: Message>(items: Vec<M>) -> (Vec<M>, u32) {
    let all = items.len();
    let mut room = LONGEST;
    let kept: Vec<M> = items
        .into_iter()
        .map_while(|item| {
            // A tag, and a length of at most four bytes.
            room = room.checked_sub(item.encoded_len().saturating_add(5))?;
            Some(item)
        })
        .collect();
    let left_off = u32::try_from(all.saturating_sub(kept.len())).unwrap_or(u32::MAX);
    (kept, left_off)
}

fn read(file: PathBuf) -> Result<String, DiagnoseError> {
    match fs::read(&file) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(source) => Err(DiagnoseError::Read { file, source }),
    }
}

/// The text of a file that need not be there.
fn text(file: PathBuf) -> String {
    fs::read(file)
        .map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned())
        .unwrap_or_default()
}

/// The number in a file that need not be there.
fn number(file: PathBuf) -> u64 {
    text(file).parse().unwrap_or(0)
}

/// The addresses of a host, as far as they are of a family.
async fn addresses(
    host: &str,
    family: Family,
    names: &Names,
) -> Result<Vec<IpAddr>, DiagnoseError> {
    let failed = |source| DiagnoseError::Host { host: plain(host), source };
    let all = match host.parse() {
        Ok(address) => vec![address],
        Err(_) => match timeout(LOOKUP, names.host(host)).await {
            Ok(addresses) => addresses.map_err(failed)?,
            Err(_) => return Err(failed(format!("not done within {LOOKUP:?}").into())),
        },
    };
    let wanted = |address: &IpAddr| match family {
        Family::Unspecified => true,
        Family::Ipv4 => address.is_ipv4(),
        Family::Ipv6 => address.is_ipv6(),
    };
    let addresses: Vec<IpAddr> = all.into_iter().filter(wanted).collect();
    if addresses.is_empty() { Err(failed("it has no such address".into())) } else { Ok(addresses) }
}

/// The first of them.
async fn address(host: &str, family: Family, names: &Names) -> Result<IpAddr, DiagnoseError> {
    let addresses = addresses(host, family, names).await?;
    // There is at least one.
    addresses.first().copied().ok_or_else(|| DiagnoseError::Impossible(plain(host)))
}

/// A text as it can be shown anywhere: it may hold words of strangers.
fn plain(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(LONGEST_TEXT).collect()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
