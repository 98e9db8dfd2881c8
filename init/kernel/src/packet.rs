// SPDX-License-Identifier: Apache-2.0
//! Packet sockets: whole Ethernet frames of one kind, on one link; see packet(7).
//!
//! The kernel filters before a frame reaches us, and no frame of another link or kind ever does: the socket is made without a
//! protocol, so that nothing arrives before the filter is in place and the link is chosen.

use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with},
};
use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

/// Which frames a socket carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// UDP over IPv4 to one port, unfragmented.
    Udp {
        /// The destination port.
        port: u16,
    },
    /// ARP.
    Arp,
    /// ARP that names one address, as the sender's or as the one it is about.
    ArpAbout {
        /// The address.
        address: Ipv4Addr,
    },
}

/// A nonblocking packet socket.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Opens a socket on a link.
    ///
    /// # Errors
    /// When the kernel refuses: without CAP_NET_RAW, or without such a link.
    pub fn open(index: u32, traffic: Traffic) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
        let protocol = match traffic {
            Traffic::Udp { port } => {
                attach(socket.as_fd(), &udp_to(port))?;
                libc::ETH_P_IP
            }
            Traffic::Arp => libc::ETH_P_ARP,
            Traffic::ArpAbout { address } => {
                attach(socket.as_fd(), &arp_about(address))?;
                libc::ETH_P_ARP
            }
        };
        bind(socket.as_fd(), index, protocol as u16)?;
        Ok(Self(socket))
    }

    /// Sends a frame, headers and all.
    ///
    /// # Errors
    /// When the link is down, has gone, or has no room.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        send(&self.0, frame, SendFlags::empty())?;
        Ok(())
    }

    /// Receives the next frame, as much of it as fits; none when there is none yet.
    ///
    /// # Errors
    /// When the link went down (once, for each time) or has gone.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        match recv(&self.0, &mut *buffer, RecvFlags::empty()) {
            Ok((length, _)) => Ok(buffer.get(..length)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A jump to the last instruction of a program, which drops the frame.
const DROP: u8 = u8::MAX;

fn load(size: u32, offset: u32) -> libc::sock_filter {
    instruction(libc::BPF_LD | size | libc::BPF_ABS, offset, 0, 0)
}

fn test(operation: u32, value: u32, yes: u8, no: u8) -> libc::sock_filter {
    instruction(libc::BPF_JMP | operation | libc::BPF_K, value, yes, no)
}

fn give(length: u32) -> libc::sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, length, 0, 0)
}

/// A classic BPF program that passes unfragmented UDP over IPv4 to `port`; offsets from the Ethernet header on.
fn udp_to(port: u16) -> [libc::sock_filter; 11] {
    dropping([
        load(libc::BPF_H, 12),
        test(libc::BPF_JEQ, libc::ETH_P_IP as u32, 0, DROP),
        load(libc::BPF_B, 23),
        test(libc::BPF_JEQ, libc::IPPROTO_UDP as u32, 0, DROP),
        load(libc::BPF_H, 20),
        // More fragments, or an offset.
        test(libc::BPF_JSET, 0x3fff, DROP, 0),
        instruction(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 14, 0, 0),
        instruction(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, 16, 0, 0),
        test(libc::BPF_JEQ, port.into(), 0, DROP),
        give(u32::from(u16::MAX)),
        give(0),
    ])
}

/// One that passes ARP in which `address` is the sender's, or the one it is about. What was sent to others is not for us, and
/// neither is what comes from a VLAN that this machine is not in, which the kernel marks the same.
fn arp_about(address: Ipv4Addr) -> [libc::sock_filter; 10] {
    let address = address.to_bits();
    dropping([
        load(libc::BPF_B, (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32),
        test(libc::BPF_JEQ, libc::PACKET_OTHERHOST.into(), DROP, 0),
        load(libc::BPF_H, 12),
        test(libc::BPF_JEQ, libc::ETH_P_ARP as u32, 0, DROP),
        load(libc::BPF_W, 28),
        test(libc::BPF_JEQ, address, 2, 0),
        load(libc::BPF_W, 38),
        test(libc::BPF_JEQ, address, 0, DROP),
        give(u32::from(u16::MAX)),
        give(0),
    ])
}

/// Gives the jumps to the drop their distance.
fn dropping<const COUNT: usize>(
    mut program: [libc::sock_filter; COUNT],
) -> [libc::sock_filter; COUNT] {
    // A jump counts the instructions between it and its target, the last one.
    for (place, step) in program.iter_mut().rev().enumerate() {
        let distance = (place as u8).saturating_sub(1);
        step.jt = if step.jt == DROP { distance } else { step.jt };
        step.jf = if step.jf == DROP { distance } else { step.jf };
    }
    program
}

pub(crate) fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

#[expect(unsafe_code, reason = "neither rustix nor nix attaches filters")]
pub(crate) fn attach(socket: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    let program =
        libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel reads one sock_fprog, and through it as many instructions as `len` says; both live until the call
    // returns, and neither is written to.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of_val(&program) as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[expect(unsafe_code, reason = "neither rustix nor nix makes addresses of packet sockets")]
pub(crate) fn bind(socket: BorrowedFd<'_>, index: u32, protocol: u16) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: index as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the kernel reads one sockaddr_ll of the given size, which lives until the call returns.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::{arp_about, udp_to};
    use std::net::Ipv4Addr;

    #[test]
    fn every_test_that_fails_jumps_to_the_drop() {
        let program = udp_to(68);
        for (place, step) in program.iter().enumerate() {
            let is_jump = step.code & 7 == libc::BPF_JMP as u16;
            let jump = usize::from(step.jt.max(step.jf));
            assert!(!is_jump || place + 1 + jump == program.len() - 1, "{place}: {jump}");
        }
    }

    /// What the program gives of a frame that was sent to somebody: a `PACKET_` of packet(7).
    fn run(program: &[libc::sock_filter], frame: &[u8], to: u8) -> u32 {
        let sent_to = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;
        let (mut place, mut value) = (0, 0);
        loop {
            let step = &program[place];
            let at = step.k as usize;
            place += 1;
            match u32::from(step.code) {
                0x30 if step.k == sent_to => value = to.into(),
                0x28 => value = u32::from(u16::from_be_bytes([frame[at], frame[at + 1]])),
                0x20 => value = u32::from_be_bytes(frame[at..at + 4].try_into().expect("four")),
                0x15 => place += usize::from(if value == step.k { step.jt } else { step.jf }),
                0x06 => return step.k,
                other => panic!("{other:#x}"),
            }
        }
    }

    #[test]
    fn only_arp_about_an_address_is_heard() {
        let program = arp_about(Ipv4Addr::new(192, 0, 2, 7));
        let mut frame = [0; 42];
        frame[12..14].copy_from_slice(&[0x08, 0x06]);
        assert_eq!(run(&program, &frame, libc::PACKET_BROADCAST), 0);
        for place in [28, 38] {
            let mut frame = frame;
            frame[place..place + 4].copy_from_slice(&[192, 0, 2, 7]);
            for us in [libc::PACKET_BROADCAST, libc::PACKET_HOST] {
                assert!(run(&program, &frame, us) > 0, "{place}");
            }
            assert_eq!(run(&program, &frame, libc::PACKET_OTHERHOST), 0, "to others");
            frame[13] = 0;
            assert_eq!(run(&program, &frame, libc::PACKET_BROADCAST), 0, "IPv4");
        }
    }
}
