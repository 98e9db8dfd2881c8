// SPDX-License-Identifier: Apache-2.0
//! Whether what routers advertise is taken.

use crate::choice::choice;

choice! {
    /// Whether what routers advertise is taken.
    pub enum RouterAdvertisements {
        /// Addresses, routes, name servers and search domains, and whether to ask a DHCPv6 server.
        Accept = "accept",
        /// Nothing.
        Ignore = "ignore",
    }
}
