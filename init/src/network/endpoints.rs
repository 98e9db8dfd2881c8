// SPDX-License-Identifier: Apache-2.0
//! Has the names of the other ends of tunnels looked up, by an agent that asks as all programs of the machine do.
//!
//! That happens beside the network's task, which goes on meanwhile and is woken when there is an answer.

use crate::{node::Node, one_shot, report};
use prost::Message as _;
use std::{collections::BTreeMap, net::IpAddr, rc::Rc, time::Duration};
use stele_config::Domain;
use stele_kernel::process::Exit;
use stele_machine::network::lookups::Lookups;
use stele_proto::v1::{ResolveRequest, ResolveResponse};
use tokio::sync::mpsc;

/// The unit of the agent, and what it is asked for.
const UNIT: &str = "diagnose";
const ACTION: &str = "addresses";
/// How long it may take, a little longer than it gives itself.
const DEADLINE: Duration = Duration::from_secs(15);
/// Bytes of an answer.
const LONGEST_ANSWER: usize = 64 * 1024;
/// Addresses of a name that are kept, and characters of a complaint.
const MOST_ADDRESSES: usize = 16;
const LONGEST_COMPLAINT: usize = 300;

type Found = Result<Vec<IpAddr>, String>;

/// The names, and the way by which answers come.
#[derive(Debug)]
pub(super) struct Endpoints {
    lookups: Lookups,
    answers: mpsc::Receiver<Found>,
    sender: mpsc::Sender<Found>,
}

impl Endpoints {
    pub(super) fn new() -> Endpoints {
        let (sender, answers) = mpsc::channel(1);
        Endpoints { lookups: Lookups::default(), answers, sender }
    }

    /// What is known of the names.
    pub(super) fn lookups(&self) -> &Lookups {
        &self.lookups
    }

    /// Takes the names that there are now, each with whether its address seems to be wrong, and has one looked up.
    pub(super) fn pass(&mut self, node: &Rc<Node>, names: &BTreeMap<Domain, bool>, now: Duration) {
        self.lookups.want(names);
        if let Some(name) = self.lookups.begin(now) {
            let (node, sender) = (Rc::clone(node), self.sender.clone());
            tokio::task::spawn_local(async move {
                let found = look_up(&node, &name).await;
                // The receiver lives as long as the machine.
                let _told = sender.send(found).await;
            });
        }
    }

    /// Waits until a name was looked up.
    pub(super) async fn heard(&mut self) {
        // There is always a sender: this one's.
        if let Some(found) = self.answers.recv().await {
            self.lookups.end(found, super::now());
        }
    }

    /// When there is something to be looked up.
    pub(super) fn again(&self) -> Option<Duration> {
        self.lookups.again()
    }
}

async fn look_up(node: &Node, name: &Domain) -> Found {
    let request = ResolveRequest { name: name.to_string(), ..ResolveRequest::default() };
    let (action, request) = ([ACTION.to_owned()], request.encode_to_vec());
    let output = one_shot::run(node, UNIT, &action, &request, LONGEST_ANSWER, DEADLINE).await;
    let output = output.map_err(|error| report::chain(&error))?;
    match output.exit {
        Exit::Code(0) => read(&output.stdout).ok_or_else(|| format!("{name} has no address")),
        _ => Err(report::plain(&output.complaint, LONGEST_COMPLAINT)),
    }
}

/// The addresses of an answer, which is behind its length: at least one, and only such as another machine can have.
fn read(answer: &[u8]) -> Option<Vec<IpAddr>> {
    let answer = ResolveResponse::decode(answer.get(4..)?).ok()?;
    let addresses = answer.answers.iter().filter_map(|record| record.data.parse::<IpAddr>().ok());
    let another = |ip: &IpAddr| !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast();
    let addresses = addresses.map(|ip| ip.to_canonical()).filter(another);
    let addresses: Vec<IpAddr> = addresses.take(MOST_ADDRESSES).collect();
    (!addresses.is_empty()).then_some(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stele_proto::v1::DnsRecord;

    #[test]
    fn an_answer_has_addresses() {
        let record = |data: &str| DnsRecord { data: data.to_owned(), ..DnsRecord::default() };
        let answer = |records: &[DnsRecord]| {
            let answers = records.to_vec();
            let message = ResolveResponse { answers, ..ResolveResponse::default() };
            read(&[&[0; 4][..], &message.encode_to_vec()].concat())
        };
        let good = ["192.0.2.1", "2001:db8::1"].map(|text| text.parse().unwrap());
        assert_eq!(
            answer(&[record("192.0.2.1"), record("nonsense"), record("2001:db8::1")]),
            Some(good.to_vec())
        );
        assert_eq!(
            (answer(&[record("nonsense")]), read(b""), read(b"1234\xff")),
            (None, None, None)
        );
        // No other machine has these, and they take no room from others.
        let nobody =
            ["0.0.0.0", "::", "127.0.0.1", "::1", "::ffff:127.0.0.1", "224.0.0.1", "ff02::1"];
        let mut records: Vec<DnsRecord> =
            nobody.repeat(MOST_ADDRESSES).into_iter().map(record).collect();
        assert_eq!(answer(&records), None);
        records.extend(["::ffff:192.0.2.1", "2001:db8::1"].map(record));
        assert_eq!(answer(&records), Some(good.to_vec()));
        let many = vec![record("2001:db8::1"); 100];
        assert_eq!(answer(&many).map(|all| all.len()), Some(MOST_ADDRESSES));
    }
}
