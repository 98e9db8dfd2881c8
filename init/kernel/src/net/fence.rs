// SPDX-License-Identifier: Apache-2.0
//! Fences: a port of an address that the processes of one user alone reach, by rules that refuse to route anybody else there.
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

/// A port of an address, and who reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    /// The address.
    pub address: IpAddr,
    /// The TCP port.
    pub port: u16,
    /// The user who reaches it.
    pub user: u32,
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {} of {} for user {} alone", self.port, self.address, self.user)
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
            (ports.start, ports.end) = (fence.port, fence.port);
            // Each kind of request has a type of its own, with the same attributes.
            macro_rules! attributes {
                ($request:expr) => {
                    $request
                        .encode()
                        .push_priority(PRIORITY)
                        .push_protocol(OWNER)
                        .push_dst(fence.address)
                        .push_ip_proto(libc::IPPROTO_TCP as u8)
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
