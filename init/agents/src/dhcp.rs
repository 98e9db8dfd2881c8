// SPDX-License-Identifier: Apache-2.0
//! A DHCPv4 client (RFC 2131) that tells PID 1 what it got and touches nothing itself.
//!
//! ```text
//!  frames ─► frame::parse ─► message::parse ─┐
//!  time, carrier ────────────────────────────┼─► client::Client::step ─► [Effect] ─► frames, reports to PID 1
//!  ARP ────► frame::parse_arp ───────────────┘
//! ```
//!
//! * [`frame`]: Ethernet, IPv4, UDP and ARP, as bytes.
//! * [`options`]: the options of a message, as bytes.
//! * [`message`]: the messages, and what a server offers in them.
//! * [`event`]: what the client hears, and what it wants done.
//! * [`client`]: every decision, without input or output.
//! * [`link`](mod@link): what the kernel says of the link.
//! * [`agent`]: sockets, clock and descriptor 3 around it all.
//!
//! What comes from the network is bounded before it is looked at, and what is not exactly right is not taken. The codec is our
//! own, because crates for it stop at the first option of a wrong length, don't join split options (RFC 3396), and bring name
//! and URL parsers into a process that reads the bytes of strangers; the tests hold it against one of them.

pub mod agent;
pub mod client;
pub mod event;
pub mod frame;
pub mod link;
pub mod message;
pub mod options;

use std::fmt;

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Everybody on the link.
    pub const BROADCAST: Mac = Mac([0xff; 6]);
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.map(|byte| format!("{byte:02x}")).join(":"))
    }
}
