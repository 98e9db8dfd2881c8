// SPDX-License-Identifier: Apache-2.0
//! Connections to PID 1's socket.
//!
//! A connection carries one call at a time. One whose call has ended in order is kept for the next call; any other is closed,
//! which is how PID 1 learns that a call was cancelled.

use crate::{
    limits,
    refusal::{self, Refusal},
    wire::{Outbox, Reader, Said},
};
use bytes::{Buf as _, Bytes};
use std::{
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};
use tokio::net::UnixStream;
use tonic::{Code, Status};

/// Where PID 1 listens.
pub const PATH: &str = "/run/stele/init.sock";

// An answer of 64 pieces of 16 KiB is the 1 MiB of an upload's message.
const PIECES: usize = 64;

/// The connections to PID 1.
#[derive(Clone, Debug)]
pub struct Pool {
    path: Arc<Path>,
    idle: Arc<Mutex<Vec<Upstream>>>,
}

impl Pool {
    /// No connections yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path: path.into(), idle: Arc::default() }
    }

    /// A connection for one call.
    pub async fn connect(&self) -> Result<Upstream, Refusal> {
        loop {
            let idle = self.idle().pop();
            match idle {
                Some(upstream) if upstream.is_alive() => return Ok(upstream),
                Some(_) => {}
                None => break,
            }
        }
        let stream =
            UnixStream::connect(&self.path).await.map_err(|source| Refusal::Connect { source })?;
        Ok(Upstream { stream, reader: Reader::default() })
    }

    /// Keeps a connection whose call has ended in order.
    pub fn keep(&self, mut upstream: Upstream) {
        let mut idle = self.idle();
        if idle.len() < limits::POOL && upstream.reader.is_empty() {
            upstream.reader.shrink();
            idle.push(upstream);
        }
    }

    /// One call of apid's own, with one message in and one out.
    pub async fn call(&self, method: &str, role: &str, message: Bytes) -> Result<Bytes, Status> {
        let mut upstream = self.connect().await.map_err(|refusal| refusal.status())?;
        let mut outbox = Outbox::default();
        outbox.open(method, "apid", role);
        outbox.message(message);
        outbox.half_close();
        let write = std::future::poll_fn(|cx| upstream.poll_write(cx, &mut outbox)).await;
        write.map_err(|_| Refusal::Broken("it closed the connection").status())?;
        let mut answer = Bytes::new();
        loop {
            let said = std::future::poll_fn(|cx| upstream.poll_said(cx)).await;
            match said.map_err(|refusal| refusal.status())? {
                Said::Messages(mut message) => {
                    message.advance(message.len().min(5));
                    answer = message;
                }
                Said::Close(close) if close.code == i32::from(Code::Ok) => {
                    self.keep(upstream);
                    return Ok(answer);
                }
                Said::Close(close) => {
                    self.keep(upstream);
                    return Err(refusal::status(close));
                }
            }
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Upstream>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection to PID 1.
#[derive(Debug)]
pub struct Upstream {
    stream: UnixStream,
    reader: Reader,
}

impl Upstream {
    /// Writes until the outbox is empty.
    pub fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &mut Outbox,
    ) -> Poll<io::Result<()>> {
        while !outbox.is_empty() {
            ready!(self.stream.poll_write_ready(cx))?;
            let mut slices = [IoSlice::new(&[]); PIECES];
            let count = outbox.slices(&mut slices);
            match self.stream.try_write_vectored(slices.get(..count).unwrap_or_default()) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => outbox.written(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Waits for the next thing that PID 1 says.
    pub fn poll_said(&mut self, cx: &mut Context<'_>) -> Poll<Result<Said, Refusal>> {
        loop {
            if let Some(said) = self.reader.said()? {
                return Poll::Ready(Ok(said));
            }
            const BROKEN: Refusal =
                Refusal::Broken("it closed the connection in the middle of the call");
            ready!(self.stream.poll_read_ready(cx)).map_err(|_| BROKEN)?;
            match self.stream.try_read_buf(self.reader.space()) {
                Ok(0) => return Poll::Ready(Err(BROKEN)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(Err(BROKEN)),
            }
        }
    }

    /// True unless PID 1 has closed it, or said something unasked.
    fn is_alive(&self) -> bool {
        matches!(self.stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}
