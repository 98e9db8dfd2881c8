// SPDX-License-Identifier: Apache-2.0
//! Bytes to a staged image: the agents `fetch` and `stage`, joined by a pipe, or `stage` fed by a caller.
//!
//! However it ends, both are gone afterwards, and the image is complete or not there: `stage` removes what it can't
//! finish, and `clean` what it was killed with.

use crate::{
    api::{Code, Refusal},
    logs::INFORMATIONAL,
    node::Node,
    one_shot::{self, Input, Piped},
};
use bytes::Bytes;
use serde::Deserialize;
use std::{rc::Rc, time::Duration};
use stele_kernel::process::Exit;
use stele_proto::v1::{Progress, Step};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::unix::pipe,
    sync::mpsc,
};

/// How long an upload may bring nothing.
const IDLE: Duration = Duration::from_secs(60);
/// How long all of it may take.
const DEADLINE: Duration = Duration::from_secs(3600);
/// How long an agent may take to end after its last word.
const PARTING: Duration = Duration::from_secs(10);
/// The largest image that FAT holds.
const LARGEST: u64 = u32::MAX as u64;
const LONGEST_COMPLAINT: u64 = 64 * 1024;
/// All that stage has to say about one image.
const LONGEST_REPORT: u64 = 4 * 1024 * 1024;

/// Where the bytes come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// The caller sends them.
    Caller { size: u64, sha256: Vec<u8>, chunks: mpsc::Receiver<Bytes> },
    /// The node fetches them.
    Url(String),
}

/// An image on the ESP, complete.
#[derive(Debug, Deserialize)]
pub(crate) struct Staged {
    pub(crate) slot: String,
    pub(crate) version: String,
    pub(crate) file: String,
}

/// A line of stage's; see docs/architecture.md.
#[derive(Debug, Default, Deserialize)]
struct Line {
    progress: Option<Done>,
    staged: Option<Staged>,
    error: Option<String>,
    #[serde(default)]
    code: String,
}

#[derive(Debug, Deserialize)]
struct Done {
    step: String,
    done: u64,
    total: u64,
}

/// Stages an image; nobody listening to `told` any more ends it.
pub(crate) async fn run(
    node: &Rc<Node>,
    source: Source,
    told: &mpsc::Sender<Progress>,
) -> Result<Staged, Refusal> {
    let mut arguments =
        vec!["--dir".to_owned(), super::esp::Esp::directory().to_string_lossy().into_owned()];
    let (fetch, input, chunks) = match source {
        Source::Caller { size, sha256, chunks } => {
            let digest = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
            arguments.extend([
                "--size".to_owned(),
                size.to_string(),
                "--sha256".to_owned(),
                digest,
            ]);
            (None, Input::Pipe, Some(chunks))
        }
        Source::Url(url) => {
            let mut fetch = start(
                node,
                "fetch",
                &[url, "--max".to_owned(), LARGEST.to_string()],
                Input::Nothing,
            )?;
            let output = fetch.output.take().map(pipe::Receiver::into_blocking_fd);
            let output = output.transpose().map_err(|error| Refusal::internal(&error))?;
            (Some(fetch), output.map_or(Input::Nothing, Input::From), None)
        }
    };
    let stage = match start(node, "stage", &arguments, input) {
        Ok(stage) => stage,
        Err(refusal) => {
            if let Some(fetch) = fetch {
                fetch.piped.child.cgroup.kill();
                fetch.end(node).await;
            }
            return Err(refusal);
        }
    };
    let (outcome, why) = converse(stage, fetch.as_ref(), chunks, told, node).await;
    let fetched = match fetch {
        Some(fetch) => {
            if outcome.is_err() {
                fetch.piped.child.cgroup.kill();
            }
            Some(fetch.end(node).await)
        }
        None => None,
    };
    match (outcome, fetched) {
        // Whoever could not fetch wants to hear why, not that the image ended early.
        (_, Some((exit, complaint)))
            if exit != Exit::Code(0)
                && !complaint.is_empty()
                && !complaint.contains("passing it on") =>
        {
            Err(Refusal::new(Code::Unavailable, complaint))
        }
        (Err(refusal), _) => Err(why.map_or(refusal, |why| Refusal::new(Code::Aborted, why))),
        (Ok(staged), _) => Ok(staged),
    }
}

/// An agent under way.
#[derive(Debug)]
struct Agent {
    name: &'static str,
    piped: OneShot,
    output: Option<pipe::Receiver>,
    complaints: tokio::task::JoinHandle<Vec<u8>>,
}

/// What is left of [`Piped`] when its ends are taken.
#[derive(Debug)]
struct OneShot {
    child: crate::process::Child,
    stdin: Option<pipe::Sender>,
}

fn start(
    node: &Rc<Node>,
    name: &'static str,
    arguments: &[String],
    input: Input,
) -> Result<Agent, Refusal> {
    let Piped { child, stdin, stdout, stderr } =
        one_shot::start(node, name, arguments, input).map_err(|error| Refusal::internal(&error))?;
    let complaints = tokio::task::spawn_local(async move {
        let mut bytes = Vec::new();
        // What was read until it broke is what there is.
        let _broken = stderr.take(LONGEST_COMPLAINT).read_to_end(&mut bytes).await;
        bytes
    });
    Ok(Agent { name, piped: OneShot { child, stdin }, output: Some(stdout), complaints })
}

