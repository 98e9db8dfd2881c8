// SPDX-License-Identifier: Apache-2.0
//! Diagnostics: a question of a caller becomes an agent that runs once, and what it says becomes the answer.
//!
//! * [`questions`]: what may be asked, and how much of it.
//! * [`answers`]: what an agent may say.
//!
//! PID 1 sends nothing to the network by itself, and trusts the agent with nothing: its words are decoded, counted and cleaned. It ends when
//! the caller goes away, when it takes too long, and when it says too much.

mod answers;
mod questions;

use crate::{
    api::{Caller, Code, Gone, Refusal, Requests, Responses, while_connected},
    cgroup::Cgroup,
    handlers::Answer,
    logs::INFORMATIONAL,
    node::Node,
    one_shot::{self, Input, Piped},
};
use prost::Message;
use std::{cell::Cell, io, rc::Rc, time::Duration};
use stele_kernel::process::Exit;
use stele_proto::method::Role;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    time::{Instant, timeout, timeout_at},
};

pub(crate) use questions::Question;

/// How many there may be at once.
const PLACES: usize = 8;
/// How many of them are left to admins, whatever others ask.
const OF_ADMINS: usize = 2;
/// How long an agent may take beside what its question takes.
const PARTING: Duration = Duration::from_secs(10);
/// How long a caller may take nothing.
const STUCK: Duration = Duration::from_secs(60);
/// The longest message of an agent: a list of at most 1 MiB.
const LONGEST: usize = 1024 * 1024 + 1024;
const LONGEST_COMPLAINT: u64 = 4096;
/// The exit code of an agent that makes no sense of its question.
const NONSENSE: i32 = 64;

/// Places for agents, each with a control group of its own.
#[derive(Debug, Default)]
pub(crate) struct Places([Cell<bool>; PLACES]);

/// An agent under way: it ends with this.
struct Running {
    node: Rc<Node>,
    place: usize,
    cgroup: Cgroup,
}

impl Places {
    fn place(&self, place: usize) -> Option<&Cell<bool>> {
        self.0.get(place)
    }

    /// Takes a place, if that leaves so many free.
    fn take(&self, left: usize) -> Option<usize> {
        if self.0.iter().filter(|taken| !taken.get()).count() <= left {
            return None;
        }
        let place = self.0.iter().position(|taken| !taken.get())?;
        self.0.get(place)?.set(true);
        Some(place)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.cgroup.kill();
        self.cgroup.remove();
        if let Some(taken) = self.node.diagnoses.place(self.place) {
            taken.set(false);
        }
    }
}

