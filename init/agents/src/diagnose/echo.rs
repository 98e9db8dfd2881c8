// SPDX-License-Identifier: Apache-2.0
//! ICMP's echo, and what comes in place of it: RFC 792 and RFC 4443.

use super::readiness::watch;
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, recvfrom, sendto,
        socket_with, sockopt,
    },
    rand::{GetRandomFlags, getrandom},
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
};
use tokio::{io::unix::AsyncFd, time::Instant};

/// Bytes of the header: type, code, checksum, identifier, sequence number.
const HEADER: usize = 8;
/// The longest packet that is looked at: what was sent, and headers around it.
const LONGEST: usize = 16 * 1024;

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The echo.
    Echo,
    /// The request went as far as it was allowed to.
    TooFar,
    /// It can't get there: why.
    Unreachable(&'static str),
}

/// An answer to one of our requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) sequence: u16,
    pub(super) kind: Kind,
    /// As the answer came; 0 when that is not known.
    pub(super) ttl: u8,
}

/// An answer that was received.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    pub(super) answer: Answer,
    pub(super) from: IpAddr,
    pub(super) at: Instant,
}

/// A socket for echo requests to one host.
#[derive(Debug)]
pub(super) struct Echo {
    socket: AsyncFd<OwnedFd>,
    host: IpAddr,
    identifier: u16,
}

impl Echo {
    /// Opens it, which needs CAP_NET_RAW and a runtime.
    pub(super) fn open(host: IpAddr) -> io::Result<Echo> {
        let (family, protocol) = match host {
            IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
            IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, SocketType::RAW, flags, Some(protocol))?;
        let mut identifier = [0; 2];
        getrandom(&mut identifier[..], GetRandomFlags::empty())?;
        let identifier = u16::from_ne_bytes(identifier);
        Ok(Echo { socket: watch(socket)?, host, identifier })
    }

    /// How many hops the next requests may go.
    pub(super) fn go(&self, hops: u8) -> io::Result<()> {
        Ok(match self.host {
            IpAddr::V4(_) => sockopt::set_ip_ttl(&self.socket, hops.into()),
            IpAddr::V6(_) => sockopt::set_ipv6_unicast_hops(&self.socket, Some(hops)),
        }?)
    }

    /// Sends a request with that many bytes after its header.
    pub(super) fn send(&self, sequence: u16, size: usize) -> io::Result<()> {
        let request = request(self.host, self.identifier, sequence, size);
        let to = SocketAddr::new(self.host, 0);
        sendto(&self.socket, &request, SendFlags::empty(), &to)?;
        Ok(())
    }

