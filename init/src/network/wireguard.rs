// SPDX-License-Identifier: Apache-2.0
//! The keys and peers of WireGuard links: gives them, and says the public keys.
//!
//! A private key that no document gives is made once and kept on STATE, so that its public key stays the same.

use super::{NetworkError, endpoints::Endpoints};
use crate::{node::Node, report, state, store::Kind};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};
use stele_config::{
    Cidr, Domain, MachineConfig, TunnelEndpoint, VirtualLink, WireGuard, WireGuardKey,
    WireGuardSecret,
};
use stele_kernel::{
    clock,
    net::{NetError, Netlink, WireGuardDevice, WireGuardPeer, WireGuardSettings},
    random,
};
use stele_machine::network::{
    Observed,
    virtual_link::Form,
    wireguard::{Device, Given, Handshakes, Peer, Step, is_silent, plan},
};

/// What is remembered of all of them.
#[derive(Debug)]
pub(super) struct Tunnels {
    /// The keys that the machine made, or why it could not, by the name of the link.
    keys: BTreeMap<String, Result<WireGuardSecret, String>>,
    /// Where the peers were said to be, by the index of the link.
    given: BTreeMap<u32, Given>,
    handshakes: Handshakes,
    endpoints: Endpoints,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    peers: Vec<PeerStatus>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PeerStatus {
    public_key: String,
    /// Where the kernel reaches it, which may be elsewhere than its document says.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<SocketAddr>,
    #[serde(rename = "allowedIPs")]
    allowed: Vec<String>,
    /// When it last agreed on keys, in seconds since the epoch. It is told once a minute at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_handshake: Option<u64>,
    /// Why the name of its document has no address, or none that is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Status {
    /// How a link is of which there is nothing else to say.
    fn of(state: &'static str, reason: String) -> Status {
        Status { state, public_key: None, port: None, peers: Vec::new(), reason }
    }
}

impl Tunnels {
    pub(super) fn new() -> Tunnels {
        Tunnels {
            keys: BTreeMap::new(),
            given: BTreeMap::new(),
            handshakes: Handshakes::default(),
            endpoints: Endpoints::new(),
        }
    }

    /// Reads or makes the keys that the machine has to have and are not known yet.
    pub(super) async fn make_keys(&mut self, config: &MachineConfig) {
        for document in documents(config).filter(|document| document.private_key().is_none()) {
            let name = document.name().to_string();
            if self.keys.get(&name).is_some_and(Result::is_ok) {
                continue;
            }
            let file = name.clone();
            let made = tokio::task::spawn_blocking(move || own_key(&file)).await;
            let made = made.unwrap_or_else(|error| Err(error.to_string()));
            self.keys.insert(name, made);
        }
    }

    /// One pass over all that are there.
    pub(super) fn pass(
        &mut self,
        node: &Rc<Node>,
        netlink: &mut Netlink,
        config: Option<&MachineConfig>,
        observed: &Observed,
        now: Duration,
    ) -> Vec<NetworkError> {
        let mut peers = Vec::new();
        let mut names = BTreeMap::new();
        let mut errors = Vec::new();
        let mut statuses = BTreeMap::new();
        self.given.retain(|index, _| observed.links.iter().any(|link| link.index == *index));
        for document in config.into_iter().flat_map(documents) {
            let name = document.name().as_str();
            let link = observed.link(name);
            for (_, name) in by_name(document) {
                names.entry(name.clone()).or_insert(false);
            }
            let status = match link.filter(|link| link.ours && link.form == Some(Form::WireGuard)) {
                None => Status::of("absent", "The link is not made yet".to_owned()),
                Some(link) => match self.one(netlink, document, link.index) {
                    Ok(mut device) => {
                        for (peer, name) in by_name(document) {
                            *names.entry(name.clone()).or_insert(false) |=
                                silent(&device, peer.public_key());
                        }
                        for peer in &mut device.peers {
                            let key = (link.index, peer.public_key.into());
                            peer.handshake = self.handshakes.show(key, peer.handshake, now);
                            peers.push(key);
                        }
                        self.status(document, device)
                    }
                    Err(error) => {
                        let reason = report::chain(&error);
                        errors.push(error);
                        Status::of("failed", reason)
                    }
                },
            };
            statuses.insert(name.to_owned(), status);
        }
        self.handshakes.look(&peers, now);
        self.endpoints.pass(node, &names, now);
        node.store.replace(Kind::WireGuard, &statuses);
        errors
    }

    /// When to look again at what nobody tells of.
    pub(super) fn again(&self) -> Option<Duration> {
        self.handshakes.again().into_iter().chain(self.endpoints.again()).min()
    }

    /// Waits until there is news of a name.
    pub(super) async fn heard(&mut self) {
        self.endpoints.heard().await;
    }

    /// How a link is that is there.
    fn status(&self, document: &WireGuard, device: WireGuardDevice) -> Status {
        let peers = device.peers.iter().map(|peer| {
            let public_key = WireGuardKey::from(peer.public_key);
            let name = by_name(document).find(|(named, _)| named.public_key() == public_key);
            let networks = peer.allowed.iter();
            PeerStatus {
                public_key: public_key.to_string(),
                endpoint: peer.endpoint,
                allowed: networks.map(|(address, prefix)| format!("{address}/{prefix}")).collect(),
                last_handshake: peer.handshake.map(|handshake| handshake.as_secs()),
                reason: name
                    .and_then(|(_, name)| self.endpoints.lookups().reason(name))
                    .map(str::to_owned),
            }
        });
        Status {
            state: "ready",
            public_key: Some(WireGuardKey::from(device.public_key).to_string()),
            port: Some(device.port),
            peers: peers.collect(),
            reason: String::new(),
        }
    }

