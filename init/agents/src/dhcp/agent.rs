// SPDX-License-Identifier: Apache-2.0
//! Sockets, clock and descriptor 3 around the client. One thread, which waits in one place.

use super::{
    Mac,
    client::Client,
    event::{Effect, Event, Report, Unicast},
    frame::{self, CLIENT_PORT, LONGEST, Route},
    link::{Carrier, Link, LinkError},
    message,
};
use crate::pid1::framed;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    rand::{GetRandomFlags, getrandom},
};
use std::{
    convert::Infallible,
    fs::File,
    io::{self, Write as _},
    net::Ipv4Addr,
    time::Duration,
};
use stele_kernel::{
    clock, inherited,
    packet::{PacketSocket, Traffic},
};
use stele_proto::internal::{Lease, LeaseReport, StaticRoute, lease_report};

/// Where PID 1 listens.
const REPORTS: i32 = 3;
/// Frames that are taken at once; then time and carrier have their turn, whatever else has come.
const BATCH: usize = 64;
/// How often the carrier is looked at while there is one, in the first seconds without one, and later.
const CARRIER_ON: Duration = Duration::from_secs(2);
const CARRIER_AWAITED: Duration = Duration::from_millis(100);
const CARRIER_OFF: Duration = Duration::from_secs(1);
/// How long a carrier is awaited eagerly: most take less to come after a link is set up.
const EAGER: Duration = Duration::from_secs(10);

