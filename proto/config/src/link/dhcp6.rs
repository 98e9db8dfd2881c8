// SPDX-License-Identifier: Apache-2.0
//! What is asked of a DHCPv6 server.

use crate::choice::choice;
use crate::integer::Integer;
use crate::record::{Check, record};

record! {
    /// What is asked of a DHCPv6 server. Routes are not its business: routers advertise them.
    pub struct Dhcp6 as "Dhcp6" {
        /// When it is asked. Without it, `always`. With `advertised`, once a router says so, whatever it says later: for all
        /// that is wanted (its flag Managed), or for all but an address (its flag Other). With `never`, it is not.
        start: Option<Dhcp6Start>,
        /// Ask for an address. Without address and prefix, only what else there is to know is asked for.
        pub address: bool = true,
        /// Ask for a network that the machine may give to others, of this prefix length if the server has such.
        prefix: Option<Integer<1, 64>>,
        /// Take the name servers and the search domains.
        pub dns: bool = true,
        /// Take the time servers.
        pub time: bool = true,
    }
}

choice! {
    /// When a DHCPv6 server is asked.
    pub enum Dhcp6Start {
        /// Whatever routers say.
        Always = "always",
        /// Once a router says so.
        Advertised = "advertised",
        /// Whatever routers say, it is not.
        Never = "never",
    }
}

impl Dhcp6 {
    /// When it is asked.
    #[must_use]
    pub fn start(&self) -> Dhcp6Start {
        self.start.unwrap_or(Dhcp6Start::Always)
    }

    /// The prefix length of the network that is asked for, if one is.
    #[must_use]
    pub fn prefix(&self) -> Option<u32> {
        self.prefix.map(Integer::value)
    }
}

impl Default for Dhcp6 {
    fn default() -> Dhcp6 {
        Dhcp6 { start: None, address: true, prefix: None, dns: true, time: true }
    }
}

impl Check for Dhcp6 {}
