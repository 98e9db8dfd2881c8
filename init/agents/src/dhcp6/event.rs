// SPDX-License-Identifier: Apache-2.0
//! What the client hears, and what it wants done.

use super::{
    Duid,
    message::{Given, Reply, Request},
};
use std::net::Ipv6Addr;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The link can carry packets: it has a carrier, and an address of its own.
    LinkGained,
    /// It cannot any more.
    LinkLost,
    /// A server says something.
    Reply(Reply),
    /// The kernel found another machine that has an address.
    Duplicate(Ipv6Addr),
    /// Time has passed.
    Time,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send a message to all servers.
    Send(Request),
    /// Tell PID 1.
    Report(Report),
}

/// What PID 1 is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A lease was obtained or renewed, or holds less than before.
    Leased(Lease),
    /// The lease was lost: why.
    Lost(String),
    /// No lease yet: what is being tried.
    Waiting(String),
}

/// What a server gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Addresses and prefixes.
    pub given: Vec<Given>,
    /// Name servers.
    pub dns_servers: Vec<Ipv6Addr>,
    /// Domains in which names without a dot are looked for.
    pub domains: Vec<String>,
    /// Time servers.
    pub ntp_servers: Vec<Ipv6Addr>,
    /// Who gave it.
    pub server: Duid,
    /// How long the last of it holds, in seconds; `u32::MAX` for ever.
    pub seconds: u32,
}
