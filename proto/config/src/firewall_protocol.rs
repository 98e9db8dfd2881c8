// SPDX-License-Identifier: Apache-2.0
//! The protocol that an IP packet carries.

use crate::node::{Node, Tree};
use crate::record::did_you_mean;
use crate::report::{Report, quote};
use crate::shape::Shape;
use crate::value::{Secrets, Value, refuse_type};
use std::fmt;

/// Those with a name and one number for both families, as IANA has them.
const NAMED: [(&str, u8); 10] = [
    ("tcp", 6),
    ("udp", 17),
    ("sctp", 132),
    ("esp", 50),
    ("ah", 51),
    ("gre", 47),
    ("igmp", 2),
    ("ipip", 4),
    ("ospf", 89),
    ("vrrp", 112),
];
/// That with one number for each.
const ICMP: &str = "icmp";

/// The protocol that an IP packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirewallProtocol {
    /// ICMP and ICMPv6.
    Icmp,
    /// That of a number.
    Number(u8),
}

impl FirewallProtocol {
    /// TCP.
    pub const TCP: FirewallProtocol = FirewallProtocol::Number(6);
    /// UDP.
    pub const UDP: FirewallProtocol = FirewallProtocol::Number(17);
    /// SCTP.
    pub const SCTP: FirewallProtocol = FirewallProtocol::Number(132);

    /// Whether its packets have ports.
    #[must_use]
    pub fn has_ports(self) -> bool {
        [FirewallProtocol::TCP, FirewallProtocol::UDP, FirewallProtocol::SCTP].contains(&self)
    }

    fn name(self) -> Option<&'static str> {
        match self {
            FirewallProtocol::Icmp => Some(ICMP),
            FirewallProtocol::Number(number) => {
                NAMED.iter().find(|(_, named)| *named == number).map(|(name, _)| *name)
            }
        }
    }
}

impl fmt::Display for FirewallProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name(), self) {
            (Some(name), _) => f.write_str(name),
            (None, FirewallProtocol::Number(number)) => number.fmt(f),
            (None, FirewallProtocol::Icmp) => f.write_str(ICMP),
        }
    }
}

impl Value for FirewallProtocol {
    fn shape() -> Shape {
        Shape::Setting { what: "a protocol by its name, or a number from 0 to 255", example: "tcp" }
    }

    fn read(node: &Node, report: &mut Report) -> Option<FirewallProtocol> {
        let found = match &node.tree {
            Tree::Integer(number) => u8::try_from(*number).ok().map(FirewallProtocol::Number),
            Tree::Text(name) if name == ICMP => Some(FirewallProtocol::Icmp),
            Tree::Text(name) => {
                let named = NAMED.iter().find(|(named, _)| named == name);
                named.map(|(_, number)| FirewallProtocol::Number(*number))
            }
            _ => {
                refuse_type(node, &Self::shape(), report);
                return None;
            }
        };
        if found.is_none() {
            let message = match &node.tree {
                Tree::Text(name) => {
                    let names: Vec<&str> = NAMED.iter().map(|(name, _)| *name).collect();
                    let hint = did_you_mean(name, &[&names[..], &[ICMP]].concat());
                    format!("no protocol is called {} here{hint}", quote(name))
                }
                Tree::Integer(number) => format!("{number} is no protocol"),
                other => other.describe(),
            };
            report.find(node.line, message, Self::shape().expected());
        }
        found
    }

    fn write(&self, _: Secrets) -> Option<Tree> {
        Some(match (self.name(), self) {
            (None, FirewallProtocol::Number(number)) => Tree::Integer((*number).into()),
            (name, _) => Tree::from(name.unwrap_or(ICMP)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::FirewallProtocol;
    use crate::node::Node;
    use crate::report::Report;
    use crate::value::{Secrets, Value as _};
    use serde_json::{Value, json};

    fn read(value: &Value) -> Result<FirewallProtocol, String> {
        let node: Node = serde_json::from_value(value.clone()).unwrap();
        let mut report = Report::default();
        let read = FirewallProtocol::read(&node, &mut report);
        read.ok_or_else(|| report.into_findings()[0].message.clone())
    }

    #[test]
    fn a_name_or_a_number() {
        for (text, number) in
            [(json!("esp"), 50), (json!(50), 50), (json!(0), 0), (json!(255), 255)]
        {
            assert_eq!(read(&text), Ok(FirewallProtocol::Number(number)), "{text}");
        }
        assert_eq!(read(&json!("icmp")), Ok(FirewallProtocol::Icmp));
        // One of each number alone, as the names have them.
        assert_eq!(read(&json!(58)), Ok(FirewallProtocol::Number(58)));
        assert_eq!(read(&json!(6)), Ok(FirewallProtocol::TCP));
        for wrong in [json!("espp"), json!("ESP"), json!("50"), json!(256), json!(true)] {
            assert!(read(&wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            read(&json!("udpp")).unwrap_err(),
            "no protocol is called \"udpp\" here (did you mean \"udp\"?)"
        );
    }

    #[test]
    fn it_is_written_as_it_is_called() {
        for (read_as, written) in
            [(json!(132), json!("sctp")), (json!(41), json!(41)), (json!("icmp"), json!("icmp"))]
        {
            let tree = read(&read_as).unwrap().write(Secrets::Keep).unwrap();
            let written: Node = serde_json::from_value(written).unwrap();
            assert_eq!(format!("{tree:?}"), format!("{:?}", written.tree));
        }
    }
}
