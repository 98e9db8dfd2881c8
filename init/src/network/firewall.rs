// SPDX-License-Identifier: Apache-2.0
//! Puts the firewall into the kernel: the whole of it whenever it is not the one that is there.

use super::{NetworkError, modules::Modules};
use crate::{node::Node, report, state, store::Kind};
use serde::Serialize;
use std::collections::BTreeMap;
use stele_config::{Direction, Firewall, FirewallAction, FirewallProtocol, MachineConfig};
use stele_kernel::net::{self, NetError, Netlink, Transport, Verdict};
use stele_machine::network::{
    Link, desired,
    firewall::{Rule, Ruleset, derive},
    wanted::Wanted,
};

/// What rules ask the kernel for.
const MODULES: [&str; 4] = ["nf_tables", "nft_ct", "nft_limit", "nft_reject_inet"];

#[derive(Serialize)]
struct Status {
    state: &'static str,
    ingress: &'static str,
    egress: &'static str,
    forward: &'static str,
    rules: usize,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

/// How the firewall is: as it should be, on its way there, or failed.
pub(super) enum Outcome {
    Same,
    Pending,
    Failed(NetworkError),
}

/// One pass.
pub(super) fn pass(
    node: &Node,
    netlink: &mut Netlink,
    modules: &mut Modules,
    wanted: Wanted<'_>,
    links: &[Link],
) -> Outcome {
    let document = wanted.config.and_then(MachineConfig::firewall);
    let named = |name: &str| desired::named(name, wanted.links(), links);
    let outcome = match document {
        // Whose kernel never had the module has no table of ours either.
        None if !modules.asked(MODULES[0]) => Ok(true),
        None => remove(netlink).map(|()| true),
        // All are asked for, whether or not the first is there.
        Some(document) => match MODULES.map(|name| modules.ready((name, ""))) {
            ready if ready.contains(&false) => Ok(false),
            _ => replace(netlink, &derive(document, named)).map(|()| true),
        },
    };
    let (state, reason) = match &outcome {
        Ok(true) => ("in-force", String::new()),
        Ok(false) => ("waiting", "Its kernel modules are being loaded".to_owned()),
        Err(error) => ("failed", report::chain(error)),
    };
    let statuses = document
        .map(|document| (Kind::Firewall.name().to_lowercase(), status(document, state, reason)));
    node.store.replace(Kind::Firewall, &statuses.into_iter().collect::<BTreeMap<_, _>>());
    match outcome {
        Ok(true) => Outcome::Same,
        Ok(false) => Outcome::Pending,
        Err(error) => Outcome::Failed(NetworkError::Apply(error)),
    }
}

fn status(document: &Firewall, state: &'static str, reason: String) -> Status {
    let (ingress, egress) = (document.ingress().as_str(), document.egress().as_str());
    let forward = document.forward().as_str();
    Status { state, ingress, egress, forward, rules: document.rules().len(), reason }
}

fn remove(netlink: &mut Netlink) -> Result<(), NetError> {
    match netlink.firewall()? {
        Some(_) => netlink.del_firewall(),
        None => Ok(()),
    }
}

fn replace(netlink: &mut Netlink, ruleset: &Ruleset) -> Result<(), NetError> {
    let firewall = net::Firewall {
        drops_ingress: ruleset.drops_ingress,
        drops_egress: ruleset.drops_egress,
        drops_forward: ruleset.drops_forward,
        rules: ruleset.rules.iter().map(to_kernel).collect(),
    };
    // What it was made from tells whether the one that is there is the same.
    let mark = state::sha256(format!("{firewall:?}").as_bytes());
    if netlink.firewall()?.as_deref() == Some(mark.as_bytes()) {
        return Ok(());
    }
    netlink.set_firewall(&firewall, mark.as_bytes())
}

fn to_kernel(rule: &Rule) -> net::FirewallRule {
    net::FirewallRule {
        direction: match rule.direction {
            Direction::Ingress => net::Direction::Ingress,
            Direction::Egress => net::Direction::Egress,
            Direction::Forward => net::Direction::Forward,
        },
        ipv6: rule.ipv6,
        from: rule.from.clone(),
        to: rule.to.clone(),
        incoming: rule.incoming.clone(),
        outgoing: rule.outgoing.clone(),
        transport: rule.protocol.map(|protocol| match protocol {
            FirewallProtocol::Icmp => Transport::Icmp,
            FirewallProtocol::Number(number) => Transport::Number(number),
        }),
        ports: rule.ports.clone(),
        source_ports: rule.source_ports.clone(),
        icmp_types: rule.icmp_types.clone(),
        rate: rule.rate,
        established: rule.established,
        verdict: match rule.action {
            FirewallAction::Accept => Verdict::Accept,
            FirewallAction::Drop => Verdict::Drop,
            FirewallAction::Reject => Verdict::Reject,
        },
    }
}
