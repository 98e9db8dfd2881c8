// SPDX-License-Identifier: Apache-2.0
//! Processes that run once: bytes in, bytes out, within a deadline. Each has a control group of its own, and so limits of its
//! own: what ends one does not end another of the same unit.

use crate::{
    logs::INFORMATIONAL,
    node::Node,
    process::{Child, Program, SpawnError},
    unit::Unit,
};
use std::{io, os::fd::OwnedFd, process::Stdio, time::Duration};
use stele_kernel::process::Exit;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::unix::pipe,
};

/// Bytes of standard error that are kept.
const LONGEST_COMPLAINT: u64 = 64 * 1024;

/// Why a process that runs once gave no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OneShotError {
    #[error("this image has no unit {0}")]
    NoUnit(String),
    #[error("starting {name}")]
    Spawn { name: String, source: SpawnError },
    #[error("talking to {name}")]
    Talk { name: String, source: io::Error },
    #[error("{name} did not end within {} s and was killed", deadline.as_secs())]
    Deadline { name: String, deadline: Duration },
    #[error("{name} wrote more than {limit} bytes and was killed")]
    TooMuch { name: String, limit: usize },
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) exit: Exit,
    pub(crate) stdout: Vec<u8>,
    /// The last line it wrote to standard error, which is also in its log.
    pub(crate) complaint: String,
}

/// A process with its ends.
#[derive(Debug)]
pub(crate) struct Piped {
    pub(crate) child: Child,
    pub(crate) stdin: Option<pipe::Sender>,
    pub(crate) stdout: pipe::Receiver,
    pub(crate) stderr: pipe::Receiver,
}

impl Piped {
    /// Whether it has not ended, as far as is known.
    pub(crate) fn is_alive(&self) -> bool {
        self.child.exit.is_empty()
    }
}

/// Where a process's standard input comes from.
#[derive(Debug)]
pub(crate) enum Input {
    Nothing,
    /// A pipe whose other end is [`Piped::stdin`].
    Pipe,
    /// The output of another process.
    From(OwnedFd),
}

/// Starts the unit of this name with more arguments.
pub(crate) fn start(
    node: &Node,
    name: &str,
    arguments: &[String],
    input: Input,
) -> Result<Piped, OneShotError> {
    let unit = node.units.get(name).ok_or_else(|| OneShotError::NoUnit(name.to_owned()))?;
    start_unit(node, name, unit, arguments, input)
}

/// Starts a unit with more arguments, under this name.
pub(crate) fn start_unit(
    node: &Node,
    name: &str,
    unit: &Unit,
    arguments: &[String],
    input: Input,
) -> Result<Piped, OneShotError> {
    let talk = |source| OneShotError::Talk { name: name.to_owned(), source };
    let mut exec = unit.exec.clone();
    exec.extend_from_slice(arguments);
    let (stdout, stdout_end) = read_end().map_err(talk)?;
    let (stderr, stderr_end) = read_end().map_err(talk)?;
    let (stdin, stdin_end) = match input {
        Input::Nothing => (None, Stdio::null()),
        Input::From(fd) => (None, Stdio::from(fd)),
        Input::Pipe => {
            let (sender, end) = write_end().map_err(talk)?;
            (Some(sender), Stdio::from(end))
        }
    };
    let own = node.children.groups.take(name);
    let mut child = node
        .children
        .spawn(Program {
            name: own.name(),
            exec: &exec,
            environment: crate::environment::of(node, name),
            sandbox: &unit.sandbox,
            stdin: stdin_end,
            stdout: Stdio::from(stdout_end),
            stderr: Stdio::from(stderr_end),
            descriptors: Vec::new(),
        })
        .map_err(|source| OneShotError::Spawn { name: name.to_owned(), source })?;
    child.cgroup.keep(own);
    Ok(Piped { child, stdin, stdout, stderr })
}

/// Runs the unit of this name to its end.
pub(crate) async fn run(
    node: &Node,
    name: &str,
    arguments: &[String],
    input: &[u8],
    limit: usize,
    deadline: Duration,
) -> Result<Output, OneShotError> {
    let unit = node.units.get(name).ok_or_else(|| OneShotError::NoUnit(name.to_owned()))?;
    run_unit(node, name, unit, arguments, input, limit, deadline).await
}

/// Runs a unit to its end, under this name.
pub(crate) async fn run_unit(
    node: &Node,
    name: &str,
    unit: &Unit,
    arguments: &[String],
    input: &[u8],
    limit: usize,
    deadline: Duration,
) -> Result<Output, OneShotError> {
    let stdin = if input.is_empty() { Input::Nothing } else { Input::Pipe };
    let piped = start_unit(node, name, unit, arguments, stdin)?;
    finish(node, name, piped, input, limit, deadline).await
}

/// Lets a process that was started with a pipe do its work, to its end.
pub(crate) async fn finish(
    node: &Node,
    name: &str,
    piped: Piped,
    input: &[u8],
    limit: usize,
    deadline: Duration,
) -> Result<Output, OneShotError> {
    let cgroup = piped.child.cgroup.clone();
    let result =
        match tokio::time::timeout(deadline, converse(node, name, piped, input, limit)).await {
            Ok(result) => result,
            Err(_elapsed) => Err(OneShotError::Deadline { name: name.to_owned(), deadline }),
        };
    if result.is_err() {
        cgroup.kill();
    }
    cgroup.remove();
    result
}

async fn converse(
    node: &Node,
    name: &str,
    piped: Piped,
    input: &[u8],
    limit: usize,
) -> Result<Output, OneShotError> {
    let Piped { child, stdin, stdout, stderr } = piped;
    let feed = async move {
        if let Some(mut stdin) = stdin {
            // A process may answer before it has read everything.
            let _enough = stdin.write_all(input).await;
        }
    };
    let cgroup = child.cgroup.clone();
    let read = async move {
        let mut bytes = Vec::new();
        // One byte more than allowed tells too much from just enough.
        let more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        let read = stdout.take(more).read_to_end(&mut bytes).await.map(|_| ());
        if bytes.len() > limit {
            cgroup.kill();
        }
        read.map(|()| bytes)
    };
    let listen = async move {
        let mut bytes = Vec::new();
        // What an agent has to complain about fits in a few lines.
        let _broken = stderr.take(LONGEST_COMPLAINT).read_to_end(&mut bytes).await;
        bytes
    };
    let ((), bytes, complaints) = tokio::join!(feed, read, listen);
    let lines = || complaints.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    node.logs.append(&node.logs.log(name), INFORMATIONAL, lines());
    let complaint = lines()
        .next_back()
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .unwrap_or_default();
    let stdout = bytes.map_err(|source| OneShotError::Talk { name: name.to_owned(), source })?;
    if stdout.len() > limit {
        return Err(OneShotError::TooMuch { name: name.to_owned(), limit });
    }
    let exit = child.exit.await.unwrap_or(Exit::Code(-1));
    Ok(Output { exit, stdout, complaint })
}

fn read_end() -> io::Result<(pipe::Receiver, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&reader, rustix::fs::OFlags::NONBLOCK)?;
    Ok((pipe::Receiver::from_owned_fd(reader)?, writer))
}

fn write_end() -> io::Result<(pipe::Sender, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::NONBLOCK)?;
    Ok((pipe::Sender::from_owned_fd(writer)?, reader))
}
