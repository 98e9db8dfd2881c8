// SPDX-License-Identifier: Apache-2.0
//! Several links that act as one.

use crate::InterfaceName;
use crate::choice::choice;
use crate::integer::Integer;
use crate::list::List;
use crate::node::Node;
use crate::record::{Check, record};
use crate::report::Report;
use crate::virtual_link::VirtualLink;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

record! {
    /// Several links that act as one: when one fails the others go on.
    ///
    /// The document makes the link; a `Link` of the same name gives it addresses, routes, DHCP and an MTU. The links in it
    /// have none of their own, and are set down for a moment when they come into it.
    pub struct Bond as "Bond" {
        /// The name of the link.
        name: InterfaceName,
        /// The links in it: their names, or those of their `Link` documents.
        links: List<InterfaceName, 0, 32>,
        /// How they share the work. `802.3ad` is LACP, for which the switch has to be set up as well.
        mode: BondMode = "active-backup",
        /// The one that works whenever it can, of those in `links`. With `active-backup`, `balance-tlb` and `balance-alb` alone.
        primary: Option<InterfaceName>,
        /// How often to look whether each still has a carrier, in milliseconds. Without it 100, unless `arpInterval` is given:
        /// links are looked at in one way only.
        miimon: Option<Integer<1, 60000>>,
        /// How long a link that has a carrier again is waited for before it is used, in milliseconds: a multiple of `miimon`.
        up_delay as "upDelay": Option<Integer<0, 600000>>,
        /// How long a link that has lost its carrier is still used, in milliseconds: a multiple of `miimon`.
        down_delay as "downDelay": Option<Integer<0, 600000>>,
        /// How often to ask `arpTargets` whether they are there, in milliseconds, in place of `miimon`: a link works while it
        /// receives something. With `balance-rr`, `active-backup`, `balance-xor` and `broadcast` alone.
        arp_interval as "arpInterval": Option<Integer<1, 60000>>,
        /// Whom to ask: addresses of machines on the network of the bond, IPv4 by ARP and IPv6 by neighbour solicitations.
        arp_targets as "arpTargets": List<IpAddr, 0, 16>,
        /// Of which links only an answer of `arpTargets` counts, or a question for them from another link of the bond, where
        /// anything counts otherwise that they receive. Without it, `none`.
        arp_validate as "arpValidate": Option<ArpValidate>,
        /// How often the other end is asked to speak: every 30 seconds, or every second. With `802.3ad` alone.
        lacp_rate as "lacpRate": Option<LacpRate>,
        /// Which parts of a packet decide which link it takes. With `802.3ad`, `balance-xor` and `balance-tlb` alone; without
        /// it, `layer2`.
        hash_policy as "hashPolicy": Option<HashPolicy>,
    }
}

choice! {
    /// How the links of a bond share the work.
    pub enum BondMode {
        /// Each packet takes the next link.
        RoundRobin = "balance-rr",
        /// One works, the others wait.
        ActiveBackup = "active-backup",
        /// What belongs together takes the same link.
        Xor = "balance-xor",
        /// Each packet takes all links.
        Broadcast = "broadcast",
        /// LACP.
        Lacp = "802.3ad",
        /// What is sent takes the link with the least to do.
        Tlb = "balance-tlb",
        /// What is received does, too.
        Alb = "balance-alb",
    }
}

choice! {
    /// Of which links of a bond only answers count.
    pub enum ArpValidate {
        /// Of none.
        None = "none",
        /// Of the one that works.
        Active = "active",
        /// Of those that wait.
        Backup = "backup",
        /// Of all.
        All = "all",
        /// Of none, but ARP alone counts.
        Filter = "filter",
        /// ARP alone counts, and of the one that works only answers.
        FilterActive = "filter_active",
        /// ARP alone counts, and of those that wait only answers.
        FilterBackup = "filter_backup",
    }
}

choice! {
    /// How often the other end of a bond is asked to speak.
    pub enum LacpRate {
        /// Every 30 seconds.
        Slow = "slow",
        /// Every second.
        Fast = "fast",
    }
}

