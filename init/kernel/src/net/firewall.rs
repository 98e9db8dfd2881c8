// SPDX-License-Identifier: Apache-2.0
//! One table of nftables that is ours, replaced as a whole.
//!
//! The table is named `stele` and carries a mark of what it was made from, by which it is known whether it is still the same.
//! Sets, chains and rules are made anew with it in one transaction: there is no moment without it or with half of it.

mod expressions;

use super::{NetError, Netlink, Refusal};
use expressions::Expressions;
use netlink_bindings::nftables::{Chained, Nfgenmsg, Request};
use std::net::IpAddr;

/// The name of our table.
const TABLE: &str = "stele";

/// `NFPROTO_INET`.
const INET: u8 = 1;
/// The resource that batches are for (`NFNL_SUBSYS_NFTABLES`).
const SUBSYSTEM: u16 = 10;
/// `NFT_SET_CONSTANT` and `NFT_SET_INTERVAL`.
const CONSTANT: u32 = 2;
const INTERVAL: u32 = 4;
/// `NFT_SET_ELEM_INTERVAL_END`.
const INTERVAL_END: u32 = 1;

/// Which packets are looked at, in a chain of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Those to the machine.
    Ingress,
    /// Those from it.
    Egress,
    /// Those that it passes on.
    Forward,
}

impl Direction {
    /// The name of the chain.
    fn chain(self) -> &'static [u8] {
        match self {
            Direction::Ingress => b"ingress",
            Direction::Egress => b"egress",
            Direction::Forward => b"forward",
        }
    }

    /// `NF_INET_LOCAL_IN`, `NF_INET_LOCAL_OUT` or `NF_INET_FORWARD`.
    fn hook(self) -> u32 {
        match self {
            Direction::Ingress => 1,
            Direction::Egress => 3,
            Direction::Forward => 2,
        }
    }
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Accept,
    /// It is gone.
    Drop,
    /// It is gone, and whoever sent it is told.
    Reject,
}

/// The transport of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// ICMP of the packet's family.
    Icmp,
    /// That of a number.
    Number(u8),
}

impl Transport {
    /// TCP.
    pub const TCP: Transport = Transport::Number(libc::IPPROTO_TCP as u8);
    /// UDP.
    pub const UDP: Transport = Transport::Number(libc::IPPROTO_UDP as u8);
}

/// A rule of our table. Ranges hold their ends, are in order, and do not meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirewallRule {
    /// Which packets it is for.
    pub direction: Direction,
    /// The family it is for; none for both.
    pub ipv6: Option<bool>,
    /// Where packets come from; empty for anywhere.
    pub from: Vec<(IpAddr, IpAddr)>,
    /// Where they go to.
    pub to: Vec<(IpAddr, IpAddr)>,
    /// The links that they come in by; empty for any.
    pub incoming: Vec<String>,
    /// The links that they go out by.
    pub outgoing: Vec<String>,
    /// Their transport.
    pub transport: Option<Transport>,
    /// The ports that they go to.
    pub ports: Vec<(u16, u16)>,
    /// The ports that they come from.
    pub source_ports: Vec<(u16, u16)>,
    /// The types of ICMP that they are of, in the numbers of the family.
    pub icmp_types: Vec<(u8, u8)>,
    /// Only so many, in so many seconds.
    pub rate: Option<(u32, u32)>,
    /// Only packets of connections that are known.
    pub established: bool,
    /// What becomes of them.
    pub verdict: Verdict,
}

/// All of our table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firewall {
    /// Whether packets to the machine that no rule is for are dropped.
    pub drops_ingress: bool,
    /// Whether packets from the machine that no rule is for are dropped.
    pub drops_egress: bool,
    /// Whether packets that are passed on and that no rule is for are dropped; none where they are not looked at.
    pub drops_forward: Option<bool>,
    /// The rules, in order.
    pub rules: Vec<FirewallRule>,
}

