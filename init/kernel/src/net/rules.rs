// SPDX-License-Identifier: Apache-2.0
//! Rules that choose the table by which packets are routed.

use super::{NetError, Netlink, Refusal, family};
use netlink_bindings::rt_rule::{FibRuleHdr, PushFibRuleAttrs, Request};
use std::{fmt, net::IpAddr};

/// `FR_ACT_TO_TBL` of `linux/fib_rules.h`.
const TO_TABLE: u8 = 1;

/// A rule that leads to a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Whether it is one for IPv6.
    pub ipv6: bool,
    /// Lower ones are looked at first.
    pub priority: u32,
    /// Where packets come from: a network and its prefix length.
    pub from: Option<(IpAddr, u8)>,
    /// Where they go to.
    pub to: Option<(IpAddr, u8)>,
    /// The link that they came in by.
    pub incoming: Option<String>,
    /// The mark that they have.
    pub mark: Option<u32>,
    /// The table that they are routed by.
    pub table: u32,
    /// Who added it: [`super::OWNER`] for us.
    pub protocol: u8,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.ipv6 { "IPv6" } else { "IPv4" };
        write!(f, "{} of {family} to table {}", self.priority, self.table)
    }
}

impl Netlink {
    /// Every rule that leads to a table and has no other conditions than we know.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn rules(&mut self) -> Result<Vec<Rule>, NetError> {
        self.dump_rules().map_err(|source| NetError::List { what: "routing rules", source })
    }

    fn dump_rules(&mut self) -> Result<Vec<Rule>, Refusal> {
        let request = Request::new().op_getrule_dump(&FibRuleHdr::default());
        let mut reply = self.0.request(&request)?;
        let mut rules = Vec::new();
        while let Some(message) = reply.recv() {
            let (header, attributes) = message?;
            let ipv6 = match i32::from(header.family) {
                libc::AF_INET => false,
                libc::AF_INET6 => true,
                _ => continue,
            };
            if header.action != TO_TABLE {
                continue;
            }
            rules.push(Rule {
                ipv6,
                priority: attributes.get_priority().unwrap_or_default(),
                from: attributes.get_src().ok().map(|from| (from, header.src_len)),
                to: attributes.get_dst().ok().map(|to| (to, header.dst_len)),
                incoming: attributes
                    .get_iifname()
                    .ok()
                    .map(|name| name.to_string_lossy().into_owned()),
                mark: attributes.get_fwmark().ok(),
                table: attributes.get_table().unwrap_or_else(|_| u32::from(header.table)),
                protocol: attributes.get_protocol().unwrap_or_default(),
            });
        }
        Ok(rules)
    }

    /// Adds a rule.
    ///
    /// # Errors
    /// When the kernel refuses, for one when the same rule is there.
    pub fn add_rule(&mut self, rule: &Rule) -> Result<(), NetError> {
        let mut request = Request::new().set_create().set_excl().op_newrule_do(&header(rule));
        push(request.encode(), rule);
        self.change(&request).map_err(|source| NetError::AddRule { rule: rule.clone(), source })
    }

    /// Removes a rule of the same protocol; it is no error when it is gone already.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn del_rule(&mut self, rule: &Rule) -> Result<(), NetError> {
        let mut request = Request::new().op_delrule_do(&header(rule));
        push(request.encode(), rule);
        self.remove(&request).map_err(|source| NetError::DelRule { rule: rule.clone(), source })
    }
}

fn header(rule: &Rule) -> FibRuleHdr {
    let any = if rule.ipv6 { libc::AF_INET6 } else { libc::AF_INET } as u8;
    let one = rule.from.or(rule.to);
    FibRuleHdr {
        family: one.map_or(any, |(address, _)| family(address)),
        src_len: rule.from.map_or(0, |(_, prefix)| prefix),
        dst_len: rule.to.map_or(0, |(_, prefix)| prefix),
        action: TO_TABLE,
        ..FibRuleHdr::default()
    }
}

fn push(mut attributes: PushFibRuleAttrs<&mut Vec<u8>>, rule: &Rule) {
    attributes =
        attributes.push_priority(rule.priority).push_table(rule.table).push_protocol(rule.protocol);
    if let Some((from, _)) = rule.from {
        attributes = attributes.push_src(from);
    }
    if let Some((to, _)) = rule.to {
        attributes = attributes.push_dst(to);
    }
    if let Some(incoming) = &rule.incoming {
        attributes = attributes.push_iifname_bytes(incoming.as_bytes());
    }
    if let Some(mark) = rule.mark {
        attributes = attributes.push_fwmark(mark);
    }
    attributes.end_nested();
}
