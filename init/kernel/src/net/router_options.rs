// SPDX-License-Identifier: Apache-2.0
//! What the kernel passes on of router advertisements: the options that are for programs, not for itself (`ndisc_ra_useropt`
//! of its `net/ipv6/ndisc.c`). The bytes behind the kernel's headers are a stranger's, and whoever reads them should be an agent.

use super::NetError;
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SocketFlags, SocketType, bind, netlink::SocketAddrNetlink, recv,
        socket_with,
    },
};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// `RTNLGRP_ND_USEROPT` of `linux/rtnetlink.h`, as the bit that `bind` takes.
const GROUP: u32 = 1 << 19;

/// A nonblocking socket on which the options arrive, one in each message. It takes no privilege.
#[derive(Debug)]
pub struct RouterOptions(OwnedFd);

impl RouterOptions {
    /// Subscribes.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new() -> Result<Self, NetError> {
        let open = || {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            // Protocol 0 is NETLINK_ROUTE.
            let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
            bind(&socket, &SocketAddrNetlink::new(0, GROUP))?;
            Ok(socket)
        };
        open().map(Self).map_err(|source: Errno| NetError::Subscribe(source.into()))
    }

    /// The next datagram of the kernel, as much of it as fits; none when there is none yet.
    ///
    /// # Errors
    /// When the socket is broken.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        match recv(&self.0, &mut *buffer, RecvFlags::empty()) {
            Ok((length, _)) => Ok(buffer.get(..length)),
            // Routers say it again: what was dropped comes once more.
            Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for RouterOptions {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
