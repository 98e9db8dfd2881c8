// SPDX-License-Identifier: Apache-2.0
//! The DHCP agents: one for each link that wants one, and family, under the supervisor; and what they say.

use super::Report;
use crate::{node::Node, report, supervisor::Handle};
use prost::Message as _;
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    net::{Ipv4Addr, Ipv6Addr},
    rc::Rc,
};
use stele_config::{ClientId, MachineConfig, services::FOR_LINKS};
use stele_machine::network::{
    Link,
    desired::Desired,
    lease::{Claim, Lease, LeaseError},
    lease6::{Claim6, Lease6},
    names,
};
use stele_proto::internal::{self, LeaseReport, lease_report};
use tokio::sync::{Notify, mpsc};

/// Reports that wait for the network task; an agent that has more to say waits.
const QUEUE: usize = 16;
/// The longest text of an agent that is kept.
const LONGEST_TEXT: usize = 200;

/// Why a report is not taken.
#[derive(Debug, thiserror::Error)]
enum ReportError {
    #[error("decoding it")]
    Decode(#[source] prost::DecodeError),
    #[error("it says nothing")]
    Empty,
    #[error("applying its lease")]
    Lease(#[source] LeaseError),
    #[error("it is of a lease of another kind than its agent is for")]
    Family,
}

/// What an agent says, by what it works for.
#[derive(Debug, PartialEq)]
pub(super) enum Word {
    Four(Report<Lease>),
    Six(Report<Lease6>),
}

/// What an agent works for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Four,
    Six,
}

impl Family {
    /// The unit of which its agents are instances.
    fn unit(self) -> &'static str {
        let [four, six] = FOR_LINKS;
        match self {
            Family::Four => four,
            Family::Six => six,
        }
    }

    /// A report that says nothing of a lease.
    fn word(self, report: Report<Infallible>) -> Word {
        match (self, report) {
            (Family::Four, Report::Lost(why)) => Word::Four(Report::Lost(why)),
            (Family::Four, Report::Waiting(what)) => Word::Four(Report::Waiting(what)),
            (Family::Six, Report::Lost(why)) => Word::Six(Report::Lost(why)),
            (Family::Six, Report::Waiting(what)) => Word::Six(Report::Waiting(what)),
        }
    }
}

/// What an agent should do.
#[derive(Debug, Clone)]
pub(super) struct Job {
    family: Family,
    link: String,
    /// What it asks for, and what it says of the machine: when that is something else, it is another agent, which takes over
    /// what the one before has got.
    arguments: Vec<String>,
}

impl Job {
    fn name(&self) -> String {
        format!("{}-{}", self.family.unit(), self.link)
    }
}

/// What the agents should do.
pub(super) fn jobs(desired: &Desired, links: &[Link], config: Option<&MachineConfig>) -> Vec<Job> {
    let four = desired.dhcp_links(links).map(|(link, dhcp4)| {
        let mut arguments = Vec::new();
        let hostname = names::told(dhcp4, config, links);
        arguments.extend(hostname.into_iter().flat_map(|name| ["--hostname".to_owned(), name]));
        let id = dhcp4.client_id.iter().filter(|id| **id != ClientId::Mac);
        arguments.extend(id.flat_map(|id| ["--client-id".to_owned(), id.to_string()]));
        Job { family: Family::Four, link: link.name.clone(), arguments }
    });
    let six = desired.dhcp6_links(links).map(|(link, dhcp6)| {
        let mut arguments = Vec::new();
        arguments.extend(dhcp6.address.then(|| "--address".to_owned()));
        arguments.extend(
            dhcp6
                .prefix()
                .into_iter()
                .flat_map(|length| ["--prefix".to_owned(), length.to_string()]),
        );
        Job { family: Family::Six, link: link.name.clone(), arguments }
    });
    four.chain(six).collect()
}

/// All agents.
pub(super) struct Agents {
    node: Rc<Node>,
    /// Those that run, by name.
    running: BTreeMap<String, Handle>,
    /// The arguments of those that the supervisor knows.
    made: BTreeMap<String, Vec<String>>,
    /// Names of agents that end for good, to make room for others.
    leaving: Rc<RefCell<BTreeSet<String>>>,
    left: Rc<Notify>,
    sender: mpsc::Sender<(String, Word)>,
    reports: mpsc::Receiver<(String, Word)>,
}

impl Agents {
    pub(super) fn new(node: Rc<Node>) -> Agents {
        let (sender, reports) = mpsc::channel(QUEUE);
        let (leaving, left) = (Rc::default(), Rc::new(Notify::new()));
        Agents {
            node,
            running: BTreeMap::new(),
            made: BTreeMap::new(),
            leaving,
            left,
            sender,
            reports,
        }
    }

