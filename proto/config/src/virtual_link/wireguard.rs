// SPDX-License-Identifier: Apache-2.0
//! Tunnels to other machines.

use crate::integer::Integer;
use crate::list::List;
use crate::node::Node;
use crate::record::{Check, record};
use crate::report::Report;
use crate::span::Span;
use crate::virtual_link::VirtualLink;
use crate::{Cidr, InterfaceName, TunnelEndpoint, WireGuardKey, WireGuardSecret};
use std::time::Duration;

record! {
    /// Encrypted tunnels to other machines, as one link.
    ///
    /// The document makes the link; a `Link` of the same name gives it addresses, an MTU, and the routes to what is behind the
    /// peers. The public key is the resource's of the same name, as is where each peer is and when it last agreed on keys:
    /// `ctl get wireguard`.
    pub struct WireGuard as "WireGuard" {
        /// The name of the link.
        name: InterfaceName,
        /// The private key. Without it, the machine makes one and keeps it on STATE. It is redacted wherever the
        /// configuration is shown to anyone below `os:admin`.
        private_key as "privateKey": Option<WireGuardSecret>,
        /// The UDP port on which peers reach this machine. Without it, one that the kernel chooses.
        port: Option<Integer<1, 65535>>,
        /// The mark of the packets that carry the tunnels, for a `RoutingRule`.
        mark: Option<Integer<1, { u32::MAX }>>,
        /// The machines at the other ends.
        peers: List<WireGuardPeer, 0, 128>,
    }
}

record! {
    /// A machine at the other end.
    pub struct WireGuardPeer as "WireGuardPeer" {
        /// Its public key.
        public_key as "publicKey": WireGuardKey,
        /// A secret that both know besides. Redacted like the private key.
        preshared_key as "presharedKey": Option<WireGuardSecret>,
        /// Where it is reached: an address or a name, and a port. Without it, it has to speak first; later it is reached where it
        /// last spoke from. A name is looked up again once nothing has been heard for three minutes, and the next of its
        /// addresses is taken.
        endpoint: Option<TunnelEndpoint>,
        /// How often to say something, so that what is between keeps the way open. Without it, never without need.
        keepalive: Option<Span<1, 65535>>,
        /// The networks behind it: packets to them go there, and packets from there are taken if they are from them.
        allowed as "allowedIPs": List<Cidr, 0, 128>,
    }
}

impl WireGuard {
    /// The name of the link.
    #[must_use]
    pub fn name(&self) -> &InterfaceName {
        &self.name
    }

    /// The private key, where it is given.
    #[must_use]
    pub fn private_key(&self) -> Option<&WireGuardSecret> {
        self.private_key.as_ref()
    }

    /// The UDP port on which peers reach this machine.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port.and_then(|port| u16::try_from(port.value()).ok())
    }

    /// The mark of the packets that carry the tunnels.
    #[must_use]
    pub fn mark(&self) -> Option<u32> {
        self.mark.map(Integer::value)
    }

    /// The machines at the other ends.
    #[must_use]
    pub fn peers(&self) -> &[WireGuardPeer] {
        &self.peers
    }
}

impl WireGuardPeer {
    /// Its public key.
    #[must_use]
    pub fn public_key(&self) -> WireGuardKey {
        self.public_key
    }

    /// A secret that both know besides.
    #[must_use]
    pub fn preshared_key(&self) -> Option<&WireGuardSecret> {
        self.preshared_key.as_ref()
    }

    /// Where it is reached.
    #[must_use]
    pub fn endpoint(&self) -> Option<&TunnelEndpoint> {
        self.endpoint.as_ref()
    }

    /// How often to say something.
    #[must_use]
    pub fn keepalive(&self) -> Option<Duration> {
        self.keepalive.map(Span::duration)
    }

    /// The networks behind it.
    #[must_use]
    pub fn allowed(&self) -> &[Cidr] {
        &self.allowed
    }
}

impl Check for WireGuard {
    fn check(&self, node: &Node, report: &mut Report) {
        VirtualLink::WireGuard(self.clone()).check_alone(node, report);
        for (index, peer) in self.peers.iter().enumerate() {
            let earlier = || self.peers.iter().take(index);
            if earlier().any(|other| other.public_key == peer.public_key) {
                let message = format!("{} is a peer already", peer.public_key);
                report.find_item(node, ("peers", index), message, "each peer once");
            }
            for network in peer.allowed.iter() {
                if network.network() != *network {
                    let message = format!("{network} in allowedIPs has host bits");
                    let expected = network.network().to_string();
                    report.find_item(node, ("peers", index), message, expected);
                }
                if let Some(other) = earlier().find(|other| other.allowed.contains(network)) {
                    let message = format!("{network} is behind {} as well", other.public_key);
                    let expected = "each network behind one peer";
                    report.find_item(node, ("peers", index), message, expected);
                }
            }
        }
    }
}

impl Check for WireGuardPeer {}
