// SPDX-License-Identifier: Apache-2.0
//! How VMware's hypervisor is asked something: a message of text on a channel, answered by another, four bytes at a time.
//!
//! ```text
//! open ─► length ─► bytes… ─► length of the answer ─► its bytes… ─► thanks ─► close
//! ```
//!
//! Each step is one instruction and has its answer at once, so what a hypervisor says too much, too late or not at all is known by
//! counting, without a clock. A checkpoint of the machine in between (a snapshot, a move to another host) makes a message void; it
//! is then begun anew. Steps and status bits are those of open-vm-tools (`guest_msg_def.h`) and of Linux (`vmwgfx_msg.c`).

use stele_kernel::backdoor::Step;

/// "RPCI", the protocol in which a guest asks, with cookies for the channel's owner.
const PROTOCOL: u32 = 0x4943_5052 | 0x8000_0000;
/// How often a message is begun.
const TRIES: usize = 3;

const OPEN: u16 = 0;
const SEND_LENGTH: u16 = 1;
const SEND: u16 = 2;
const RECEIVE_LENGTH: u16 = 3;
const RECEIVE: u16 = 4;
const RECEIVED: u16 = 5;
const CLOSE: u16 = 6;

/// The bits of a status.
const SUCCESS: u16 = 1;
const ANSWERED: u16 = 2;
const CHECKPOINT: u16 = 16;

/// Why there is no answer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RpcError {
    /// A step failed.
    #[error("the hypervisor failed while {0}")]
    Step(&'static str),
    /// The machine was saved or moved each time.
    #[error("the machine was saved or moved in the middle of each of {TRIES} messages")]
    Checkpoint,
    /// There is none.
    #[error("the hypervisor does not answer")]
    Silent,
    /// More than is read.
    #[error("the hypervisor's answer has {length} bytes, and at most {longest} are read")]
    TooLong {
        /// How many it has.
        length: u32,
        /// How many it may have.
        longest: u32,
    },
    /// An answer that begins in no known way.
    #[error("the hypervisor's answer makes no sense")]
    Odd,
    /// The hypervisor's own words.
    #[error("the hypervisor says: {0}")]
    Refused(String),
}

/// Asks a hypervisor by taking steps.
#[derive(Debug)]
pub struct Rpc<S> {
    step: S,
    longest: u32,
}

impl<S: FnMut(Step) -> Step> Rpc<S> {
    /// Asks by these steps, for answers of at most so many bytes.
    pub fn new(step: S, longest: u32) -> Self {
        Self { step, longest }
    }

    /// Asks one thing.
    ///
    /// # Errors
    /// When there is no answer, or it says no.
    pub fn ask(&mut self, request: &str) -> Result<Vec<u8>, RpcError> {
        for _ in 0..TRIES {
            match self.message(request.as_bytes()) {
                Err(RpcError::Checkpoint) => {}
                answer => return understand(&answer?),
            }
        }
        Err(RpcError::Checkpoint)
    }

    fn message(&mut self, request: &[u8]) -> Result<Vec<u8>, RpcError> {
        let opening = Step { kind: OPEN, value: PROTOCOL, ..Step::default() };
        let Step { channel, cookies, .. } = self.take(opening, "opening a channel")?;
        let channel = Step { channel, cookies, ..Step::default() };
        let answer = self.converse(channel, request);
        // What became of it is known already.
        let _closed = (self.step)(Step { kind: CLOSE, ..channel });
        answer
    }

    fn converse(&mut self, channel: Step, request: &[u8]) -> Result<Vec<u8>, RpcError> {
        let say = |kind, value| Step { kind, value, ..channel };
        let length = u32::try_from(request.len()).unwrap_or(u32::MAX);
        self.take(say(SEND_LENGTH, length), "being asked")?;
        for word in request.chunks(4) {
            let mut bytes = [0; 4];
            bytes.iter_mut().zip(word).for_each(|(byte, said)| *byte = *said);
            self.take(say(SEND, u32::from_le_bytes(bytes)), "being asked")?;
        }
        let announced = self.take(say(RECEIVE_LENGTH, 0), "answering")?;
        if announced.kind & ANSWERED == 0 {
            return Err(RpcError::Silent);
        }
        let (length, longest) = (announced.value, self.longest);
        if length > longest {
            return Err(RpcError::TooLong { length, longest });
        }
        let mut answer = Vec::new();
        for _ in 0..length.div_ceil(4) {
            let said = self.take(say(RECEIVE, SUCCESS.into()), "answering")?;
            answer.extend(said.value.to_le_bytes());
        }
        answer.truncate(length.try_into().unwrap_or(usize::MAX));
        self.take(say(RECEIVED, SUCCESS.into()), "answering")?;
        Ok(answer)
    }

    fn take(&mut self, step: Step, what: &'static str) -> Result<Step, RpcError> {
        let answer = (self.step)(step);
        if answer.kind & SUCCESS != 0 {
            Ok(answer)
        } else if answer.kind & CHECKPOINT != 0 {
            Err(RpcError::Checkpoint)
        } else {
            Err(RpcError::Step(what))
        }
    }
}

/// An answer begins with 1 for yes or 0 for no.
fn understand(answer: &[u8]) -> Result<Vec<u8>, RpcError> {
    match answer.split_at_checked(1) {
        Some((b"1", rest)) => Ok(rest.strip_prefix(b" ").unwrap_or(rest).to_vec()),
        Some((b"0", rest)) => {
            let words: String = String::from_utf8_lossy(rest).trim().chars().take(200).collect();
            Err(RpcError::Refused(words.chars().filter(|char| !char.is_control()).collect()))
        }
        _ => Err(RpcError::Odd),
    }
}
