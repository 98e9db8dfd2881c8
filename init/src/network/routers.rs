// SPDX-License-Identifier: Apache-2.0
//! Router advertisements: whether the kernel heeds them, and the agent that hears what they say of name servers.

use super::NetworkError;
use crate::{node::Node, report, supervisor::Handle};
use prost::Message as _;
use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs,
    net::Ipv6Addr,
    rc::Rc,
};
use stele_config::Cidr;
use stele_kernel::net::{AddressInfo, NetError, Netlink, Route};
use stele_machine::network::{Observed, advertised::Advertisement, desired::Desired};
use stele_proto::internal::AdvertisedNames;
use tokio::sync::mpsc;

const UNIT: &str = "routers";
/// Reports that wait for the network task; an agent that has more to say waits.
const QUEUE: usize = 16;
/// `RTPROT_RA` of `linux/rtnetlink.h`: a route that a router advertised.
const ROUTE: u8 = 9;
/// `IFAPROT_KERNEL_RA` of `linux/if_addr.h`: an address that the kernel made of what a router advertised.
const ADDRESS: u8 = 2;

/// What the task has of them.
pub(super) struct Routers {
    node: Rc<Node>,
    /// The links that do not heed them, because we said so, by index.
    ignoring: BTreeMap<u32, Ignoring>,
    agent: Option<Handle>,
    sender: mpsc::Sender<(u32, Advertisement)>,
    heard: mpsc::Receiver<(u32, Advertisement)>,
}

/// A link that does not heed routers.
struct Ignoring {
    /// What its setting was before.
    before: String,
    /// Whether what had come of advertisements is gone.
    forgotten: bool,
}

impl Routers {
    pub(super) fn new(node: Rc<Node>) -> Routers {
        let (sender, heard) = mpsc::channel(QUEUE);
        Routers { node, ignoring: BTreeMap::new(), agent: None, sender, heard }
    }

    /// The next thing that a router advertises, and on which link.
    pub(super) async fn hear(&mut self) -> (u32, Advertisement) {
        match self.heard.recv().await {
            Some(heard) => heard,
            // Not reached: `sender` lives as long as `heard`.
            None => std::future::pending().await,
        }
    }

    /// One more, if it has come already.
    pub(super) fn waiting(&mut self) -> Option<(u32, Advertisement)> {
        self.heard.try_recv().ok()
    }

    /// Starts the agent once there is a link that heeds routers.
    pub(super) fn run(&mut self, desired: &Desired, observed: &Observed) {
        let heeded = observed.links.iter().any(|link| desired.heeds_routers(&link.name));
        if !heeded || self.agent.is_some() {
            return;
        }
        let Some(unit) = self.node.units.get(UNIT).cloned() else {
            tracing::error!(unit.name = UNIT, "the image has no such unit");
            return;
        };
        let (sender, messages) = mpsc::channel(QUEUE);
        tokio::task::spawn_local(relay(messages, self.sender.clone()));
        let agent = self.node.supervisor.add(&self.node, UNIT, unit, Some(sender));
        agent.start();
        self.agent = Some(agent);
    }

    /// Has the kernel heed the routers of each link, or not. What it took before goes with that.
    pub(super) fn pass(
        &mut self,
        netlink: &mut Netlink,
        desired: &Desired,
        observed: &Observed,
    ) -> Vec<NetworkError> {
        let mut errors = Vec::new();
        self.ignoring.retain(|index, _| observed.links.iter().any(|link| link.index == *index));
        for link in &observed.links {
            let ignores = desired.links.get(&link.name).is_some_and(|link| link.ignores_routers);
            let result = match self.ignoring.entry(link.index) {
                Entry::Vacant(entry) if ignores => ignore(&link.name).and_then(|before| {
                    entry.insert(Ignoring { before, forgotten: false }).forget(netlink, link.index)
                }),
                Entry::Occupied(mut entry) if ignores => {
                    entry.get_mut().forget(netlink, link.index)
                }
                Entry::Occupied(entry) => {
                    heed(netlink, &link.name, link.index, &entry.get().before)
                        .map(|()| _ = entry.remove())
                }
                Entry::Vacant(_) => Ok(()),
            };
            errors.extend(result.err());
        }
        errors
    }
}

impl Ignoring {
    fn forget(&mut self, netlink: &mut Netlink, index: u32) -> Result<(), NetworkError> {
        if !self.forgotten {
            forget(netlink, index).map_err(NetworkError::Apply)?;
            self.forgotten = true;
        }
        Ok(())
    }
}

/// Where the kernel is told whether to heed the routers of a link.
fn setting(link: &str) -> String {
    format!("/proc/sys/net/ipv6/conf/{link}/accept_ra")
}

/// Has the kernel heed the routers of a link no more. Returns what its setting was.
fn ignore(link: &str) -> Result<String, NetworkError> {
    let file = setting(link);
    fs::read_to_string(&file)
        .and_then(|before| fs::write(&file, "0").map(|()| before))
        .map_err(|source| NetworkError::Routers { file, source })
}

/// Has it heed them as before, and ask them at once: the next advertisement by itself may be half an hour away.
fn heed(netlink: &mut Netlink, link: &str, index: u32, before: &str) -> Result<(), NetworkError> {
    let file = setting(link);
    fs::write(&file, before).map_err(|source| NetworkError::Routers { file, source })?;
    netlink.solicit_routers(index).map_err(NetworkError::Apply)
}

/// Removes the addresses and routes that came of advertisements. The kernel would keep them until they end.
fn forget(netlink: &mut Netlink, index: u32) -> Result<(), NetError> {
    let addresses = netlink.addresses()?.into_iter().filter(|address| address.index == index);
    let (made, others): (Vec<_>, Vec<_>) =
        addresses.partition(|address| address.protocol == ADDRESS);
    for address in &made {
        netlink.del_address(index, address.address, address.prefix)?;
    }
    // The network of an address is on the link for as long as the advertisement said, with the address or without.
    let holds = |all: &[AddressInfo], route: &Route| {
        all.iter().any(|address| {
            let network = Cidr::new(address.address, address.prefix).map(|cidr| cidr.network());
            network == Cidr::new(route.to, route.prefix)
        })
    };
    for route in netlink.routes()?.into_iter().filter(|route| route.index == index) {
        let near = route.via.is_none() && holds(&made, &route) && !holds(&others, &route);
        if route.protocol == ROUTE || near {
            netlink.del_route(&route)?;
        }
    }
    Ok(())
}

/// Passes on what the agent says.
async fn relay(mut messages: mpsc::Receiver<Vec<u8>>, heard: mpsc::Sender<(u32, Advertisement)>) {
    while let Some(message) = messages.recv().await {
        match AdvertisedNames::decode(message.as_slice()) {
            Ok(names) => {
                if heard.send((names.link, advertisement(names))).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = report::chain(&error),
                    "what routers advertise is not taken"
                );
            }
        }
    }
}

fn advertisement(names: AdvertisedNames) -> Advertisement {
    let server = |bytes: &Vec<u8>| <[u8; 16]>::try_from(bytes.as_slice()).ok().map(Ipv6Addr::from);
    Advertisement {
        servers: names.dns_servers.iter().filter_map(server).collect(),
        domains: names.domains,
        seconds: names.seconds,
    }
}
