// SPDX-License-Identifier: Apache-2.0
//! A DHCPv6 client (RFC 8415) that tells PID 1 what it got and touches nothing itself.
//!
//! ```text
//!  datagrams ─► message::parse ─┐
//!  time, link ──────────────────┼─► client::Client::step ─► [Effect] ─► datagrams, reports to PID 1
//!  duplicates ──────────────────┘
//! ```
//!
//! * [`options`]: the options of a message, as bytes.
//! * [`message`]: the messages, and what a server gives in them.
//! * [`event`]: what the client hears, and what it wants done.
//! * [`client`]: every decision, without input or output.
//! * [`addresses`]: which addresses the kernel has on the link.
//! * [`agent`]: socket, clock and descriptor 3 around it all.
//!
//! What comes from the network is bounded before it is looked at. The codec is our own for the reasons that the one of
//! [`crate::dhcp`] is; the tests hold it against the same other one.

pub mod addresses;
pub mod agent;
pub mod client;
pub mod event;
pub mod message;
pub mod options;

use crate::dhcp::Mac;
use std::fmt;

/// Who somebody is, the same in every message (RFC 8415, section 11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duid(Vec<u8>);

impl Duid {
    /// The longest, with its type.
    const LONGEST: usize = 130;

    /// The one that follows from a hardware address alone (type 3), so that a machine is the same after it was installed anew,
    /// and an operator can reserve addresses for it.
    #[must_use]
    pub fn of(mac: Mac) -> Duid {
        Duid([&[0, 3, 0, 1][..], &mac.0].concat())
    }

    /// One that came in a message.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Duid> {
        (3..=Self::LONGEST).contains(&bytes.len()).then(|| Duid(bytes.to_vec()))
    }

    /// As it is sent.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// By what a server of DHCPv4 knows the machine as one of DHCPv6 does (RFC 4361, section 6.1).
pub(crate) fn client_id(mac: Mac, interface: &str) -> Vec<u8> {
    let association = agent::association(interface).to_be_bytes();
    [&[0xff][..], &association, Duid::of(mac).bytes()].concat()
}

impl fmt::Display for Duid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
