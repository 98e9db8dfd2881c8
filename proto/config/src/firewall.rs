// SPDX-License-Identifier: Apache-2.0
//! Which packets the machine takes and sends.

use crate::choice::choice;
use crate::list::List;
use crate::node::Node;
use crate::packets::{Ports, Rate};
use crate::record::{Check, record};
use crate::report::Report;
use crate::{Cidr, InterfaceName};

record! {
    /// Which packets the machine takes and sends.
    ///
    /// Rules are looked at in their order, and the first that holds for a packet decides; if none does, the default of its
    /// direction. What is always accepted: packets of the machine to itself, what belongs to a connection that was accepted, and
    /// what IPv6 can't do without (neighbours, routers, DHCPv6). Packets that the machine passes on are not looked at. The whole
    /// comes into force at once, and connections that an earlier one accepted live on.
    ///
    /// A firewall that lets nobody reach the API is refused, unless it is applied with `--confirm-within`.
    pub struct Firewall as "Firewall" {
        /// What becomes of a packet to the machine that no rule holds for.
        ingress: FirewallDefault = "accept",
        /// What becomes of a packet from the machine that no rule holds for.
        egress: FirewallDefault = "accept",
        /// The rules, in order.
        rules: List<FirewallRule, 0, 128>,
    }
}

record! {
    /// A rule. It holds for what all of its conditions hold for; of a condition with several values, one has to.
    pub struct FirewallRule as "FirewallRule" {
        /// Which packets it is for: those to the machine, or those from it.
        direction: Direction = "ingress",
        /// What becomes of them: `reject` drops them, too, and says so to whoever sent them.
        action: FirewallAction = "accept",
        /// Where they come from, as networks.
        from: List<Cidr, 0, 64>,
        /// Where they go to, as networks.
        to: List<Cidr, 0, 64>,
        /// The interfaces that they come in by, or go out by.
        interfaces: List<InterfaceName, 0, 64>,
        /// Their protocol. `icmp` is that of IPv4 and of IPv6.
        protocol: Option<FirewallProtocol>,
        /// The ports that they go to, with `tcp` or `udp`: numbers, or ranges such as `8000-8100`.
        ports: List<Ports, 0, 64>,
        /// Only as many as this, such as `10/second`; the next rules are looked at for more.
        rate: Option<Rate>,
    }
}

choice! {
    /// What becomes of a packet that no rule holds for.
    pub enum FirewallDefault {
        /// It goes on.
        Accept = "accept",
        /// It is gone.
        Drop = "drop",
    }
}

choice! {
    /// Which packets a rule is for.
    pub enum Direction {
        /// Those to the machine.
        Ingress = "ingress",
        /// Those from it.
        Egress = "egress",
    }
}

choice! {
    /// What becomes of a packet.
    pub enum FirewallAction {
        /// It goes on.
        Accept = "accept",
        /// It is gone.
        Drop = "drop",
        /// It is gone, and whoever sent it is told.
        Reject = "reject",
    }
}

choice! {
    /// The protocol of a packet.
    pub enum FirewallProtocol {
        /// TCP.
        Tcp = "tcp",
        /// UDP.
        Udp = "udp",
        /// ICMP and ICMPv6.
        Icmp = "icmp",
    }
}

impl Firewall {
    /// What becomes of a packet to the machine that no rule holds for.
    #[must_use]
    pub fn ingress(&self) -> FirewallDefault {
        self.ingress
    }

    /// What becomes of a packet from the machine that no rule holds for.
    #[must_use]
    pub fn egress(&self) -> FirewallDefault {
        self.egress
    }

    /// The rules, in order.
    #[must_use]
    pub fn rules(&self) -> &[FirewallRule] {
        &self.rules
    }
}

impl FirewallRule {
    /// Which packets it is for.
    #[must_use]
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// What becomes of them.
    #[must_use]
    pub fn action(&self) -> FirewallAction {
        self.action
    }

    /// Where they come from.
    #[must_use]
    pub fn from(&self) -> &[Cidr] {
        &self.from
    }

    /// Where they go to.
    #[must_use]
    pub fn to(&self) -> &[Cidr] {
        &self.to
    }

    /// The interfaces that they come in by, or go out by.
    #[must_use]
    pub fn interfaces(&self) -> &[InterfaceName] {
        &self.interfaces
    }

    /// Their protocol.
    #[must_use]
    pub fn protocol(&self) -> Option<FirewallProtocol> {
        self.protocol
    }

    /// The ports that they go to.
    #[must_use]
    pub fn ports(&self) -> &[Ports] {
        &self.ports
    }

    /// How many it holds for.
    #[must_use]
    pub fn rate(&self) -> Option<Rate> {
        self.rate
    }
}

impl Check for Firewall {
    fn check(&self, node: &Node, report: &mut Report) {
        for (index, rule) in self.rules.iter().enumerate() {
            let mut find = |message: &str, expected: &str| {
                report.find_item(node, ("rules", index), message, expected);
            };
            let ported =
                matches!(rule.protocol, Some(FirewallProtocol::Tcp | FirewallProtocol::Udp));
            if !rule.ports.is_empty() && !ported {
                find("has ports and no protocol that has them", "protocol: tcp or udp");
            }
            for network in rule.from.iter().chain(rule.to.iter()) {
                if network.network() != *network {
                    find(&format!("{network} has host bits"), &network.network().to_string());
                }
            }
            let families = |networks: &[Cidr], ipv4| {
                networks.is_empty()
                    || networks.iter().any(|network| network.address().is_ipv4() == ipv4)
            };
            let both = |ipv4| families(&rule.from, ipv4) && families(&rule.to, ipv4);
            if !both(true) && !both(false) {
                find("from and to are of different address families", "both IPv4 or both IPv6");
            }
        }
    }
}

impl Check for FirewallRule {}
