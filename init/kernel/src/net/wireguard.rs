// SPDX-License-Identifier: Apache-2.0
//! Keys and peers of WireGuard links, over generic netlink.

use super::{NetError, Netlink, Refusal};
use netlink_bindings::traits::Pusher;
use netlink_bindings::wireguard::{PushWgpeer, Request};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// `WGPEER_F_REMOVE_ME` of `linux/wireguard.h`.
const REMOVE: u32 = 1;
/// `WGPEER_F_REPLACE_ALLOWEDIPS`.
const REPLACE_ALLOWED: u32 = 2;

/// A WireGuard link as the kernel has it. Debug output shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct WireGuardDevice {
    /// Its private key; all zeros when it has none.
    pub private_key: [u8; 32],
    /// The public key that belongs to it.
    pub public_key: [u8; 32],
    /// The port that it is reached on.
    pub port: u16,
    /// The mark of the packets that carry the tunnels; 0 for none.
    pub mark: u32,
    /// The machines at the other ends.
    pub peers: Vec<WireGuardPeer>,
}

/// A machine at the other end. Debug output shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct WireGuardPeer {
    /// Its public key.
    pub public_key: [u8; 32],
    /// A secret that both know besides; all zeros for none.
    pub preshared_key: [u8; 32],
    /// Where it is reached.
    pub endpoint: Option<SocketAddr>,
    /// Seconds between two words; 0 for none without need.
    pub keepalive: u16,
    /// The networks behind it.
    pub allowed: Vec<(IpAddr, u8)>,
    /// When it last agreed on keys with this machine, as time since the epoch; it is not set.
    pub handshake: Option<Duration>,
}

/// What of a WireGuard link is set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct WireGuardSettings {
    /// The private key.
    pub private_key: [u8; 32],
    /// The port; none for the one that the kernel chose.
    pub port: Option<u16>,
    /// The mark; 0 for none.
    pub mark: u32,
}

impl fmt::Debug for WireGuardDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WireGuardDevice").field("port", &self.port).finish_non_exhaustive()
    }
}

impl fmt::Debug for WireGuardPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WireGuardPeer").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl fmt::Debug for WireGuardSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WireGuardSettings").field("port", &self.port).finish_non_exhaustive()
    }
}

impl Netlink {
    /// The keys and peers of a WireGuard link.
    ///
    /// # Errors
    /// When the kernel refuses, or the link is none of WireGuard.
    pub fn wireguard(&mut self, index: u32) -> Result<WireGuardDevice, NetError> {
        self.dump_wireguard(index)
            .map_err(|source| NetError::List { what: "peers of WireGuard", source })
    }

    fn dump_wireguard(&mut self, index: u32) -> Result<WireGuardDevice, Refusal> {
        let mut request = Request::new().op_get_device_dump();
        request.encode().push_ifindex(index);
        let mut reply = self.0.request(&request)?;
        let mut device = WireGuardDevice {
            private_key: [0; 32],
            public_key: [0; 32],
            port: 0,
            mark: 0,
            peers: Vec::new(),
        };
        let key = |bytes: &[u8]| bytes.try_into().unwrap_or([0; 32]);
        while let Some(message) = reply.recv() {
            let attributes = message?;
            // Of a link with many peers each message says a part.
            if let Ok(private_key) = attributes.get_private_key() {
                device.private_key = key(private_key);
            }
            if let Ok(public_key) = attributes.get_public_key() {
                device.public_key = key(public_key);
            }
            device.port = attributes.get_listen_port().unwrap_or(device.port);
            device.mark = attributes.get_fwmark().unwrap_or(device.mark);
            let Ok(peers) = attributes.get_peers() else { continue };
            for peer in peers {
                let Ok(public_key) = peer.get_public_key().map(key) else { continue };
                let allowed = peer.get_allowedips().into_iter().flatten();
                let allowed: Vec<_> = allowed
                    .filter_map(|one| Some((one.get_ipaddr().ok()?, one.get_cidr_mask().ok()?)))
                    .collect();
                // The networks of one peer may go on in the next message.
                match device.peers.iter_mut().find(|known| known.public_key == public_key) {
                    Some(known) => known.allowed.extend(allowed),
                    None => device.peers.push(WireGuardPeer {
                        public_key,
                        preshared_key: peer.get_preshared_key().map_or([0; 32], key),
                        endpoint: peer.get_endpoint().ok(),
                        keepalive: peer.get_persistent_keepalive_interval().unwrap_or_default(),
                        allowed,
                        handshake: (peer.get_last_handshake_time().ok())
                            .map(|time| Duration::from_secs(time.sec))
                            .filter(|time| !time.is_zero()),
                    }),
                }
            }
        }
        Ok(device)
    }

    /// Sets the key, port and mark of a WireGuard link; its peers stay.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_wireguard(
        &mut self,
        index: u32,
        settings: &WireGuardSettings,
    ) -> Result<(), NetError> {
        let mut request = Request::new().op_set_device_do();
        let attributes = request
            .encode()
            .push_ifindex(index)
            .push_private_key(&settings.private_key)
            .push_fwmark(settings.mark);
        match settings.port {
            Some(port) => attributes.push_listen_port(port).end_nested(),
            None => attributes.end_nested(),
        };
        self.change(&request).map_err(|source| NetError::WireGuard { index, source })
    }

    /// Adds a peer to a WireGuard link, or makes the one with its key the same. Where it is reached stays when that is not said.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_wireguard_peer(&mut self, index: u32, peer: &WireGuardPeer) -> Result<(), NetError> {
        let mut request = Request::new().op_set_device_do();
        push_peer(request.encode().push_ifindex(index).array_peers().entry_nested(), peer);
        self.change(&request).map_err(|source| NetError::WireGuard { index, source })
    }

    /// Removes a peer from a WireGuard link; it is no error when it is gone already.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn del_wireguard_peer(
        &mut self,
        index: u32,
        public_key: &[u8; 32],
    ) -> Result<(), NetError> {
        let mut request = Request::new().op_set_device_do();
        request
            .encode()
            .push_ifindex(index)
            .array_peers()
            .entry_nested()
            .push_public_key(public_key)
            .push_flags(REMOVE)
            .end_nested()
            .end_array()
            .end_nested();
        self.change(&request).map_err(|source| NetError::WireGuard { index, source })
    }
}

fn push_peer<P: Pusher>(attributes: PushWgpeer<P>, peer: &WireGuardPeer) {
    let mut attributes = attributes
        .push_public_key(&peer.public_key)
        .push_preshared_key(&peer.preshared_key)
        .push_flags(REPLACE_ALLOWED)
        .push_persistent_keepalive_interval(peer.keepalive);
    if let Some(endpoint) = peer.endpoint {
        attributes = attributes.push_endpoint(endpoint);
    }
    let mut allowed = attributes.array_allowedips();
    for (network, prefix) in &peer.allowed {
        allowed = allowed
            .entry_nested()
            .push_family(super::family(*network).into())
            .push_ipaddr(*network)
            .push_cidr_mask(*prefix)
            .end_nested();
    }
    allowed.end_array();
}
