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

#[cfg(test)]
mod tests {
    use super::{AROUND, Cache, LONGEST, MOST};
    use crate::dns::message::{Question, Received, read};
    use hickory_proto::{
        op::{Message, MessageType, OpCode, Query, ResponseCode},
        rr::{Name, RData, Record, RecordType, rdata},
    };
    use std::time::Duration;
    use tokio::time::Instant;

    fn question(name: &str) -> Question {
        let mut message = Message::new(1, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::TXT));
        match read(&message.to_vec().unwrap()) {
            Received::Asked(request) => request.question,
            other => panic!("{other:?}"),
        }
    }

    fn answer(ttl: u32, length: usize) -> Message {
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        let texts = vec!["x".repeat(250); length / 250 + 1];
        let data = RData::TXT(rdata::TXT::new(texts));
        message.add_answer(Record::from_rdata(Name::root(), ttl, data));
        message
    }

    #[test]
    fn an_answer_is_known_for_as_long_as_it_holds() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let after = |seconds| now + Duration::from_secs(seconds);
        cache.keep(question("a.example."), &answer(60, 1), now);
        let ttl = |cache: &mut Cache, name: &str, now| {
            cache.get(&question(name), now).map(|answer| answer.answers[0].ttl)
        };
        assert_eq!(ttl(&mut cache, "A.Example.", after(20)), Some(40));
        assert_eq!(ttl(&mut cache, "b.example.", now), None);
        assert_eq!(ttl(&mut cache, "a.example.", after(60)), None);
        assert_eq!((cache.size, cache.order.len()), (0, 0));
        for never in [answer(0, 1), answer(u32::MAX, 1), answer(60, LONGEST)] {
            cache.keep(question("a.example."), &never, now);
            assert_eq!(ttl(&mut cache, "a.example.", now), None);
        }
    }

    #[test]
    fn that_there_is_nothing_is_kept_if_somebody_says_for_how_long() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let mut nothing = Message::new(1, MessageType::Response, OpCode::Query);
        nothing.metadata.response_code = ResponseCode::NXDomain;
        cache.keep(question("a.example."), &nothing, now);
        assert!(cache.get(&question("a.example."), now).is_none());
        let soa = rdata::SOA::new(Name::root(), Name::root(), 1, 60, 60, 60, 30);
        nothing.add_authority(Record::from_rdata(Name::root(), 300, RData::SOA(soa)));
        cache.keep(question("a.example."), &nothing, now);
        assert!(cache.get(&question("a.example."), now + Duration::from_secs(29)).is_some());
        assert!(cache.get(&question("a.example."), now + Duration::from_secs(30)).is_none());
        nothing.metadata.response_code = ResponseCode::ServFail;
        cache.keep(question("a.example."), &nothing, now);
        assert!(cache.get(&question("a.example."), now).is_none());
    }

    #[test]
    fn the_oldest_make_room() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for index in 0..5000 {
            cache.keep(question(&format!("{index}.example.")), &answer(60, 2000), now);
            assert!(cache.size <= MOST);
        }
        assert!(cache.size > MOST - 2 * LONGEST - AROUND);
        assert_eq!(cache.answers.len(), cache.order.len());
        assert!(cache.get(&question("0.example."), now).is_none());
        assert!(cache.get(&question("4999.example."), now).is_some());
    }
}
