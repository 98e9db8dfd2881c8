// SPDX-License-Identifier: Apache-2.0
//! The memory of answers: each for as long as it holds, and all of them within a bound. When that is reached, the oldest goes.

use super::message::{Question, age, lifetime};
use hickory_proto::op::Message;
use std::collections::{BTreeMap, HashMap};
use tokio::time::Instant;

/// Bytes in all.
const MOST: usize = 4 * 1024 * 1024;
/// The longest answer that is kept.
const LONGEST: usize = 16 * 1024;
/// What an answer takes beside its own bytes, about.
const AROUND: usize = 512;

/// The memory.
#[derive(Debug, Default)]
pub(super) struct Cache {
    answers: HashMap<Question, Kept>,
    /// The questions, in the order in which their answers came.
    order: BTreeMap<u64, Question>,
    next: u64,
    size: usize,
}

#[derive(Debug)]
struct Kept {
    /// As it is sent: far smaller than what it is read into.
    bytes: Vec<u8>,
    at: Instant,
    until: Instant,
    place: u64,
}

impl Cache {
    /// The answer to a question, if it is known and still holds.
    pub(super) fn get(&mut self, question: &Question, now: Instant) -> Option<Message> {
        let kept = self.answers.get(question)?;
        if kept.until <= now {
            self.forget(question);
            return None;
        }
        let mut answer = Message::from_vec(&kept.bytes).ok()?;
        age(&mut answer, now.duration_since(kept.at));
        Some(answer)
    }

    /// Keeps an answer, if it may be kept.
    pub(super) fn keep(&mut self, question: Question, answer: &Message, now: Instant) {
        self.forget(&question);
        let until = lifetime(answer).and_then(|lifetime| now.checked_add(lifetime));
        let (Some(until), Ok(bytes)) = (until, answer.to_vec()) else { return };
        if bytes.len() > LONGEST {
            return;
        }
        self.size += bytes.len() + AROUND;
        let place = self.next;
        self.next += 1;
        self.order.insert(place, question.clone());
        self.answers.insert(question, Kept { bytes, at: now, until, place });
        while self.size > MOST
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.forget(&oldest);
        }
    }

    fn forget(&mut self, question: &Question) {
        if let Some(kept) = self.answers.remove(question) {
            self.order.remove(&kept.place);
            self.size -= kept.bytes.len() + AROUND;
        }
    }
}