/// Why the agent ends.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The link is not known.
    #[error("looking at the link")]
    Link(#[source] LinkError),
    /// PID 1 can't be told.
    #[error("reporting on descriptor {REPORTS}")]
    Report(#[source] io::Error),
    /// No packet socket.
    #[error("opening a packet socket")]
    Socket(#[source] io::Error),
    /// The kernel gives no random numbers.
    #[error("getting random numbers")]
    Random(#[source] io::Error),
    /// Waiting failed.
    #[error("waiting for frames")]
    Wait(#[source] io::Error),
}

/// Works on a link until it goes.
///
/// # Errors
/// When the link goes, or PID 1 can't be told any more.
pub fn run(interface: &str, hostname: Option<String>) -> Result<Infallible, AgentError> {
    let reports = File::from(inherited::descriptor(REPORTS).map_err(AgentError::Report)?);
    let link = Link::open(interface).map_err(AgentError::Link)?;
    let socket = PacketSocket::open(link.index, Traffic::Udp { port: CLIENT_PORT })
        .map_err(AgentError::Socket)?;
    let mut seed = [0; 8];
    getrandom(&mut seed[..], GetRandomFlags::empty())
        .map_err(|errno| AgentError::Random(errno.into()))?;
    let client = Client::new(link.mac, hostname, u64::from_ne_bytes(seed));
    let carrier = Carrier { on: false, changes: 0 };
    let mut agent =
        Agent { link, reports, socket, arp: None, client, carrier, carrier_since: now() };
    agent.work()
}

struct Agent {
    link: Link,
    reports: File,
    socket: PacketSocket,
    /// Open while the client wants it.
    arp: Option<PacketSocket>,
    client: Client,
    carrier: Carrier,
    carrier_since: Duration,
}

impl Agent {
    fn work(&mut self) -> Result<Infallible, AgentError> {
        self.carrier = self.link.carrier().map_err(AgentError::Link)?;
        self.step(if self.carrier.on { Event::CarrierGained } else { Event::CarrierLost })?;
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
        match self.carrier.on {
            true => CARRIER_ON,
            false if time.saturating_sub(self.carrier_since) < EAGER => CARRIER_AWAITED,
            false => CARRIER_OFF,
        }
    }

    /// Looks at the carrier. One that went and came back unseen counts as both.
    fn look(&mut self) -> Result<(), AgentError> {
        let carrier = self.link.carrier().map_err(AgentError::Link)?;
        if carrier == self.carrier {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.carrier, carrier);
        self.carrier_since = now();
        if before.on {
            self.step(Event::CarrierLost)?;
        }
        if carrier.on {
            self.step(Event::CarrierGained)?;
        }
        Ok(())
    }

    fn wait(&self, limit: Duration) -> Result<(), AgentError> {
        // Rounded up, so that the deadline has passed when the wait has.
        let limit = Timespec::try_from(limit.saturating_add(Duration::from_millis(1)));
        let mut sources = vec![PollFd::new(&self.socket, PollFlags::IN)];
        sources.extend(self.arp.iter().map(|socket| PollFd::new(socket, PollFlags::IN)));
        match poll(&mut sources, limit.ok().as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(AgentError::Wait(errno.into())),
        }
    }

    /// Takes what has come.
    fn listen(&mut self) -> Result<(), AgentError> {
        let mut buffer = [0; LONGEST];
        for _ in 0..BATCH {
            // A link that is down says so once for each time; whether it is, the carrier tells.
            let Ok(Some(bytes)) = self.socket.receive(&mut buffer) else { break };
            let reply = frame::parse(bytes, self.link.mac).and_then(|received| {
                Some((message::parse(received.payload, self.link.mac)?, received.from))
            });
            if let Some((reply, from)) = reply {
                self.step(Event::Reply { reply, from })?;
            }
        }
        for _ in 0..BATCH {
            let Some(Ok(Some(bytes))) = self.arp.as_ref().map(|socket| socket.receive(&mut buffer))
            else {
                break;
            };
            if let Some(arp) = frame::parse_arp(bytes) {
                self.step(Event::Arp(arp))?;
            }
        }
        Ok(())
    }

    fn step(&mut self, event: Event) -> Result<(), AgentError> {
        for effect in self.client.step(event, now()) {
            match effect {
                Effect::Send { request, to } => self.send(&request.encode(), to),
                Effect::Arp { sender, target } => {
                    // What can't be sent now is sent again: the client counts on nothing.
                    let _ = self.socket.send(&frame::build_arp(self.link.mac, sender, target));
                }
                Effect::Report(report) => self.report(report)?,
            }
            self.arrange_arp()?;
        }
        self.arrange_arp()
    }

    fn arrange_arp(&mut self) -> Result<(), AgentError> {
        match (self.client.listens_to_arp(), &self.arp) {
            (true, None) => {
                let socket = PacketSocket::open(self.link.index, Traffic::Arp)
                    .map_err(AgentError::Socket)?;
                self.arp = Some(socket);
            }
            (false, Some(_)) => self.arp = None,
            (true, Some(_)) | (false, None) => {}
        }
        Ok(())
    }

    fn send(&self, payload: &[u8], to: Option<Unicast>) {
        let from = self.link.mac;
        let route = match to {
            Some(Unicast { source, server, mac }) => {
                Route { from, source, to: mac, destination: server }
            }
            None => Route {
                from,
                source: Ipv4Addr::UNSPECIFIED,
                to: Mac::BROADCAST,
                destination: Ipv4Addr::BROADCAST,
            },
        };
        // What can't be sent now is sent again: the client counts on nothing.
        let _ = self.socket.send(&frame::build(&route, payload));
    }

    fn report(&mut self, report: Report) -> Result<(), AgentError> {
        let message = framed(&LeaseReport { report: Some(encode(report)) });
        self.reports.write_all(&message).map_err(AgentError::Report)
    }
}

fn encode(report: Report) -> lease_report::Report {
    let bytes = |address: Ipv4Addr| address.octets().to_vec();
    let all = |addresses: Vec<Ipv4Addr>| addresses.into_iter().map(bytes).collect();
    let route = |(network, prefix, router): (Ipv4Addr, u8, Ipv4Addr)| StaticRoute {
        destination: bytes(network),
        prefix_length: prefix.into(),
        gateway: bytes(router),
    };
    match report {
        Report::Waiting(what) => lease_report::Report::Waiting(what),
        Report::Lost(why) => lease_report::Report::Lost(why),
        Report::Leased { terms, server } => lease_report::Report::Lease(Lease {
            address: bytes(terms.address),
            prefix_length: terms.prefix.into(),
            routers: all(terms.routers),
            dns_servers: all(terms.dns_servers),
            ntp_servers: all(terms.ntp_servers),
            routes: terms.routes.into_iter().map(route).collect(),
            domain: terms.domain,
            hostname: terms.hostname,
            mtu: terms.mtu.unwrap_or_default().into(),
            server: bytes(server),
            lease_seconds: terms.seconds,
        }),
    }
}

/// Time since boot, suspended time included: leases go on while a machine sleeps.
fn now() -> Duration {
    clock::since_boot().unwrap_or_default()
}