choice! {
    /// Which parts of a packet decide which link it takes.
    pub enum HashPolicy {
        /// The hardware addresses.
        Layer2 = "layer2",
        /// The IP addresses and the ports.
        Layer34 = "layer3+4",
        /// The hardware addresses and the IP addresses.
        Layer23 = "layer2+3",
        /// The hardware and IP addresses within a tunnel.
        Encap23 = "encap2+3",
        /// The IP addresses and ports within a tunnel.
        Encap34 = "encap3+4",
        /// The VLAN and the hardware address of the sender.
        VlanSource = "vlan+srcmac",
    }
}

/// How often a carrier is looked for where nobody says otherwise, in milliseconds.
const DEFAULT_MIIMON: u32 = 100;

impl BondMode {
    /// The kernel's number for it: `BOND_MODE_*` of include/uapi/linux/if_bonding.h, in whose order they are declared.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The word for the mode with this number.
    pub(crate) fn word(number: usize) -> Option<&'static str> {
        BondMode::WORDS.get(number).copied()
    }
}

impl ArpValidate {
    /// The kernel's number for it: `bond_arp_validate_tbl` of drivers/net/bonding/bond_options.c, in whose order they are declared.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }
}

impl Bond {
    /// The name of the link.
    #[must_use]
    pub fn name(&self) -> &InterfaceName {
        &self.name
    }

    /// The links in it.
    #[must_use]
    pub fn links(&self) -> &[InterfaceName] {
        &self.links
    }

    /// How they share the work.
    #[must_use]
    pub fn mode(&self) -> BondMode {
        self.mode
    }

    /// The link that works whenever it can.
    #[must_use]
    pub fn primary(&self) -> Option<&InterfaceName> {
        self.primary.as_ref()
    }

    /// How often to look whether each has a carrier, in milliseconds; 0 for never.
    #[must_use]
    pub fn miimon(&self) -> u32 {
        let otherwise = if self.arp_interval.is_some() { 0 } else { DEFAULT_MIIMON };
        self.miimon.map_or(otherwise, Integer::value)
    }

    /// How long a link that has a carrier again is waited for, in milliseconds.
    #[must_use]
    pub fn up_delay(&self) -> u32 {
        self.up_delay.map_or(0, Integer::value)
    }

    /// How long a link that has lost its carrier is still used, in milliseconds.
    #[must_use]
    pub fn down_delay(&self) -> u32 {
        self.down_delay.map_or(0, Integer::value)
    }

    /// How often to ask others whether they are there, in milliseconds; 0 for never.
    #[must_use]
    pub fn arp_interval(&self) -> u32 {
        self.arp_interval.map_or(0, Integer::value)
    }

    /// Whom to ask by ARP.
    pub fn arp_targets(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.arp_targets.iter().filter_map(|target| match target {
            IpAddr::V4(target) => Some(*target),
            IpAddr::V6(_) => None,
        })
    }

    /// Whom to ask by neighbour solicitations.
    pub fn nd_targets(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.arp_targets.iter().filter_map(|target| match target {
            IpAddr::V4(_) => None,
            IpAddr::V6(target) => Some(*target),
        })
    }

    /// Of which links only answers count.
    #[must_use]
    pub fn arp_validate(&self) -> ArpValidate {
        self.arp_validate.unwrap_or(ArpValidate::None)
    }

    /// How often the other end is asked to speak.
    #[must_use]
    pub fn lacp_rate(&self) -> LacpRate {
        self.lacp_rate.unwrap_or(LacpRate::Slow)
    }

    /// Which parts of a packet decide which link it takes.
    #[must_use]
    pub fn hash_policy(&self) -> HashPolicy {
        self.hash_policy.unwrap_or(HashPolicy::Layer2)
    }
}

