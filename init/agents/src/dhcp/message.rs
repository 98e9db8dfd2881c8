// SPDX-License-Identifier: Apache-2.0
//! DHCP messages: what the client says, and what servers offer (RFC 2131, section 2 and 4).

use super::{
    Mac,
    options::{Options, code, write},
};
use std::net::Ipv4Addr;

/// The fixed part, up to and with the magic cookie.
const FIXED: usize = 240;
/// BOOTP servers and relays may drop what is shorter (RFC 1542, section 2.1).
const SHORTEST: usize = 300;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const BOOT_REQUEST: u8 = 1;
const BOOT_REPLY: u8 = 2;
const ETHERNET: u8 = 1;
/// The largest message that is taken, told to the server: what fits into a packet of 1500 bytes.
const LARGEST: u16 = 1472;
/// The shortest lease that is taken: less would have the client do nothing else.
pub const SHORTEST_LEASE: u32 = 10;
/// Most entries that are taken of a list.
const MOST: usize = 16;
/// Longest text that is taken: a domain.
const LONGEST_TEXT: usize = 253;

/// What is asked for. The classless routes come first, as RFC 3442 wants.
const PARAMETERS: [u8; 13] = [
    code::CLASSLESS_ROUTES,
    code::SUBNET_MASK,
    code::ROUTERS,
    code::DNS_SERVERS,
    code::HOSTNAME,
    code::DOMAIN,
    code::SEARCH,
    code::MTU,
    code::NTP_SERVERS,
    code::LEASE_SECONDS,
    code::SERVER,
    code::RENEWAL,
    code::REBINDING,
];

/// What the client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Who has an address for me?
    Discover,
    /// I take what you offered.
    Request {
        /// The offered address.
        address: Ipv4Addr,
        /// Who offered it.
        server: Ipv4Addr,
    },
    /// Is the address that I had still mine?
    Reboot {
        /// The address.
        address: Ipv4Addr,
    },
    /// I want to keep my address.
    Renew {
        /// The address, in use.
        address: Ipv4Addr,
    },
    /// Somebody else has the address that you gave me.
    Decline {
        /// The address.
        address: Ipv4Addr,
        /// Who gave it.
        server: Ipv4Addr,
    },
}

/// A message of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What it says.
    pub question: Question,
    /// The number of the exchange.
    pub xid: u32,
    /// Seconds since the client began.
    pub seconds: u16,
    /// The client.
    pub mac: Mac,
    /// By what the server knows the client, where that is not its hardware address.
    pub id: Option<Vec<u8>>,
    /// What the client is called, if it says so.
    pub hostname: Option<String>,
}

impl Request {
    /// The message as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (kind, requested, server, current) = match self.question {
            Question::Discover => (1, None, None, None),
            Question::Request { address, server } => (3, Some(address), Some(server), None),
            Question::Reboot { address } => (3, Some(address), None, None),
            Question::Renew { address } => (3, None, None, Some(address)),
            Question::Decline { address, server } => (4, Some(address), Some(server), None),
        };
        let mut bytes = vec![BOOT_REQUEST, ETHERNET, 6, 0];
        bytes.extend(self.xid.to_be_bytes());
        bytes.extend(self.seconds.to_be_bytes());
        // No flags: a packet socket hears what is sent to an address that is not set yet.
        bytes.extend([0, 0]);
        bytes.extend(current.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
        bytes.extend([0; 12]);
        bytes.extend(self.mac.0);
        bytes.resize(FIXED.saturating_sub(COOKIE.len()), 0);
        bytes.extend(COOKIE);
        write(&mut bytes, code::MESSAGE_TYPE, &[kind]);
        match &self.id {
            Some(id) => write(&mut bytes, code::CLIENT, id),
            None => write(&mut bytes, code::CLIENT, &[&[ETHERNET][..], &self.mac.0].concat()),
        }
        for (code, address) in [(code::REQUESTED_ADDRESS, requested), (code::SERVER, server)] {
            if let Some(address) = address {
                write(&mut bytes, code, &address.octets());
            }
        }
        if !matches!(self.question, Question::Decline { .. }) {
            write(&mut bytes, code::LARGEST, &LARGEST.to_be_bytes());
            write(&mut bytes, code::PARAMETERS, &PARAMETERS);
            if let Some(hostname) = &self.hostname {
                write(&mut bytes, code::HOSTNAME, hostname.as_bytes());
            }
        }
        if self.question == Question::Discover {
            write(&mut bytes, code::RAPID_COMMIT, &[]);
        }
        bytes.push(code::END);
        bytes.resize(bytes.len().max(SHORTEST), 0);
        bytes
    }
}