    /// The next thing that an agent says, and on which link it works; none when there is room for an agent again.
    pub(super) async fn hear(&mut self) -> Option<(String, Word)> {
        tokio::select! {
            // None is not reached: `sender` lives as long as `reports`.
            report = self.reports.recv() => report,
            () = self.left.notified() => None,
        }
    }

    /// Makes the agents that run be those that should. An agent stays known to the supervisor when its link goes: the same
    /// name may come back while it still ends.
    pub(super) fn run(&mut self, jobs: &[Job]) {
        let mut gone: Vec<String> = self.running.keys().cloned().collect();
        for job in jobs {
            let name = job.name();
            gone.retain(|other| *other != name);
            if self.leaving.borrow().contains(&name) {
                continue;
            }
            match self.made.get(&name) {
                Some(arguments) if *arguments != job.arguments => self.retire(name),
                Some(_) if self.running.contains_key(&name) => {}
                Some(_) | None => self.start(name, job),
            }
        }
        for name in gone {
            if let Some(agent) = self.running.remove(&name) {
                agent.stop();
            }
        }
    }

    /// Ends an agent that is to be another one.
    fn retire(&mut self, name: String) {
        self.running.remove(&name);
        self.made.remove(&name);
        self.leaving.borrow_mut().insert(name.clone());
        let (node, leaving, left) =
            (Rc::clone(&self.node), Rc::clone(&self.leaving), Rc::clone(&self.left));
        tokio::task::spawn_local(async move {
            node.supervisor.retire(&name).await;
            leaving.borrow_mut().remove(&name);
            left.notify_one();
        });
    }

    fn start(&mut self, name: String, job: &Job) {
        let known = self.node.supervisor.find(&name);
        let Some(agent) = known.or_else(|| self.add(&name, job)) else { return };
        agent.start();
        self.made.insert(name.clone(), job.arguments.clone());
        self.running.insert(name, agent);
    }

    fn add(&self, name: &str, job: &Job) -> Option<Handle> {
        let Some(mut unit) = self.node.units.get(job.family.unit()).cloned() else {
            tracing::error!(unit.name = job.family.unit(), "the image has no such unit");
            return None;
        };
        unit.description = format!("{} on {}", unit.description, job.link);
        unit.exec.push(job.link.clone());
        unit.exec.extend(job.arguments.iter().cloned());
        let (sender, messages) = mpsc::channel(QUEUE);
        tokio::task::spawn_local(relay(
            job.link.clone(),
            job.family,
            messages,
            self.sender.clone(),
        ));
        Some(self.node.supervisor.add(&self.node, name, unit, Some(sender)))
    }
}