impl Netlink {
    /// The mark of our table; none when there is no such table.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn firewall(&mut self) -> Result<Option<Vec<u8>>, NetError> {
        match self.find_table() {
            Ok(mark) => Ok(Some(mark)),
            Err(refusal) if refusal.errno() == Some(libc::ENOENT) => Ok(None),
            Err(source) => Err(NetError::List { what: "tables of the firewall", source }),
        }
    }

    fn find_table(&mut self) -> Result<Vec<u8>, Refusal> {
        let mut request = Request::new().op_gettable_do(&header());
        request.encode().push_name_bytes(TABLE.as_bytes());
        let mut reply = self.0.request(&request)?;
        let (_, attributes) = reply.recv_one()?;
        Ok(attributes.get_userdata().map(<[u8]>::to_vec).unwrap_or_default())
    }

    /// Puts this in the place of our table, with a mark.
    ///
    /// # Errors
    /// When the kernel refuses; the table is the one before, then.
    pub fn set_firewall(&mut self, firewall: &Firewall, mark: &[u8]) -> Result<(), NetError> {
        self.transact(|batch| {
            delete(batch);
            batch
                .request()
                .set_create()
                .op_newtable_do(&header())
                .encode()
                .push_name_bytes(TABLE.as_bytes())
                .push_userdata(mark);
            let chains = [
                (Direction::Ingress, Some(firewall.drops_ingress)),
                (Direction::Egress, Some(firewall.drops_egress)),
                (Direction::Forward, firewall.drops_forward),
            ];
            for (direction, drops) in chains {
                let Some(drops) = drops else { continue };
                let policy = if drops { libc::NF_DROP } else { libc::NF_ACCEPT };
                batch
                    .request()
                    .set_create()
                    .op_newchain_do(&header())
                    .encode()
                    .push_table_bytes(TABLE.as_bytes())
                    .push_name_bytes(direction.chain())
                    .nested_hook()
                    .push_num(direction.hook())
                    .push_priority(0)
                    .end_nested()
                    .push_policy(policy as u32)
                    .push_type(c"filter");
            }
            let mut sets = 0;
            for rule in &firewall.rules {
                push_rule(batch, rule, &mut sets);
            }
        })
    }

    /// Removes our table; it is no error when there is none.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn del_firewall(&mut self) -> Result<(), NetError> {
        self.transact(delete)
    }

    fn transact(&mut self, fill: impl FnOnce(&mut Chained<'_>)) -> Result<(), NetError> {
        let mut batch = Chained::new(self.0.reserve_seq(u32::from(u16::MAX)));
        let mut header = Nfgenmsg::new();
        header.set_res_id(SUBSYSTEM);
        batch.request().op_batch_begin_do(&header);
        fill(&mut batch);
        batch.request().op_batch_end_do(&header);
        let batch = batch.finalize();
        let sent = self.0.request_chained(&batch).map_err(Refusal::from);
        sent.and_then(|mut replies| replies.recv_all().map_err(Refusal::from))
            .map_err(NetError::Firewall)
    }
}

fn header() -> Nfgenmsg {
    Nfgenmsg { nfgen_family: INET, ..Nfgenmsg::default() }
}

/// Makes the table first, so that there is one to delete.
fn delete(batch: &mut Chained<'_>) {
    let name = TABLE.as_bytes();
    batch.request().set_create().op_newtable_do(&header()).encode().push_name_bytes(name);
    batch.request().op_deltable_do(&header()).encode().push_name_bytes(name);
}

