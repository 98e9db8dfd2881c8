// SPDX-License-Identifier: Apache-2.0
//! Which VLANs the ports of bridges, and the bridges themselves, are in.
//!
//! Asked and told in the way of bridge(8): by `AF_BRIDGE` messages about links, the VLANs as `IFLA_BRIDGE_VLAN_INFO` within
//! `IFLA_AF_SPEC`, in ranges. A link that is in every other VLAN takes 16 KiB to describe, which is more than the socket of
//! [`Netlink`] reads at once, so the list is read by a socket of its own.

use super::{LinkChange, NetError, Netlink, Refusal};
use netlink_bindings::{
    rt_link::{Ifinfomsg, PushLinkAttrs, Request},
    traits::Pusher as _,
    utils::{chop_header, finalize_nested_header, push_header, push_nested_header},
};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};
use std::{collections::BTreeMap, io};

/// `IFLA_EXT_MASK` and `IFLA_AF_SPEC` of `linux/if_link.h`.
const EXT_MASK: u16 = 29;
const AF_SPEC: u16 = 26;
/// `RTEXT_FILTER_BRVLAN_COMPRESSED` of `linux/rtnetlink.h`: VLANs, as ranges.
const VLAN_RANGES: u32 = 4;
/// `IFLA_BRIDGE_FLAGS` and `IFLA_BRIDGE_VLAN_INFO` of `linux/if_bridge.h`.
const FLAGS: u16 = 0;
const VLAN_INFO: u16 = 2;
/// `BRIDGE_FLAGS_SELF`.
const SELF: u16 = 2;
/// `BRIDGE_VLAN_INFO_*`.
const PVID: u16 = 1 << 1;
const UNTAGGED: u16 = 1 << 2;
const RANGE_BEGIN: u16 = 1 << 3;
const RANGE_END: u16 = 1 << 4;
/// Longer than any message about one link, however it is in VLANs.
const LONGEST: usize = 64 * 1024;
/// The length of a message's header, and of what stands before the attributes of a link.
const HEADER: usize = 16;

/// VLANs that follow each other, and how a link is in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VlanRange {
    /// The first one.
    pub first: u16,
    /// The last one.
    pub last: u16,
    /// Their packets go out without a tag.
    pub untagged: bool,
    /// Packets that come in without a tag are in it; of one VLAN alone.
    pub native: bool,
}

/// A link, as one that has VLANs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VlanEnd {
    /// A port of a bridge.
    Port(u32),
    /// A bridge itself.
    Bridge(u32),
}

impl VlanEnd {
    fn index(self) -> u32 {
        match self {
            VlanEnd::Port(index) | VlanEnd::Bridge(index) => index,
        }
    }

    fn header(self) -> Ifinfomsg {
        Ifinfomsg {
            ifi_family: libc::AF_BRIDGE as u8,
            ifi_index: self.index() as i32,
            ..Ifinfomsg::default()
        }
    }

    fn push(self, mut link: PushLinkAttrs<&mut Vec<u8>>, range: VlanRange) {
        let buffer = link.as_vec_mut();
        let families = push_nested_header(buffer, AF_SPEC);
        if matches!(self, VlanEnd::Bridge(_)) {
            push_header(buffer, FLAGS, 2);
            buffer.extend(SELF.to_ne_bytes());
        }
        let mut flags = 0;
        if range.native {
            flags |= PVID;
        }
        if range.untagged {
            flags |= UNTAGGED;
        }
        let mut info = |flags: u16, id: u16| {
            push_header(buffer, VLAN_INFO, 4);
            buffer.extend(flags.to_ne_bytes());
            buffer.extend(id.to_ne_bytes());
        };
        if range.first == range.last {
            info(flags, range.first);
        } else {
            info(flags | RANGE_BEGIN, range.first);
            info(flags | RANGE_END, range.last);
        }
        finalize_nested_header(buffer, families);
    }
}

impl Netlink {
    /// The VLANs that each link is in, by index: the ports of all bridges, and the bridges themselves.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn vlans(&mut self) -> Result<BTreeMap<u32, Vec<VlanRange>>, NetError> {
        dump().map_err(|source| NetError::List { what: "VLANs of bridges", source: source.into() })
    }

    /// Puts a link into VLANs in one way, whatever it was in them before.
    ///
    /// # Errors
    /// When the kernel refuses: for one when the link is no port of a bridge.
    pub fn add_vlans(&mut self, end: VlanEnd, range: VlanRange) -> Result<(), NetError> {
        let mut request = Request::new().op_setlink_do(&end.header());
        end.push(request.encode(), range);
        self.change(&request).map_err(|source| failed(end, source))
    }

    /// Takes a link out of VLANs; it is no error when it is in none of them.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn del_vlans(&mut self, end: VlanEnd, range: VlanRange) -> Result<(), NetError> {
        let mut request = Request::new().op_dellink_do(&end.header());
        let range = VlanRange { native: false, untagged: false, ..range };
        end.push(request.encode(), range);
        self.remove(&request).map_err(|source| failed(end, source))
    }
}