impl Check for Bond {
    fn check(&self, node: &Node, report: &mut Report) {
        VirtualLink::Bond(self.clone()).check_alone(node, report);
        if self.lacp_rate.is_some() && self.mode != BondMode::Lacp {
            let message = format!("{} knows no LACP", self.mode);
            report.find_at(node, "lacpRate", message, "mode: 802.3ad");
        }
        let hashes = matches!(self.mode, BondMode::Lacp | BondMode::Xor | BondMode::Tlb);
        if self.hash_policy.is_some() && !hashes {
            let message = format!("{} chooses links otherwise", self.mode);
            report.find_at(
                node,
                "hashPolicy",
                message,
                "mode: 802.3ad, balance-xor or balance-tlb",
            );
        }
        self.check_primary(node, report);
        self.check_arp(node, report);
        self.check_delays(node, report);
    }
}

impl Bond {
    fn check_primary(&self, node: &Node, report: &mut Report) {
        let Some(primary) = &self.primary else { return };
        if !matches!(self.mode, BondMode::ActiveBackup | BondMode::Tlb | BondMode::Alb) {
            let message = format!("with {} all links work", self.mode);
            let expected = "mode: active-backup, balance-tlb or balance-alb";
            report.find_at(node, "primary", message, expected);
        }
        if !self.links.contains(primary) {
            let message = format!("{primary} is not in Bond {}", self.name);
            let names: Vec<_> = self.links.iter().map(InterfaceName::as_str).collect();
            let expected = match names.join(" or ") {
                names if names.is_empty() => "a link of links".to_owned(),
                names => names,
            };
            report.find_at(node, "primary", message, expected);
        }
    }

    /// What include/net/bonding.h says of `bond_mode_uses_arp` and drivers/net/bonding/bond_options.c of targets.
    fn check_arp(&self, node: &Node, report: &mut Report) {
        if self.arp_interval.is_some() {
            if matches!(self.mode, BondMode::Lacp | BondMode::Tlb | BondMode::Alb) {
                let message = format!("{} can't tell by ARP which links work", self.mode);
                let expected =
                    "miimon, or mode: balance-rr, active-backup, balance-xor or broadcast";
                report.find_at(node, "arpInterval", message, expected);
            }
            if self.miimon.is_some() {
                let message = "there is miimon as well, and links are looked at in one way only";
                report.find_at(node, "arpInterval", message, "miimon or arpInterval");
            }
            if self.arp_targets.is_empty() {
                let message = "there is nobody to ask";
                report.find_at(node, "arpInterval", message, "arpTargets");
            }
        } else {
            if !self.arp_targets.is_empty() {
                report.find_at(node, "arpTargets", "they are never asked", "arpInterval");
            }
            if self.arp_validate() != ArpValidate::None {
                report.find_at(node, "arpValidate", "nobody is ever asked", "arpInterval");
            }
        }
        for (index, target) in self.arp_targets.iter().enumerate() {
            let good = match target {
                // Networks of 0.0.0.0/8 are none.
                IpAddr::V4(target) => !target.is_broadcast() && !matches!(target.octets(), [0, ..]),
                IpAddr::V6(target) => {
                    !target.is_unspecified() && !target.is_loopback() && !target.is_multicast()
                }
            };
            if !good {
                let message = format!("{target} can't be asked whether it is there");
                let expected = "the address of a machine";
                report.find_item(node, ("arpTargets", index), message, expected);
            }
        }
    }

    fn check_delays(&self, node: &Node, report: &mut Report) {
        for (key, delay) in [("upDelay", self.up_delay()), ("downDelay", self.down_delay())] {
            if delay == 0 {
                continue;
            }
            match delay.checked_rem(self.miimon()) {
                Some(0) => {}
                Some(rest) => {
                    let message = format!("{delay} is no multiple of miimon, {}", self.miimon());
                    let (less, more) = (delay - rest, delay - rest + self.miimon());
                    report.find_at(node, key, message, format!("{less} or {more}"));
                }
                None => {
                    let message = "carriers are not looked at with arpInterval";
                    report.find_at(node, key, message, "miimon in place of arpInterval");
                }
            }
        }
    }
}
