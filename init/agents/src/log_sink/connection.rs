// SPDX-License-Identifier: Apache-2.0
//! The way to a sink.

use crate::{fetch, probe::Names};
use rustix::net::sockopt;
use rustls::pki_types::ServerName;
use std::{error::Error, io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// How long connecting may take, all in all, and how long a sink may take nothing.
const PATIENCE: Duration = Duration::from_secs(10);
const STUCK: Duration = Duration::from_secs(30);
/// How long a silent peer goes unasked, how often it is asked again, and how long it may be silent in all.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));
const SILENT_MS: u32 = 20_000;

/// Where a sink is, and how it is reached.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) protocol: Protocol,
    /// Whom it may be trusted by, in PEM.
    pub(super) roots: Vec<u8>,
}

/// How a sink is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Udp,
    Tls,
}

/// How messages are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// A length before each (RFC 6587, section 3.4.1).
    Counted,
    /// A line each.
    Lines,
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection.
pub(super) enum Connection {
    Stream(Box<dyn Stream>, Framing),
    Datagrams(UdpSocket),
}

/// Why there is no connection, or none any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error("looking up {host}")]
    Name { host: String, source: Box<dyn Error + Send + Sync> },
    #[error("connecting to {address}")]
    Connect { address: SocketAddr, source: io::Error },
    #[error("connecting to {host}: not done within {PATIENCE:?}")]
    Slow { host: String },
    #[error("{host} is no name that a certificate could have")]
    ServerName { host: String },
    #[error("setting up TLS")]
    Tls(#[source] rustls::Error),
    #[error("the TLS handshake with {address}")]
    Handshake { address: SocketAddr, source: io::Error },
    #[error("sending to the sink")]
    Send(#[source] io::Error),
    #[error("the sink has taken nothing for {STUCK:?}")]
    Stuck,
    #[error("the sink has closed the connection")]
    Closed,
    #[error("the connection to the sink broke")]
    Broken(#[source] io::Error),
}

impl Place {
    /// Connects.
    pub(super) async fn connect(
        &self,
        names: &Names,
        framing: Framing,
    ) -> Result<Connection, ConnectionError> {
        let slow = || ConnectionError::Slow { host: self.host.clone() };
        timeout(PATIENCE, self.try_connect(names, framing)).await.map_err(|_| slow())?
    }

    async fn try_connect(
        &self,
        names: &Names,
        framing: Framing,
    ) -> Result<Connection, ConnectionError> {
        let addresses = match self.host.parse() {
            Ok(address) => vec![address],
            Err(_) => names
                .host(&self.host)
                .await
                .map_err(|source| ConnectionError::Name { host: self.host.clone(), source })?,
        };
        let mut failed = ConnectionError::Closed;
        for address in addresses {
            match self.reach(SocketAddr::new(address, self.port), framing).await {
                Ok(connection) => return Ok(connection),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    async fn reach(
        &self,
        address: SocketAddr,
        framing: Framing,
    ) -> Result<Connection, ConnectionError> {
        let connect = |source| ConnectionError::Connect { address, source };
        if self.protocol == Protocol::Udp {
            let any: SocketAddr =
                if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
            let socket = UdpSocket::bind(any).await.map_err(connect)?;
            socket.connect(address).await.map_err(connect)?;
            return Ok(Connection::Datagrams(socket));
        }
        let stream = TcpStream::connect(address).await.map_err(connect)?;
        watch(&stream).map_err(connect)?;
        if self.protocol == Protocol::Tcp {
            return Ok(Connection::Stream(Box::new(stream), framing));
        }
        let name = ServerName::try_from(self.host.clone())
            .map_err(|_| ConnectionError::ServerName { host: self.host.clone() })?;
        let tls = fetch::tls(&self.roots).map_err(ConnectionError::Tls)?;
        let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await;
        let stream = stream.map_err(|source| ConnectionError::Handshake { address, source })?;
        Ok(Connection::Stream(Box::new(stream), framing))
    }
}

/// Has the kernel notice a peer that has gone without a word.
fn watch(stream: &TcpStream) -> io::Result<()> {
    let (idle, interval) = KEEPALIVE;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, idle)?;
    sockopt::set_tcp_keepintvl(stream, interval)?;
    sockopt::set_tcp_user_timeout(stream, SILENT_MS)?;
    Ok(())
}

impl Connection {
    /// Sends messages.
    pub(super) async fn send(&mut self, messages: &[Vec<u8>]) -> Result<(), ConnectionError> {
        timeout(STUCK, self.try_send(messages)).await.map_err(|_| ConnectionError::Stuck)?
    }

    async fn try_send(&mut self, messages: &[Vec<u8>]) -> Result<(), ConnectionError> {
        match self {
            Connection::Stream(stream, framing) => {
                let mut bytes = Vec::new();
                for message in messages {
                    match framing {
                        Framing::Counted => {
                            bytes.extend(format!("{} ", message.len()).into_bytes());
                            bytes.extend_from_slice(message);
                        }
                        Framing::Lines => {
                            bytes.extend_from_slice(message);
                            bytes.push(b'\n');
                        }
                    }
                }
                stream.write_all(&bytes).await.map_err(ConnectionError::Send)?;
                stream.flush().await.map_err(ConnectionError::Send)
            }
            Connection::Datagrams(socket) => {
                for message in messages {
                    socket.send(message).await.map_err(ConnectionError::Send)?;
                }
                Ok(())
            }
        }
    }

    /// Waits until the sink ends the connection. What it says is not listened to.
    pub(super) async fn ended(&mut self) -> ConnectionError {
        let Connection::Stream(stream, _) = self else { return std::future::pending().await };
        let mut buffer = [0; 512];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) => return ConnectionError::Closed,
                Ok(_) => {}
                Err(error) => return ConnectionError::Broken(error),
            }
        }
    }
}
