// SPDX-License-Identifier: Apache-2.0
//! What is asked of a DHCPv6 server.

use crate::integer::Integer;
use crate::record::{Check, record};

record! {
    /// What is asked of a DHCPv6 server. Routes are not its business: routers advertise them.
    pub struct Dhcp6 as "Dhcp6" {
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

impl Dhcp6 {
    /// The prefix length of the network that is asked for, if one is.
    #[must_use]
    pub fn prefix(&self) -> Option<u32> {
        self.prefix.map(Integer::value)
    }
}

impl Check for Dhcp6 {}
