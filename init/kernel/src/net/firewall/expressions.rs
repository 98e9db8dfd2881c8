// SPDX-License-Identifier: Apache-2.0
//! The conditions of a rule in the small language of nftables: load into a register, compare it, go on or not.
//!
//! The bindings know no `limit`, so all of them are written by number here (`linux/netfilter/nf_tables.h`).

use super::Verdict;
use netlink_bindings::{
    nftables::PushRuleAttrs,
    traits::Pusher,
    utils::{finalize_nested_header, push_header, push_nested_header},
};

/// `NFT_REG_1` and `NFT_REG_VERDICT`.
const REGISTER: u32 = 1;
const VERDICT: u32 = 0;
/// Keys of `meta`.
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
/// `NFT_PAYLOAD_NETWORK_HEADER` and `NFT_PAYLOAD_TRANSPORT_HEADER`.
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
/// `NFT_CMP_EQ` and `NFT_CMP_NEQ`.
const EQUAL: u32 = 0;
const DIFFERENT: u32 = 1;
/// `NFT_CT_STATE`, and the bits of connections that are established or related to one.
const CT_STATE: u32 = 0;
const KNOWN: u32 = 2 | 4;
/// `NFT_REJECT_ICMPX_UNREACH` with `NFT_REJECT_ICMPX_ADMIN_PROHIBITED`.
const REJECT_ICMPX: u32 = 2;
const PROHIBITED: u8 = 3;
/// `NFTA_RULE_EXPRESSIONS`, `NFTA_LIST_ELEM`, `NFTA_EXPR_NAME` and `NFTA_EXPR_DATA`.
const RULE_EXPRESSIONS: u16 = 4;
const LIST_ELEM: u16 = 1;
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
/// `NFTA_DATA_VALUE`, `NFTA_DATA_VERDICT` and `NFTA_VERDICT_CODE`.
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;

/// The conditions of a rule, and what becomes of a packet.
#[derive(Default)]
pub(super) struct Expressions(Vec<u8>);

impl Expressions {
    pub(super) fn family(&mut self, ipv6: bool) {
        self.meta(META_NFPROTO);
        let family = if ipv6 { libc::NFPROTO_IPV6 } else { libc::NFPROTO_IPV4 };
        self.compare(EQUAL, &[family as u8]);
    }

    pub(super) fn interface(&mut self, outgoing: bool, set: String) {
        self.meta(if outgoing { META_OIFNAME } else { META_IIFNAME });
        self.lookup(&set);
    }

    pub(super) fn address(&mut self, ipv6: bool, source: bool, set: String) {
        // Where the addresses stand in the headers of RFC 791 and RFC 8200.
        let (offset, length) = match (ipv6, source) {
            (false, true) => (12, 4),
            (false, false) => (16, 4),
            (true, true) => (8, 16),
            (true, false) => (24, 16),
        };
        self.payload(NETWORK, offset, length);
        self.lookup(&set);
    }

    pub(super) fn transport(&mut self, protocol: u8) {
        self.meta(META_L4PROTO);
        self.compare(EQUAL, &[protocol]);
    }

    pub(super) fn port(&mut self, source: bool, set: String) {
        // The same in TCP, UDP and SCTP.
        self.payload(TRANSPORT, if source { 0 } else { 2 }, 2);
        self.lookup(&set);
    }

    pub(super) fn icmp_type(&mut self, set: String) {
        self.payload(TRANSPORT, 0, 1);
        self.lookup(&set);
    }

    pub(super) fn established(&mut self) {
        self.expression("ct", |data| {
            number(data, 1, REGISTER);
            number(data, 2, CT_STATE);
        });
        self.expression("bitwise", |data| {
            number(data, 1, REGISTER);
            number(data, 2, REGISTER);
            number(data, 3, 4);
            value(data, 4, &KNOWN.to_ne_bytes());
            value(data, 5, &0_u32.to_ne_bytes());
        });
        self.compare(DIFFERENT, &0_u32.to_ne_bytes());
    }

    pub(super) fn limit(&mut self, count: u32, seconds: u32) {
        self.expression("limit", |data| {
            long(data, 1, count.into());
            long(data, 2, seconds.into());
            number(data, 3, count);
        });
    }

    pub(super) fn verdict(&mut self, verdict: Verdict) {
        let code = match verdict {
            Verdict::Accept => libc::NF_ACCEPT,
            Verdict::Drop => libc::NF_DROP,
            Verdict::Reject => {
                return self.expression("reject", |data| {
                    number(data, 1, REJECT_ICMPX);
                    bytes(data, 2, &[PROHIBITED]);
                });
            }
        };
        self.expression("immediate", |data| {
            number(data, 1, VERDICT);
            let outer = push_nested_header(data, 2);
            let inner = push_nested_header(data, DATA_VERDICT);
            number(data, VERDICT_CODE, code as u32);
            finalize_nested_header(data, inner);
            finalize_nested_header(data, outer);
        });
    }

    /// Writes them into a rule.
    pub(super) fn push<P: Pusher>(self, mut rule: PushRuleAttrs<P>) {
        let buffer = rule.as_vec_mut();
        let list = push_nested_header(buffer, RULE_EXPRESSIONS);
        buffer.extend(self.0);
        finalize_nested_header(buffer, list);
    }

    fn meta(&mut self, key: u32) {
        self.expression("meta", |data| {
            number(data, 1, REGISTER);
            number(data, 2, key);
        });
    }

    fn payload(&mut self, base: u32, offset: u32, length: u32) {
        self.expression("payload", |data| {
            number(data, 1, REGISTER);
            number(data, 2, base);
            number(data, 3, offset);
            number(data, 4, length);
        });
    }

    fn compare(&mut self, operation: u32, with: &[u8]) {
        self.expression("cmp", |data| {
            number(data, 1, REGISTER);
            number(data, 2, operation);
            value(data, 3, with);
        });
    }

    fn lookup(&mut self, set: &str) {
        self.expression("lookup", |data| {
            text(data, 1, set);
            number(data, 2, REGISTER);
        });
    }

    fn expression(&mut self, name: &str, fill: impl FnOnce(&mut Vec<u8>)) {
        let buffer = &mut self.0;
        let element = push_nested_header(buffer, LIST_ELEM);
        text(buffer, EXPR_NAME, name);
        let data = push_nested_header(buffer, EXPR_DATA);
        fill(buffer);
        finalize_nested_header(buffer, data);
        finalize_nested_header(buffer, element);
    }
}

fn bytes(buffer: &mut Vec<u8>, kind: u16, bytes: &[u8]) {
    push_header(buffer, kind, u16::try_from(bytes.len()).unwrap_or(u16::MAX));
    buffer.extend(bytes);
}

fn number(buffer: &mut Vec<u8>, kind: u16, number: u32) {
    bytes(buffer, kind, &number.to_be_bytes());
}

fn long(buffer: &mut Vec<u8>, kind: u16, number: u64) {
    bytes(buffer, kind, &number.to_be_bytes());
}

fn text(buffer: &mut Vec<u8>, kind: u16, text: &str) {
    let mut terminated = text.as_bytes().to_vec();
    terminated.push(0);
    bytes(buffer, kind, &terminated);
}

fn value(buffer: &mut Vec<u8>, kind: u16, with: &[u8]) {
    let outer = push_nested_header(buffer, kind);
    bytes(buffer, DATA_VALUE, with);
    finalize_nested_header(buffer, outer);
}
