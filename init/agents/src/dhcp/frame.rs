// SPDX-License-Identifier: Apache-2.0
//! Ethernet, IPv4 (RFC 791), UDP (RFC 768) and ARP (RFC 826), as far as DHCP needs them.

use super::Mac;
use std::net::Ipv4Addr;

/// Where servers listen.
const SERVER_PORT: u16 = 67;
/// Where clients listen.
pub const CLIENT_PORT: u16 = 68;
/// The longest frame that is received; what is longer is cut off by the kernel, and then refused for its length.
pub const LONGEST: usize = 1514;

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const UDP: u8 = 17;
const TIME_TO_LIVE: u8 = 64;
/// Hardware type Ethernet, protocol IPv4, with addresses of 6 and 4 bytes.
const ARP_FOR_IPV4: [u8; 8] = [0, 1, 0x08, 0, 6, 4, 0, 0];

/// Where a message goes, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The hardware address of the sender: ours.
    pub from: Mac,
    /// Our address; unspecified without one.
    pub source: Ipv4Addr,
    /// The hardware address of the next receiver.
    pub to: Mac,
    /// The server's address.
    pub destination: Ipv4Addr,
}

/// A DHCP payload, with the hardware address it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received<'a> {
    /// Who sent the frame: the server, or the router before it.
    pub from: Mac,
    /// What is in it.
    pub payload: &'a [u8],
}

/// An ARP packet about IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// Whether it asks, rather than answers.
    pub request: bool,
    /// The hardware address of its sender.
    pub sender: Mac,
    /// The address of its sender; unspecified in a probe (RFC 5227).
    pub sender_address: Ipv4Addr,
    /// The address it is about.
    pub target_address: Ipv4Addr,
}

/// Puts a DHCP payload into a frame from the client's port to the server's.
#[must_use]
pub fn build(route: &Route, payload: &[u8]) -> Vec<u8> {
    let udp_length = length(payload.len().saturating_add(8));
    let mut udp = Vec::with_capacity(payload.len().saturating_add(8));
    udp.extend(CLIENT_PORT.to_be_bytes());
    udp.extend(SERVER_PORT.to_be_bytes());
    udp.extend(udp_length.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    let sum = pseudo_header(route.source, route.destination, udp_length);
    // A checksum of 0 would mean that there is none.
    let checksum = match !fold(add(sum, &udp)) {
        0 => u16::MAX,
        other => other,
    };
    let mut ip = vec![0x45, 0];
    ip.extend(udp_length.saturating_add(20).to_be_bytes());
    // Identification 0, which needs none with DF set (RFC 6864); then DF.
    ip.extend([0, 0, 0x40, 0, TIME_TO_LIVE, UDP, 0, 0]);
    ip.extend(route.source.octets());
    ip.extend(route.destination.octets());
    let ip_checksum = !fold(add(0, &ip));
    put(&mut ip, 10, ip_checksum);
    put(&mut udp, 6, checksum);
    let mut frame = Vec::with_capacity(udp.len().saturating_add(34));
    frame.extend(route.to.0);
    frame.extend(route.from.0);
    frame.extend(ETHERTYPE_IPV4);
    frame.extend(ip);
    frame.extend(udp);
    frame
}

/// Takes the DHCP payload out of a frame for `mac`, if that is what it is, to the last length and checksum.
#[must_use]
pub fn parse(frame: &[u8], mac: Mac) -> Option<Received<'_>> {
    let (to, rest) = frame.split_first_chunk::<6>()?;
    let (from, rest) = rest.split_first_chunk::<6>()?;
    let (ethertype, packet) = rest.split_first_chunk::<2>()?;
    if *ethertype != ETHERTYPE_IPV4 || (*to != mac.0 && *to != Mac::BROADCAST.0) {
        return None;
    }
    let (first, _) = packet.split_first()?;
    let header_length = usize::from(first & 0x0f).checked_mul(4)?;
    let total = usize::from(u16_at(packet, 2)?);
    // Short frames are padded behind the packet.
    let packet = packet.get(..total)?;
    let (header, udp) = packet.split_at_checked(header_length)?;
    let fragment = u16_at(header, 6)? & 0x3fff != 0;
    if first >> 4 != 4
        || header_length < 20
        || fragment
        || *header.get(9)? != UDP
        || fold(add(0, header)) != 0xffff
    {
        return None;
    }
    let length = u16_at(udp, 4)?;
    let udp = udp.get(..usize::from(length))?;
    let (udp_header, payload) = udp.split_at_checked(8)?;
    if u16_at(udp_header, 0)? != SERVER_PORT || u16_at(udp_header, 2)? != CLIENT_PORT {
        return None;
    }
    let pseudo = pseudo_header(address_at(header, 12)?, address_at(header, 16)?, length);
    // Between virtual machines on one host the checksum may be left to hardware that never sees the packet; then its field holds
    // the sum of the pseudo header alone (CHECKSUM_PARTIAL in the kernel's skbuff.h).
    let stated = u16_at(udp_header, 6)?;
    let good = stated == 0 || stated == fold(pseudo) || fold(add(pseudo, udp)) == 0xffff;
    good.then_some(Received { from: Mac(*from), payload })
}

/// Puts an ARP request into a frame to everybody.
#[must_use]
pub fn build_arp(from: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::with_capacity(42);
    frame.extend(Mac::BROADCAST.0);
    frame.extend(from.0);
    frame.extend(ETHERTYPE_ARP);
    frame.extend(ARP_FOR_IPV4);
    frame.extend(from.0);
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    put(&mut frame, 20, 1);
    frame
}

