// SPDX-License-Identifier: Apache-2.0
//! What the client hears, and what it wants done.

use super::{
    Mac,
    frame::Arp,
    message::{Reply, Request, Terms},
};
use std::net::Ipv4Addr;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The link can carry frames.
    CarrierGained,
    /// It cannot any more.
    CarrierLost,
    /// A server says something.
    Reply {
        /// What it says.
        reply: Box<Reply>,
        /// The hardware address that it came from.
        from: Mac,
    },
    /// Somebody says whose an address is.
    Arp(Arp),
    /// Time has passed.
    Time,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send a message.
    Send {
        /// The message.
        request: Request,
        /// To this server, from our address; to everybody when there is none.
        to: Option<Unicast>,
    },
    /// Send an ARP request.
    Arp {
        /// Our address; unspecified in a probe.
        sender: Ipv4Addr,
        /// The address it is about.
        target: Ipv4Addr,
    },
    /// Tell PID 1.
    Report(Report),
}

/// How a server is reached directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unicast {
    /// Our address.
    pub source: Ipv4Addr,
    /// The server's address.
    pub server: Ipv4Addr,
    /// The hardware address that its answers came from.
    pub mac: Mac,
}

/// What PID 1 is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A lease was obtained or renewed.
    Leased {
        /// What it holds.
        terms: Terms,
        /// Who gave it.
        server: Ipv4Addr,
    },
    /// The lease was lost: why.
    Lost(String),
    /// No lease yet: what is being tried.
    Waiting(String),
}
