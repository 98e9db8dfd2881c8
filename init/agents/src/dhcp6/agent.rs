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
    pid1::framed,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    rand::{GetRandomFlags, getrandom},
};
use std::{
    convert::Infallible,
    fs::File,
    io::{self, Write as _},
    net::{Ipv6Addr, SocketAddrV6, UdpSocket},
    time::Duration,
};
use stele_kernel::{clock, inherited};
use stele_proto::internal::{Lease6, LeaseReport, Prefix6, lease_report};

/// Where PID 1 listens.
const REPORTS: i32 = 3;
/// The port of clients.
const CLIENT_PORT: u16 = 546;
/// The port of servers.
const SERVER_PORT: u16 = 547;
/// All servers and relays of the link (RFC 8415, section 7.1).
const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// The longest message that is taken; of longer ones the rest is cut off.
const LONGEST: usize = 4096;
/// Messages that are taken at once; then time and link have their turn, whatever else has come.
const BATCH: usize = 64;
/// How often the link is looked at while it can be used, in the first seconds while it can't, and later.
const LOOK_USABLE: Duration = Duration::from_secs(2);
const LOOK_AWAITED: Duration = Duration::from_millis(100);
const LOOK_UNUSABLE: Duration = Duration::from_secs(1);
/// How long it is awaited eagerly: most take less for a carrier and for the kernel to try the link's own address.
const EAGER: Duration = Duration::from_secs(10);

/// Why the agent ends.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The link is not known.
    #[error("looking at the link")]
    Link(#[source] LinkError),
    /// Its addresses are not known.
    #[error("reading {FILE}, which is there when the kernel has IPv6")]
    Addresses(#[source] io::Error),
    /// PID 1 can't be told.
    #[error("reporting on descriptor {REPORTS}")]
    Report(#[source] io::Error),
    /// No socket.
    #[error("opening a socket on port {CLIENT_PORT} of {address}")]
    Socket {
        /// The link's own address.
        address: Ipv6Addr,
        /// Why.
        source: io::Error,
    },
    /// The kernel gives no random numbers.
    #[error("getting random numbers")]
    Random(#[source] io::Error),
    /// Waiting failed.
    #[error("waiting for messages")]
    Wait(#[source] io::Error),
}

/// Works on a link until it goes.
///
/// # Errors
/// When the link goes, or PID 1 can't be told any more.
pub fn run(interface: &str, wants: Wants) -> Result<Infallible, AgentError> {
    let reports = File::from(inherited::descriptor(REPORTS).map_err(AgentError::Report)?);
    let link = Link::open(interface).map_err(AgentError::Link)?;
    let mut seed = [0; 8];
    getrandom(&mut seed[..], GetRandomFlags::empty())
        .map_err(|errno| AgentError::Random(errno.into()))?;
    let (duid, association) = (Duid::of(link.mac), association(interface));
    let client = Client::new(duid.clone(), association, wants, u64::from_ne_bytes(seed));
    Agent { link, reports, duid, association, client, usable: None, socket: None, since: now() }
        .work()
}

/// What tells the links of a machine apart to a server that knows the machine by one of them: the same after each boot.
fn association(interface: &str) -> u32 {
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
    reports: File,
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
                look = time.saturating_add(self.interval(time));
            }
            if self.client.deadline().is_some_and(|deadline| deadline <= time) {
                self.step(Event::Time)?;
            }
            self.listen()?;
            let until = self.client.deadline().map_or(look, |deadline| deadline.min(look));
            self.wait(until.saturating_sub(now()))?;
        }
    }

    fn interval(&self, time: Duration) -> Duration {
        match self.usable {
            Some(_) => LOOK_USABLE,
            None if time.saturating_sub(self.since) < EAGER => LOOK_AWAITED,
            None => LOOK_UNUSABLE,
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

    fn wait(&self, limit: Duration) -> Result<(), AgentError> {
        // Rounded up, so that the deadline has passed when the wait has.
        let limit = Timespec::try_from(limit.saturating_add(Duration::from_millis(1)));
        let mut sources: Vec<_> =
            self.socket.iter().map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
        match poll(&mut sources, limit.ok().as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(AgentError::Wait(errno.into())),
        }
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
                Effect::Report(report) => self.report(report)?,
            }
        }
        Ok(())
    }

    fn report(&mut self, report: Report) -> Result<(), AgentError> {
        let report = LeaseReport { report: Some(encode(report)) };
        self.reports.write_all(&framed(&report)).map_err(AgentError::Report)
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

/// Time since boot, suspended time included: leases go on while a machine sleeps.
fn now() -> Duration {
    clock::since_boot().unwrap_or_default()
}
