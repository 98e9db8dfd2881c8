// SPDX-License-Identifier: Apache-2.0
//! Unicast routes, and those that lead nowhere, of all tables but the kernel's own.

use super::{LOOPBACK, NetError, Netlink, OWNER, Refusal, family};
use netlink_bindings::rt_route::{PushRouteAttrs, Request, Rtmsg};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// How many routes of others are listed.
const MOST_OF_OTHERS: usize = 4096;

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The network it leads to.
    pub to: IpAddr,
    /// The prefix length of that network.
    pub prefix: u8,
    /// The next router; none for what is on the link itself.
    pub via: Option<IpAddr>,
    /// The link it goes through.
    pub index: u32,
    /// Lower is preferred.
    pub metric: u32,
    /// Who added it: [`OWNER`] for us.
    pub protocol: u8,
    /// The router is on the link, whatever the addresses of the link say.
    pub onlink: bool,
    /// The table that it is in.
    pub table: u32,
    /// The address that the machine's own packets have that take it, where that is set.
    pub source: Option<IpAddr>,
    /// How it leads nowhere, if it does. Such a route is one of [`super::LOOPBACK`]: that of IPv6 to the kernel as well.
    pub nowhere: Option<Nowhere>,
}

/// How a route leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nowhere {
    /// Packets are gone.
    Blackhole,
    /// Whoever sends one is told that nobody is there.
    Unreachable,
    /// Whoever sends one is told that he may not.
    Prohibit,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "to {}/{}", self.to, self.prefix)?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        write!(f, " through link {} with metric {}", self.index, self.metric)?;
        if self.table == MAIN_TABLE { Ok(()) } else { write!(f, " in table {}", self.table) }
    }
}

impl Netlink {
    /// Every unicast route of ours that goes through one link, but those to the machine itself, and those that lead nowhere; and
    /// the first 4,096 of others: a machine that speaks as a router makes as many as it likes. (Multipath routes are nobody's here.)
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn routes(&mut self) -> Result<Vec<Route>, NetError> {
        self.dump_routes().map_err(|source| NetError::List { what: "routes", source })
    }

    fn dump_routes(&mut self) -> Result<Vec<Route>, Refusal> {
        let request = Request::new().op_getroute_dump(&Rtmsg::default());
        let mut reply = self.0.request(&request)?;
        let (mut routes, mut others) = (Vec::new(), 0);
        while let Some(message) = reply.recv() {
            let (header, attributes) = message?;
            let table = attributes.get_table().unwrap_or_else(|_| u32::from(header.rtm_table));
            let unspecified = match i32::from(header.rtm_family) {
                libc::AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                libc::AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
                _ => continue,
            };
            let nowhere = match header.rtm_type {
                libc::RTN_UNICAST => None,
                libc::RTN_BLACKHOLE => Some(Nowhere::Blackhole),
                libc::RTN_UNREACHABLE => Some(Nowhere::Unreachable),
                libc::RTN_PROHIBIT => Some(Nowhere::Prohibit),
                _ => continue,
            };
            if table == u32::from(libc::RT_TABLE_LOCAL) {
                continue;
            }
            // One of IPv4 that leads nowhere goes through no link.
            let through = attributes.get_oif().ok();
            let Some(index) = through.or(nowhere.map(|_| LOOPBACK)) else { continue };
            if header.rtm_protocol != OWNER {
                others += 1;
                if others > MOST_OF_OTHERS {
                    continue;
                }
            }
            routes.push(Route {
                to: attributes.get_dst().unwrap_or(unspecified),
                prefix: header.rtm_dst_len,
                via: attributes.get_gateway().ok(),
                index,
                metric: attributes.get_priority().unwrap_or_default(),
                protocol: header.rtm_protocol,
                onlink: header.rtm_flags & RTNH_F_ONLINK != 0,
                table,
                source: attributes.get_prefsrc().ok(),
                nowhere,
            });
        }
        Ok(routes)
    }

    /// Adds a route.
    ///
    /// # Errors
    /// When the kernel refuses, for one when somebody's route to the same network with the same metric is there.
    pub fn add_route(&mut self, route: &Route) -> Result<(), NetError> {
        let near = route.via.is_none() && route.nowhere.is_none();
        let scope =
            if near && route.to.is_ipv4() { libc::RT_SCOPE_LINK } else { libc::RT_SCOPE_UNIVERSE };
        let header = Rtmsg {
            rtm_scope: scope,
            rtm_type: kind(route),
            rtm_flags: if route.onlink { RTNH_F_ONLINK } else { 0 },
            ..header(route)
        };
        let mut request = Request::new().set_create().set_excl().op_newroute_do(&header);
        push(request.encode(), route);
        self.change(&request).map_err(|source| NetError::AddRoute { route: route.clone(), source })
    }

    /// Removes a route of the same protocol; it is no error when it is gone already.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn del_route(&mut self, route: &Route) -> Result<(), NetError> {
        let header =
            Rtmsg { rtm_scope: libc::RT_SCOPE_NOWHERE, rtm_type: kind(route), ..header(route) };
        let mut request = Request::new().op_delroute_do(&header);
        push(request.encode(), route);
        self.remove(&request).map_err(|source| NetError::DelRoute { route: route.clone(), source })
    }
}

/// The table that holds what no other is named for.
pub const MAIN_TABLE: u32 = libc::RT_TABLE_MAIN as u32;

/// `RTNH_F_ONLINK` of `linux/rtnetlink.h`, which libc does not name.
const RTNH_F_ONLINK: u32 = 4;

fn header(route: &Route) -> Rtmsg {
    Rtmsg {
        rtm_family: family(route.to),
        rtm_dst_len: route.prefix,
        // The header has room for the first tables only; the attribute counts.
        rtm_table: u8::try_from(route.table).unwrap_or(libc::RT_TABLE_COMPAT),
        rtm_protocol: route.protocol,
        ..Rtmsg::default()
    }
}

fn kind(route: &Route) -> u8 {
    match route.nowhere {
        None => libc::RTN_UNICAST,
        Some(Nowhere::Blackhole) => libc::RTN_BLACKHOLE,
        Some(Nowhere::Unreachable) => libc::RTN_UNREACHABLE,
        Some(Nowhere::Prohibit) => libc::RTN_PROHIBIT,
    }
}

fn push(attributes: PushRouteAttrs<&mut Vec<u8>>, route: &Route) {
    let mut attributes =
        attributes.push_dst(route.to).push_priority(route.metric).push_table(route.table);
    if route.nowhere.is_none() || route.to.is_ipv6() {
        attributes = attributes.push_oif(route.index);
    }
    if let Some(source) = route.source {
        attributes = attributes.push_prefsrc(source);
    }
    if let Some(via) = route.via {
        attributes = attributes.push_gateway(via);
    }
    attributes.end_nested();
}
