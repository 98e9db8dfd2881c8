// SPDX-License-Identifier: Apache-2.0
//! Copies of what passes a link, both ways, as a filter chooses them; see packet(7).
//!
//! The kernel filters, and says when each packet passed and how many it had no room for.

use crate::packet::{attach, bind, instruction};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::{
    io::{self, IoSliceMut},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    time::Duration,
};

/// Room for what comes faster than it is read.
const BUFFER: usize = 8 * 1024 * 1024;

/// One instruction of classic BPF; see the kernel's Documentation/networking/filter.rst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// What it does.
    pub code: u16,
    /// With which value.
    pub value: u32,
    /// Instructions that are passed over when a test is true.
    pub yes: u8,
    /// Instructions that are passed over when it is false.
    pub no: u8,
}

/// A packet that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes that it had; the buffer holds as many of them as fit.
    pub length: usize,
    /// When it passed, since the epoch.
    pub time: Duration,
}

/// A socket that takes copies.
#[derive(Debug)]
pub struct CaptureSocket(OwnedFd);

impl CaptureSocket {
    /// Opens a socket on a link.
    ///
    /// # Errors
    /// When the kernel refuses: without CAP_NET_RAW, without such a link, or with such a program.
    pub fn open(index: u32, program: &[Instruction]) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Without a protocol, nothing arrives before the filter is in place and the link is chosen.
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
        let program: Vec<libc::sock_filter> = program
            .iter()
            .map(|step| instruction(u32::from(step.code), step.value, step.yes, step.no))
            .collect();
        attach(socket.as_fd(), &program)?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        // The kernel gives as much of it as the machine allows.
        setsockopt(&socket, sockopt::RcvBuf, &BUFFER)?;
        bind(socket.as_fd(), index, libc::ETH_P_ALL as u16)?;
        Ok(Self(socket))
    }

    /// Receives the next packet, as much of it as fits; none when there is none yet.
    ///
    /// # Errors
    /// When the link went down (once, for each time) or has gone.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        let mut parts = [IoSliceMut::new(buffer)];
        let mut space = nix::cmsg_space!(nix::sys::time::TimeSpec);
        let flags = MsgFlags::MSG_TRUNC | MsgFlags::MSG_DONTWAIT;
        let message = match recvmsg::<()>(self.0.as_raw_fd(), &mut parts, Some(&mut space), flags) {
            Ok(message) => message,
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let time = message.cmsgs()?.find_map(|part| match part {
            ControlMessageOwned::ScmTimestampns(time) => Some(time.into()),
            _ => None,
        });
        Ok(Some(Received { length: message.bytes, time: time.unwrap_or_default() }))
    }

    /// Packets that were lost for want of room since this was last asked.
    ///
    /// # Errors
    /// When the kernel does not say.
    #[expect(
        unsafe_code,
        reason = "neither rustix nor nix asks for the statistics of packet sockets"
    )]
    pub fn dropped(&self) -> io::Result<u32> {
        // struct tpacket_stats of linux/if_packet.h: packets, then drops.
        let mut statistics = [0_u32; 2];
        let mut length = size_of_val(&statistics) as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes, which is the size of the array, and the length that it wrote; both
        // live until the call returns.
        let result = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                statistics.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(statistics[1]) }
    }
}

impl AsRawFd for CaptureSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for CaptureSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
