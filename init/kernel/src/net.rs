// SPDX-License-Identifier: Apache-2.0
//! Links, addresses, routes and routing rules over rtnetlink.
//!
//! [`Netlink`] asks and changes, synchronously; [`Monitor`] tells when to ask again. The messages come from the kernel's own
//! specifications (`netlink-bindings`), so this module only says which fields mean what here.
//!
//! What this module adds carries [`OWNER`], on routes and rules as their protocol and on addresses as `IFA_PROTO` (Linux 5.18), and the
//! links that it makes are in a [`GROUP`], so what others added can be told apart and left alone, whatever happened to our
//! memory in between.
//!
//! There are no IP sockets here: everything is asked over `AF_NETLINK`.

mod addresses;
mod bridge_vlans;
mod fence;
mod firewall;
mod links;
mod monitor;
mod router_options;
mod routes;
mod rules;
mod solicitation;
mod virtual_links;
mod wireguard;

pub use addresses::AddressInfo;
pub use bridge_vlans::{VlanEnd, VlanRange};
pub use fence::{Fence, Ports};
pub use firewall::{Direction, Firewall, FirewallRule, Transport, Verdict};
pub use links::LinkInfo;
pub use monitor::Monitor;
pub use router_options::RouterOptions;
pub use routes::{MAIN_TABLE, Nowhere, Route};
pub use rules::Rule;
pub use virtual_links::{BondForm, BridgeForm, GROUP, LinkForm, NewLink};
pub use wireguard::{WireGuardDevice, WireGuardPeer, WireGuardSettings};

use netlink_bindings::traits::NetlinkRequest;
use netlink_socket2::{NetlinkSocket, ReplyError};
use std::{fmt, io, net::IpAddr};

/// What marks a route or an address as ours. Unassigned in `/usr/include/linux/rtnetlink.h` and `if_addr.h`.
pub const OWNER: u8 = 83;

/// The index of the loopback link in every network namespace.
pub const LOOPBACK: u32 = 1;

