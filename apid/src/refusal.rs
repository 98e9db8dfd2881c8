// SPDX-License-Identifier: Apache-2.0
//! Why a call was not answered, and the one place that makes a gRPC status of it.

use crate::limits;
use bytes::Bytes;
use prost::Message as _;
use std::io;
use stele_proto::{internal::Close, method::Method};
use tonic::{Code, Status};

// What clients take in a header block by default is 8 to 16 KiB.
const ROOM_FOR_MESSAGE: usize = 6 << 10;
const ROOM_FOR_MESSAGE_BESIDE_DETAILS: usize = 2 << 10;
const ROOM_FOR_DETAILS: usize = 6 << 10;

/// Why a call was not answered.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no such method.
    #[error("This node has no method {path}")]
    UnknownMethod {
        /// The path that was called.
        path: String,
    },
    /// The node has no configuration yet.
    #[error(
        "{} is not answered before this node has a configuration. Bring one with {}",
        method.path(), Method::ConfigApply.path()
    )]
    Maintenance {
        /// What was called.
        method: Method,
    },
    /// The role is too low.
    #[error("{} needs the role {}, this client certificate has {held}", method.path(), method.role())]
    Role {
        /// What was called.
        method: Method,
        /// What the caller has.
        held: String,
    },
    /// The certificate has ended while its connection went on.
    #[error("The client certificate has expired since this connection was made")]
    Expired,
    /// The operator has revoked the certificate.
    #[error("This client certificate is revoked on this node")]
    Revoked,
    /// A message is larger than PID 1 takes.
    #[error("A message of {size} bytes is larger than the {max} bytes that this node takes", max = limits::MESSAGE)]
    TooLarge {
        /// Its size.
        size: usize,
    },
    /// Too much at the same time.
    #[error("This node already has as many {what} as it takes at the same time ({max}); try again")]
    Busy {
        /// Of what.
        what: &'static str,
        /// How many.
        max: usize,
    },
    /// The bytes of the call are not gRPC as this node speaks it.
    #[error("{0}")]
    Malformed(&'static str),
    /// The caller's own deadline.
    #[error("The caller's deadline has passed")]
    Deadline,
    /// The caller opened a call and then did not send its first message.
    #[error("The first message of the call did not arrive within {} seconds", limits::FIRST_MESSAGE.as_secs())]
    Silent,
    /// The caller went away.
    #[error("The caller broke off its request")]
    Cancelled,
    /// PID 1 cannot be reached.
    #[error("Connecting to PID 1")]
    Connect {
        /// Why.
        source: io::Error,
    },
    /// PID 1 stopped in the middle of the call.
    #[error("Talking to PID 1: {0}")]
    Broken(&'static str),
}

impl Refusal {
    /// The gRPC code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::UnknownMethod { .. } => Code::Unimplemented,
            Self::Maintenance { .. } | Self::Role { .. } => Code::PermissionDenied,
            Self::Expired | Self::Revoked => Code::Unauthenticated,
            Self::TooLarge { .. } | Self::Busy { .. } => Code::ResourceExhausted,
            Self::Malformed(_) => Code::InvalidArgument,
            Self::Deadline | Self::Silent => Code::DeadlineExceeded,
            Self::Cancelled => Code::Cancelled,
            Self::Connect { .. } | Self::Broken(_) => Code::Unavailable,
        }
    }

    /// What the caller is told: the code for machines, the sentence for people.
    #[must_use]
    pub fn status(&self) -> Status {
        let message = match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        };
        Status::new(self.code(), message)
    }
}

/// `google.rpc.Status`, the form of details on the wire.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// What PID 1 ended a call with, cut to what fits into the headers that clients take.
#[must_use]
pub fn status(close: Close) -> Status {
    let code = Code::from_i32(close.code);
    let details = match close.details.is_empty() {
        true => Bytes::new(),
        false => {
            let status =
                RpcStatus { code: close.code, message: String::new(), details: close.details };
            Some(status.encode_to_vec())
                .filter(|bytes| bytes.len() <= ROOM_FOR_DETAILS)
                .unwrap_or_default()
                .into()
        }
    };
    let room = if details.is_empty() { ROOM_FOR_MESSAGE } else { ROOM_FOR_MESSAGE_BESIDE_DETAILS };
    Status::with_details(code, cut(close.message, room), details)
}

/// Cuts a message so that its percent-encoded form fits into `room`.
fn cut(mut message: String, room: usize) -> String {
    let mut left = room;
    let end = message.char_indices().find_map(|(at, char)| {
        let cost = if char.is_ascii_graphic() && char != '%' { 1 } else { 3 * char.len_utf8() };
        match left.checked_sub(cost) {
            Some(rest) => {
                left = rest;
                None
            }
            None => Some(at),
        }
    });
    if let Some(end) = end {
        message.truncate(end);
        message.push_str(" …");
    }
    message
}

/// A code's name, as in the gRPC specification.
#[must_use]
pub fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let cut = cut("ü".repeat(10_000), 100);
        assert_eq!(cut, format!("{} …", "ü".repeat(16)));
        assert_eq!(super::cut("short".into(), 100), "short");
    }

    #[test]
    fn details_become_a_google_rpc_status() {
        let detail = prost_types::Any {
            type_url: "type.googleapis.com/stele.v1.Findings".into(),
            value: vec![1, 2],
        };
        let close = Close { code: 3, message: "bad".into(), details: vec![detail.clone()] };
        let status = status(close);
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "bad"));
        assert_eq!(RpcStatus::decode(status.details()).unwrap().details, [detail]);
    }

    #[test]
    fn details_that_fit_no_header_are_left_out() {
        let detail = prost_types::Any { type_url: "x".into(), value: vec![0; 20_000] };
        let status = status(Close { code: 3, message: "bad".into(), details: vec![detail] });
        assert!(status.details().is_empty());
    }
}
