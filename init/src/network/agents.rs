// SPDX-License-Identifier: Apache-2.0
//! The DHCP agents: one for each link that wants one, under the supervisor, and what they say.

use super::Report;
use crate::{node::Node, report, supervisor::Handle};
use prost::Message as _;
use std::{collections::BTreeMap, net::Ipv4Addr, rc::Rc};
use stele_machine::network::{
    Link,
    lease::{Claim, Lease, LeaseError},
};
use stele_proto::internal::{self, LeaseReport, lease_report};
use tokio::sync::mpsc;

/// The unit of which every agent is an instance.
const UNIT: &str = "dhcp";
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
}

/// All agents.
pub(super) struct Agents {
    node: Rc<Node>,
    running: BTreeMap<String, Handle>,
    sender: mpsc::Sender<(String, Report)>,
    reports: mpsc::Receiver<(String, Report)>,
}

impl Agents {
    pub(super) fn new(node: Rc<Node>) -> Agents {
        let (sender, reports) = mpsc::channel(QUEUE);
        Agents { node, running: BTreeMap::new(), sender, reports }
    }

    /// The next thing that an agent says, and on which link it works.
    pub(super) async fn report(&mut self) -> (String, Report) {
        match self.reports.recv().await {
            Some(report) => report,
            // Not reached: `sender` lives as long as `reports`.
            None => std::future::pending().await,
        }
    }

    /// Makes the agents that run be those of these links. An agent stays known to the supervisor when its link goes: the
    /// same name may come back while it still ends.
    pub(super) fn run<'a>(
        &mut self,
        links: impl Iterator<Item = &'a Link>,
        hostname: Option<&str>,
    ) {
        let mut gone: Vec<String> = self.running.keys().cloned().collect();
        for link in links {
            gone.retain(|name| *name != link.name);
            if !self.running.contains_key(&link.name) {
                self.start(&link.name, hostname);
            }
        }
        for name in gone {
            if let Some(agent) = self.running.remove(&name) {
                agent.stop();
            }
        }
    }

    fn start(&mut self, link: &str, hostname: Option<&str>) {
        let name = format!("{UNIT}-{link}");
        let known = self.node.supervisor.find(&name);
        let Some(agent) = known.or_else(|| self.add(&name, link, hostname)) else { return };
        agent.start();
        self.running.insert(link.to_owned(), agent);
    }

    fn add(&self, name: &str, link: &str, hostname: Option<&str>) -> Option<Handle> {
        let Some(mut unit) = self.node.units.get(UNIT).cloned() else {
            tracing::error!(unit.name = UNIT, "the image has no such unit");
            return None;
        };
        unit.description = format!("DHCP on {link}");
        unit.exec.push(link.to_owned());
        if let Some(hostname) = hostname {
            unit.exec.extend(["--hostname".to_owned(), hostname.to_owned()]);
        }
        let (sender, messages) = mpsc::channel(QUEUE);
        tokio::task::spawn_local(relay(link.to_owned(), messages, self.sender.clone()));
        Some(self.node.supervisor.add(&self.node, name, unit, Some(sender)))
    }
}

/// Passes on what an agent says, with the link it works on.
async fn relay(
    link: String,
    mut messages: mpsc::Receiver<Vec<u8>>,
    reports: mpsc::Sender<(String, Report)>,
) {
    while let Some(message) = messages.recv().await {
        match decode(&message) {
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

fn decode(message: &[u8]) -> Result<Report, ReportError> {
    let report = LeaseReport::decode(message).map_err(ReportError::Decode)?;
    match report.report.ok_or(ReportError::Empty)? {
        lease_report::Report::Lease(lease) => {
            Lease::try_from(claim(lease)).map(Report::Leased).map_err(ReportError::Lease)
        }
        lease_report::Report::Lost(why) => Ok(Report::Lost(report::plain(&why, LONGEST_TEXT))),
        lease_report::Report::Waiting(what) => {
            Ok(Report::Waiting(report::plain(&what, LONGEST_TEXT)))
        }
    }
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
        let Ok(Report::Leased(taken)) =
            decode(&message(lease_report::Report::Lease(lease.clone())))
        else {
            panic!("the lease is good");
        };
        assert_eq!(
            (taken.address().to_string().as_str(), taken.routes().len()),
            ("10.0.2.15/24", 1)
        );
        let other = internal::Lease { address: vec![127, 0, 0, 1], ..lease };
        assert!(matches!(
            decode(&message(lease_report::Report::Lease(other))),
            Err(ReportError::Lease(_))
        ));
        assert!(matches!(decode(&[]), Err(ReportError::Empty)));
        assert!(matches!(decode(&[0xff]), Err(ReportError::Decode(_))));
    }

    #[test]
    fn words_of_strangers_cannot_move_the_cursor() {
        let words = "no\u{1b}[2J more\n".to_owned() + &"x".repeat(500);
        let Ok(Report::Lost(text)) = decode(&message(lease_report::Report::Lost(words))) else {
            panic!("a text")
        };
        assert!(text.starts_with("no[2J more") && text.len() == LONGEST_TEXT, "{text}");
    }
}