/// A rule, and before it the sets that it looks into.
fn push_rule(batch: &mut Chained<'_>, rule: &FirewallRule, sets: &mut u32) {
    let mut conditions = Expressions::default();
    if let Some(ipv6) = rule.ipv6 {
        conditions.family(ipv6);
    }
    for (interfaces, outgoing) in [(&rule.incoming, false), (&rule.outgoing, true)] {
        if !interfaces.is_empty() {
            let values = Values::Single(interfaces.iter().map(|name| padded(name)).collect());
            let set = push_set(batch, sets, &Keys { kind: 41, length: 16, values });
            conditions.interface(outgoing, set);
        }
    }
    for (networks, source) in [(&rule.from, true), (&rule.to, false)] {
        if !networks.is_empty() {
            let ipv6 = rule.ipv6.unwrap_or_default();
            let (kind, length) = if ipv6 { (8, 16) } else { (7, 4) };
            let ranges = networks.iter().map(|(first, last)| (octets(*first), octets(*last)));
            let values = Values::Ranges(ranges.collect());
            let set = push_set(batch, sets, &Keys { kind, length, values });
            conditions.address(ipv6, source, set);
        }
    }
    match rule.transport {
        Some(Transport::Number(number)) => conditions.transport(number),
        Some(Transport::Icmp) if rule.ipv6 == Some(true) => {
            conditions.transport(libc::IPPROTO_ICMPV6 as u8);
        }
        Some(Transport::Icmp) => conditions.transport(libc::IPPROTO_ICMP as u8),
        None => {}
    }
    for (ports, source) in [(&rule.source_ports, true), (&rule.ports, false)] {
        if !ports.is_empty() {
            let bytes = |port: u16| port.to_be_bytes().to_vec();
            let ranges = ports.iter().map(|(first, last)| (bytes(*first), bytes(*last)));
            let values = Values::Ranges(ranges.collect());
            let set = push_set(batch, sets, &Keys { kind: 13, length: 2, values });
            conditions.port(source, set);
        }
    }
    if !rule.icmp_types.is_empty() {
        let kind = if rule.ipv6 == Some(true) { 29 } else { 14 };
        let ranges = rule.icmp_types.iter().map(|(first, last)| (vec![*first], vec![*last]));
        let values = Values::Ranges(ranges.collect());
        let set = push_set(batch, sets, &Keys { kind, length: 1, values });
        conditions.icmp_type(set);
    }
    if rule.established {
        conditions.established();
    }
    if let Some((count, seconds)) = rule.rate {
        conditions.limit(count, seconds);
    }
    conditions.verdict(rule.verdict);
    let mut request = batch.request().set_create().set_append().op_newrule_do(&header());
    let attributes = request
        .encode()
        .push_table_bytes(TABLE.as_bytes())
        .push_chain_bytes(rule.direction.chain());
    conditions.push(attributes);
}

/// What a set holds, in the types of nft (`enum datatypes`).
struct Keys {
    kind: u32,
    length: u32,
    values: Values,
}

enum Values {
    Single(Vec<Vec<u8>>),
    Ranges(Vec<(Vec<u8>, Vec<u8>)>),
}

/// Makes a set and says its name.
fn push_set(batch: &mut Chained<'_>, sets: &mut u32, keys: &Keys) -> String {
    *sets = sets.saturating_add(1);
    let name = format!("set{sets}");
    let flags = match keys.values {
        Values::Single(_) => CONSTANT,
        Values::Ranges(_) => CONSTANT | INTERVAL,
    };
    batch
        .request()
        .set_create()
        .op_newset_do(&header())
        .encode()
        .push_table_bytes(TABLE.as_bytes())
        .push_name_bytes(name.as_bytes())
        .push_flags(flags)
        .push_key_type(keys.kind)
        .push_key_len(keys.length)
        .push_id(*sets);
    let mut request = batch.request().set_create().op_newsetelem_do(&header());
    let mut elements = request
        .encode()
        .push_table_bytes(TABLE.as_bytes())
        .push_set_bytes(name.as_bytes())
        .push_set_id(*sets)
        .nested_elements();
    match &keys.values {
        Values::Single(values) => {
            for value in values {
                elements =
                    elements.nested_elem().nested_key().push_value(value).end_nested().end_nested();
            }
        }
        Values::Ranges(ranges) => {
            for (first, last) in ranges {
                elements =
                    elements.nested_elem().nested_key().push_value(first).end_nested().end_nested();
                // The end is the first that is not in it; the last of all has none.
                if let Some(end) = after(last) {
                    elements = elements
                        .nested_elem()
                        .nested_key()
                        .push_value(&end)
                        .end_nested()
                        .push_flags(&INTERVAL_END.to_be_bytes())
                        .end_nested();
                }
            }
        }
    }
    elements.end_nested().end_nested();
    name
}

/// The next key.
fn after(key: &[u8]) -> Option<Vec<u8>> {
    let mut next = key.to_vec();
    for byte in next.iter_mut().rev() {
        let (more, carried) = byte.overflowing_add(1);
        *byte = more;
        if !carried {
            return Some(next);
        }
    }
    None
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The name of a link as the kernel compares it (`IFNAMSIZ`).
fn padded(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(libc::IFNAMSIZ, 0);
    bytes
}
