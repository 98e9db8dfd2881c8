// SPDX-License-Identifier: Apache-2.0
//! Bodies of responses.

use crate::{
    audit::Record,
    connections::Active,
    relay::{Relay, Step},
};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use hyper::body::Frame;
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tonic::{Code, Status};

/// The body of a response.
#[derive(Debug)]
pub enum Body {
    /// Nothing.
    Empty,
    /// One message, as gRPC frames it; `None` once it is sent.
    One(Option<Bytes>),
    /// Text without gRPC; `None` once it is sent.
    Plain(Option<Bytes>),
    /// A call that PID 1 answers.
    Relay(Box<Relay>),
    /// A call that apid answers.
    Local(Box<Local>),
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::One(message) => {
                let frame = message.take().map(Frame::data).unwrap_or_else(|| {
                    *self = Self::Empty;
                    Frame::trailers(ok())
                });
                Poll::Ready(Some(Ok(frame)))
            }
            Self::Plain(text) => {
                let frame = text.take().map(|text| Ok(Frame::data(text)));
                *self = Self::Empty;
                Poll::Ready(frame)
            }
            Self::Relay(relay) => {
                let trailers = match relay.poll_step(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Step::Messages(messages)) => {
                        return Poll::Ready(Some(Ok(Frame::data(messages))));
                    }
                    Poll::Ready(Step::Done) => ok(),
                    Poll::Ready(Step::End(status)) => trailers(&status),
                };
                // The relay's end: what it held is let go and its call is recorded.
                *self = Self::Empty;
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Self::Local(local) => local.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

impl Body {
    /// One message and a good end.
    #[must_use]
    pub fn one(message: &[u8]) -> Self {
        let mut bytes = BytesMut::with_capacity(5 + message.len());
        bytes.put_u8(0);
        bytes.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
        bytes.put_slice(message);
        Self::One(Some(bytes.freeze()))
    }
}

fn ok() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(3);
    if status.add_header(&mut trailers).is_err() {
        trailers.insert("grpc-status", HeaderValue::from_static("2"));
    }
    trailers
}

/// The body of a call that apid answers, watched for its result.
#[derive(Debug)]
pub struct Local {
    body: tonic::body::Body,
    record: Record,
    _active: Active,
}

impl Local {
    /// Watches this body, whose headers may already hold the result.
    #[must_use]
    pub fn new(
        body: tonic::body::Body,
        headers: &HeaderMap,
        mut record: Record,
        active: Active,
    ) -> Self {
        if let Some(code) = code(headers) {
            record.result(code);
        }
        Self { body, record, _active: active }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = hyper::body::Body::poll_frame(Pin::new(&mut self.body), cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(code) = frame.trailers_ref().and_then(code)
        {
            self.record.result(code);
        }
        polled
    }
}

fn code(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|value| Code::from_bytes(value.as_bytes()))
}
