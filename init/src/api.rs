// SPDX-License-Identifier: Apache-2.0
//! PID 1's side of the sockets that apid and agents call over: frames in, frames out, one call at a time on a connection.
//!
//! Who may call a method was decided by apid; here only apid may connect (by the kernel's word for the peer's user id),
//! and only the methods of the closed set exist. An agent that asks something of PID 1 has a socket of its own, which opens
//! what it needs and nothing else.

use crate::{handlers, node::Node};
use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message;
use std::{
    fs, io, net::IpAddr, os::unix::fs::PermissionsExt as _, path::Path, rc::Rc, time::Duration,
};
use stele_proto::{
    internal::{Close, Frame, HalfClose, Open, frame},
    method::{self, Method, Role},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// apid's user id.
pub(crate) const APID: u32 = 201;

/// A socket, and who may use it for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Door {
    path: &'static str,
    uid: u32,
    /// The methods that it opens; without, all of them.
    methods: Option<&'static [&'static str]>,
}

/// Where apid finds PID 1.
pub(crate) const GATE: Door = Door { path: "/run/stele/init.sock", uid: APID, methods: None };
/// Where the metrics agent does.
pub(crate) const METRICS: Door =
    Door { path: "/run/stele/metrics.sock", uid: 207, methods: Some(&[method::FIGURES]) };

/// Where the log-sink agents do.
pub(crate) const LOG_SINK: Door = Door {
    path: "/run/stele/log-sink.sock",
    uid: 208,
    methods: Some(&[method::SINK, Method::LogListLogs.path(), Method::LogStream.path()]),
};

impl Door {
    fn opens(self, method: &str) -> bool {
        self.methods.is_none_or(|methods| methods.contains(&method))
    }
}

/// The longest frame.
const LONGEST_FRAME: usize = 2 * 1024 * 1024;
/// Connections at once; apid opens one for each call under way and keeps a few idle.
const CONNECTIONS: usize = 512;

/// gRPC status codes, as in the gRPC specification's statuscodes.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Ok = 0,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
}

/// Why a call failed: a code for machines, a sentence for people, and details for those who know them.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) details: Vec<prost_types::Any>,
}

impl Refusal {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into(), details: Vec::new() }
    }

    /// A failure inside PID 1, with its causes.
    pub(crate) fn internal(error: &dyn std::error::Error) -> Refusal {
        Refusal::new(Code::Internal, crate::report::chain(error))
    }
}

/// The caller went away, or broke the protocol: the call is over and nobody waits for its answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Gone {
    #[error("the connection to apid broke")]
    Broken(#[from] io::Error),
    #[error("a frame of {0} bytes is longer than allowed")]
    TooLong(usize),
    #[error("a frame could not be understood")]
    Garbled(#[from] prost::DecodeError),
    #[error("a frame came that does not belong here")]
    OutOfPlace,
}

/// Who calls, and what.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) subject: String,
    pub(crate) role: Option<Role>,
    /// The serial number of the certificate; empty without one.
    pub(crate) serial: String,
    /// The request's name in the audit log.
    pub(crate) request: String,
    /// For how long the caller had been connected when the call came.
    pub(crate) connected: Duration,
    /// Its roles of the kind ClientAccess, if it is one of them that opens the method.
    pub(crate) own_roles: Vec<String>,
    /// Where it connects from, where that is known.
    pub(crate) source: Option<IpAddr>,
    /// The address of the machine that it has connected to, where that is known.
    pub(crate) reached: Option<IpAddr>,
}

/// The messages of a call as they come in.
#[derive(Debug)]
pub(crate) struct Requests {
    reader: BufReader<OwnedReadHalf>,
    closed: bool,
}

impl Requests {
    /// The next message; `None` when the caller sends no more.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Gone> {
        if self.closed {
            return Ok(None);
        }
        match self.frame().await? {
            Some(frame::Frame::Message(message)) => Ok(Some(message)),
            Some(frame::Frame::HalfClose(HalfClose {})) => {
                self.closed = true;
                Ok(None)
            }
            Some(frame::Frame::Open(_) | frame::Frame::Close(_)) | None => Err(Gone::OutOfPlace),
        }
    }

    /// The one message of a call that has just one.
    pub(crate) async fn only<M: Message + Default>(&mut self) -> Result<Result<M, Refusal>, Gone> {
        let message = self.next().await?.unwrap_or_default();
        while self.next().await?.is_some() {}
        Ok(M::decode(message).map_err(|error| {
            Refusal::new(
                Code::InvalidArgument,
                format!("the request could not be understood: {error}"),
            )
        }))
    }

    /// Waits until the caller goes away; only after its last message.
    async fn gone(&mut self) -> Gone {
        let mut byte = [0];
        match self.reader.read(&mut byte).await {
            Ok(0) => Gone::Broken(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Gone::OutOfPlace,
            Err(error) => Gone::Broken(error),
        }
    }

    async fn frame(&mut self) -> Result<Option<frame::Frame>, Gone> {
        let length = usize::try_from(self.reader.read_u32().await?).unwrap_or(usize::MAX);
        if length > LONGEST_FRAME {
            return Err(Gone::TooLong(length));
        }
        let mut bytes = BytesMut::zeroed(length);
        self.reader.read_exact(&mut bytes).await?;
        Ok(Frame::decode(bytes.freeze())?.frame)
    }
}

