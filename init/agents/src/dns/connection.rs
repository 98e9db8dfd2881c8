// SPDX-License-Identifier: Apache-2.0
//! A connection to a server: many questions at a time, each with a number, and answers in any order (RFC 7766, RFC 7858).
//!
//! It is made by a task of its own, which nobody's impatience breaks off, and ends when nobody has asked for a while.

use crate::probe::explain;
use hickory_proto::{op::Message, serialize::binary::DecodeError};
use rustls::pki_types::ServerName;
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf},
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;

/// Until when a connection must be made, TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// After so long without a question it ends; most servers wait for longer.
const IDLE: Duration = Duration::from_secs(10);
/// Questions that wait to be written.
const QUEUE: usize = 16;

/// How a server proves who it is.
pub(super) type Proof = (TlsConnector, ServerName<'static>);

/// Why there is no connection, or not any more.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("connecting to it")]
    Connect(#[source] io::Error),
    #[error("the TLS handshake with it")]
    Handshake(#[source] io::Error),
    #[error("there was no connection within {} s", CONNECT.as_secs())]
    Late,
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    #[error("it answers with nonsense")]
    Nonsense(#[source] DecodeError),
    #[error("nobody has asked it for a while")]
    Idle,
}

/// A connection, or one that is being made.
#[derive(Debug)]
pub(super) struct Connection {
    questions: mpsc::Sender<Asked>,
    state: Rc<State>,
}

/// What its task says of it.
#[derive(Debug, Default)]
struct State {
    /// The last sign of life; none while the connection is being made.
    heard: Cell<Option<Instant>>,
    /// Whether an answer has come.
    has_served: Cell<bool>,
    /// Why it has ended.
    ended: RefCell<String>,
}

/// A question on its way; the first two bytes are its number, which the connection chooses.
struct Asked {
    bytes: Vec<u8>,
    answer: oneshot::Sender<Message>,
}

type Waiting = RefCell<HashMap<u16, oneshot::Sender<Message>>>;

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

impl Connection {
    /// Begins to make one.
    pub(super) fn open(address: SocketAddr, proof: Option<Proof>) -> Connection {
        let (questions, queue) = mpsc::channel(QUEUE);
        let state = Rc::new(State::default());
        let told = Rc::clone(&state);
        tokio::task::spawn_local(async move {
            let Err(error) = live(address, proof, queue, &told).await;
            *told.ended.borrow_mut() = explain(&error);
        });
        Connection { questions, state }
    }

    /// Asks, and waits for the answer; without one, the reason is that the connection has ended.
    pub(super) async fn ask(&self, bytes: Vec<u8>) -> Result<Message, String> {
        let (answer, answered) = oneshot::channel();
        let reason = || self.state.ended.borrow().clone();
        self.questions.send(Asked { bytes, answer }).await.map_err(|_| reason())?;
        answered.await.map_err(|_| reason())
    }

    /// Whether it can't be asked any more.
    pub(super) fn has_ended(&self) -> bool {
        self.questions.is_closed()
    }

    /// Whether it leads anywhere no more, as far as one can tell who has asked at this time and heard nothing.
    pub(super) fn is_silent_since(&self, asked: Instant) -> bool {
        self.state.heard.get().is_some_and(|heard| heard < asked)
    }

    /// Whether an answer has come by it.
    pub(super) fn has_served(&self) -> bool {
        self.state.has_served.get()
    }
}

/// The connection's whole life.
async fn live(
    address: SocketAddr,
    proof: Option<Proof>,
    queue: mpsc::Receiver<Asked>,
    state: &State,
) -> Result<std::convert::Infallible, ConnectionError> {
    let stream = timeout(CONNECT, connect(address, proof));
    let stream = stream.await.map_err(|_| ConnectionError::Late)??;
    state.heard.set(Some(Instant::now()));
    let (reader, writer) = tokio::io::split(stream);
    let waiting = Waiting::default();
    tokio::select! {
        ended = write(writer, queue, &waiting) => ended,
        ended = read(reader, &waiting, state) => ended,
    }
}

async fn connect(
    address: SocketAddr,
    proof: Option<Proof>,
) -> Result<Box<dyn Stream>, ConnectionError> {
    let stream = TcpStream::connect(address).await.map_err(ConnectionError::Connect)?;
    stream.set_nodelay(true).map_err(ConnectionError::Connect)?;
    match proof {
        None => Ok(Box::new(stream)),
        Some((tls, name)) => {
            let stream = tls.connect(name, stream).await.map_err(ConnectionError::Handshake)?;
            Ok(Box::new(stream))
        }
    }
}

async fn write(
    mut writer: WriteHalf<Box<dyn Stream>>,
    mut queue: mpsc::Receiver<Asked>,
    waiting: &Waiting,
) -> Result<std::convert::Infallible, ConnectionError> {
    let mut next: u16 = 0;
    loop {
        let Ok(Some(Asked { mut bytes, answer })) = timeout(IDLE, queue.recv()).await else {
            return Err(ConnectionError::Idle);
        };
        // Nobody on the way can guess at it, so it need not be random.
        next = next.wrapping_add(1);
        for (to, from) in bytes.iter_mut().zip(next.to_be_bytes()) {
            *to = from;
        }
        waiting.borrow_mut().insert(next, answer);
        let mut frame = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
        frame.append(&mut bytes);
        writer.write_all(&frame).await.map_err(ConnectionError::Broken)?;
        writer.flush().await.map_err(ConnectionError::Broken)?;
    }
}

async fn read(
    mut reader: ReadHalf<Box<dyn Stream>>,
    waiting: &Waiting,
    state: &State,
) -> Result<std::convert::Infallible, ConnectionError> {
    loop {
        let length = reader.read_u16().await.map_err(ConnectionError::Broken)?;
        let mut bytes = vec![0; length.into()];
        reader.read_exact(&mut bytes).await.map_err(ConnectionError::Broken)?;
        let answer = Message::from_vec(&bytes).map_err(ConnectionError::Nonsense)?;
        state.heard.set(Some(Instant::now()));
        state.has_served.set(true);
        let asked = waiting.borrow_mut().remove(&answer.metadata.id);
        if let Some(asked) = asked {
            // One who has lost patience does not hear it.
            let _heard = asked.send(answer);
        }
    }
}
