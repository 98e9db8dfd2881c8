// SPDX-License-Identifier: Apache-2.0
//! Wakes a loop when links, addresses, routes or routing rules change, or what routers say of DHCPv6.
//!
//! What changed is not said: the loop looks at everything again, so a notification that the kernel had to drop (`ENOBUFS`) is
//! no more than one that came.

use super::NetError;
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SocketFlags, SocketType, bind, netlink::SocketAddrNetlink, recv,
        socket_with,
    },
};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// A nonblocking socket that becomes readable when links, addresses or routes change.
#[derive(Debug)]
pub struct Monitor(OwnedFd);

/// `RTNLGRP_IPV4_RULE` and `RTNLGRP_IPV6_RULE` of `linux/rtnetlink.h`.
const RULES: i32 = 1 << 7 | 1 << 18;

/// `RTNLGRP_IPV6_IFINFO`: what routers say of a link, which libc does not name.
const ROUTERS: i32 = 1 << 11;

/// The multicast groups, as the bits that `bind` takes.
const GROUPS: u32 = (libc::RTMGRP_LINK
    | libc::RTMGRP_IPV4_IFADDR
    | libc::RTMGRP_IPV4_ROUTE
    | libc::RTMGRP_IPV6_IFADDR
    | libc::RTMGRP_IPV6_ROUTE
    | RULES
    | ROUTERS) as u32;

/// So many notifications are read before the loop gets to look; the rest keeps the socket readable.
const BATCH: usize = 1024;

impl Monitor {
    /// Subscribes.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new() -> Result<Self, NetError> {
        let open = || {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            // Protocol 0 is NETLINK_ROUTE.
            let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
            bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
            Ok(socket)
        };
        open().map(Self).map_err(|source: Errno| NetError::Subscribe(source.into()))
    }

    /// Reads what has come, and says whether anything has.
    ///
    /// # Errors
    /// When the socket is broken.
    pub fn drain(&self) -> Result<bool, NetError> {
        let mut changed = false;
        for _ in 0..BATCH {
            // A datagram's tail is dropped with it: nothing but its coming counts.
            let mut head = [0_u8; 16];
            match recv(&self.0, &mut head[..], RecvFlags::empty()) {
                Ok(_) | Err(Errno::NOBUFS) => changed = true,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(source) => return Err(NetError::Drain(source.into())),
            }
        }
        Ok(changed)
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