/// What a server gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The address.
    pub address: Ipv4Addr,
    /// The prefix length of its network.
    pub prefix: u8,
    /// Routers, best first.
    pub routers: Vec<Ipv4Addr>,
    /// Name servers.
    pub dns_servers: Vec<Ipv4Addr>,
    /// Time servers.
    pub ntp_servers: Vec<Ipv4Addr>,
    /// Other routes: network, prefix length, router.
    pub routes: Vec<(Ipv4Addr, u8, Ipv4Addr)>,
    /// The domain; may be empty.
    pub domain: String,
    /// Domains in which names without a dot are looked for.
    pub search: Vec<String>,
    /// The client's name; may be empty.
    pub hostname: String,
    /// The largest packet.
    pub mtu: Option<u16>,
    /// How long it may be used, in seconds; `u32::MAX` for ever.
    pub seconds: u32,
    /// When it should be renewed, in seconds from the start.
    pub renewal: Option<u32>,
    /// When any server may renew it, in seconds from the start.
    pub rebinding: Option<u32>,
}

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It could give this.
    Offer(Terms),
    /// It gives this.
    Ack {
        /// What it gives.
        terms: Terms,
        /// Whether it does so without having been asked twice (RFC 4039).
        rapid: bool,
    },
    /// It does not give what was asked for.
    Nak {
        /// Why; may be empty.
        reason: String,
    },
}

/// A message of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The number of the exchange.
    pub xid: u32,
    /// The server.
    pub server: Ipv4Addr,
    /// What it says.
    pub answer: Answer,
}

/// Reads a message of a server to the client `mac`, if it is one that a client can use.
#[must_use]
pub fn parse(bytes: &[u8], mac: Mac) -> Option<Reply> {
    let (fixed, list) = bytes.split_first_chunk::<FIXED>()?;
    let to_us =
        fixed.starts_with(&[BOOT_REPLY, ETHERNET, 6]) && fixed.get(28..34) == Some(&mac.0[..]);
    if !to_us || !fixed.ends_with(&COOKIE) {
        return None;
    }
    let mut options = Options::default();
    options.read(list)?;
    // Two fields of the fixed part may hold more options (RFC 2132, section 9.3); file first, then sname.
    let overload = options.byte(code::OVERLOAD).unwrap_or_default();
    for (bit, field) in [(1, 108..236), (2, 44..108)] {
        if overload & bit != 0 {
            options.read(fixed.get(field)?)?;
        }
    }
    let word = |at: usize| fixed.get(at..)?.first_chunk::<4>().copied();
    let (xid, address) = (u32::from_be_bytes(word(4)?), Ipv4Addr::from(word(16)?));
    let server = options.address(code::SERVER).filter(|server| unicast(*server))?;
    let answer = match options.byte(code::MESSAGE_TYPE)? {
        2 => Answer::Offer(terms(address, &options)?),
        5 => {
            Answer::Ack { terms: terms(address, &options)?, rapid: options.has(code::RAPID_COMMIT) }
        }
        6 => Answer::Nak { reason: options.text(code::MESSAGE, 100) },
        _ => return None,
    };
    Some(Reply { xid, server, answer })
}

fn terms(address: Ipv4Addr, options: &Options) -> Option<Terms> {
    let prefix = match options.address(code::SUBNET_MASK) {
        Some(mask) => prefix(mask)?,
        None => classful(address),
    };
    let seconds = options.long(code::LEASE_SECONDS)?;
    if !unicast(address) || seconds < SHORTEST_LEASE {
        return None;
    }
    Some(Terms {
        address,
        prefix,
        routers: options.addresses(code::ROUTERS, MOST),
        dns_servers: options.addresses(code::DNS_SERVERS, MOST),
        ntp_servers: options.addresses(code::NTP_SERVERS, MOST),
        routes: routes(options.bytes(code::CLASSLESS_ROUTES)).unwrap_or_default(),
        domain: options.text(code::DOMAIN, LONGEST_TEXT),
        search: options.names(code::SEARCH, MOST),
        hostname: options.text(code::HOSTNAME, LONGEST_TEXT),
        mtu: options.short(code::MTU),
        seconds,
        renewal: options.long(code::RENEWAL),
        rebinding: options.long(code::REBINDING),
    })
}

/// The length of a mask whose ones stand together, and are there.
fn prefix(mask: Ipv4Addr) -> Option<u8> {
    let ones = mask.to_bits().leading_ones();
    (ones > 0 && ones == mask.to_bits().count_ones()).then(|| u8::try_from(ones).ok())?
}

/// What an address without a mask meant before there were masks (RFC 950).
fn classful(address: Ipv4Addr) -> u8 {
    match address.octets() {
        [0..128, ..] => 8,
        [128..192, ..] => 16,
        _ => 24,
    }
}

fn unicast(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && first < 224 && !address.is_loopback()
}

/// The routes of option 121 (RFC 3442): prefix length, the bytes of the network that it covers, router. None when the list runs
/// over its end.
fn routes(mut bytes: &[u8]) -> Option<Vec<(Ipv4Addr, u8, Ipv4Addr)>> {
    let mut routes = Vec::new();
    while let Some((prefix, rest)) = bytes.split_first() {
        let covered = usize::from(*prefix).div_ceil(8);
        let (network, rest) = rest.split_at_checked(covered)?;
        let (router, rest) = rest.split_first_chunk::<4>()?;
        let mut octets = [0; 4];
        octets.get_mut(..covered)?.copy_from_slice(network);
        if *prefix > 32 {
            return None;
        }
        if routes.len() < MOST {
            routes.push((Ipv4Addr::from(octets), *prefix, Ipv4Addr::from(*router)));
        }
        bytes = rest;
    }
    Some(routes)
}

#[cfg(test)]
pub(super) mod tests;
