// SPDX-License-Identifier: Apache-2.0
//! The bytes of an image into a file on the data volume: the agents `fetch` and `stage receive`, joined by a pipe, or
//! `stage receive` fed by a caller.
//!
//! Nothing that comes over the network is looked at here: signatures and documents go to the stage agent as they are.

use super::{
    agent::{Agent, Line, Received, Vouched, hear},
    keys,
    parts::Part,
};
use crate::{
    api::{Code, Refusal},
    node::Node,
    one_shot::{self, Input},
};
use bytes::Bytes;
use std::{rc::Rc, time::Duration};
use stele_kernel::process::Exit;
use stele_proto::v1::Progress;
use tokio::{io::AsyncWriteExt as _, net::unix::pipe, sync::mpsc};

/// How long an upload may bring nothing.
const IDLE: Duration = Duration::from_secs(60);
/// How long all of it may take: rate limits may be low.
const DEADLINE: Duration = Duration::from_secs(24 * 3600);
/// How long the small things may take that are fetched before the image.
const SHORT: Duration = Duration::from_secs(120);
const LARGEST_VERDICT: usize = 64 * 1024;

/// How the bytes come in, once it is known which.
pub(super) enum Way {
    Caller(mpsc::Receiver<Bytes>),
    /// The arguments of the fetch agent.
    Fetch(Vec<String>),
}

/// What stage is asked to receive.
pub(super) struct Request(serde_json::Map<String, serde_json::Value>);

/// What shows that an announced digest may be trusted.
pub(super) enum Proof<'a> {
    Signature(&'a str),
    Vouched(&'a str),
}

impl Request {
    pub(super) fn announced(node: &Node, size: u64, sha256: &str, proof: Proof<'_>) -> Request {
        let mut request = match proof {
            Proof::Signature(signature) => Request::signed(node, signature),
            Proof::Vouched(key) => {
                Request([("vouched".to_owned(), key.into())].into_iter().collect())
            }
        };
        request.0.insert("size".to_owned(), size.into());
        request.0.insert("sha256".to_owned(), sha256.into());
        request
    }

    pub(super) fn signed(node: &Node, signature: &str) -> Request {
        let entries = [
            ("signature".to_owned(), signature.into()),
            ("keys".to_owned(), keys::trusted(node).into()),
        ];
        Request(entries.into_iter().collect())
    }

    fn into(mut self, part: &Part) -> String {
        self.0.insert("part".to_owned(), part.path.to_string_lossy().into());
        self.0.insert("from".to_owned(), part.from.into());
        serde_json::Value::Object(self.0).to_string()
    }
}

pub(super) fn with_limits(
    mut arguments: Vec<String>,
    max: u64,
    from: u64,
    rate: u64,
) -> Vec<String> {
    for (name, value) in [("--max", max), ("--from", from), ("--rate", rate)] {
        if value > 0 {
            arguments.extend([name.to_owned(), value.to_string()]);
        }
    }
    arguments
}

/// Fetches something small.
pub(super) async fn fetch(
    node: &Rc<Node>,
    arguments: Vec<String>,
    limit: usize,
) -> Result<Vec<u8>, Refusal> {
    let output = one_shot::run(node, "fetch", &arguments, &[], limit, SHORT)
        .await
        .map_err(|error| Refusal::internal(&error))?;
    match output.exit {
        Exit::Code(0) => Ok(output.stdout),
        _ if !output.complaint.is_empty() => Err(Refusal::new(Code::Unavailable, output.complaint)),
        exit => Err(Refusal::new(Code::Internal, format!("the fetch agent {exit}"))),
    }
}

/// Which image the documents of a registry vouch for.
pub(super) async fn judge(node: &Rc<Node>, documents: &[u8]) -> Result<Vouched, Refusal> {
    let keys = serde_json::Value::from(keys::trusted(node)).to_string();
    let input = [keys.as_bytes(), b"\n", documents].concat();
    let output = one_shot::run(node, "judge", &[], &input, LARGEST_VERDICT, SHORT)
        .await
        .map_err(|error| Refusal::internal(&error))?;
    let line = Line::last(&output.stdout);
    match line.vouched {
        Some(vouched) if output.exit == Exit::Code(0) => Ok(vouched),
        _ => Err(line.refusal("judge", output.exit, &output.complaint)),
    }
}

/// Why nothing was received.
pub(super) struct Failed {
    pub(super) refusal: Refusal,
    /// All came, and was not what was signed.
    pub(super) other_bytes: bool,
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Failed {
        Failed { refusal, other_bytes: false }
    }
}

pub(super) async fn receive(
    node: &Rc<Node>,
    part: &Part,
    request: Request,
    way: Way,
    told: &mpsc::Sender<Progress>,
) -> Result<Received, Failed> {
    let arguments = [request.into(part)];
    let (stage, fetch, chunks) = match way {
        Way::Caller(chunks) => {
            (Agent::start(node, "receive", &arguments, Input::Pipe)?, None, Some(chunks))
        }
        Way::Fetch(words) => {
            let mut fetch = Agent::start(node, "fetch", &words, Input::Nothing)?;
            let output = fetch.output.take().map(pipe::Receiver::into_blocking_fd).transpose();
            let stage = output.map_err(|error| Refusal::internal(&error)).and_then(|output| {
                Agent::start(
                    node,
                    "receive",
                    &arguments,
                    output.map_or(Input::Nothing, Input::From),
                )
            });
            match stage {
                Ok(stage) => (stage, Some(fetch), None),
                Err(refusal) => {
                    fetch.kill();
                    fetch.end(node).await;
                    return Err(refusal.into());
                }
            }
        }
    };
    let (outcome, why) = converse(node, stage, fetch.as_ref(), chunks, told).await;
    let fetched = match fetch {
        Some(fetch) => {
            if outcome.is_err() {
                fetch.kill();
            }
            Some(fetch.end(node).await)
        }
        None => None,
    };
    match (outcome, why, fetched) {
        (Ok(received), _, _) => Ok(received),
        (Err(_), Some(why), _) => Err(Refusal::new(Code::Aborted, why).into()),
        // Whoever could not fetch wants to hear why, not that the image ended early.
        (Err(_), None, Some((Exit::Code(1), complaint)))
            if !complaint.is_empty() && !complaint.contains("passing it on") =>
        {
            Err(Refusal::new(Code::Unavailable, complaint).into())
        }
        (Err(failed), None, _) => Err(failed),
    }
}

/// Feeds stage and hears it out. The second value says why it was stopped, if it was.
async fn converse(
    node: &Rc<Node>,
    mut stage: Agent,
    fetch: Option<&Agent>,
    chunks: Option<mpsc::Receiver<Bytes>>,
    told: &mpsc::Sender<Progress>,
) -> (Result<Received, Failed>, Option<String>) {
    let input = stage.input.take();
    let feed = async {
        let stopped = match (chunks, input) {
            (Some(chunks), Some(input)) => pass_on(chunks, input).await,
            _ => {
                told.closed().await;
                Some("the caller went away".to_owned())
            }
        };
        if let (Some(_), Some(fetch)) = (&stopped, fetch) {
            fetch.kill();
        }
        stopped
    };
    let hear = hear(stage.output.take(), told);
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
                stopped = Some(format!("the image was not there within {} h", DEADLINE.as_secs() / 3600));
                stage.kill();
                break Line::default();
            }
        }
    };
    let (exit, complaint) = stage.end(node).await;
    let outcome = match &last.received {
        Some(received) if exit == Exit::Code(0) => Ok(received.clone()),
        _ => Err(Failed {
            refusal: last.refusal("receive", exit, &complaint),
            other_bytes: last.is_other_bytes(),
        }),
    };
    (outcome, stopped)
}

