// SPDX-License-Identifier: Apache-2.0
//! Fences: ports of an address that the processes of one user alone reach, by rules that refuse to route anybody else there.
//!
//! See ip-rule(8): `uidrange`, `ipproto`, `dport` and the type `prohibit`. What is forwarded for others has no user of this
//! machine's, and counts as root.

use super::{NetError, Netlink, OWNER, Refusal, family};
use netlink_bindings::rt_rule::{FibRuleHdr, FibRulePortRange, FibRuleUidRange, Request};
use std::{fmt, net::IpAddr};

/// `FR_ACT_PROHIBIT` of `linux/fib_rules.h`.
const PROHIBIT: u8 = 8;
/// Before all rules but the kernel's own for local addresses, which was there first.
const PRIORITY: u32 = 0;
/// The last user: `(uid_t) -1` is none.
const LAST_USER: u32 = u32::MAX - 1;

/// Ports of an address, and who reaches them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    /// The address.
    pub address: IpAddr,
    /// Which.
    pub ports: Ports,
    /// The user who reaches them.
    pub user: u32,
}

/// The first and the last of a number of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// Of TCP.
    Tcp(u16, u16),
    /// Of UDP.
    Udp(u16, u16),
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Ports::Tcp(first, last) | Ports::Udp(first, last)) = self.ports;
        let transport = match self.ports {
            Ports::Tcp(..) => "TCP",
            Ports::Udp(..) => "UDP",
        };
        let Fence { address, user, .. } = self;
        write!(f, "{transport} ports {first} to {last} of {address} for user {user} alone")
    }
}

impl Netlink {
    /// Puts a fence up.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add_fence(&mut self, fence: &Fence) -> Result<(), NetError> {
        let failed = |source| NetError::Fence { fence: *fence, source };
        self.each_rule(fence, true).map_err(failed)
    }

    /// Takes one down; it is no error when it is gone already.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn del_fence(&mut self, fence: &Fence) -> Result<(), NetError> {
        let failed = |source| NetError::Fence { fence: *fence, source };
        self.each_rule(fence, false).map_err(failed)
    }

    fn each_rule(&mut self, fence: &Fence, add: bool) -> Result<(), Refusal> {
        let below = fence.user.checked_sub(1).map(|end| (0, end));
        let above = (fence.user < LAST_USER).then(|| (fence.user.saturating_add(1), LAST_USER));
        for (start, end) in [below, above].into_iter().flatten() {
            let header = FibRuleHdr {
                family: family(fence.address),
                dst_len: if fence.address.is_ipv4() { 32 } else { 128 },
                action: PROHIBIT,
                ..FibRuleHdr::default()
            };
            let (mut uids, mut ports) = (FibRuleUidRange::default(), FibRulePortRange::default());
            (uids.start, uids.end) = (start, end);
            let (Ports::Tcp(first, last) | Ports::Udp(first, last)) = fence.ports;
            (ports.start, ports.end) = (first, last);
            let transport = match fence.ports {
                Ports::Tcp(..) => libc::IPPROTO_TCP as u8,
                Ports::Udp(..) => libc::IPPROTO_UDP as u8,
            };
            // Each kind of request has a type of its own, with the same attributes.
            macro_rules! attributes {
                ($request:expr) => {
                    $request
                        .encode()
                        .push_priority(PRIORITY)
                        .push_protocol(OWNER)
                        .push_dst(fence.address)
                        .push_ip_proto(transport)
                        .push_uid_range(uids)
                        .push_dport_range(ports)
                        .end_nested()
                };
            }
            if add {
                let mut request = Request::new().set_create().set_excl().op_newrule_do(&header);
                attributes!(request);
                self.change(&request)?;
            } else {
                let mut request = Request::new().op_delrule_do(&header);
                attributes!(request);
                self.remove(&request)?;
            }
        }
        Ok(())
    }
}
