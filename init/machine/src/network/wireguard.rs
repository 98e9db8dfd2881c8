// SPDX-License-Identifier: Apache-2.0
//! Tunnels to other machines: the keys and peers that a WireGuard link should have, and the steps from what it has.
//!
//! Peers that stay are not touched, so what they carry goes on. A peer that moves is reached where it last spoke from: the
//! endpoint of a document is given once. That of a name is given again whenever the name was looked up because nothing is heard
//! of the peer.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use stele_config::{
    Cidr, Domain, TunnelEndpoint, WireGuard, WireGuardKey, WireGuardPeer, WireGuardSecret,
};

/// What a WireGuard link has, or should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The private key.
    pub private_key: WireGuardSecret,
    /// The port; none for the one that the kernel chose.
    pub port: Option<u16>,
    /// The mark of the packets that carry the tunnels; 0 for none.
    pub mark: u32,
    /// The machines at the other ends.
    pub peers: Vec<Peer>,
}

/// A machine at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its public key.
    pub public_key: WireGuardKey,
    /// A secret that both know besides; all zeros for none.
    pub preshared_key: WireGuardSecret,
    /// Where it is reached.
    pub endpoint: Option<SocketAddr>,
    /// Seconds between two words; 0 for none without need.
    pub keepalive: u16,
    /// The networks behind it.
    pub allowed: Vec<Cidr>,
}

/// How often what is shown of a peer's handshakes changes at most, and is looked at at least.
const MINUTE: Duration = Duration::from_secs(60);

/// Whether nothing was heard of a peer for longer than keys are good for, in seconds since the epoch: peers that talk agree on
/// new ones every two minutes, and packets with keys of three minutes are refused (section 6 of the paper on WireGuard).
#[must_use]
pub fn is_silent(handshake: Option<Duration>, now: Duration) -> bool {
    handshake.is_none_or(|handshake| now.saturating_sub(handshake) > Duration::from_secs(180))
}

/// When each peer last agreed on keys, as it is shown. Peers that talk do so every two minutes, and nobody says when.
#[derive(Debug, Default)]
pub struct Handshakes {
    /// What is shown, and since when that is so, by the index of the link.
    shown: BTreeMap<(u32, WireGuardKey), (Duration, Duration)>,
    /// When to look again.
    again: Option<Duration>,
}

impl Handshakes {
    /// Begins to look at the peers that there are now. What is shown of others is forgotten.
    pub fn look(&mut self, peers: &[(u32, WireGuardKey)], now: Duration) {
        self.shown.retain(|peer, _| peers.contains(peer));
        self.again = (!peers.is_empty()).then(|| now.saturating_add(MINUTE));
    }

    /// What to show of a peer.
    pub fn show(
        &mut self,
        peer: (u32, WireGuardKey),
        handshake: Option<Duration>,
        now: Duration,
    ) -> Option<Duration> {
        if let Some((shown, since)) = self.shown.get(&peer)
            && now.saturating_sub(*since) < MINUTE
        {
            return Some(*shown);
        }
        if self.shown.get(&peer).map(|(shown, _)| *shown) != handshake {
            match handshake {
                Some(handshake) => self.shown.insert(peer, (handshake, now)),
                None => self.shown.remove(&peer),
            };
        }
        handshake
    }

    /// When to look again.
    #[must_use]
    pub fn again(&self) -> Option<Duration> {
        self.again
    }
}

/// What the peers of a link were given last.
#[derive(Debug, Default)]
pub struct Given {
    /// Where each was said to be.
    endpoints: BTreeMap<WireGuardKey, SocketAddr>,
    /// How many answers there were for the name of each.
    answers: BTreeMap<WireGuardKey, u64>,
}

impl Given {
    /// The address that a peer was given.
    #[must_use]
    pub fn address(&self, peer: WireGuardKey) -> Option<IpAddr> {
        self.endpoints.get(&peer).map(SocketAddr::ip)
    }

    /// Takes how many answers there were for the name of a peer. Returns whether it is to be given an endpoint anew: once after each
    /// answer, while nothing is heard of it.
    pub fn hear(&mut self, peer: WireGuardKey, answers: u64, silent: bool) -> bool {
        self.answers.insert(peer, answers) != Some(answers) && silent
    }
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Set key, port and mark.
    Settings {
        /// The private key.
        private_key: WireGuardSecret,
        /// The port.
        port: Option<u16>,
        /// The mark.
        mark: u32,
    },
    /// Add a peer, or make it the same.
    SetPeer(Peer),
    /// Remove a peer.
    DelPeer(WireGuardKey),
}

