// SPDX-License-Identifier: Apache-2.0
//! The agent that finds out whether other machines have our fixed IPv4 addresses: its task, and what it says.

use super::NetworkError;
use crate::{agent::Folder, node::Node, report, supervisor::Handle};
use prost::Message as _;
use std::{collections::BTreeMap, net::Ipv4Addr, rc::Rc, time::Duration};
use stele_config::Mac;
use stele_machine::network::{
    Link, Observed,
    acd::{Claims, Mode},
    desired::Desired,
    lease::Dhcp,
};
use stele_proto::internal::{AcdAddress, AcdFinding, AcdTask, acd_address};
use tokio::sync::mpsc;

const UNIT: &str = "acd";
/// Where the agent finds its task.
const FOLDER: Folder = Folder { path: "/run/stele/acd", user: 215 };
/// Findings that wait for the network task; an agent that has more to say waits.
const QUEUE: usize = 16;

/// Who else has an address of a link, if anybody.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) link: u32,
    pub(super) address: Ipv4Addr,
    pub(super) by: Option<Mac>,
}

impl Finding {
    /// Takes it, where the address is still asked for. Returns whether it is new.
    pub(super) fn take(
        self,
        links: &BTreeMap<u32, String>,
        dhcp: &mut BTreeMap<String, Dhcp>,
        now: Duration,
    ) -> bool {
        let Finding { link, address, by } = self;
        let Some(name) = links.get(&link) else { return false };
        let Some(dhcp) = dhcp.get_mut(name) else { return false };
        let new = dhcp.acd.hear(address, by, now);
        if new {
            let address = address.to_string();
            match by.map(|by| by.to_string()) {
                None => {
                    tracing::info!(link.name = name, address, "no other machine has the address")
                }
                Some(by) => {
                    tracing::warn!(
                        link.name = name,
                        address,
                        by,
                        "another machine has the address"
                    );
                }
            }
        }
        new
    }
}

/// Brings what is known of a link's fixed addresses in step with what it should have, and has.
pub(super) fn settle(
    claims: &mut Claims,
    link: &Link,
    desired: &Desired,
    observed: &Observed,
    now: Duration,
) {
    let wanted = desired.links.get(&link.name);
    let fixed = wanted.map(|wanted| wanted.fixed.as_slice()).unwrap_or_default();
    let there = |address: Ipv4Addr| {
        let mut here = observed.addresses.iter().filter(|one| one.index == link.index);
        here.any(|one| one.cidr.address() == address)
    };
    for address in claims.settle(link, fixed, there, now) {
        tracing::warn!(
            link.name = link.name,
            address = address.to_string(),
            "nobody has said whether another machine has the address; using it"
        );
    }
}

/// The agent. It runs while there is an address that it is to look after.
pub(super) struct Acd {
    node: Rc<Node>,
    agent: Option<Handle>,
    running: bool,
    task: AcdTask,
    sender: mpsc::Sender<Finding>,
    heard: mpsc::Receiver<Finding>,
}

impl Acd {
    pub(super) fn new(node: Rc<Node>) -> Acd {
        let (sender, heard) = mpsc::channel(QUEUE);
        let task = AcdTask::default();
        Acd { node, agent: None, running: false, task, sender, heard }
    }

    /// The next thing that it finds.
    pub(super) async fn hear(&mut self) -> Finding {
        match self.heard.recv().await {
            Some(finding) => finding,
            // Not reached: `sender` lives as long as `heard`.
            None => std::future::pending().await,
        }
    }

    /// The next thing that it has found, if one waits.
    pub(super) fn waiting(&mut self) -> Option<Finding> {
        self.heard.try_recv().ok()
    }

    /// Has it look after the fixed addresses of these links.
    pub(super) fn run(
        &mut self,
        observed: &Observed,
        dhcp: &BTreeMap<String, Dhcp>,
    ) -> Result<(), NetworkError> {
        let task = task(observed, dhcp);
        if task.addresses.is_empty() {
            if std::mem::take(&mut self.running)
                && let Some(agent) = &self.agent
            {
                agent.stop();
            }
            return Ok(());
        }
        if task == self.task && self.running {
            return Ok(());
        }
        let write = |source| NetworkError::Write { file: FOLDER.path, source };
        FOLDER.make().and_then(|()| FOLDER.give(&task.encode_to_vec())).map_err(write)?;
        self.task = task;
        match &self.agent {
            Some(agent) if self.running => agent.reload(),
            _ => self.start(),
        }
        Ok(())
    }

