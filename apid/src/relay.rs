// SPDX-License-Identifier: Apache-2.0
//! One call between a client and PID 1.
//!
//! ```text
//! Waiting ── first message ──► Open ── Close, refusal ──► Ended
//!    └──────────── refusal ─────────────────────────────►  ▲
//! ```
//!
//! A relay is the body of the call's response: whoever polls it for the answer moves the request along as well, so a call is one
//! task, and takes no more of either side than the other has room for. PID 1 hears of a call with its first whole
//! message, so slow strangers cost it nothing. Dropping a relay that has not ended closes the connection to PID 1 and
//! records the call as cancelled.

use crate::{
    audit::Record,
    authz::Permit,
    connections::Active,
    limits::{self, Budget, Share},
    reader::Said,
    refusal::{self, Refusal},
    upstream::{Pool, Upstream},
    wire::{Inbox, Outbox},
};
use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};
use stele_proto::{internal::Open, method::Role};
use tokio::time::Sleep;
use tonic::Status;

/// Bytes that may wait for PID 1 before the client has to.
const AHEAD: usize = 64 << 10;

/// One call on its way.
#[derive(Debug)]
pub struct Relay {
    request: Option<Incoming>,
    inbox: Inbox,
    outbox: Outbox,
    upstream: Option<Upstream>,
    pool: Pool,
    deadline: Option<Pin<Box<Sleep>>>,
    first: Option<Step>,
    share: Option<Share>,
    record: Record,
    active: Active,
}

/// What comes next in a response.
#[derive(Debug)]
pub enum Step {
    /// Messages, as gRPC frames them.
    Messages(Bytes),
    /// The end of the call.
    End(Box<Status>),
    /// The end of a call that went well.
    Done,
}

impl Step {
    fn end(status: Status) -> Self {
        Self::End(Box::new(status))
    }
}

impl Relay {
    /// A call that has not begun.
    #[must_use]
    pub fn new(
        request: Incoming,
        deadline: Option<Pin<Box<Sleep>>>,
        pool: Pool,
        assembly: Budget,
        record: Record,
        active: Active,
    ) -> Self {
        Self {
            request: Some(request),
            inbox: Inbox::new(assembly),
            outbox: Outbox::default(),
            upstream: None,
            pool,
            deadline,
            first: None,
            share: None,
            record,
            active,
        }
    }

    /// Opens the call before PID 1, once its first message is there.
    ///
    /// With `peek`, it also waits for the first of the answer, so that a call with one answer takes one write to the client, and
    /// a call that fails is answered by its headers alone. Returns the end, if that is what came first.
    pub async fn open(&mut self, permit: &Permit, calls: &Budget, peek: bool) -> Option<Step> {
        match self.begin(permit, calls).await {
            Ok(()) if peek => match poll_fn(|cx| self.poll_step(cx)).await {
                Step::Messages(messages) => {
                    self.first = Some(Step::Messages(messages));
                    None
                }
                end @ (Step::End(_) | Step::Done) => Some(end),
            },
            Ok(()) => None,
            Err(refusal) => Some(self.refuse(&refusal)),
        }
    }

    async fn begin(&mut self, permit: &Permit, calls: &Budget) -> Result<(), Refusal> {
        let age = self.active.connection_age().as_micros();
        self.outbox.open(Open {
            method: permit.method().path().to_owned(),
            subject: permit.subject().to_owned(),
            role: permit.role().as_str().to_owned(),
            serial: permit.serial().to_owned(),
            request: self.record.request().to_owned(),
            connection_age_us: u64::try_from(age).unwrap_or(u64::MAX),
            own_roles: permit.own_roles().to_vec(),
            source: self.active.source().to_string(),
            reached: self.active.reached().map(|it| it.to_string()).unwrap_or_default(),
        });
        let opening = self.outbox.len();
        let first = poll_fn(|cx| match self.poll_deadline(cx) {
            Poll::Ready(refusal) => Poll::Ready(Err(refusal)),
            Poll::Pending => self.poll_request(cx, opening),
        });
        tokio::time::timeout(limits::FIRST_MESSAGE, first).await.map_err(|_| Refusal::Silent)??;
        let reserve = if permit.role() == Role::Admin { 0 } else { limits::CALLS_OF_ADMINS };
        let busy = || Refusal::Busy { what: "calls", max: limits::CALLS - reserve };
        self.share = Some(calls.take(1, reserve).ok_or_else(busy)?);
        self.upstream = Some(self.pool.connect().await?);
        Ok(())
    }