impl Device {
    /// What a document says, with the key of the machine where it says none, and the addresses of names that are known.
    #[must_use]
    pub fn derive(
        document: &WireGuard,
        own_key: WireGuardSecret,
        address: impl Fn(&WireGuardPeer, &Domain) -> Option<IpAddr>,
    ) -> Device {
        Device {
            private_key: clamp(document.private_key().copied().unwrap_or(own_key)),
            port: document.port(),
            mark: document.mark().unwrap_or_default(),
            peers: document.peers().iter().map(|peer| Peer::derive(peer, &address)).collect(),
        }
    }
}

impl Peer {
    fn derive(
        document: &WireGuardPeer,
        address: impl Fn(&WireGuardPeer, &Domain) -> Option<IpAddr>,
    ) -> Peer {
        let keepalive = document.keepalive().map_or(0, |keepalive| keepalive.as_secs());
        let mut allowed: Vec<Cidr> = document.allowed().iter().map(Cidr::network).collect();
        allowed.sort();
        Peer {
            public_key: document.public_key(),
            preshared_key: document
                .preshared_key()
                .copied()
                .unwrap_or_else(|| WireGuardSecret::from([0; 32])),
            endpoint: document.endpoint().and_then(|endpoint| match endpoint {
                TunnelEndpoint::Address(address) => Some(*address),
                TunnelEndpoint::Name(name, port) => {
                    address(document, name).map(|address| SocketAddr::new(address, *port))
                }
            }),
            keepalive: u16::try_from(keepalive).unwrap_or(u16::MAX),
            allowed,
        }
    }
}

/// The same key in the form that the kernel says it in (RFC 7748, section 5).
fn clamp(key: WireGuardSecret) -> WireGuardSecret {
    let mut bytes = *key.bytes();
    let [first, .., last] = &mut bytes;
    *first &= 0xf8;
    *last = *last & 0x7f | 0x40;
    WireGuardSecret::from(bytes)
}