/// Why an agent's words are not passed on.
#[derive(Debug, thiserror::Error)]
enum AnswerError {
    #[error("the {0} agent did not end within {1:?} and was killed")]
    Late(&'static str, Duration),
    #[error("reading what the {0} agent says")]
    Read(&'static str, #[source] io::Error),
    #[error("what the {0} agent says makes no sense")]
    Understand(&'static str, #[source] prost::DecodeError),
    #[error("the {0} agent says more than it should")]
    TooMuch(&'static str),
}

impl From<AnswerError> for Refusal {
    fn from(error: AnswerError) -> Refusal {
        match error {
            AnswerError::Late(..) => Refusal::new(Code::DeadlineExceeded, error.to_string()),
            AnswerError::Read(..) | AnswerError::Understand(..) | AnswerError::TooMuch(_) => {
                Refusal::internal(&error)
            }
        }
    }
}

/// Asks an agent, and passes on what it says.
pub(crate) async fn ask<Q: Question>(
    node: &Rc<Node>,
    caller: &Caller,
    question: Q,
    requests: &mut Requests,
    responses: &mut Responses,
) -> Answer {
    let question = match question.bounded() {
        Ok(question) => question,
        Err(message) => return Ok(Err(Refusal::new(Code::InvalidArgument, message))),
    };
    let (piped, running) = match begin::<Q>(node, caller) {
        Ok(begun) => begun,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let answer = while_connected(requests, converse(node, &question, piped, responses)).await;
    drop(running);
    answer
}

fn begin<Q: Question>(node: &Rc<Node>, caller: &Caller) -> Result<(Piped, Running), Refusal> {
    let no_unit = || Refusal::internal(&one_shot::OneShotError::NoUnit(Q::UNIT.to_owned()));
    let unit = node.units.get(Q::UNIT).ok_or_else(no_unit)?;
    let left = if caller.role == Some(Role::Admin) { 0 } else { OF_ADMINS };
    let busy = || {
        let most = PLACES.saturating_sub(left);
        let message = format!("{most} diagnostics are under way, as many as there may be");
        Refusal::new(Code::ResourceExhausted, message)
    };
    let place = node.diagnoses.take(left).ok_or_else(busy)?;
    let name = format!("diagnose-{place}");
    let running = Running { node: Rc::clone(node), place, cgroup: Cgroup::of(&name) };
    let action = [Q::ACTION.to_owned()];
    let piped = one_shot::start_unit(node, &name, unit, &action, Input::Pipe)
        .map_err(|error| Refusal::internal(&error))?;
    Ok((piped, running))
}

async fn converse<Q: Question>(
    node: &Rc<Node>,
    question: &Q,
    piped: Piped,
    responses: &mut Responses,
) -> Answer {
    let Piped { child, stdin, stdout, stderr } = piped;
    let takes = question.takes().saturating_add(PARTING);
    let end = Instant::now() + takes;
    let complaints = tokio::task::spawn_local(async move {
        let mut bytes = Vec::new();
        // What was read until it broke is what there is.
        let _broken = stderr.take(LONGEST_COMPLAINT).read_to_end(&mut bytes).await;
        bytes
    });
    if let Some(mut stdin) = stdin {
        // One that has ended already says why.
        let _ended = timeout_at(end, stdin.write_all(&question.encode_to_vec())).await;
    }
    let mut words = Words { stdout: BufReader::new(stdout), left: question.most_bytes() };
    let mut said = 0_u64;
    loop {
        let message = match timeout_at(end, words.next::<Q>()).await {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => break,
            Ok(Err(error)) => return Ok(Err(error.into())),
            Err(_late) => return Ok(Err(AnswerError::Late(Q::UNIT, takes).into())),
        };
        let mut answer = match Q::Answer::decode(message.as_slice()) {
            Ok(answer) => answer,
            Err(error) => return Ok(Err(AnswerError::Understand(Q::UNIT, error).into())),
        };
        answers::clean(&mut answer);
        Q::complete(&mut answer, node);
        said = said.saturating_add(1);
        match timeout(STUCK, responses.send(&answer)).await {
            Ok(sent) => sent?,
            Err(_) => return Err(Gone::Broken(io::ErrorKind::TimedOut.into())),
        }
    }
    let exit = match timeout_at(end, child.exit).await {
        Ok(exit) => exit.unwrap_or(Exit::Code(-1)),
        Err(_late) => return Ok(Err(AnswerError::Late(Q::UNIT, takes).into())),
    };
    let complaints = complaints.await.unwrap_or_default();
    Ok(judge::<Q>(node, exit, &complaints, said))
}

/// What the end of an agent means for the call.
fn judge<Q: Question>(
    node: &Node,
    exit: Exit,
    complaints: &[u8],
    said: u64,
) -> Result<(), Refusal> {
    let lines = || complaints.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let last = lines().next_back().map(|line| String::from_utf8_lossy(line).into_owned());
    let complaint = answers::plain(&last.unwrap_or_default());
    match exit {
        Exit::Code(0) if said > 0 => Ok(()),
        Exit::Code(NONSENSE) => Err(Refusal::new(Code::InvalidArgument, complaint)),
        Exit::Code(1) if !complaint.is_empty() => {
            Err(Refusal::new(Code::FailedPrecondition, complaint))
        }
        Exit::Code(_) | Exit::Signal(_) => {
            node.logs.append(&node.logs.log(Q::UNIT), INFORMATIONAL, lines());
            let message = format!("the {} agent {exit} without a result: {complaint}", Q::UNIT);
            Err(Refusal::new(Code::Internal, message))
        }
    }
}

/// What an agent says: messages, each behind its length.
struct Words<R> {
    stdout: R,
    /// Bytes that it may still say.
    left: u64,
}

impl<R: AsyncRead + Unpin> Words<R> {
    async fn next<Q: Question>(&mut self) -> Result<Option<Vec<u8>>, AnswerError> {
        let length = match self.stdout.read_u32().await {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(AnswerError::Read(Q::UNIT, error)),
        };
        let left = self.left.checked_sub(length.into());
        self.left = left.ok_or(AnswerError::TooMuch(Q::UNIT))?;
        let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST);
        let mut message = vec![0; length.ok_or(AnswerError::TooMuch(Q::UNIT))?];
        let read = self.stdout.read_exact(&mut message).await;
        read.map_err(|error| AnswerError::Read(Q::UNIT, error))?;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Asked = stele_proto::v1::MemoryRequest;

    /// What is read of these bytes, and how it ends.
    async fn read(bytes: &[u8], left: u64) -> (Vec<Vec<u8>>, Result<(), AnswerError>) {
        let mut words = Words { stdout: bytes, left };
        let mut messages = Vec::new();
        loop {
            match words.next::<Asked>().await {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => return (messages, Ok(())),
                Err(error) => return (messages, Err(error)),
            }
        }
    }

    #[tokio::test]
    async fn messages_are_behind_their_lengths() {
        let bytes = [0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 0, 0, 0, 1, 9];
        let (messages, end) = read(&bytes, 3).await;
        assert!(messages == [vec![7, 8], vec![], vec![9]] && end.is_ok(), "{messages:?}");
        // More than it may say in all, and more than it may say at once.
        let (messages, end) = read(&bytes, 2).await;
        assert!(messages.len() == 2 && matches!(end, Err(AnswerError::TooMuch("observe"))));
        let (_, end) = read(&u32::MAX.to_be_bytes(), u64::MAX).await;
        assert!(matches!(end, Err(AnswerError::TooMuch(_))));
        // It breaks off.
        let (messages, end) = read(&[0, 0, 0, 2, 7], 100).await;
        assert!(messages.is_empty() && matches!(end, Err(AnswerError::Read(..))));
    }

    #[test]
    fn places_are_few() {
        let places = Places::default();
        let take = |left| std::iter::from_fn(|| places.take(left)).collect::<Vec<usize>>();
        assert_eq!((take(OF_ADMINS), take(0)), ((0..6).collect(), vec![6, 7]));
        places.place(3).unwrap().set(false);
        assert_eq!((take(OF_ADMINS), take(0)), (vec![], vec![3]));
    }
}
