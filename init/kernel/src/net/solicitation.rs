// SPDX-License-Identifier: Apache-2.0
//! Asking the routers of a link what they advertise. Who may open no IP socket has the kernel ask.

use super::{NetError, Netlink, Refusal};
use netlink_bindings::rt_link::{Ifinfomsg, Request};
use std::net::Ipv6Addr;

/// How the addresses that the kernel makes would end.
const TOKEN: Ipv6Addr = Ipv6Addr::LOCALHOST;

impl Netlink {
    /// Has the kernel solicit routers, where it heeds them; elsewhere nothing comes of it.
    ///
    /// It does so by itself only when a link gets an address of its own, and when it is given a token for the addresses
    /// that it makes (`inet6_set_iftoken` of its `net/ipv6/addrconf.c`). The token goes before an answer can come.
    ///
    /// # Errors
    /// When the kernel refuses, or there is no such link.
    pub fn solicit_routers(&mut self, index: u32) -> Result<(), NetError> {
        match self.set_token(index, TOKEN) {
            // It heeds no routers here.
            Err(refusal) if refusal.errno() == Some(libc::EINVAL) => Ok(()),
            Err(refusal) => Err(refusal),
            Ok(()) => self.set_token(index, Ipv6Addr::UNSPECIFIED),
        }
        .map_err(|source| NetError::Solicit { index, source })
    }

    fn set_token(&mut self, index: u32, token: Ipv6Addr) -> Result<(), Refusal> {
        let header = Ifinfomsg { ifi_index: index as i32, ..Ifinfomsg::default() };
        let mut request = Request::new().op_newlink_do(&header);
        let families = request.encode().nested_af_spec();
        families.nested_inet6().push_token(&token.octets()).end_nested().end_nested();
        self.change(&request)
    }
}