    /// The next answer to any of the requests.
    pub(super) async fn next(&self) -> io::Result<Received> {
        let mut buffer = vec![0; LONGEST];
        loop {
            let mut ready = self.socket.readable().await?;
            match recvfrom(&self.socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((length, _, from)) => {
                    let at = Instant::now();
                    let bytes = buffer.get(..length).unwrap_or_default();
                    let from = from.and_then(|from| SocketAddr::try_from(from).ok());
                    let answer = parse(self.host, self.identifier, bytes);
                    if let (Some(answer), Some(from)) = (answer, from) {
                        let same = answer.kind != Kind::Echo || from.ip() == self.host;
                        if same {
                            return Ok(Received { answer, from: from.ip(), at });
                        }
                    }
                }
                Err(Errno::AGAIN | Errno::INTR) => ready.clear_ready(),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

fn request(host: IpAddr, identifier: u16, sequence: u16, size: usize) -> Vec<u8> {
    let kind = if host.is_ipv4() { 8 } else { 128 };
    let mut bytes = vec![kind, 0, 0, 0];
    bytes.extend(identifier.to_be_bytes());
    bytes.extend(sequence.to_be_bytes());
    // What it carries is never looked at.
    bytes.extend((0..=u8::MAX).cycle().take(size));
    if host.is_ipv4() {
        // The kernel sums up only ICMPv6, of which the addresses are a part.
        let sum = checksum(&bytes).to_be_bytes();
        if let Some(place) = bytes.get_mut(2..4) {
            place.copy_from_slice(&sum);
        }
    }
    bytes
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        let high = pair.first().copied().unwrap_or(0);
        let low = pair.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([high, low]))
    });
    let mut sum: u32 = words.fold(0, u32::wrapping_add);
    while sum > 0xffff {
        sum = (sum & 0xffff).wrapping_add(sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

/// Understands what a raw socket received: for IPv4 a packet, for IPv6 what is in one.
fn parse(host: IpAddr, identifier: u16, bytes: &[u8]) -> Option<Answer> {
    let (ttl, message) = match host {
        IpAddr::V4(_) => (*bytes.get(8)?, behind_ipv4(bytes)?),
        IpAddr::V6(_) => (0, bytes),
    };
    let kind = |about: &[u8]| match (host, *about.first()?, *about.get(1)?) {
        (IpAddr::V4(_), 0, _) | (IpAddr::V6(_), 129, _) => Some(Kind::Echo),
        (IpAddr::V4(_), 11, 0) | (IpAddr::V6(_), 3, 0) => Some(Kind::TooFar),
        (IpAddr::V4(_), 3, code) => Some(Kind::Unreachable(reason(code))),
        (IpAddr::V6(_), 1, code) => Some(Kind::Unreachable(reason_of_ipv6(code))),
        _ => None,
    };
    let kind = kind(message)?;
    let echo = match kind {
        Kind::Echo => message,
        // Behind the header is the request, as far as it was sent back.
        Kind::TooFar | Kind::Unreachable(_) => ours(host, message.get(HEADER..)?)?,
    };
    let word = |at: usize| Some(u16::from_be_bytes([*echo.get(at)?, *echo.get(at + 1)?]));
    (word(4)? == identifier).then_some(Answer { sequence: word(6)?, kind, ttl })
}

fn behind_ipv4(packet: &[u8]) -> Option<&[u8]> {
    let header = usize::from(packet.first()? & 0xf) * 4;
    packet.get(header..)
}

/// The echo request in a packet to the host.
fn ours(host: IpAddr, packet: &[u8]) -> Option<&[u8]> {
    let (to, protocol, request, kind) = match host {
        IpAddr::V4(_) => {
            let to: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            (IpAddr::V4(Ipv4Addr::from(to)), *packet.get(9)?, behind_ipv4(packet)?, (1, 8))
        }
        IpAddr::V6(_) => {
            let to: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            (IpAddr::V6(Ipv6Addr::from(to)), *packet.get(6)?, packet.get(40..)?, (58, 128))
        }
    };
    ((protocol, *request.first()?) == kind && to == host).then_some(request)
}

fn reason(code: u8) -> &'static str {
    match code {
        0 => "no route to the network",
        1 => "the host is unreachable",
        2 => "the host does not know the protocol",
        4 => "the packet is too large, and may not be divided",
        9 | 10 | 13 => "a filter forbids it",
        _ => "unreachable",
    }
}

fn reason_of_ipv6(code: u8) -> &'static str {
    match code {
        0 => "no route to the host",
        1 | 5 => "a filter forbids it",
        3 => "the host is unreachable",
        6 => "the route is rejected",
        _ => "unreachable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9));

    /// A packet of IPv4 around a message.
    fn packet(to: [u8; 4], message: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 57, 1, 0, 0, 10, 0, 0, 1];
        packet.extend(to);
        packet.extend(message);
        packet
    }

    #[test]
    fn a_request_sums_up_to_nothing() {
        for size in [16, 17, 8192] {
            let request = request(HOST, 0x1234, 7, size);
            assert_eq!((request.len(), checksum(&request)), (HEADER + size, 0));
        }
    }

    #[test]
    fn an_echo() {
        let mut message = request(HOST, 5, 3, 16);
        message[0] = 0;
        let answer = |identifier| parse(HOST, identifier, &packet([10, 0, 0, 1], &message));
        assert_eq!(answer(5), Some(Answer { sequence: 3, kind: Kind::Echo, ttl: 57 }));
        assert_eq!(answer(6), None);
    }

    #[test]
    fn what_routers_say() {
        let sent = request(HOST, 5, 3, 16);
        let about = |kind, code, to| {
            let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
            message.extend(&packet(to, &sent)[..28]);
            parse(HOST, 5, &packet([10, 0, 0, 1], &message)).map(|answer| answer.kind)
        };
        assert_eq!(about(11, 0, [10, 0, 0, 9]), Some(Kind::TooFar));
        assert_eq!(about(3, 1, [10, 0, 0, 9]), Some(Kind::Unreachable("the host is unreachable")));
        // About a request of another one, to another host.
        assert_eq!(about(11, 0, [10, 0, 0, 8]), None);
        assert_eq!(about(5, 0, [10, 0, 0, 9]), None);
    }

    #[test]
    fn ipv6() {
        let host: IpAddr = "fd00::9".parse().unwrap();
        let sent = request(host, 5, 3, 16);
        let mut message = vec![3, 0, 0, 0, 0, 0, 0, 0, 0x60, 0, 0, 0, 0, 24, 58, 1];
        message.extend([0; 16]);
        message.extend("fd00::9".parse::<Ipv6Addr>().unwrap().octets());
        message.extend(&sent);
        let answer = Answer { sequence: 3, kind: Kind::TooFar, ttl: 0 };
        assert_eq!(parse(host, 5, &message), Some(answer));
        let mut echo = sent;
        echo[0] = 129;
        assert_eq!(parse(host, 5, &echo).map(|answer| answer.kind), Some(Kind::Echo));
    }

    proptest! {
        #[test]
        fn nonsense_is_no_answer_and_no_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(HOST, 5, &bytes);
            let _ = parse("fd00::9".parse().unwrap(), 5, &bytes);
        }
    }
}
