// SPDX-License-Identifier: Apache-2.0
//! Connections to PID 1's socket.
//!
//! A connection carries one call at a time. One whose call has ended in order is kept for the next call; any other is closed,
//! which is how PID 1 learns that a call was cancelled.

use crate::{
    limits,
    reader::{Reader, Said},
    refusal::{self, Refusal},
    wire::Outbox,
};
use bytes::{Buf as _, Bytes};
use std::{
    io::{self, IoSlice, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker, ready},
};
use stele_proto::internal::Open;
use tokio::io::{Interest, unix::AsyncFd};
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
        Upstream::connect(&self.path).await.map_err(|source| Refusal::Connect { source })
    }

    /// Keeps a connection whose call has ended in order.
    pub fn keep(&self, mut upstream: Upstream) {
        let mut idle = self.idle();
        if idle.len() < limits::POOL && upstream.reader.is_empty() {
            upstream.reader.shrink();
            upstream.writable = None;
            idle.push(upstream);
        }
    }

    /// One call of apid's own, with one message in and one out.
    pub async fn call(&self, method: &str, role: &str, message: Bytes) -> Result<Bytes, Status> {
        let mut upstream = self.connect().await.map_err(|refusal| refusal.status())?;
        let mut outbox = Outbox::default();
        let (method, subject, role) = (method.to_owned(), "apid".to_owned(), role.to_owned());
        outbox.open(Open { method, subject, role, ..Open::default() });
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
///
/// The kernel is asked to say when there is something to read, and to say when there is room to write only once there was none:
/// else each byte that PID 1 takes would wake this process for nothing, in the middle of each call.
#[derive(Debug)]
pub struct Upstream {
    stream: AsyncFd<UnixStream>,
    writable: Option<AsyncFd<UnixStream>>,
    reader: Reader,
}

impl Upstream {
    async fn connect(path: &Path) -> io::Result<Self> {
        let stream = tokio::net::UnixStream::connect(path).await?.into_std()?;
        let stream = register(stream, Interest::READABLE)?;
        Ok(Self { stream, writable: None, reader: Reader::default() })
    }

    /// Writes until the outbox is empty.
    pub fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &mut Outbox,
    ) -> Poll<io::Result<()>> {
        while !outbox.is_empty() {
            let mut room = match &self.writable {
                Some(writable) => Some(ready!(writable.poll_write_ready(cx))?),
                None => None,
            };
            let mut slices = [IoSlice::new(&[]); PIECES];
            let count = outbox.slices(&mut slices);
            match self.stream.get_ref().write_vectored(slices.get(..count).unwrap_or_default()) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => outbox.written(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match &mut room {
                    Some(room) => room.clear_ready(),
                    None => {
                        let stream = self.stream.get_ref().try_clone()?;
                        self.writable = Some(register(stream, Interest::WRITABLE)?);
                    }
                },
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Waits for the next thing that PID 1 says.
    pub fn poll_said(&mut self, cx: &mut Context<'_>) -> Poll<Result<Said, Refusal>> {
        const BROKEN: Refusal =
            Refusal::Broken("it closed the connection in the middle of the call");
        loop {
            if let Some(said) = self.reader.said()? {
                return Poll::Ready(Ok(said));
            }
            let mut guard = ready!(self.stream.poll_read_ready(cx)).map_err(|_| BROKEN)?;
            let mut space = self.reader.space();
            let wanted = space.len();
            match guard.get_inner().read(&mut space) {
                Ok(0) => return Poll::Ready(Err(BROKEN)),
                Ok(count) => {
                    space.filled(count);
                    // Less than was asked for: the socket is empty, and will say when it no longer is (epoll(7), Q9).
                    if count < wanted {
                        guard.clear_ready();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Poll::Ready(Err(BROKEN)),
            }
        }
    }

    /// True unless PID 1 has closed it, or said something unasked. Costs nothing when the kernel has said nothing.
    fn is_alive(&self) -> bool {
        match self.stream.poll_read_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => true,
            Poll::Ready(Err(_)) => false,
            Poll::Ready(Ok(mut guard)) => {
                let read = guard.get_inner().read(&mut [0]);
                let empty = matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
                if empty {
                    guard.clear_ready();
                }
                empty
            }
        }
    }
}

#[expect(
    deprecated,
    reason = "deprecated for types that may close their descriptor early, which a UnixStream does not; the successor is unsafe"
)]
fn register(stream: UnixStream, interest: Interest) -> io::Result<AsyncFd<UnixStream>> {
    AsyncFd::with_interest(stream, interest)
}