    fn start(&mut self) {
        let agent = match self.agent.take() {
            Some(agent) => agent,
            None => {
                let Some(unit) = self.node.units.get(UNIT).cloned() else {
                    tracing::error!(unit.name = UNIT, "the image has no such unit");
                    return;
                };
                let (sender, messages) = mpsc::channel(QUEUE);
                tokio::task::spawn_local(relay(messages, self.sender.clone()));
                self.node.supervisor.add(&self.node, UNIT, unit, Some(sender))
            }
        };
        agent.start();
        self.agent = Some(agent);
        self.running = true;
    }
}

/// What there is to be done.
fn task(observed: &Observed, dhcp: &BTreeMap<String, Dhcp>) -> AcdTask {
    let mut own: Vec<_> = observed.links.iter().filter_map(|link| link.mac).collect();
    own.sort_unstable();
    own.dedup();
    let mut addresses = Vec::new();
    for link in &observed.links {
        let (Some(mac), Some(dhcp)) = (link.mac, dhcp.get(&link.name)) else { continue };
        addresses.extend(dhcp.acd.task().map(|(address, mode)| AcdAddress {
            link: link.index,
            mac: mac.to_vec(),
            address: address.octets().to_vec(),
            mode: to_mode(mode).into(),
        }));
    }
    let own = own.iter().map(|mac| mac.to_vec()).collect();
    AcdTask { own, addresses }
}

fn to_mode(mode: Mode) -> acd_address::Mode {
    match mode {
        Mode::Ask => acd_address::Mode::Ask,
        Mode::Check => acd_address::Mode::Check,
        Mode::Hold => acd_address::Mode::Hold,
        Mode::Contest => acd_address::Mode::Contest,
    }
}

/// Passes on what the agent says.
async fn relay(mut messages: mpsc::Receiver<Vec<u8>>, heard: mpsc::Sender<Finding>) {
    while let Some(message) = messages.recv().await {
        match finding(&message) {
            Ok(Some(finding)) => {
                if heard.send(finding).await.is_err() {
                    return;
                }
            }
            Ok(None) => tracing::warn!("a report of the acd agent is about no address"),
            Err(error) => {
                let error = report::chain(&error);
                tracing::warn!(error, "a report of the acd agent makes no sense");
            }
        }
    }
}

/// None where it says nothing that could be right.
fn finding(message: &[u8]) -> Result<Option<Finding>, prost::DecodeError> {
    let AcdFinding { link, address, by } = AcdFinding::decode(message)?;
    let Ok(address) = <[u8; 4]>::try_from(address).map(Ipv4Addr::from) else { return Ok(None) };
    let by = match by.as_slice() {
        [] => None,
        bytes => match <[u8; 6]>::try_from(bytes) {
            Ok(mac) => Some(Mac::from(mac)),
            Err(_) => return Ok(None),
        },
    };
    Ok(Some(Finding { link, address, by }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_makes_sense_is_taken() {
        let of = |address: &[u8], by: &[u8]| {
            let (address, by) = (address.to_vec(), by.to_vec());
            finding(&AcdFinding { link: 2, address, by }.encode_to_vec()).unwrap()
        };
        let address = Ipv4Addr::new(192, 0, 2, 7);
        let found = |by| Some(Finding { link: 2, address, by });
        assert_eq!(of(&[192, 0, 2, 7], &[]), found(None));
        assert_eq!(
            of(&[192, 0, 2, 7], &[2, 0, 0, 0, 0, 1]),
            found(Some(Mac::from([2, 0, 0, 0, 0, 1])))
        );
        assert_eq!(of(&[192, 0, 2], &[]), None);
        assert_eq!(of(&[192, 0, 2, 7], &[2]), None);
        assert_eq!(finding(&[]), Ok(None));
        assert!(finding(&[0xff]).is_err());
    }
}
