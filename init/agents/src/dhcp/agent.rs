// SPDX-License-Identifier: Apache-2.0
//! Sockets, clock and descriptor 3 around the client. One thread, which waits in one place.

use super::{
    Mac,
    client::{Client, Names},
    event::{Effect, Event, Report, Unicast},
    frame::{self, CLIENT_PORT, LONGEST, Route},
    link::{Carrier, Link, LinkError},
    message,
};
use crate::{
    dhcp6,
    leasing::{self, BATCH, LeasingError, Reports, now},
};
use rustix::event::{PollFd, PollFlags};
use std::{convert::Infallible, io, net::Ipv4Addr, time::Duration};
use stele_kernel::packet::{PacketSocket, Traffic};
use stele_proto::internal::{Lease, StaticRoute, lease_report};

/// The longest that an option can hold (RFC 2132, section 9.14).
const LONGEST_ID: usize = 255;

/// Why the agent ends.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The link is not known.
    #[error("looking at the link")]
    Link(#[source] LinkError),
    /// No packet socket.
    #[error("opening a packet socket")]
    Socket(#[source] io::Error),
    /// What is around it does not work.
    #[error(transparent)]
    Around(#[from] LeasingError),
}

/// By what a server is to know the machine, other than by the hardware address of the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Id {
    /// By what a DHCPv6 server does.
    Duid,
    /// By these bytes.
    Bytes(Vec<u8>),
}

impl Id {
    /// Reads `duid`, or bytes of two hexadecimal digits with colons between them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Id> {
        if text == "duid" {
            return Some(Id::Duid);
        }
        let byte = |part| u8::from_str_radix(part, 16).ok();
        let bytes: Vec<u8> = text.split(':').map(byte).collect::<Option<_>>()?;
        (2..=LONGEST_ID).contains(&bytes.len()).then_some(Id::Bytes(bytes))
    }
}

/// Works on a link until it goes.
///
/// # Errors
/// When the link goes, or PID 1 can't be told any more.
pub fn run(
    interface: &str,
    id: Option<Id>,
    hostname: Option<String>,
) -> Result<Infallible, AgentError> {
    let reports = Reports::open()?;
    let link = Link::open(interface).map_err(AgentError::Link)?;
    let socket = PacketSocket::open(link.index, Traffic::Udp { port: CLIENT_PORT })
        .map_err(AgentError::Socket)?;
    let id = id.map(|id| match id {
        Id::Duid => dhcp6::client_id(link.mac, interface),
        Id::Bytes(bytes) => bytes,
    });
    let client = Client::new(link.mac, Names { id, hostname }, leasing::seed()?);
    let carrier = Carrier { on: false, changes: 0 };
    let mut agent =
        Agent { link, reports, socket, arp: None, client, carrier, carrier_since: now() };
    agent.work()
}

struct Agent {
    link: Link,
    reports: Reports,
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
                look = leasing::look_again(self.carrier.on, self.carrier_since, time);
            }
            if self.client.deadline().is_some_and(|deadline| deadline <= time) {
                self.step(Event::Time)?;
            }
            self.listen()?;
            let mut sources = vec![PollFd::new(&self.socket, PollFlags::IN)];
            sources.extend(self.arp.iter().map(|socket| PollFd::new(socket, PollFlags::IN)));
            let until = self.client.deadline().map_or(look, |deadline| deadline.min(look));
            leasing::wait(&mut sources, until)?;
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
                self.step(Event::Reply { reply: Box::new(reply), from })?;
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
                Effect::Report(report) => self.reports.tell(encode(report))?,
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
            search: terms.search,
            hostname: terms.hostname,
            mtu: terms.mtu.unwrap_or_default().into(),
            server: bytes(server),
            lease_seconds: terms.seconds,
        }),
    }
}
