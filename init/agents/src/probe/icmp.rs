// SPDX-License-Identifier: Apache-2.0
//! An echo request and its answer, by the kernel's sockets for them: icmp(7), net.ipv4.ping_group_range.
//!
//! Such a socket sends nothing but echo requests and receives nothing but the answers to them, and what routers say of them
//! as its error. So the agent needs no capability for it.

use super::{Seen, dns::Names, tcp::text};
use nix::sys::socket::{setsockopt, sockopt};
use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SocketFlags, SocketType, ipproto, recv, socket_with},
    rand::{GetRandomFlags, getrandom},
};
use serde::Deserialize;
use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket as Socket},
};
use stele_config::{Host, PingHost};
use tokio::{io::Interest, net::UdpSocket, task::JoinSet};

/// Bytes of the header: type, code, checksum, identifier, sequence number.
const HEADER: usize = 8;
/// Bytes that an answer brings back, by which it is known.
const TOKEN: usize = 16;

/// Addresses of one name that are tried: more than anyone gives a machine.
const MOST: usize = 16;

/// Who must answer.
#[derive(Debug, Deserialize)]
pub(super) struct Icmp {
    #[serde(deserialize_with = "text")]
    address: PingHost,
}

#[derive(Debug, thiserror::Error)]
enum EchoError {
    #[error("net.ipv4.ping_group_range lets this agent send no echo requests")]
    Forbidden,
    #[error("preparing an echo request")]
    Prepare(#[source] io::Error),
    #[error("{address}")]
    Send { address: IpAddr, source: io::Error },
}

impl Icmp {
    pub(super) fn what(&self) -> String {
        format!("an echo request to {}", self.address)
    }

    pub(super) async fn attempt(&self, names: &Names) -> Seen {
        let addresses = match self.address.host() {
            Host::Address(address) => vec![*address],
            Host::Name(name) => names.host(name.as_str()).await?,
        };
        // All at once: one that is silent must not take the time of the others.
        let mut echoes = JoinSet::new();
        for address in addresses.into_iter().take(MOST) {
            echoes.spawn(echo(address));
        }
        let mut failed = None;
        while let Some(ended) = echoes.join_next().await {
            match ended {
                Ok(Ok(address)) => return Ok(format!("{address} answers")),
                Ok(Err(error)) => failed = Some(error),
                // None of them is called off.
                Err(_panicked) => {}
            }
        }
        Err(failed.map_or_else(|| "the name has no address".into(), Into::into))
    }
}

/// Sends a request and waits for its answer, however long that takes.
async fn echo(address: IpAddr) -> Result<IpAddr, EchoError> {
    let mut token = [0; TOKEN];
    getrandom(&mut token[..], GetRandomFlags::empty())
        .map_err(|errno| EchoError::Prepare(errno.into()))?;
    let socket = open(address)?;
    let failed = |source| EchoError::Send { address, source };
    socket.connect(SocketAddr::new(address, 0)).await.map_err(failed)?;
    socket.send(&request(address, &token)).await.map_err(failed)?;
    let mut buffer = [0; 256];
    loop {
        // What routers say is no message, so a wait for messages alone would not end by it.
        let told = socket.async_io(Interest::READABLE | Interest::ERROR, || {
            let (length, _) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
            Ok(length)
        });
        let length = match told.await {
            Ok(length) => length,
            Err(error) if is_redirect(&error) => continue,
            Err(error) => return Err(failed(error)),
        };
        if is_answer(address, buffer.get(..length).unwrap_or_default(), &token) {
            return Ok(address);
        }
    }
}

fn open(address: IpAddr) -> Result<UdpSocket, EchoError> {
    let (family, protocol) = match address {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = match socket_with(family, SocketType::DGRAM, flags, Some(protocol)) {
        Ok(socket) => socket,
        Err(Errno::ACCESS) => return Err(EchoError::Forbidden),
        Err(errno) => return Err(EchoError::Prepare(errno.into())),
    };
    // Otherwise the kernel keeps to itself what may pass, such as a host that a router does not reach.
    let told = match address {
        IpAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true),
        IpAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true),
    };
    told.map_err(|errno| EchoError::Prepare(errno.into()))?;
    UdpSocket::from_std(Socket::from(socket)).map_err(EchoError::Prepare)
}

/// A router that knows a shorter way says so, and passes the request on all the same.
fn is_redirect(error: &io::Error) -> bool {
    // Of IPv4 and of IPv6.
    matches!(Errno::from_io_error(error), Some(Errno::REMOTEIO | Errno::PROTO))
}

/// The kernel fills in the checksum and the identifier, which is the socket's own.
fn request(address: IpAddr, token: &[u8; TOKEN]) -> Vec<u8> {
    let kind = if address.is_ipv4() { 8 } else { 128 };
    let header: [u8; HEADER] = [kind, 0, 0, 0, 0, 0, 0, 1];
    [header.as_slice(), token].concat()
}

fn is_answer(address: IpAddr, message: &[u8], token: &[u8; TOKEN]) -> bool {
    let kind = if address.is_ipv4() { 0 } else { 129 };
    message.first() == Some(&kind) && message.get(HEADER..) == Some(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn an_answer_brings_back_what_was_sent() {
        for (address, kind) in
            [(IpAddr::V4(Ipv4Addr::LOCALHOST), 0), (IpAddr::V6(Ipv6Addr::LOCALHOST), 129)]
        {
            let mut message = request(address, &[7; TOKEN]);
            assert!(!is_answer(address, &message, &[7; TOKEN]), "it is the request");
            message[0] = kind;
            assert!(is_answer(address, &message, &[7; TOKEN]));
            assert!(!is_answer(address, &message, &[8; TOKEN]), "of another one");
            assert!(!is_answer(address, &message[..HEADER], &[7; TOKEN]));
            assert!(!is_answer(address, &[], &[7; TOKEN]));
        }
    }
}
