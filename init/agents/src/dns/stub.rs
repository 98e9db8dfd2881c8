// SPDX-License-Identifier: Apache-2.0
//! The stub: takes questions, by datagrams and over connections, and answers each of them.

use super::{
    cache::Cache,
    message::{self, Received, Request, Way},
    servers::Servers,
};
use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};

/// Questions that servers are asked at the same time; more fail at once.
const QUESTIONS: usize = 128;
/// Connections at the same time; more are closed at once.
const CONNECTIONS: usize = 32;
/// How long a connection waits for a question, and for its answer to be taken.
const IDLE: Duration = Duration::from_secs(10);
/// The longest question in a datagram.
const LONGEST: usize = 4096;
/// Before the next try, when nothing can be received.
const RETRY: Duration = Duration::from_millis(100);

/// What has come of the questions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// Answered from memory.
    pub(super) hits: u64,
    /// Asked of servers.
    pub(super) misses: u64,
    /// Answered by nobody.
    pub(super) failures: u64,
}

/// The stub.
#[derive(Debug)]
pub(super) struct Stub {
    servers: Servers,
    cache: RefCell<Cache>,
    places: Semaphore,
    figures: Cell<Figures>,
}

impl Stub {
    pub(super) fn new(servers: Servers) -> Stub {
        Stub {
            servers,
            cache: RefCell::default(),
            places: Semaphore::new(QUESTIONS),
            figures: Cell::default(),
        }
    }

    pub(super) fn servers(&self) -> &Servers {
        &self.servers
    }

    pub(super) fn figures(&self) -> Figures {
        self.figures.get()
    }

    fn count(&self, change: impl FnOnce(&mut Figures)) {
        let mut figures = self.figures.get();
        change(&mut figures);
        self.figures.set(figures);
    }

    /// The answer to what a program has sent, if it has one.
    async fn answer(&self, bytes: &[u8], way: Way) -> Option<Vec<u8>> {
        match message::read(bytes) {
            Received::Asked(request) => self.resolve(&request, way).await,
            Received::Refused(refusal) => Some(refusal),
            Received::Nothing => None,
        }
    }

    async fn resolve(&self, request: &Request, way: Way) -> Option<Vec<u8>> {
        let question = &request.question;
        let known = self.cache.borrow_mut().get(question, Instant::now());
        if let Some(answer) = known {
            self.count(|figures| figures.hits += 1);
            return request.response(&answer, way);
        }
        self.count(|figures| figures.misses += 1);
        let answer = match self.places.try_acquire() {
            Ok(_place) => self.servers.ask(question).await,
            Err(_all_taken) => None,
        };
        let response = answer.and_then(|answer| {
            self.cache.borrow_mut().keep(question.clone(), &answer, Instant::now());
            request.response(&answer, way)
        });
        if response.is_none() {
            self.count(|figures| figures.failures += 1);
            return request.failure();
        }
        response
    }
}

/// Answers datagrams, for ever.
pub(super) async fn datagrams(stub: Rc<Stub>, socket: UdpSocket) {
    let socket = Rc::new(socket);
    let mut buffer = [0; LONGEST];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            sleep(RETRY).await;
            continue;
        };
        let bytes = buffer.get(..length).unwrap_or_default().to_vec();
        let (stub, socket) = (Rc::clone(&stub), Rc::clone(&socket));
        tokio::task::spawn_local(async move {
            if let Some(answer) = stub.answer(&bytes, Way::Datagram).await {
                // One who has gone does not hear it.
                let _sent = socket.send_to(&answer, from).await;
            }
        });
    }
}

/// Answers over connections, for ever.
pub(super) async fn streams(stub: Rc<Stub>, listener: TcpListener) {
    let places = Rc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(RETRY).await;
            continue;
        };
        let (stub, places) = (Rc::clone(&stub), Rc::clone(&places));
        tokio::task::spawn_local(async move {
            let Ok(_place) = places.try_acquire() else { return };
            // However it ends, nobody is waiting for the reason.
            let _ended = converse(&stub, stream).await;
        });
    }
}

/// One question after the other (RFC 7766).
async fn converse(stub: &Stub, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let bytes = timeout(IDLE, receive(&mut stream)).await??;
        let Some(answer) = stub.answer(&bytes, Way::Stream).await else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let frame = [&length.to_be_bytes()[..], &answer].concat();
        timeout(IDLE, stream.write_all(&frame)).await??;
    }
}

async fn receive(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}
