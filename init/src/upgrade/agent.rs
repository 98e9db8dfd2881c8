// SPDX-License-Identifier: Apache-2.0
//! The agents `fetch` and `stage` under way, and what stage says.

use crate::{
    api::{Code, Refusal},
    logs::INFORMATIONAL,
    node::Node,
    one_shot::{self, Input, Piped},
    process::Child,
};
use serde::Deserialize;
use std::{rc::Rc, time::Duration};
use stele_kernel::process::Exit;
use stele_proto::v1::{Progress, Step};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    net::unix::pipe,
    sync::mpsc,
};

/// How long an agent may take to end after its last word.
const PARTING: Duration = Duration::from_secs(10);
const LONGEST_COMPLAINT: u64 = 64 * 1024;
/// All that stage has to say about one image.
const LONGEST_REPORT: u64 = 16 * 1024 * 1024;

/// An image that was received, as far as its bytes can tell.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Received {
    pub(super) version: String,
    #[serde(default)]
    pub(super) upgrades_from: Option<String>,
    pub(super) size: u64,
    pub(super) sha256: String,
    pub(super) key: String,
    pub(super) rootfs: Place,
}

/// Where something is in a file.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// An image on the ESP, complete.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Staged {
    pub(super) slot: String,
    pub(super) version: String,
}

/// An image that somebody vouches for.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Vouched {
    pub(super) sha256: String,
    pub(super) size: u64,
    pub(super) key: String,
}

/// A line of stage's; see docs/architecture.md.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Line {
    progress: Option<Done>,
    pub(super) received: Option<Received>,
    pub(super) staged: Option<Staged>,
    pub(super) vouched: Option<Vouched>,
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

impl Line {
    /// The last line of a report.
    pub(super) fn last(report: &[u8]) -> Line {
        let mut lines = report.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.next_back().and_then(|line| serde_json::from_slice(line).ok()).unwrap_or_default()
    }

    /// Why there is nothing else in it.
    pub(super) fn refusal(&self, name: &str, exit: Exit, complaint: &str) -> Refusal {
        match &self.error {
            Some(error) => Refusal::new(parse_code(&self.code), error.clone()),
            None => {
                let message = format!("the {name} agent {exit} without a result: {complaint}");
                Refusal::new(Code::Internal, message)
            }
        }
    }

    /// Whether the bytes were complete and not those that were announced or signed.
    pub(super) fn is_other_bytes(&self) -> bool {
        self.code == "DATA_LOSS"
    }
}

fn parse_code(name: &str) -> Code {
    match name {
        "INVALID_ARGUMENT" | "DATA_LOSS" => Code::InvalidArgument,
        "RESOURCE_EXHAUSTED" => Code::ResourceExhausted,
        "ABORTED" => Code::Aborted,
        _ => Code::Internal,
    }
}

/// An agent under way.
#[derive(Debug)]
pub(super) struct Agent {
    name: &'static str,
    child: Child,
    pub(super) input: Option<pipe::Sender>,
    pub(super) output: Option<pipe::Receiver>,
    complaints: tokio::task::JoinHandle<Vec<u8>>,
}

impl Agent {
    pub(super) fn start(
        node: &Rc<Node>,
        name: &'static str,
        arguments: &[String],
        input: Input,
    ) -> Result<Agent, Refusal> {
        let Piped { child, stdin, stdout, stderr } = one_shot::start(node, name, arguments, input)
            .map_err(|error| Refusal::internal(&error))?;
        let complaints = tokio::task::spawn_local(async move {
            let mut bytes = Vec::new();
            // What was read until it broke is what there is.
            let _broken = stderr.take(LONGEST_COMPLAINT).read_to_end(&mut bytes).await;
            bytes
        });
        Ok(Agent { name, child, input: stdin, output: Some(stdout), complaints })
    }

    pub(super) fn kill(&self) {
        self.child.cgroup.kill();
    }

    /// Waits until it has ended, and helps if need be. Returns how, and its last complaint.
    pub(super) async fn end(mut self, node: &Rc<Node>) -> (Exit, String) {
        let child = &mut self.child;
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

/// Passes stage's progress on; returns its last line.
pub(super) async fn hear(output: Option<pipe::Receiver>, told: &mpsc::Sender<Progress>) -> Line {
    let mut last = Line::default();
    let Some(output) = output else { return last };
    let mut lines = BufReader::new(output.take(LONGEST_REPORT)).lines();
    while let Ok(Some(text)) = lines.next_line().await {
        let Ok(line) = serde_json::from_str::<Line>(&text) else { continue };
        if let Some(Done { step, done, total }) = &line.progress {
            let step = match step.as_str() {
                "verifying" => Step::Verifying,
                "writing" => Step::Writing,
                _ => Step::Receiving,
            };
            // A caller that is slow to read misses some; the next line says more.
            let _full = told.try_send(Progress {
                step: step.into(),
                done: *done,
                total: *total,
                ..Progress::default()
            });
        }
        last = line;
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_stage_are_understood() {
        let line = Line::last(br#"{"progress":{"step":"receiving","done":1,"total":2}}"#);
        assert_eq!(
            line.progress.map(|done| (done.step, done.done, done.total)),
            Some(("receiving".into(), 1, 2))
        );
        let line = Line::last(
            b"{}\n{\"received\":{\"version\":\"1\",\"upgradesFrom\":\"0.9\",\"size\":3,\"sha256\":\"ab\",\"key\":\"k\",\"rootfs\":{\"offset\":1,\"length\":2}}}\n",
        );
        let received = line.received.unwrap();
        assert_eq!((received.version.as_str(), received.rootfs.length), ("1", 2));
        assert_eq!(received.upgrades_from.as_deref(), Some("0.9"));
        let line = Line::last(
            br#"{"staged":{"slot":"stele_1.efi","version":"1","file":"stele_1.efi.staged","size":3}}"#,
        );
        assert_eq!(line.staged.map(|staged| staged.slot), Some("stele_1.efi".into()));
        let line = Line::last(br#"{"vouched":{"sha256":"ab","size":3,"key":"k"}}"#);
        assert_eq!(line.vouched.map(|vouched| vouched.size), Some(3));
        let refusal = Line::last(br#"{"error":"no","code":"RESOURCE_EXHAUSTED"}"#).refusal(
            "stage",
            Exit::Code(2),
            "",
        );
        assert_eq!((refusal.message.as_str(), refusal.code), ("no", Code::ResourceExhausted));
        let refusal = Line::last(b"").refusal("stage", Exit::Code(1), "out of memory");
        assert!(refusal.message.contains("without a result: out of memory"));
    }
}
