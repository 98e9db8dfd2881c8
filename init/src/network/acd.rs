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
use stele_proto::internal::{
    AcdAddress, AcdReport, AcdTask, acd_address, acd_report::Report as Said,
};
use tokio::sync::mpsc;

const UNIT: &str = "acd";
/// Where the agent finds its task.
const FOLDER: Folder = Folder { path: "/run/stele/acd", user: 215 };
/// Reports that wait for the network task; an agent that has more to say waits.
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

/// What the agent says.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    /// It has read the task of this number.
    Read(u64),
    Found(Finding),
}

/// The agent. It runs while there is an address that it is to look after.
pub(super) struct Acd {
    node: Rc<Node>,
    agent: Option<Handle>,
    running: bool,
    task: AcdTask,
    /// The number of the task that it has read since it was started.
    read: Option<u64>,
    sender: mpsc::Sender<Word>,
    heard: mpsc::Receiver<Word>,
}

impl Acd {
    pub(super) fn new(node: Rc<Node>) -> Acd {
        let (sender, heard) = mpsc::channel(QUEUE);
        let task = AcdTask::default();
        Acd { node, agent: None, running: false, task, read: None, sender, heard }
    }

    /// The next thing that it finds.
    pub(super) async fn hear(&mut self) -> Finding {
        loop {
            match self.heard.recv().await {
                Some(word) => {
                    if let Some(finding) = self.take(word) {
                        return finding;
                    }
                }
                // Not reached: `sender` lives as long as `heard`.
                None => std::future::pending().await,
            }
        }
    }

    fn take(&mut self, word: Word) -> Option<Finding> {
        match word {
            Word::Found(finding) => Some(finding),
            Word::Read(number) => {
                self.read = Some(number);
                self.hurry();
                None
            }
        }
    }

    /// The next thing that it has found, if one waits.
    pub(super) fn waiting(&mut self) -> Option<Finding> {
        while let Ok(word) = self.heard.try_recv() {
            if let Some(finding) = self.take(word) {
                return Some(finding);
            }
        }
        None
    }

    /// Has it look after the fixed addresses of these links.
    pub(super) fn run(
        &mut self,
        observed: &Observed,
        dhcp: &BTreeMap<String, Dhcp>,
    ) -> Result<(), NetworkError> {
        let number = self.task.number;
        let task = AcdTask { number, ..task(observed, dhcp) };
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
        let task = AcdTask { number: number.wrapping_add(1), ..task };
        let write = |source| NetworkError::Write { file: FOLDER.path, source };
        FOLDER.make().and_then(|()| FOLDER.give(&task.encode_to_vec())).map_err(write)?;
        self.task = task;
        if self.running {
            self.hurry();
        } else {
            self.start();
        }
        Ok(())
    }

    /// Has an agent that reads read again, if it has read something else. One that only starts would be killed by the signal,
    /// and reads the task anyway.
    fn hurry(&mut self) {
        if self.read.is_some_and(|read| read != self.task.number)
            && let Some(agent) = &self.agent
        {
            agent.reload();
            self.read = None;
        }
    }

    fn start(&mut self) {
        self.read = None;
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
    AcdTask { number: 0, own, addresses }
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
async fn relay(mut messages: mpsc::Receiver<Vec<u8>>, heard: mpsc::Sender<Word>) {
    while let Some(message) = messages.recv().await {
        match word(&message) {
            Ok(Some(word)) => {
                if heard.send(word).await.is_err() {
                    return;
                }
            }
            Ok(None) => tracing::warn!("a report of the acd agent says nothing"),
            Err(error) => {
                let error = report::chain(&error);
                tracing::warn!(error, "a report of the acd agent makes no sense");
            }
        }
    }
}

/// None where it says nothing that could be right.
fn word(message: &[u8]) -> Result<Option<Word>, prost::DecodeError> {
    Ok(AcdReport::decode(message)?.report.and_then(|said| match said {
        Said::Task(number) => Some(Word::Read(number)),
        Said::Finding(finding) => {
            let address = <[u8; 4]>::try_from(finding.address).ok().map(Ipv4Addr::from)?;
            let by = match finding.by.as_slice() {
                [] => None,
                bytes => Some(Mac::from(<[u8; 6]>::try_from(bytes).ok()?)),
            };
            Some(Word::Found(Finding { link: finding.link, address, by }))
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use stele_proto::internal::AcdFinding;

    #[test]
    fn only_what_makes_sense_is_taken() {
        let of = |address: &[u8], by: &[u8]| {
            let (address, by) = (address.to_vec(), by.to_vec());
            let report = Some(Said::Finding(AcdFinding { link: 2, address, by }));
            word(&AcdReport { report }.encode_to_vec()).unwrap()
        };
        let address = Ipv4Addr::new(192, 0, 2, 7);
        let found = |by| Some(Word::Found(Finding { link: 2, address, by }));
        assert_eq!(of(&[192, 0, 2, 7], &[]), found(None));
        assert_eq!(
            of(&[192, 0, 2, 7], &[2, 0, 0, 0, 0, 1]),
            found(Some(Mac::from([2, 0, 0, 0, 0, 1])))
        );
        assert_eq!(of(&[192, 0, 2], &[]), None);
        assert_eq!(of(&[192, 0, 2, 7], &[2]), None);
        let read = AcdReport { report: Some(Said::Task(3)) }.encode_to_vec();
        assert_eq!(word(&read), Ok(Some(Word::Read(3))));
        assert_eq!(word(&[]), Ok(None));
        assert!(word(&[0xff]).is_err());
    }
}