/// The messages of a call as they go out.
#[derive(Debug)]
pub(crate) struct Responses {
    writer: OwnedWriteHalf,
    /// Frames that wait for [`Responses::flush`] or the end of the call.
    pending: BytesMut,
}

impl Responses {
    /// Sends a message with the next flush.
    pub(crate) fn add(&mut self, message: &impl Message) {
        self.add_encoded(&message.encode_to_vec());
    }

    /// Sends a message that is encoded already with the next flush.
    pub(crate) fn add_encoded(&mut self, message: &[u8]) {
        // Frame.message is field 2, length-delimited.
        let length = prost::length_delimiter_len(message.len())
            .saturating_add(1)
            .saturating_add(message.len());
        self.pending.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        self.pending.put_u8(0x12);
        let _has_room = prost::encode_length_delimiter(message.len(), &mut self.pending);
        self.pending.put_slice(message);
    }

    /// Sends what waits; waits itself while the caller does not read.
    pub(crate) async fn flush(&mut self) -> Result<(), Gone> {
        self.writer.write_all(&self.pending).await?;
        self.pending.clear();
        Ok(())
    }

    /// Sends a message at once.
    pub(crate) async fn send(&mut self, message: &impl Message) -> Result<(), Gone> {
        self.add(message);
        self.flush().await
    }

    async fn close(&mut self, result: Result<(), Refusal>) -> Result<(), Gone> {
        let close = match result {
            Ok(()) => Close { code: Code::Ok as i32, message: String::new(), details: Vec::new() },
            Err(refusal) => Close {
                code: refusal.code as i32,
                message: refusal.message,
                details: refusal.details,
            },
        };
        let frame = Frame { frame: Some(frame::Frame::Close(close)) };
        self.pending.put_u32(u32::try_from(frame.encoded_len()).unwrap_or(u32::MAX));
        self.pending.extend_from_slice(&frame.encode_to_vec());
        self.flush().await
    }
}

/// Opens a socket; who has it may connect from then on.
pub(crate) fn listen(door: Door) -> io::Result<UnixListener> {
    let Door { path, uid, .. } = door;
    fs::create_dir_all(Path::new(path).parent().unwrap_or(Path::new("/")))?;
    let listener = UnixListener::bind(path)?;
    std::os::unix::fs::chown(path, Some(uid), Some(uid))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Takes connections for as long as the machine runs.
pub(crate) async fn serve(node: Rc<Node>, door: Door, listener: UnixListener) {
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(CONNECTIONS));
    loop {
        // Closed never; the semaphore lives as long as this loop.
        let Ok(place) = std::sync::Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) if allowed(&stream, door) => {
                let node = Rc::clone(&node);
                tokio::task::spawn_local(async move {
                    if let Err(gone) = converse(&node, door, stream).await {
                        tracing::debug!(error = %gone, "a call ended early");
                    }
                    drop(place);
                });
            }
            Ok(_) => tracing::warn!(
                socket.path = door.path,
                "a process tried to use a socket of PID 1 that is not its own"
            ),
            Err(error) => {
                tracing::error!(error = %error, "accepting a connection to PID 1 failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn allowed(stream: &UnixStream, door: Door) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == door.uid)
}

/// One connection: one call after the other.
pub(crate) async fn converse(node: &Rc<Node>, door: Door, stream: UnixStream) -> Result<(), Gone> {
    let (reader, writer) = stream.into_split();
    let mut requests =
        Requests { reader: BufReader::with_capacity(16 * 1024, reader), closed: false };
    let mut responses = Responses { writer, pending: BytesMut::new() };
    loop {
        requests.closed = false;
        let open = match requests.frame().await {
            Ok(Some(frame::Frame::Open(open))) => open,
            Ok(_) => return Err(Gone::OutOfPlace),
            // Between calls is where connections end.
            Err(Gone::Broken(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(());
            }
            Err(gone) => return Err(gone),
        };
        let Open {
            method,
            subject,
            role,
            serial,
            request,
            connection_age_us,
            own_roles,
            source,
            reached,
        } = open;
        let connected = Duration::from_micros(connection_age_us);
        let role = Role::parse(&role);
        let (source, reached) = (source.parse().ok(), reached.parse().ok());
        let caller =
            Caller { subject, role, serial, request, connected, own_roles, source, reached };
        let result = if door.opens(&method) {
            handlers::call(node, &method, &caller, &mut requests, &mut responses).await?
        } else {
            Err(Refusal::new(Code::Unimplemented, format!("{} does not open {method}", door.path)))
        };
        let finished = requests.closed;
        responses.close(result).await?;
        if !finished {
            // What the caller still sends belongs to no call: the connection ends with this one.
            return Ok(());
        }
    }
}

/// Runs a handler that answers for as long as the caller listens; ends when the caller goes away.
pub(crate) async fn while_connected<T>(
    requests: &mut Requests,
    handler: impl Future<Output = Result<T, Gone>>,
) -> Result<T, Gone> {
    tokio::select! {
        result = handler => result,
        gone = requests.gone() => Err(gone),
    }
}
