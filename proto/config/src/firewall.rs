// SPDX-License-Identifier: Apache-2.0
//! Which packets the machine takes, sends and passes on.

use crate::choice::choice;
use crate::list::List;
use crate::node::Node;
use crate::packets::{Ports, Rate};
use crate::record::{Check, record};
use crate::report::Report;
use crate::{Cidr, FirewallProtocol, IcmpType, InterfaceName};

record! {
    /// Which packets the machine takes, sends and passes on.
    ///
    /// Rules are looked at in their order, and the first that holds for a packet decides; if none does, the default of its
    /// direction. What is always accepted: packets of the machine to itself, what belongs to a connection that was accepted, and
    /// what IPv6 can't do without (neighbours, routers, DHCPv6). The whole comes into force at once, and connections that an
    /// earlier one accepted live on.
    ///
    /// A machine passes packets on when a `Sysctl` has it do so. They are looked at when `forward` or a rule says something of
    /// them, and then of a connection only its first packet has to be accepted.
    ///
    /// A firewall that does not let whoever applies it connect to the API is refused, unless it is applied with `--confirm-within`; so
    /// is a first configuration that lets nobody do so. By which interface they come is not looked at: a rule of single interfaces
    /// counts where it drops, and not where it accepts.
    pub struct Firewall as "Firewall" {
        /// What becomes of a packet to the machine that no rule holds for.
        ingress: FirewallDefault = "accept",
        /// What becomes of a packet from the machine that no rule holds for.
        egress: FirewallDefault = "accept",
        /// What becomes of a packet that the machine passes on and that no rule holds for. Without it, `accept`.
        forward: Option<FirewallDefault>,
        /// The rules, in order.
        rules: List<FirewallRule, 0, 128>,
    }
}

record! {
    /// A rule. It holds for what all of its conditions hold for; of a condition with several values, one has to.
    pub struct FirewallRule as "FirewallRule" {
        /// Which packets it is for: those to the machine, those from it, or those that it passes on.
        direction: Direction = "ingress",
        /// What becomes of them: `reject` drops them, too, and says so to whoever sent them.
        action: FirewallAction = "accept",
        /// Where they come from, as networks.
        from: List<Cidr, 0, 64>,
        /// Where they go to, as networks.
        to: List<Cidr, 0, 64>,
        /// The interfaces that they come in by, or go out by; of packets that are passed on, `incoming` and `outgoing`.
        interfaces: List<InterfaceName, 0, 64>,
        /// The interfaces that packets come in by that are passed on.
        incoming: List<InterfaceName, 0, 64>,
        /// The interfaces that they go out by.
        outgoing: List<InterfaceName, 0, 64>,
        /// Their protocol: `tcp`, `udp`, `sctp`, `icmp`, `esp`, `ah`, `gre`, `igmp`, `ipip`, `ospf`, `vrrp`, or its number. `icmp` is
        /// that of IPv4 and of IPv6. An `ah` of IPv6 is passed over: what it protects counts.
        protocol: Option<FirewallProtocol>,
        /// The ports that they go to, with `tcp`, `udp` or `sctp`: numbers, or ranges such as `8000-8100`.
        ports: List<Ports, 0, 64>,
        /// The ports that they come from.
        source_ports as "sourcePorts": List<Ports, 0, 64>,
        /// Their types, with `icmp`, by the names that IANA has for them.
        icmp_types as "icmpTypes": List<IcmpType, 0, 32>,
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
        /// Those that it passes on.
        Forward = "forward",
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

    /// What becomes of a packet that is passed on and that no rule holds for.
    #[must_use]
    pub fn forward(&self) -> FirewallDefault {
        self.forward.unwrap_or(FirewallDefault::Accept)
    }

    /// Whether packets that are passed on are looked at.
    #[must_use]
    pub fn looks_at_forward(&self) -> bool {
        self.forward() == FirewallDefault::Drop
            || self.rules.iter().any(|rule| rule.direction == Direction::Forward)
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

    /// The interfaces that they come in by; empty for any.
    #[must_use]
    pub fn incoming(&self) -> &[InterfaceName] {
        match self.direction {
            Direction::Ingress => &self.interfaces,
            Direction::Egress => &[],
            Direction::Forward => &self.incoming,
        }
    }

    /// The interfaces that they go out by; empty for any.
    #[must_use]
    pub fn outgoing(&self) -> &[InterfaceName] {
        match self.direction {
            Direction::Ingress => &[],
            Direction::Egress => &self.interfaces,
            Direction::Forward => &self.outgoing,
        }
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

    /// The ports that they come from.
    #[must_use]
    pub fn source_ports(&self) -> &[Ports] {
        &self.source_ports
    }

    /// Their types of ICMP and ICMPv6.
    #[must_use]
    pub fn icmp_types(&self) -> &[IcmpType] {
        &self.icmp_types
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
            let ported = rule.protocol.is_some_and(FirewallProtocol::has_ports);
            let ports = !rule.ports.is_empty() || !rule.source_ports.is_empty();
            if ports && !ported {
                let expected = "protocol: tcp or udp or sctp";
                find("has ports and no protocol that has them", expected);
            }
            if rule.direction == Direction::Forward && !rule.interfaces.is_empty() {
                let message = "interfaces could be those that packets come in by or go out by";
                find(message, "incoming or outgoing");
            }
            let passed_on = !rule.incoming.is_empty() || !rule.outgoing.is_empty();
            if rule.direction != Direction::Forward && passed_on {
                let message = "incoming and outgoing are of packets that are passed on";
                find(message, "interfaces, or direction: forward");
            }
            if !rule.icmp_types.is_empty() && rule.protocol != Some(FirewallProtocol::Icmp) {
                find("has types of ICMP and no protocol that has them", "protocol: icmp");
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
            let here = |kind: &&IcmpType| {
                [true, false].iter().any(|ipv4| both(*ipv4) && kind.number(!ipv4).is_some())
            };
            if let Some(kind) = rule.icmp_types.iter().find(|kind| !here(kind)) {
                find(&format!("there is no {kind} between these networks"), "a type that is");
            }
        }
    }
}

impl Check for FirewallRule {}