    /// Moves the call along until there is more of the response.
    pub fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(first);
        }
        if let Poll::Ready(refusal) = self.poll_deadline(cx) {
            return Poll::Ready(self.refuse(&refusal));
        }
        match self.poll_forward(cx) {
            Poll::Ready(Err(refusal)) => return Poll::Ready(self.refuse(&refusal)),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        let Some(upstream) = &mut self.upstream else { return Poll::Ready(Step::Done) };
        match upstream.poll_said(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(Said::Messages(messages))) => Poll::Ready(Step::Messages(messages)),
            Poll::Ready(Ok(Said::Close(close))) => {
                if self.request.is_none()
                    && self.outbox.is_empty()
                    && let Some(upstream) = self.upstream.take()
                {
                    self.pool.keep(upstream);
                }
                self.finish();
                if close.code == 0 {
                    self.record.result(tonic::Code::Ok);
                    return Poll::Ready(Step::Done);
                }
                let status = refusal::status(close);
                self.record.result(status.code());
                Poll::Ready(Step::end(status))
            }
            Poll::Ready(Err(refusal)) => Poll::Ready(self.refuse(&refusal)),
        }
    }

    /// Moves the request to PID 1, as far as both sides go along.
    fn poll_forward(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        loop {
            let more = self.poll_request(cx, AHEAD)?;
            let Some(upstream) = &mut self.upstream else { return Poll::Pending };
            match upstream.poll_write(cx, &mut self.outbox) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if more.is_ready() && self.request.is_some() => {}
                Poll::Ready(Ok(())) => return Poll::Pending,
                Poll::Ready(Err(_)) => {
                    // PID 1 has ended the call early: what it said about that is still to be read.
                    self.request = None;
                    return Poll::Pending;
                }
            }
        }
    }

    /// Fills the outbox with whole messages, until more than `enough` bytes wait there or the request has ended.
    fn poll_request(&mut self, cx: &mut Context<'_>, enough: usize) -> Poll<Result<(), Refusal>> {
        while self.outbox.len() <= enough
            && let Some(request) = &mut self.request
        {
            match Pin::new(&mut *request).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => {
                    let ended = request.is_end_stream();
                    if let Ok(data) = frame.into_data() {
                        self.inbox.push(data);
                        self.inbox.deliver(&mut self.outbox)?;
                    }
                    if ended {
                        self.half_close()?;
                    }
                }
                Poll::Ready(Some(Err(_))) => {
                    return Poll::Ready(Err(Refusal::Malformed(
                        "The client broke off its request",
                    )));
                }
                Poll::Ready(None) if request.is_end_stream() => self.half_close()?,
                // hyper also ends the body of a request that was reset with NO_ERROR: what came must not pass for the whole.
                Poll::Ready(None) => return Poll::Ready(Err(Refusal::Cancelled)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn half_close(&mut self) -> Result<(), Refusal> {
        self.request = None;
        if !self.inbox.is_empty() {
            return Err(Refusal::Malformed("The request ended in the middle of a message"));
        }
        self.outbox.half_close();
        Ok(())
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Refusal> {
        match &mut self.deadline {
            Some(deadline) => deadline.as_mut().poll(cx).map(|()| Refusal::Deadline),
            None => Poll::Pending,
        }
    }

    fn refuse(&mut self, refusal: &Refusal) -> Step {
        self.finish();
        self.record.result(refusal.code());
        Step::end(refusal.status())
    }

    /// Lets go of everything but the record.
    fn finish(&mut self) {
        self.request = None;
        self.upstream = None;
        self.deadline = None;
        self.share = None;
    }
}