fn failed(end: VlanEnd, source: Refusal) -> NetError {
    NetError::Link { index: end.index(), change: LinkChange::Vlans, source }
}

fn dump() -> io::Result<BTreeMap<u32, Vec<VlanRange>>> {
    // Protocol 0 is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    send(&socket, &question(), SendFlags::empty())?;
    let mut links = BTreeMap::new();
    let mut buffer = vec![0; LONGEST];
    loop {
        let (read, length) = recv(&socket, &mut buffer[..], RecvFlags::TRUNC)?;
        let datagram = buffer.get(..read).filter(|_| read == length);
        let datagram = datagram.ok_or_else(|| io::Error::other("an answer is too long"))?;
        if take(datagram, &mut links)? {
            return Ok(links);
        }
    }
}

/// Asks for all links of bridges, with their VLANs.
fn question() -> Vec<u8> {
    let header = Ifinfomsg { ifi_family: libc::AF_BRIDGE as u8, ..Ifinfomsg::default() };
    let mut rest = header.as_slice().to_vec();
    push_header(&mut rest, EXT_MASK, 4);
    rest.extend(VLAN_RANGES.to_ne_bytes());
    let length = u32::try_from(rest.len().saturating_add(HEADER)).unwrap_or_default();
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    let mut question = length.to_ne_bytes().to_vec();
    question.extend(libc::RTM_GETLINK.to_ne_bytes());
    question.extend(flags.to_ne_bytes());
    // The kernel repeats the number, and there is one question only; it knows whose socket it is.
    question.extend([0; 8]);
    question.extend(rest);
    question
}

/// Takes what a datagram says, and tells whether it is the last one.
fn take(mut datagram: &[u8], links: &mut BTreeMap<u32, Vec<VlanRange>>) -> io::Result<bool> {
    let broken = || io::Error::other("an answer ends too early");
    while !datagram.is_empty() {
        let length = word(datagram, 0).and_then(|length| usize::try_from(length).ok());
        let message = length.and_then(|length| datagram.get(..length)).ok_or_else(broken)?;
        let body = message.get(HEADER..).ok_or_else(broken)?;
        match half(message, 4).map(i32::from) {
            Some(libc::NLMSG_DONE) => return Ok(true),
            Some(libc::NLMSG_ERROR) => {
                let code = word(body, 0).ok_or_else(broken)?.cast_signed();
                return Err(io::Error::from_raw_os_error(code.saturating_neg()));
            }
            Some(kind) if kind == i32::from(libc::RTM_NEWLINK) => {
                let index = word(body, 4).ok_or_else(broken)?;
                let ranges = body.get(HEADER..).and_then(ranges);
                links.entry(index).or_default().extend(ranges.into_iter().flatten());
            }
            Some(_) | None => {}
        }
        let next = message.len().next_multiple_of(4);
        datagram = datagram.get(next..).unwrap_or_default();
    }
    Ok(false)
}

/// The VLANs within the attributes of a link; none of what its own driver says, which some add.
fn ranges(attributes: &[u8]) -> Option<Vec<VlanRange>> {
    let (_, families) = each(attributes).find(|(kind, _)| *kind == AF_SPEC)?;
    let driver = |(kind, value): (u16, &[u8])| {
        kind == FLAGS && half(value, 0).is_some_and(|flags| flags & SELF != 0)
    };
    if each(families).any(driver) {
        return None;
    }
    let mut ranges = Vec::new();
    let mut begun = None;
    for (_, value) in each(families).filter(|(kind, _)| *kind == VLAN_INFO) {
        let (flags, id) = (half(value, 0)?, half(value, 2)?);
        if flags & RANGE_BEGIN != 0 {
            begun = Some(id);
            continue;
        }
        let first = begun.take().filter(|_| flags & RANGE_END != 0).unwrap_or(id);
        let (untagged, native) = (flags & UNTAGGED != 0, flags & PVID != 0);
        ranges.push(VlanRange { first, last: id, untagged, native });
    }
    Some(ranges)
}

/// The attributes of a message, each with its number.
fn each(attributes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut position = 0;
    std::iter::from_fn(move || {
        chop_header(attributes, &mut position).map(|(header, value)| (header.r#type, value))
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

#[cfg(test)]
mod tests;
