// SPDX-License-Identifier: Apache-2.0
//! Whether a router asks for DHCPv6, as PID 1 hears of it.

use crate::lab::{Lab, wait_for};
use stele_kernel::net::{Monitor, Netlink};

/// The flags Managed and Other of the link.
fn flags(netlink: &mut Netlink) -> (bool, bool) {
    let links = netlink.links().expect("links");
    let link = links.iter().find(|link| link.name == "client").expect("the link");
    (link.managed, link.other)
}

#[test]
fn what_a_router_says_of_dhcpv6_is_heard_and_kept_when_it_is_gone() {
    let mut lab = Lab::new("flags");
    let (mut netlink, monitor) = lab.on("client", || {
        let mut netlink = Netlink::new();
        assert_eq!(flags(&mut netlink), (false, false));
        (netlink, Monitor::new().expect("subscribing"))
    });
    // Nothing else that wakes anyone: no prefix, and no default route.
    let mut hears = |lab: &mut Lab, lines: &str, expected| {
        monitor.drain().expect("what is old");
        lab.advertise(&format!("AdvDefaultLifetime 0; {lines}"));
        wait_for(lines, || monitor.drain().expect("the socket").then_some(()));
        wait_for(lines, || (flags(&mut netlink) == expected).then_some(()));
    };
    hears(&mut lab, "AdvOtherConfigFlag on;", (false, true));
    hears(&mut lab, "AdvManagedFlag on;", (true, false));
    lab.silence();
    assert_eq!(flags(&mut netlink), (true, false));
}