/// Takes an ARP packet out of a frame, if that is what it is.
#[must_use]
pub fn parse_arp(frame: &[u8]) -> Option<Arp> {
    let packet = frame.get(12..)?.strip_prefix(&ETHERTYPE_ARP)?;
    let (kind, rest) = packet.split_first_chunk::<8>()?;
    let operation = u16_at(kind, 6)?;
    if kind.get(..6) != ARP_FOR_IPV4.get(..6) || !matches!(operation, 1 | 2) {
        return None;
    }
    let (sender, rest) = rest.split_first_chunk::<6>()?;
    Some(Arp {
        request: operation == 1,
        sender: Mac(*sender),
        sender_address: address_at(rest, 0)?,
        target_address: address_at(rest, 10)?,
    })
}

fn pseudo_header(source: Ipv4Addr, destination: Ipv4Addr, length: u16) -> u32 {
    let sum = add(add(0, &source.octets()), &destination.octets());
    sum.saturating_add(u32::from(UDP)).saturating_add(u32::from(length))
}

/// Adds 16-bit words to a sum (RFC 1071). 64 KiB of them fit without overflow.
fn add(sum: u32, bytes: &[u8]) -> u32 {
    let (words, odd) = bytes.as_chunks::<2>();
    let last = odd.first().map(|byte| u32::from(u16::from_be_bytes([*byte, 0])));
    words
        .iter()
        .map(|word| u32::from(u16::from_be_bytes(*word)))
        .chain(last)
        .fold(sum, u32::saturating_add)
}

fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff).saturating_add(sum >> 16);
    let twice = (once & 0xffff).saturating_add(once >> 16);
    u16::try_from(twice).unwrap_or(u16::MAX)
}

fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<2>()) {
        *place = value.to_be_bytes();
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk::<2>().map(|word| u16::from_be_bytes(*word))
}

fn address_at(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    bytes.get(at..)?.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const US: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    const SERVER: Mac = Mac([0x52, 0x55, 10, 0, 2, 2]);

    /// A frame from a server to us.
    fn frame(payload: &[u8]) -> Vec<u8> {
        let source = Ipv4Addr::new(10, 0, 2, 2);
        let route =
            Route { from: SERVER, source, to: US, destination: Ipv4Addr::new(10, 0, 2, 15) };
        let mut frame = build(&route, payload);
        // The ports the other way round; their sum, and so the checksum, is the same.
        frame[34..38].copy_from_slice(&[0, 67, 0, 68]);
        frame
    }

    #[test]
    fn a_frame_comes_out_as_it_went_in_even_padded() {
        let mut bytes = frame(b"odd");
        assert_eq!(parse(&bytes, US), Some(Received { from: SERVER, payload: b"odd" }));
        bytes.extend([0; 20]);
        assert_eq!(parse(&bytes, US).map(|received| received.payload), Some(&b"odd"[..]));
        assert_eq!(parse(&bytes, SERVER), None);
    }

    #[test]
    fn the_checksum_may_be_missing_or_left_to_hardware_but_not_wrong() {
        let mut bytes = frame(b"payload");
        bytes[41] ^= 1;
        assert_eq!(parse(&bytes, US), None);
        bytes[40..42].copy_from_slice(&[0, 0]);
        assert!(parse(&bytes, US).is_some());
        let partial =
            fold(pseudo_header(Ipv4Addr::new(10, 0, 2, 2), Ipv4Addr::new(10, 0, 2, 15), 15));
        bytes[40..42].copy_from_slice(&partial.to_be_bytes());
        assert!(parse(&bytes, US).is_some());
    }

    #[test]
    fn fragments_and_other_ports_are_not_taken() {
        for (at, value) in
            [(20, 0x20), (21, 1), (23, 6), (35, 68), (37, 67), (14, 0x55), (14, 0x44), (12, 9)]
        {
            let mut bytes = frame(b"payload");
            bytes[at] = value;
            let header_sum = {
                bytes[24..26].copy_from_slice(&[0, 0]);
                !fold(add(0, &bytes[14..34]))
            };
            bytes[24..26].copy_from_slice(&header_sum.to_be_bytes());
            bytes[40..42].copy_from_slice(&[0, 0]);
            assert_eq!(parse(&bytes, US), None, "byte {at}");
        }
    }

    #[test]
    fn a_probe_is_read_as_it_was_written() {
        let target = Ipv4Addr::new(10, 0, 2, 15);
        let sender_address = Ipv4Addr::UNSPECIFIED;
        let bytes = build_arp(US, sender_address, target);
        let arp = Arp { request: true, sender: US, sender_address, target_address: target };
        assert_eq!((bytes.len(), parse_arp(&bytes)), (42, Some(arp)));
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes, US);
            let _ = parse_arp(&bytes);
        }

        #[test]
        fn no_cut_or_flipped_frame_yields_more_than_it_holds(
            payload in prop::collection::vec(any::<u8>(), 0..64),
            at in 0..120_usize,
            value in any::<u8>(),
            keep in 0..160_usize,
        ) {
            let mut bytes = frame(&payload);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            bytes.truncate(keep);
            if let Some(received) = parse(&bytes, US) {
                prop_assert!(received.payload.len() <= bytes.len());
            }
        }
    }
}