impl Agent {
    /// Waits until it has ended, and helps if need be. Returns how, and its last complaint.
    async fn end(mut self, node: &Rc<Node>) -> (Exit, String) {
        let child = &mut self.piped.child;
        let exit = match tokio::time::timeout(PARTING, &mut child.exit).await {
            Ok(exit) => exit,
            Err(_late) => {
                child.cgroup.kill();
                (&mut child.exit).await
            }
        };
        child.cgroup.kill();
        child.cgroup.remove();
        let bytes = self.complaints.await.unwrap_or_default();
        let lines = || bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        node.logs.append(&node.logs.log(self.name), INFORMATIONAL, lines());
        let last = lines().next_back().map(|line| String::from_utf8_lossy(line).into_owned());
        (exit.unwrap_or(Exit::Code(-1)), last.unwrap_or_default())
    }
}

/// Feeds stage and hears it out. The second value says why it was stopped, if it was.
async fn converse(
    mut stage: Agent,
    fetch: Option<&Agent>,
    chunks: Option<mpsc::Receiver<Bytes>>,
    told: &mpsc::Sender<Progress>,
    node: &Rc<Node>,
) -> (Result<Staged, Refusal>, Option<String>) {
    let stdin = stage.piped.stdin.take();
    let feed = async {
        let stopped = match (chunks, stdin) {
            (Some(chunks), Some(stdin)) => pass_on(chunks, stdin).await,
            _ => {
                told.closed().await;
                Some("the caller went away".to_owned())
            }
        };
        if let (Some(_), Some(fetch)) = (&stopped, fetch) {
            fetch.piped.child.cgroup.kill();
        }
        stopped
    };
    let output = stage.output.take();
    let hear = async {
        match output {
            Some(output) => hear(output, told).await,
            None => None,
        }
    };
    tokio::pin!(feed, hear);
    let mut stopped = None;
    let mut fed = false;
    let deadline = tokio::time::sleep(DEADLINE);
    tokio::pin!(deadline);
    let last = loop {
        tokio::select! {
            last = &mut hear => break last,
            why = &mut feed, if !fed => {
                fed = true;
                stopped = why;
            }
            () = &mut deadline => {
                stopped = Some(format!("the image was not there within {} s", DEADLINE.as_secs()));
                stage.piped.child.cgroup.kill();
                break None;
            }
        }
    };
    let (exit, complaint) = stage.end(node).await;
    let outcome = match last {
        Some(Line { staged: Some(staged), .. }) if exit == Exit::Code(0) => Ok(staged),
        Some(Line { error: Some(error), code, .. }) => Err(Refusal::new(parse_code(&code), error)),
        _ => Err(Refusal::new(
            Code::Internal,
            format!("the stage agent {exit} without a result: {complaint}"),
        )),
    };
    (outcome, stopped)
}

/// Passes the caller's chunks on, as fast as they are taken. Says why, if the caller stalls.
async fn pass_on(mut chunks: mpsc::Receiver<Bytes>, mut stdin: pipe::Sender) -> Option<String> {
    loop {
        match tokio::time::timeout(IDLE, chunks.recv()).await {
            Ok(Some(chunk)) => {
                if stdin.write_all(&chunk).await.is_err() {
                    // stage has seen enough, and says why itself.
                    return None;
                }
            }
            // All, or all there will be: stage knows how many bytes were to come.
            Ok(None) => return None,
            Err(_) => return Some(format!("nothing came for {} s", IDLE.as_secs())),
        }
    }
}

/// Passes stage's progress on; returns its last line.
async fn hear(output: pipe::Receiver, told: &mpsc::Sender<Progress>) -> Option<Line> {
    let mut lines = BufReader::new(output.take(LONGEST_REPORT)).lines();
    let mut last = None;
    while let Ok(Some(text)) = lines.next_line().await {
        let Ok(line) = serde_json::from_str::<Line>(&text) else { continue };
        if let Some(Done { step, done, total }) = &line.progress {
            let step = if step == "verifying" { Step::Verifying } else { Step::Receiving };
            // A caller that is slow to read misses some; the next line says more.
            let _full = told.try_send(Progress {
                step: step.into(),
                done: *done,
                total: *total,
                ..Progress::default()
            });
        }
        last = Some(line);
    }
    last
}

fn parse_code(name: &str) -> Code {
    match name {
        "INVALID_ARGUMENT" => Code::InvalidArgument,
        "RESOURCE_EXHAUSTED" => Code::ResourceExhausted,
        "ABORTED" => Code::Aborted,
        _ => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_stage_are_understood() {
        let line: Line =
            serde_json::from_str(r#"{"progress":{"step":"receiving","done":1,"total":2}}"#)
                .unwrap();
        assert_eq!(
            line.progress.map(|done| (done.step, done.done, done.total)),
            Some(("receiving".into(), 1, 2))
        );
        let line: Line = serde_json::from_str(
            r#"{"staged":{"slot":"stele_1.efi","version":"1","file":"stele_1.efi.staged","size":3}}"#,
        )
        .unwrap();
        assert_eq!(line.staged.map(|staged| staged.slot), Some("stele_1.efi".into()));
        let line: Line =
            serde_json::from_str(r#"{"error":"no","code":"RESOURCE_EXHAUSTED"}"#).unwrap();
        assert_eq!(
            (line.error.as_deref(), parse_code(&line.code)),
            (Some("no"), Code::ResourceExhausted)
        );
    }
}
