// SPDX-License-Identifier: Apache-2.0
//! The servers: whom to ask first, how long to wait, and how each of them stands.

use super::{
    connection::{Connection, Proof},
    message::Question,
};
use crate::probe::explain;
use hickory_proto::{
    ProtoError,
    op::{Message, ResponseCode},
    serialize::binary::DecodeError,
};
use rustix::rand::{GetRandomFlags, getrandom};
use std::{
    cell::{Cell, RefCell},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    rc::Rc,
    slice,
    time::Duration,
};
use tokio::{
    net::UdpSocket,
    time::{Instant, timeout, timeout_at},
};

/// For how long all servers together may be asked: the resolvers of C libraries wait for five seconds.
const WHOLE: Duration = Duration::from_millis(4500);
/// What of that is left over, so that the last server's silence is noticed as well.
const SPARE: Duration = Duration::from_millis(500);
/// How long a datagram is waited for before it is taken for lost.
const LOST: Duration = Duration::from_millis(1500);
/// For how long a server that has failed is asked after the others.
const SHUNNED: Duration = Duration::from_secs(30);
/// So many questions in a row a server may leave unanswered: some names have no one to answer for them.
const SILENCES: u32 = 3;
/// The longest answer in a datagram.
const LONGEST: usize = 4096;

/// Why a server has no answer.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("asking it")]
    Ask(#[source] io::Error),
    #[error("getting random numbers")]
    Random(#[source] io::Error),
    #[error("writing the question")]
    Encode(#[source] ProtoError),
    #[error("it does not answer")]
    Silent,
    #[error("it answers with nonsense")]
    Nonsense(#[source] DecodeError),
    #[error("its answer is one to another question")]
    Elsewhere,
    #[error("it answers {0}")]
    Refused(ResponseCode),
    #[error("{0}")]
    Connection(String),
}

/// All servers, in the order in which they are asked.
#[derive(Debug)]
pub(super) struct Servers(Vec<Server>);

/// A server.
pub(super) struct Server {
    address: SocketAddr,
    /// Who it must be, where it is asked over TLS.
    proof: Option<Proof>,
    connection: RefCell<Option<Rc<Connection>>>,
    answers: Cell<u64>,
    silences: Cell<u32>,
    /// Since when it has not answered, and why.
    failed: RefCell<Option<(Instant, String)>>,
}

impl Servers {
    pub(super) fn new(servers: Vec<Server>) -> Servers {
        Servers(servers)
    }

    pub(super) fn iter(&self) -> slice::Iter<'_, Server> {
        self.0.iter()
    }

    /// The answer of the first server that has one.
    pub(super) async fn ask(&self, question: &Question) -> Option<Message> {
        timeout(WHOLE, self.ask_all(question)).await.ok().flatten()
    }

    async fn ask_all(&self, question: &Question) -> Option<Message> {
        let patience = patience(self.0.len());
        loop {
            let mut silent = false;
            let mut order: Vec<&Server> = self.iter().collect();
            order.sort_by_key(|server| server.is_shunned());
            for server in order {
                match server.ask(question, patience).await {
                    // It says so of this name; another may know more.
                    Ok(answer) if answer.metadata.response_code == ResponseCode::ServFail => {
                        server.has_answered();
                    }
                    Ok(answer) => {
                        server.has_answered();
                        return Some(answer);
                    }
                    Err(error) => {
                        silent |= matches!(error, AskError::Silent);
                        server.has_failed(&error);
                    }
                }
            }
            // Only what may have been lost is worth to be sent again.
            if !silent {
                return None;
            }
        }
    }
}

impl Server {
    pub(super) fn new(address: SocketAddr, proof: Option<Proof>) -> Server {
        Server {
            address,
            proof,
            connection: RefCell::default(),
            answers: Cell::default(),
            silences: Cell::default(),
            failed: RefCell::default(),
        }
    }

    /// How often it has answered, and why it does not any more.
    pub(super) fn standing(&self) -> (u64, String) {
        let failed = self.failed.borrow();
        (self.answers.get(), failed.as_ref().map(|(_, reason)| reason.clone()).unwrap_or_default())
    }

    fn is_shunned(&self) -> bool {
        self.failed.borrow().as_ref().is_some_and(|(since, _)| since.elapsed() < SHUNNED)
    }

    fn has_answered(&self) {
        self.answers.set(self.answers.get().saturating_add(1));
        self.silences.set(0);
        self.failed.take();
    }

    fn has_failed(&self, error: &AskError) {
        if matches!(error, AskError::Silent) {
            self.silences.set(self.silences.get().saturating_add(1));
            if self.silences.get() < SILENCES {
                return;
            }
        }
        self.failed.replace(Some((Instant::now(), explain(error))));
    }

    async fn ask(&self, question: &Question, patience: Duration) -> Result<Message, AskError> {
        if self.proof.is_some() {
            return judge(self.by_connection(question, patience).await?);
        }
        let mut answer = self.by_datagram(question, true).await?;
        if answer.metadata.response_code == ResponseCode::FormErr {
            // It may be older than EDNS (RFC 6891, section 6.2.2).
            answer = self.by_datagram(question, false).await?;
        }
        if answer.metadata.truncation {
            answer = self.by_connection(question, patience).await?;
        }
        judge(answer)
    }

    async fn by_datagram(&self, question: &Question, with_edns: bool) -> Result<Message, AskError> {
        let nonsense = Cell::new(None);
        match timeout(LOST, self.exchange(question, with_edns, &nonsense)).await {
            Ok(answer) => answer,
            Err(_late) => Err(nonsense.take().map_or(AskError::Silent, AskError::Nonsense)),
        }
    }

    async fn exchange(
        &self,
        question: &Question,
        with_edns: bool,
        nonsense: &Cell<Option<DecodeError>>,
    ) -> Result<Message, AskError> {
        let mut id = [0; 2];
        getrandom(&mut id[..], GetRandomFlags::empty())
            .map_err(|errno| AskError::Random(errno.into()))?;
        let id = u16::from_ne_bytes(id);
        let bytes = question.encode(id, with_edns).map_err(AskError::Encode)?;
        let any = match self.address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        // A port of its own for each question is as hard to guess as its number (RFC 5452).
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await.map_err(AskError::Ask)?;
        socket.connect(self.address).await.map_err(AskError::Ask)?;
        socket.send(&bytes).await.map_err(AskError::Ask)?;
        let mut buffer = [0; LONGEST];
        loop {
            let length = socket.recv(&mut buffer).await.map_err(AskError::Ask)?;
            match Message::from_vec(buffer.get(..length).unwrap_or_default()) {
                Ok(answer) if answer.metadata.id == id && question.is_answered_by(&answer) => {
                    return Ok(answer);
                }
                // Anyone can send something in the server's name: its own answer may still come.
                Ok(_) => {}
                Err(error) => nonsense.set(Some(error)),
            }
        }
    }

    async fn by_connection(
        &self,
        question: &Question,
        patience: Duration,
    ) -> Result<Message, AskError> {
        let bytes = question.encode(0, true).map_err(AskError::Encode)?;
        let end = Instant::now() + patience;
        let mut first = true;
        loop {
            let connection = self.connection();
            let begun = Instant::now();
            match timeout_at(end, connection.ask(bytes.clone())).await {
                Ok(Ok(answer)) if question.is_answered_by(&answer) => return Ok(answer),
                Ok(Ok(_)) => {
                    self.drop_connection(&connection);
                    return Err(AskError::Elsewhere);
                }
                // A server may end at any time what has served for a while.
                Ok(Err(_)) if first && connection.has_served() => {
                    self.drop_connection(&connection);
                    first = false;
                }
                Ok(Err(reason)) => {
                    self.drop_connection(&connection);
                    return Err(AskError::Connection(reason));
                }
                Err(_late) => {
                    // Nothing came for others either.
                    if connection.is_silent_since(begun) {
                        self.drop_connection(&connection);
                    }
                    return Err(AskError::Silent);
                }
            }
        }
    }

    /// The connection to it; a new one if there is none.
    fn connection(&self) -> Rc<Connection> {
        let mut kept = self.connection.borrow_mut();
        match kept.as_ref().filter(|kept| !kept.has_ended()) {
            Some(connection) => Rc::clone(connection),
            None => {
                let connection = Rc::new(Connection::open(self.address, self.proof.clone()));
                *kept = Some(Rc::clone(&connection));
                connection
            }
        }
    }

    /// Asks nobody over this one any more.
    fn drop_connection(&self, connection: &Rc<Connection>) {
        let mut kept = self.connection.borrow_mut();
        if kept.as_ref().is_some_and(|kept| Rc::ptr_eq(kept, connection)) {
            *kept = None;
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.address)
    }
}

/// How long each of so many servers may take.
fn patience(servers: usize) -> Duration {
    WHOLE.saturating_sub(SPARE) / u32::try_from(servers).unwrap_or(u32::MAX).max(1)
}

/// What a server says of itself is no answer.
fn judge(answer: Message) -> Result<Message, AskError> {
    match answer.metadata.response_code {
        code @ (ResponseCode::Refused | ResponseCode::FormErr | ResponseCode::NotImp) => {
            Err(AskError::Refused(code))
        }
        _ => Ok(answer),
    }
}
