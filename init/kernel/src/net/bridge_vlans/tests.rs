// SPDX-License-Identifier: Apache-2.0
//! The words of bridge(8), byte for byte, and what the kernel answers to them.

use super::*;
use netlink_bindings::traits::NetlinkRequest as _;

/// What a request says after the header of its message.
fn said(end: VlanEnd, range: VlanRange) -> Vec<u8> {
    let mut request = Request::new().op_setlink_do(&end.header());
    end.push(request.encode(), range);
    request.payload().to_vec()
}

#[test]
fn it_says_what_bridge_8_says() {
    // `bridge vlan add dev NAME vid 20-29`, as strace shows it; the kernel does not look at the mark of a nest.
    let tagged = VlanRange { first: 20, last: 29, untagged: false, native: false };
    let expected = b"\x07\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\
        \x14\x00\x1a\x80\x08\x00\x02\x00\x08\x00\x14\x00\x08\x00\x02\x00\x10\x00\x1d\x00";
    assert_eq!(said(VlanEnd::Port(4), tagged), expected);
    // `bridge vlan add dev NAME vid 10 pvid untagged self`.
    let native = VlanRange { first: 10, last: 10, untagged: true, native: true };
    let expected = b"\x07\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\
        \x14\x00\x1a\x80\x06\x00\x00\x00\x02\x00\x00\x00\x08\x00\x02\x00\x06\x00\x0a\x00";
    assert_eq!(said(VlanEnd::Bridge(2), native), expected);
}

/// A message, and the padding after it.
fn message(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut message = u32::try_from(body.len() + HEADER).expect("a length").to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend([0; 10]);
    message.extend(body);
    message.resize(message.len().next_multiple_of(4), 0);
    message
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut attribute = u16::try_from(value.len() + 4).expect("a length").to_ne_bytes().to_vec();
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

/// A message about a link, with this in its `IFLA_AF_SPEC`.
fn link(index: u32, families: &[u8]) -> Vec<u8> {
    let mut body = vec![libc::AF_BRIDGE as u8, 0, 1, 0];
    body.extend(index.to_ne_bytes());
    body.extend([0; 8]);
    body.extend(attribute(libc::IFLA_IFNAME, b"port\0"));
    body.extend(attribute(AF_SPEC, families));
    message(libc::RTM_NEWLINK, &body)
}

fn info(flags: u16, id: u16) -> Vec<u8> {
    attribute(VLAN_INFO, &[flags.to_ne_bytes(), id.to_ne_bytes()].concat())
}

#[test]
fn it_reads_what_the_kernel_says_of_ports_and_not_what_drivers_do() {
    let port = [info(6, 1), info(8, 20), info(16, 29), info(0, 40)].concat();
    let driver = [attribute(FLAGS, &SELF.to_ne_bytes()), info(6, 99)].concat();
    let datagram = [link(4, &port), link(4, &driver), link(5, &[])].concat();
    let mut links = BTreeMap::new();
    assert!(!take(&datagram, &mut links).expect("messages"));
    assert!(take(&message(3, &[0; 4]), &mut links).expect("the end"));
    let range = |first, last, both| VlanRange { first, last, untagged: both, native: both };
    let expected = vec![range(1, 1, true), range(20, 29, false), range(40, 40, false)];
    assert_eq!(links, BTreeMap::from([(4, expected), (5, vec![])]));
    let refused = take(&message(2, &(-95_i32).to_ne_bytes()), &mut links);
    assert_eq!(refused.expect_err("a refusal").raw_os_error(), Some(libc::EOPNOTSUPP));
    // Whatever is cut off is no more than that.
    for end in 1..datagram.len() {
        let _cut = take(&datagram[..end], &mut BTreeMap::new());
    }
}
