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
        /// How often to look whether each still has a carrier, in milliseconds.
        miimon: Integer<1, 60000> = 100,
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

    /// How often to look whether each has a carrier, in milliseconds.
    #[must_use]
    pub fn miimon(&self) -> u32 {
        self.miimon.value()
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
    }
}