    /// Gives a link what it should have, and says what it has.
    fn one(
        &mut self,
        netlink: &mut Netlink,
        document: &WireGuard,
        index: u32,
    ) -> Result<WireGuardDevice, NetworkError> {
        let name = document.name().to_string();
        let own_key = match (document.private_key(), self.keys.get(&name)) {
            (Some(key), _) | (None, Some(Ok(key))) => *key,
            (None, Some(Err(reason))) => {
                return Err(NetworkError::Key { link: name, reason: reason.clone() });
            }
            (None, None) => {
                let reason = "it is not read yet".to_owned();
                return Err(NetworkError::Key { link: name, reason });
            }
        };
        let there = netlink.wireguard(index).map_err(NetworkError::Observe)?;
        let given = self.given.entry(index).or_default();
        let lookups = self.endpoints.lookups();
        let mut turn = BTreeSet::new();
        for (peer, name) in by_name(document) {
            let key = peer.public_key();
            if given.hear(key, lookups.answers(name), silent(&there, key)) {
                turn.insert(key);
            }
        }
        let desired = Device::derive(document, own_key, |peer, name| {
            let key = peer.public_key();
            lookups.address(name, given.address(key), turn.contains(&key))
        });
        let steps = plan(&desired, &observed(&there), given, &turn);
        for step in &steps {
            if let Err(error) = apply(netlink, index, step) {
                // All of it is given again.
                self.given.remove(&index);
                return Err(NetworkError::Apply(error));
            }
        }
        if steps.is_empty() {
            return Ok(there);
        }
        netlink.wireguard(index).map_err(NetworkError::Observe)
    }
}

fn documents(config: &MachineConfig) -> impl Iterator<Item = &WireGuard> {
    config.virtual_links().iter().filter_map(|link| match link {
        VirtualLink::WireGuard(tunnels) => Some(tunnels),
        VirtualLink::Dummy(_)
        | VirtualLink::Veth(_)
        | VirtualLink::Vlan(_)
        | VirtualLink::Bridge(_)
        | VirtualLink::Bond(_)
        | VirtualLink::Vrf(_) => None,
    })
}

/// The peers whose document gives a name.
fn by_name(document: &WireGuard) -> impl Iterator<Item = (&stele_config::WireGuardPeer, &Domain)> {
    document.peers().iter().filter_map(|peer| match peer.endpoint()? {
        TunnelEndpoint::Name(name, _) => Some((peer, name)),
        TunnelEndpoint::Address(_) => None,
    })
}

/// Whether nothing is heard of a peer.
fn silent(device: &WireGuardDevice, peer: WireGuardKey) -> bool {
    let there = device.peers.iter().find(|there| there.public_key == *peer.bytes());
    is_silent(there.and_then(|there| there.handshake), since_epoch())
}

fn since_epoch() -> Duration {
    let seconds = clock::now().ok().and_then(|seconds| u64::try_from(seconds).ok());
    Duration::from_secs(seconds.unwrap_or_default())
}

/// The key that was kept for a link, or a new one.
fn own_key(link: &str) -> Result<WireGuardSecret, String> {
    let kept = state::read_wireguard_key(link).map_err(|error| report::chain(&error))?;
    if let Some(kept) = kept {
        return Ok(kept);
    }
    let mut bytes = [0; 32];
    random::fill(&mut bytes).map_err(|error| format!("making it: {error}"))?;
    let key = WireGuardSecret::from(bytes);
    state::write_wireguard_key(link, &key).map_err(|error| report::chain(&error))?;
    Ok(key)
}

fn observed(device: &WireGuardDevice) -> Device {
    let network = |(address, prefix): &(_, u8)| Cidr::new(*address, *prefix);
    let peer = |peer: &WireGuardPeer| Peer {
        public_key: peer.public_key.into(),
        preshared_key: peer.preshared_key.into(),
        endpoint: peer.endpoint,
        keepalive: peer.keepalive,
        allowed: peer.allowed.iter().filter_map(network).collect(),
    };
    Device {
        private_key: device.private_key.into(),
        port: Some(device.port),
        mark: device.mark,
        peers: device.peers.iter().map(peer).collect(),
    }
}

fn apply(netlink: &mut Netlink, index: u32, step: &Step) -> Result<(), NetError> {
    match step {
        Step::Settings { private_key, port, mark } => {
            let private_key = *private_key.bytes();
            let settings = WireGuardSettings { private_key, port: *port, mark: *mark };
            netlink.set_wireguard(index, &settings)
        }
        Step::SetPeer(peer) => {
            let network = |network: &Cidr| (network.address(), network.prefix());
            let peer = WireGuardPeer {
                public_key: *peer.public_key.bytes(),
                preshared_key: *peer.preshared_key.bytes(),
                endpoint: peer.endpoint,
                keepalive: peer.keepalive,
                allowed: peer.allowed.iter().map(network).collect(),
                handshake: None,
            };
            netlink.set_wireguard_peer(index, &peer)
        }
        Step::DelPeer(key) => netlink.del_wireguard_peer(index, key.bytes()),
    }
}
