// SPDX-License-Identifier: Apache-2.0
//! Socket, clock and descriptor 3 around the client. One thread, which waits in one place.
//!
//! The socket is bound to the link's own address, and with it to the link. It is there while that address is.

use super::{
    Duid,
    addresses::{self, FILE},
    client::Client,
    event::{Effect, Event, Lease, Report},
    message::{self, Given, Wants},
};
use crate::{
    dhcp::link::{Link, LinkError},
    leasing::{self, BATCH, LeasingError, Reports, now},
};
use rustix::event::{PollFd, PollFlags};
use std::{
    convert::Infallible,
    io,
    net::{Ipv6Addr, SocketAddrV6, UdpSocket},
    time::Duration,
};
use stele_proto::internal::{Lease6, Prefix6, lease_report};

/// The port of clients.
const CLIENT_PORT: u16 = 546;
/// The port of servers.
const SERVER_PORT: u16 = 547;
/// All servers and relays of the link (RFC 8415, section 7.1).
const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// The longest message that is taken; of longer ones the rest is cut off.
const LONGEST: usize = 4096;

/// Why the agent ends.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The link is not known.
    #[error("looking at the link")]
    Link(#[source] LinkError),
    /// Its addresses are not known.
    #[error("reading {FILE}, which is there when the kernel has IPv6")]
    Addresses(#[source] io::Error),
    /// No socket.
    #[error("opening a socket on port {CLIENT_PORT} of {address}")]
    Socket {
        /// The link's own address.
        address: Ipv6Addr,
        /// Why.
        source: io::Error,
    },
    /// What is around it does not work.
    #[error(transparent)]
    Around(#[from] LeasingError),
}

/// Works on a link until it goes.
///
/// # Errors
/// When the link goes, or PID 1 can't be told any more.
pub fn run(interface: &str, wants: Wants) -> Result<Infallible, AgentError> {
    let reports = Reports::open()?;
    let link = Link::open(interface).map_err(AgentError::Link)?;
    let (duid, association) = (Duid::of(link.mac), association(interface));
    let client = Client::new(duid.clone(), association, wants, leasing::seed()?);
    Agent { link, reports, duid, association, client, usable: None, socket: None, since: now() }
        .work()
}

/// What tells the links of a machine apart to a server that knows the machine by one of them: the same after each boot.
pub(super) fn association(interface: &str) -> u32 {
    // FNV-1a.
    interface
        .bytes()
        .fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// How a link can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Usable {
    /// The link's own address.
    address: Ipv6Addr,
    /// How often the carrier has changed, to tell a cable that was in another socket meanwhile.
    changes: u64,
}

struct Agent {
    link: Link,
    reports: Reports,
    duid: Duid,
    association: u32,
    client: Client,
    /// How the link can be used, if it can.
    usable: Option<Usable>,
    /// Open while the link can be used.
    socket: Option<UdpSocket>,
    /// Since when the link can be used, or not.
    since: Duration,
}

impl Agent {
    fn work(&mut self) -> Result<Infallible, AgentError> {
        self.step(Event::LinkLost)?;
        let mut look = now();
        loop {
            let time = now();
            if look <= time {
                self.look()?;
                look = leasing::look_again(self.usable.is_some(), self.since, time);
            }
            if self.client.deadline().is_some_and(|deadline| deadline <= time) {
                self.step(Event::Time)?;
            }
            self.listen()?;
            let mut sources: Vec<_> =
                self.socket.iter().map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
            let until = self.client.deadline().map_or(look, |deadline| deadline.min(look));
            leasing::wait(&mut sources, until)?;
        }
    }

    /// Looks at the link. One that could not be used for a moment, unseen, counts as lost and gained.
    fn look(&mut self) -> Result<(), AgentError> {
        let carrier = self.link.carrier().map_err(AgentError::Link)?;
        let addresses = addresses::read(self.link.index).map_err(AgentError::Addresses)?;
        let usable = addresses
            .link_local
            .filter(|_| carrier.on)
            .map(|address| Usable { address, changes: carrier.changes });
        if usable != self.usable {
            let before = std::mem::replace(&mut self.usable, usable);
            self.since = now();
            if before.is_some() {
                self.socket = None;
                self.step(Event::LinkLost)?;
            }
            if let Some(Usable { address, .. }) = usable {
                self.socket = Some(self.open(address)?);
                self.step(Event::LinkGained)?;
            }
        }
        for address in addresses.duplicates {
            self.step(Event::Duplicate(address))?;
        }
        Ok(())
    }

    fn open(&self, address: Ipv6Addr) -> Result<UdpSocket, AgentError> {
        let open = || {
            let socket = UdpSocket::bind(self.place(address, CLIENT_PORT))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        open().map_err(|source| AgentError::Socket { address, source })
    }

    fn place(&self, address: Ipv6Addr, port: u16) -> SocketAddrV6 {
        SocketAddrV6::new(address, port, 0, self.link.index)
    }

    /// Takes what has come.
    fn listen(&mut self) -> Result<(), AgentError> {
        let mut buffer = [0; LONGEST];
        for _ in 0..BATCH {
            // What went wrong with what was sent is said here; it is sent again anyway.
            let Some(Ok((length, _))) =
                self.socket.as_ref().map(|socket| socket.recv_from(&mut buffer))
            else {
                break;
            };
            let bytes = buffer.get(..length).unwrap_or_default();
            if let Some(reply) = message::parse(bytes, &self.duid, self.association) {
                self.step(Event::Reply(reply))?;
            }
        }
        Ok(())
    }

    fn step(&mut self, event: Event) -> Result<(), AgentError> {
        for effect in self.client.step(event, now()) {
            match effect {
                Effect::Send(request) => {
                    if let Some(socket) = &self.socket {
                        // What can't be sent now is sent again: the client counts on nothing.
                        let _ = socket.send_to(&request.encode(), self.place(SERVERS, SERVER_PORT));
                    }
                }
                Effect::Report(report) => self.reports.tell(encode(report))?,
            }
        }
        Ok(())
    }
}

fn encode(report: Report) -> lease_report::Report {
    match report {
        Report::Waiting(what) => lease_report::Report::Waiting(what),
        Report::Lost(why) => lease_report::Report::Lost(why),
        Report::Leased(lease) => lease_report::Report::Lease6(leased(lease)),
    }
}

fn leased(lease: Lease) -> Lease6 {
    let bytes = |address: Ipv6Addr| address.octets().to_vec();
    let all = |addresses: Vec<Ipv6Addr>| addresses.into_iter().map(bytes).collect();
    let (addresses, prefixes): (Vec<Given>, Vec<Given>) =
        lease.given.into_iter().partition(|given| given.prefix == 128);
    let prefix = |given: Given| Prefix6 {
        network: bytes(given.address),
        prefix_length: given.prefix.into(),
    };
    Lease6 {
        addresses: addresses.into_iter().map(|given| bytes(given.address)).collect(),
        prefixes: prefixes.into_iter().map(prefix).collect(),
        dns_servers: all(lease.dns_servers),
        domains: lease.domains,
        ntp_servers: all(lease.ntp_servers),
        server: lease.server.to_string(),
        lease_seconds: lease.seconds,
    }
}
