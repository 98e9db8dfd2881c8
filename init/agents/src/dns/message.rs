// SPDX-License-Identifier: Apache-2.0
//! Questions and answers: what a program asks, how a server is asked for it, and what of an answer is passed on. Everything
//! is read and written by hickory-proto.

use hickory_proto::{
    ProtoError,
    op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode},
    rr::{DNSClass, RData, Record, RecordType},
};
use std::time::Duration;

/// The longest datagram that a server is asked for: one that no network cuts in pieces (DNS flag day 2020).
const PAYLOAD: u16 = 1232;
/// The longest that a program gets, whatever it asks for.
const LONGEST: u16 = 4096;
/// The shortest that every program takes (RFC 1035, section 4.2.1).
const SHORTEST: u16 = 512;
/// No answer is kept for longer.
const KEPT: u32 = 86_400;

/// What is asked, as far as answers differ by it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    query: Query,
    /// Whether signatures are wanted too (DO, RFC 3225).
    signatures: bool,
    /// Whether the server shall not check them (CD, RFC 4035).
    unchecked: bool,
}

/// What a program asks.
#[derive(Debug)]
pub struct Request {
    /// The question.
    pub question: Question,
    head: Metadata,
    /// The longest datagram that it takes, if it speaks EDNS (RFC 6891).
    payload: Option<u16>,
}

/// What a program sends.
#[derive(Debug)]
pub enum Received {
    /// A question.
    Asked(Request),
    /// Something that has no other answer than this.
    Refused(Vec<u8>),
    /// Nothing that could be answered.
    Nothing,
}

/// The way that a response takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It has a length that fits.
    Datagram,
    /// It may be as long as a message can be.
    Stream,
}

/// Reads what a program sends.
#[must_use]
pub fn read(bytes: &[u8]) -> Received {
    let Ok(message) = Message::from_vec(bytes) else {
        // A question has the bit QR unset; without its number nobody could know the answer.
        return match bytes {
            [high, low, flags, ..] if flags & 0x80 == 0 => {
                let head = Metadata::new(
                    u16::from_be_bytes([*high, *low]),
                    MessageType::Query,
                    OpCode::Query,
                );
                refuse(&head, &[], ResponseCode::FormErr)
            }
            _ => Received::Nothing,
        };
    };
    let head = message.metadata;
    if head.message_type != MessageType::Query {
        return Received::Nothing;
    }
    let refuse = |code| refuse(&head, &message.queries, code);
    if head.op_code != OpCode::Query {
        return refuse(ResponseCode::NotImp);
    }
    let [query] = message.queries.as_slice() else { return refuse(ResponseCode::FormErr) };
    let is_transfer = matches!(query.query_type, RecordType::AXFR | RecordType::IXFR);
    if is_transfer || query.query_class != DNSClass::IN {
        return refuse(ResponseCode::Refused);
    }
    let question = Question {
        query: query.clone(),
        signatures: message.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok),
        unchecked: head.checking_disabled,
    };
    let payload = message.edns.as_ref().map(Edns::max_payload);
    Received::Asked(Request { question, head, payload })
}

fn refuse(head: &Metadata, queries: &[Query], code: ResponseCode) -> Received {
    let mut response = Message::error_msg(head.id, head.op_code, code);
    response.metadata.recursion_desired = head.recursion_desired;
    response.metadata.recursion_available = true;
    response.add_queries(queries.iter().cloned());
    response.to_vec().map_or(Received::Nothing, Received::Refused)
}

impl Question {
    /// The message that asks it, with this number.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn encode(&self, id: u16, with_edns: bool) -> Result<Vec<u8>, ProtoError> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.metadata.checking_disabled = self.unchecked;
        message.add_query(self.query.clone());
        if with_edns {
            message.set_edns(edns(self.signatures));
        }
        message.to_vec()
    }

    /// Whether this is an answer to it.
    #[must_use]
    pub fn is_answered_by(&self, answer: &Message) -> bool {
        answer.metadata.message_type == MessageType::Response
            && answer.queries.as_slice() == [self.query.clone()]
    }
}

impl Request {
    /// The response with this answer, as far as there is room for it on its way.
    #[must_use]
    pub fn response(&self, answer: &Message, way: Way) -> Option<Vec<u8>> {
        let mut response = Message::new(0, MessageType::Response, OpCode::Query);
        response.metadata = Metadata::response_from_request(&self.head);
        response.metadata.recursion_available = true;
        response.metadata.response_code = answer.metadata.response_code;
        response.add_query(self.question.query.clone());
        response.answers.clone_from(&answer.answers);
        response.authorities.clone_from(&answer.authorities);
        response.additionals.clone_from(&answer.additionals);
        if self.payload.is_some() {
            response.set_edns(edns(self.question.signatures));
        }
        let bytes = response.to_vec().ok()?;
        let room = match way {
            Way::Datagram => self.payload.unwrap_or(SHORTEST).clamp(SHORTEST, LONGEST),
            Way::Stream => u16::MAX,
        };
        if bytes.len() <= room.into() { Some(bytes) } else { response.truncate().to_vec().ok() }
    }

    /// The response when no server has an answer.
    #[must_use]
    pub fn failure(&self) -> Option<Vec<u8>> {
        let answer = Message::error_msg(self.head.id, OpCode::Query, ResponseCode::ServFail);
        self.response(&answer, Way::Stream)
    }
}

fn edns(signatures: bool) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD).set_dnssec_ok(signatures);
    edns
}

/// How long an answer holds; nothing if it may not be kept.
#[must_use]
pub fn lifetime(answer: &Message) -> Option<Duration> {
    let code = answer.metadata.response_code;
    if answer.metadata.truncation || !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain)
    {
        return None;
    }
    // That there is nothing holds for as long as the zone says (RFC 2308, section 5).
    let nothing = answer.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(ttl(record).min(soa.minimum)),
        _ => None,
    });
    let is_nothing = code == ResponseCode::NXDomain || answer.answers.is_empty();
    if is_nothing && nothing.is_none() {
        return None;
    }
    let shortest = answer.answers.iter().map(ttl).chain(nothing).min()?;
    (shortest > 0).then(|| Duration::from_secs(shortest.min(KEPT).into()))
}

/// RFC 2181, section 8.
fn ttl(record: &Record) -> u32 {
    if i32::try_from(record.ttl).is_ok() { record.ttl } else { 0 }
}

/// Takes from each record's time what has passed of it.
pub fn age(answer: &mut Message, by: Duration) {
    let by = u32::try_from(by.as_secs()).unwrap_or(u32::MAX);
    let all = [&mut answer.answers, &mut answer.authorities, &mut answer.additionals];
    for record in all.into_iter().flatten() {
        record.ttl = ttl(record).saturating_sub(by);
    }
}