/// Decides. `given` says which endpoint each peer was given last, and is brought up to date. Those of `turn` are given theirs
/// again where the kernel has another one.
#[must_use]
pub fn plan(
    desired: &Device,
    observed: &Device,
    given: &mut Given,
    turn: &BTreeSet<WireGuardKey>,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let port = desired.port.or(observed.port);
    if (desired.private_key, port, desired.mark)
        != (observed.private_key, observed.port, observed.mark)
    {
        let Device { private_key, port, mark, .. } = *desired;
        steps.push(Step::Settings { private_key, port, mark });
    }
    let wanted = |key| desired.peers.iter().any(|peer| peer.public_key == key);
    let gone = observed.peers.iter().filter(|peer| !wanted(peer.public_key));
    // First: a network may go on to another peer.
    steps.extend(gone.map(|peer| Step::DelPeer(peer.public_key)));
    given.endpoints.retain(|key, _| wanted(*key));
    given.answers.retain(|key, _| wanted(*key));
    for peer in &desired.peers {
        let there = observed.peers.iter().find(|there| there.public_key == peer.public_key);
        let before = given.endpoints.get(&peer.public_key).copied();
        let strayed = turn.contains(&peer.public_key)
            && there.is_some_and(|there| there.endpoint != peer.endpoint);
        let moved =
            peer.endpoint.is_some() && (there.is_none() || strayed || before != peer.endpoint);
        let endpoint = peer.endpoint.filter(|_| moved);
        if let Some(endpoint) = endpoint {
            given.endpoints.insert(peer.public_key, endpoint);
        }
        let same = there.is_some_and(|there| {
            (there.preshared_key, there.keepalive) == (peer.preshared_key, peer.keepalive)
                && there.allowed.len() == peer.allowed.len()
                && peer.allowed.iter().all(|network| there.allowed.contains(network))
        });
        if moved || !same {
            steps.push(Step::SetPeer(Peer { endpoint, ..peer.clone() }));
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::{Device, Given, Handshakes, Peer, Step, plan};
    use std::{collections::BTreeSet, time::Duration};
    use stele_config::{WireGuardKey, WireGuardSecret};

    fn peer(number: u8) -> Peer {
        Peer {
            public_key: WireGuardKey::from([number; 32]),
            preshared_key: WireGuardSecret::from([0; 32]),
            endpoint: "192.0.2.1:51820".parse().ok(),
            keepalive: 0,
            allowed: vec!["10.0.0.0/24".parse().expect("a network")],
        }
    }

    fn device(peers: Vec<Peer>) -> Device {
        Device { private_key: WireGuardSecret::from([64; 32]), port: None, mark: 0, peers }
    }

    #[test]
    fn a_peer_that_moved_by_itself_stays_where_it_is_until_the_document_changes() {
        let mut given = Given::default();
        let empty = device(vec![]);
        let desired = device(vec![peer(1)]);
        assert_eq!(
            plan(&desired, &empty, &mut given, &BTreeSet::new()),
            vec![Step::SetPeer(peer(1))]
        );
        let moved = Peer { endpoint: "198.51.100.1:7".parse().ok(), ..peer(1) };
        let there = Device { port: Some(40_000), ..device(vec![moved]) };
        assert_eq!(plan(&desired, &there, &mut given, &BTreeSet::new()), vec![]);
        let elsewhere = Peer { endpoint: "203.0.113.1:7".parse().ok(), ..peer(1) };
        let steps = plan(&device(vec![elsewhere.clone()]), &there, &mut given, &BTreeSet::new());
        assert_eq!(steps, vec![Step::SetPeer(elsewhere)]);
        // Its keepalive alone: it is not sent back.
        let kept = Peer { keepalive: 25, ..peer(1) };
        let steps = plan(
            &device(vec![Peer { endpoint: None, ..kept.clone() }]),
            &there,
            &mut given,
            &BTreeSet::new(),
        );
        assert_eq!(steps, vec![Step::SetPeer(Peer { endpoint: None, ..kept })]);
    }

    #[test]
    fn a_peer_of_which_nothing_is_heard_is_given_its_endpoint_again_after_each_answer() {
        let (mut given, key) = (Given::default(), peer(1).public_key);
        let desired = device(vec![peer(1)]);
        let strayed = Peer { endpoint: "198.51.100.1:7".parse().ok(), ..peer(1) };
        let strayed = Device { port: Some(40_000), ..device(vec![strayed]) };
        let there = Device { port: Some(40_000), ..desired.clone() };
        let mut pass = |observed: &Device, answers, silent| {
            let turn = given.hear(key, answers, silent).then_some(key);
            plan(&desired, observed, &mut given, &turn.into_iter().collect())
        };
        let steps = vec![Step::SetPeer(peer(1))];
        assert_eq!(pass(&device(vec![]), 1, true), steps);
        // It speaks from elsewhere, and then no more: until the next answer it stays there.
        assert_eq!((pass(&strayed, 1, false), pass(&strayed, 1, true)), (vec![], vec![]));
        assert_eq!((pass(&strayed, 2, true), pass(&strayed, 2, true)), (steps.clone(), vec![]));
        assert_eq!((pass(&there, 3, true), pass(&strayed, 4, true)), (vec![], steps));
        // What was asked for another peer changes nothing for one that speaks, nor when that falls silent.
        assert_eq!((pass(&strayed, 5, false), pass(&strayed, 5, true)), (vec![], vec![]));
        assert_eq!(given.address(key), Some("192.0.2.1".parse().expect("an address")));
        assert_eq!(plan(&device(vec![]), &there, &mut given, &BTreeSet::new()).len(), 1);
        assert_eq!((given.endpoints.len(), given.answers.len()), (0, 0));
    }

    #[test]
    fn what_is_shown_of_handshakes_changes_once_a_minute_at_most() {
        let mut handshakes = Handshakes::default();
        let peer = (3, WireGuardKey::from([1; 32]));
        let second = Duration::from_secs;
        assert_eq!(handshakes.again(), None);
        handshakes.look(&[peer], second(5));
        assert_eq!(handshakes.again(), Some(second(65)));
        let mut show = |handshake, now| {
            let shown = handshakes.show(
                peer,
                Some(second(handshake)).filter(|it| !it.is_zero()),
                second(now),
            );
            shown.map_or(0, |shown| shown.as_secs())
        };
        assert_eq!(show(0, 5), 0);
        // The first one is news, and so is another one, after a minute.
        assert_eq!(
            [show(1000, 6), show(1005, 7), show(1030, 65), show(1060, 66)],
            [1000, 1000, 1000, 1060]
        );
        assert_eq!(
            [show(1060, 200), show(1180, 201), show(0, 202), show(0, 262)],
            [1060, 1180, 1180, 0]
        );
        handshakes.look(&[], second(300));
        assert_eq!((handshakes.again(), handshakes.shown.len()), (None, 0));
    }

    #[test]
    fn who_is_not_named_any_more_goes_before_others_get_its_networks() {
        let mut given = Given::default();
        let there = device(vec![peer(1)]);
        let steps = plan(&device(vec![peer(2)]), &there, &mut given, &BTreeSet::new());
        assert_eq!(steps, vec![Step::DelPeer(peer(1).public_key), Step::SetPeer(peer(2))]);
        let other = Device { port: Some(51820), ..device(vec![]) };
        let settings =
            Step::Settings { private_key: other.private_key, port: Some(51820), mark: 0 };
        assert_eq!(plan(&other, &device(vec![]), &mut given, &BTreeSet::new()), vec![settings]);
    }
}