/// Passes the caller's chunks on, as fast as they are taken. Says why, if the caller stalls.
async fn pass_on(mut chunks: mpsc::Receiver<Bytes>, mut input: pipe::Sender) -> Option<String> {
    loop {
        match tokio::time::timeout(IDLE, chunks.recv()).await {
            Ok(Some(chunk)) => {
                if input.write_all(&chunk).await.is_err() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fetch_is_told_its_limits() {
        assert_eq!(with_limits(vec!["u".into()], 9, 0, 0), ["u", "--max", "9"]);
        assert_eq!(
            with_limits(vec!["u".into()], 9, 5, 100),
            ["u", "--max", "9", "--from", "5", "--rate", "100"]
        );
    }

    #[test]
    fn requests_are_those_of_stage() {
        let part = Part { path: "/x.part".into(), from: 5 };
        let mut request = Request([("vouched".to_owned(), "k".into())].into_iter().collect());
        request.0.insert("size".to_owned(), 7.into());
        assert_eq!(request.into(&part), r#"{"from":5,"part":"/x.part","size":7,"vouched":"k"}"#);
        let received: Received = serde_json::from_str(
            r#"{"version":"1","size":3,"sha256":"ab","key":"k","rootfs":{"offset":1,"length":2}}"#,
        )
        .unwrap();
        assert_eq!(
            part.order(&received, std::path::Path::new("/boot/EFI/Linux")),
            r#"{"directory":"/boot/EFI/Linux","part":"/x.part","sha256":"ab","size":3,"version":"1"}"#
        );
    }
}