/// What was tried, with what; the source is why it failed.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// A dump of links, addresses or routes failed.
    #[error("Listing {what}")]
    List {
        /// What was listed.
        what: &'static str,
        /// Why it failed.
        source: Refusal,
    },
    /// A link could not be changed.
    #[error("Setting link {index} {change}")]
    Link {
        /// The link.
        index: u32,
        /// What it should have become.
        change: LinkChange,
        /// Why it failed.
        source: Refusal,
    },
    /// A link could not be made.
    #[error("Making the link {name}")]
    MakeLink {
        /// Its name.
        name: String,
        /// Why it failed.
        source: Refusal,
    },
    /// A link could not be removed.
    #[error("Removing link {index}")]
    RemoveLink {
        /// The link.
        index: u32,
        /// Why it failed.
        source: Refusal,
    },
    /// An address could not be added.
    #[error("Adding {address}/{prefix} to link {index}")]
    AddAddress {
        /// The link.
        index: u32,
        /// The address.
        address: IpAddr,
        /// Its prefix length.
        prefix: u8,
        /// Why it failed.
        source: Refusal,
    },
    /// An address could not be removed.
    #[error("Removing {address}/{prefix} from link {index}")]
    DelAddress {
        /// The link.
        index: u32,
        /// The address.
        address: IpAddr,
        /// Its prefix length.
        prefix: u8,
        /// Why it failed.
        source: Refusal,
    },
    /// A route could not be added.
    #[error("Adding the route {route}")]
    AddRoute {
        /// The route.
        route: Route,
        /// Why it failed.
        source: Refusal,
    },
    /// A route could not be removed.
    #[error("Removing the route {route}")]
    DelRoute {
        /// The route.
        route: Route,
        /// Why it failed.
        source: Refusal,
    },
    /// A routing rule could not be added.
    #[error("Adding the routing rule {rule}")]
    AddRule {
        /// The rule.
        rule: Rule,
        /// Why it failed.
        source: Refusal,
    },
    /// A routing rule could not be removed.
    #[error("Removing the routing rule {rule}")]
    DelRule {
        /// The rule.
        rule: Rule,
        /// Why it failed.
        source: Refusal,
    },
    /// Routers could not be asked.
    #[error("Soliciting the routers of link {index}")]
    Solicit {
        /// The link.
        index: u32,
        /// Why it failed.
        source: Refusal,
    },
    /// The keys or peers of a WireGuard link could not be set.
    #[error("Setting keys and peers of link {index}")]
    WireGuard {
        /// The link.
        index: u32,
        /// Why it failed.
        source: Refusal,
    },
    /// Our table of the firewall could not be replaced or removed.
    #[error("Replacing the firewall")]
    Firewall(#[source] Refusal),
    /// A fence could not be put up, or taken down.
    #[error("Fencing {fence}")]
    Fence {
        /// The fence.
        fence: Fence,
        /// Why it failed.
        source: Refusal,
    },
    /// The monitor socket could not be made.
    #[error("Subscribing to changes of links, addresses and routes")]
    Subscribe(#[source] io::Error),
    /// The monitor socket could not be read.
    #[error("Reading changes of links, addresses and routes")]
    Drain(#[source] io::Error),
}

/// A change of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkChange {
    /// Administratively up.
    Up,
    /// Administratively down.
    Down,
    /// Another MTU.
    Mtu(u32),
    /// Into another link, or out of the one that it is in.
    Master(Option<u32>),
    /// Other settings of its form.
    Form,
    /// Into other VLANs of a bridge.
    Vlans,
}

impl fmt::Display for LinkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up => f.write_str("up"),
            Self::Down => f.write_str("down"),
            Self::Mtu(mtu) => write!(f, "to an MTU of {mtu}"),
            Self::Master(Some(master)) => write!(f, "into link {master}"),
            Self::Master(None) => f.write_str("out of the link that it is in"),
            Self::Form => f.write_str("to other settings"),
            Self::Vlans => f.write_str("to other VLANs"),
        }
    }
}

/// The kernel's answer to a request that it did not carry out.
#[derive(Debug)]
pub struct Refusal {
    errno: io::Error,
    text: Option<String>,
}

impl Refusal {
    /// The number of the error, when it came from the kernel.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.errno.raw_os_error()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => write!(f, "{text} ({})", self.errno),
            None => self.errno.fmt(f),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<io::Error> for Refusal {
    fn from(errno: io::Error) -> Self {
        Self { errno, text: None }
    }
}

impl From<ReplyError> for Refusal {
    fn from(reply: ReplyError) -> Self {
        let text = reply
            .ext_ack()
            .and_then(|ack| ack.get_msg().ok().map(|text| text.to_string_lossy().into_owned()));
        Self { errno: reply.into(), text }
    }
}

/// A conversation with the kernel about the network.
pub struct Netlink(NetlinkSocket);

impl fmt::Debug for Netlink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Netlink")
    }
}

impl Default for Netlink {
    fn default() -> Self {
        Self::new()
    }
}

impl Netlink {
    /// Makes a conversation; its socket is opened by the first request.
    #[must_use]
    pub fn new() -> Self {
        Self(NetlinkSocket::new())
    }

    /// Sends a request that changes something and waits for the kernel's word that it did.
    fn change<R: NetlinkRequest>(&mut self, request: &R) -> Result<(), Refusal> {
        self.0.request(request)?.recv_ack().map_err(Refusal::from)
    }

    /// Like [`Self::change`]; what is gone already is gone, too.
    fn remove<R: NetlinkRequest>(&mut self, request: &R) -> Result<(), Refusal> {
        match self.change(request) {
            Err(refusal) => match refusal.errno() {
                Some(libc::ESRCH | libc::EADDRNOTAVAIL | libc::ENODEV | libc::ENOENT) => Ok(()),
                _ => Err(refusal),
            },
            Ok(()) => Ok(()),
        }
    }
}

/// The address family of an address.
fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}