/// Passes on what an agent says, with the link it works on.
async fn relay(
    link: String,
    family: Family,
    mut messages: mpsc::Receiver<Vec<u8>>,
    reports: mpsc::Sender<(String, Word)>,
) {
    while let Some(message) = messages.recv().await {
        match decode(&message, family) {
            Ok(report) => {
                if reports.send((link.clone(), report)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(
                    link.name = link,
                    error = report::chain(&error),
                    "a DHCP agent's report is not taken"
                );
            }
        }
    }
}

fn decode(message: &[u8], family: Family) -> Result<Word, ReportError> {
    let report = LeaseReport::decode(message).map_err(ReportError::Decode)?;
    Ok(match (family, report.report.ok_or(ReportError::Empty)?) {
        (Family::Four, lease_report::Report::Lease(lease)) => {
            let lease = Lease::try_from(claim(lease)).map_err(ReportError::Lease)?;
            Word::Four(Report::Leased(lease))
        }
        (Family::Six, lease_report::Report::Lease6(lease)) => {
            Word::Six(Report::Leased(Lease6::from(claim6(lease))))
        }
        (family, lease_report::Report::Lost(why)) => {
            family.word(Report::Lost(report::plain(&why, LONGEST_TEXT)))
        }
        (family, lease_report::Report::Waiting(what)) => {
            family.word(Report::Waiting(report::plain(&what, LONGEST_TEXT)))
        }
        (_, lease_report::Report::Lease(_) | lease_report::Report::Lease6(_)) => {
            return Err(ReportError::Family);
        }
    })
}

fn claim6(lease: internal::Lease6) -> Claim6 {
    let all = |list: &[Vec<u8>]| list.iter().filter_map(|bytes| address6(bytes)).collect();
    let prefix = |one: &internal::Prefix6| Some((address6(&one.network)?, one.prefix_length));
    Claim6 {
        addresses: all(&lease.addresses),
        prefixes: lease.prefixes.iter().filter_map(prefix).collect(),
        dns_servers: all(&lease.dns_servers),
        domains: lease.domains,
        ntp_servers: all(&lease.ntp_servers),
        server: lease.server,
        seconds: lease.lease_seconds,
    }
}

fn address6(bytes: &[u8]) -> Option<Ipv6Addr> {
    <[u8; 16]>::try_from(bytes).ok().map(Ipv6Addr::from)
}

fn claim(lease: internal::Lease) -> Claim {
    let all = |list: &[Vec<u8>]| list.iter().filter_map(|bytes| address(bytes)).collect();
    let route = |route: &internal::StaticRoute| {
        Some((address(&route.destination)?, route.prefix_length, address(&route.gateway)?))
    };
    Claim {
        address: address(&lease.address),
        prefix: lease.prefix_length,
        routers: all(&lease.routers),
        dns_servers: all(&lease.dns_servers),
        ntp_servers: all(&lease.ntp_servers),
        routes: lease.routes.iter().filter_map(route).collect(),
        domain: lease.domain,
        search: lease.search,
        hostname: lease.hostname,
        mtu: lease.mtu,
        server: address(&lease.server),
        seconds: lease.lease_seconds,
    }
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(report: lease_report::Report) -> Vec<u8> {
        LeaseReport { report: Some(report) }.encode_to_vec()
    }

    #[test]
    fn a_lease_is_taken_when_it_makes_sense() {
        let lease = internal::Lease {
            address: vec![10, 0, 2, 15],
            prefix_length: 24,
            routers: vec![vec![10, 0, 2], vec![10, 0, 2, 2]],
            lease_seconds: 600,
            ..internal::Lease::default()
        };
        let leased = message(lease_report::Report::Lease(lease.clone()));
        let Ok(Word::Four(Report::Leased(taken))) = decode(&leased, Family::Four) else {
            panic!("the lease is good");
        };
        assert_eq!(
            (taken.address().to_string().as_str(), taken.routes().len()),
            ("10.0.2.15/24", 1)
        );
        let other = internal::Lease { address: vec![127, 0, 0, 1], ..lease };
        let four = |bytes: &[u8]| decode(bytes, Family::Four);
        let other = message(lease_report::Report::Lease(other));
        assert!(matches!(four(&other), Err(ReportError::Lease(_))));
        assert!(matches!(four(&[]), Err(ReportError::Empty)));
        assert!(matches!(four(&[0xff]), Err(ReportError::Decode(_))));
        assert!(matches!(decode(&leased, Family::Six), Err(ReportError::Family)));
    }

    #[test]
    fn a_lease_of_ipv6_is_of_another_agent() {
        let lease = internal::Lease6 {
            addresses: vec![vec![10, 0, 2, 15], Ipv6Addr::LOCALHOST.octets().to_vec()],
            ..internal::Lease6::default()
        };
        let leased = message(lease_report::Report::Lease6(lease));
        let taken = decode(&leased, Family::Six);
        assert!(
            matches!(taken, Ok(Word::Six(Report::Leased(lease))) if lease.addresses().is_empty())
        );
        assert!(matches!(decode(&leased, Family::Four), Err(ReportError::Family)));
    }

    /// A link that works.
    fn link(name: &str) -> Link {
        Link {
            index: 2,
            name: name.to_owned(),
            mac: None,
            device: stele_config::Device::default(),
            mtu: 1500,
            first_mtu: 1500,
            max_mtu: None,
            up: true,
            carrier: true,
            arp: true,
            physical: true,
            form: None,
            ours: false,
            master: None,
            primary: None,
            vlans: None,
            says: None,
        }
    }

    #[test]
    fn a_server_is_told_what_the_machine_is_called() {
        let links = [link("eth0")];
        let told = |dhcp4: &str| {
            let document = format!(
                r#""apiVersion":"stele/v2","kind":"Link","name":"eth0","dhcp4":{dhcp4},"dhcp6":{{"prefix":56}}"#
            );
            let name = r#""kind":"Hostname","hostname":"node-1""#;
            let config = crate::fixture::config(&[document.as_str(), name]);
            let desired = Desired::derive(Some(&config), &BTreeMap::new(), &links);
            let jobs = jobs(&desired, &links, Some(&config));
            let said = jobs.iter().map(|job| format!("{} {}", job.name(), job.arguments.join(" ")));
            said.collect::<Vec<_>>()
        };
        let six = "dhcp6-eth0 --address --prefix 56";
        assert_eq!(told("{}"), ["dhcp-eth0 --hostname node-1", six]);
        let known = r#"{"sendHostname":false,"clientId":"mac"}"#;
        assert_eq!(told(known), ["dhcp-eth0 ", six]);
        let known = r#"{"hostname":"a","clientId":"00:6e"}"#;
        assert_eq!(told(known), ["dhcp-eth0 --hostname a --client-id 00:6e", six]);
    }

    #[test]
    fn words_of_strangers_cannot_move_the_cursor() {
        let words = "no\u{1b}[2J more\n".to_owned() + &"x".repeat(500);
        let lost = message(lease_report::Report::Lost(words));
        let Ok(Word::Six(Report::Lost(text))) = decode(&lost, Family::Six) else {
            panic!("a text")
        };
        assert!(text.starts_with("no[2J more") && text.len() == LONGEST_TEXT, "{text}");
    }
}
