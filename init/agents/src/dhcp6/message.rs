// SPDX-License-Identifier: Apache-2.0
//! DHCPv6 messages: what the client says, and what servers give (RFC 8415, section 8 and 16).

use super::{
    Duid,
    options::{Options, code, write},
};
use std::net::Ipv6Addr;

/// The shortest lifetime that is taken: less would have the client do nothing else.
pub const SHORTEST_LEASE: u32 = 10;
/// Most entries that are taken of a list.
const MOST: usize = 16;
/// Most addresses, and most prefixes, that are taken of a server.
const MOST_GIVEN: usize = 4;
/// The longest text of a server that is passed on.
const LONGEST_TEXT: usize = 100;
/// What a server calls success (section 21.13).
const SUCCESS: u16 = 0;

/// What the client wants besides name servers and the like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wants {
    /// An address.
    pub address: bool,
    /// A network for others, of this prefix length if the server has such.
    pub prefix: Option<u8>,
}

/// What the client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Who has something for me?
    Solicit,
    /// I take what you, this server, offered.
    Request(Duid),
    /// I want to keep what you, this server, gave me.
    Renew(Duid),
    /// Whoever can, let me keep what I have.
    Rebind,
    /// Somebody else has an address that you, this server, gave me.
    Decline(Duid),
    /// I have an address. What else is there to know?
    Inform,
}

/// A network, or an address as the network of itself, that a server gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given {
    /// The address, or the first of the network.
    pub address: Ipv6Addr,
    /// The length of the prefix; 128 for an address.
    pub prefix: u8,
    /// How long it should be used for what is new, in seconds; `u32::MAX` for ever.
    pub preferred: u32,
    /// How long it may be used, in seconds; `u32::MAX` for ever, 0 when it may not any more.
    pub seconds: u32,
}

/// A message of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What it says.
    pub question: Question,
    /// The number of the exchange: 24 bits.
    pub xid: u32,
    /// Hundredths of a second since the exchange began.
    pub elapsed: u16,
    /// The client.
    pub client: Duid,
    /// Which of the client's links it is.
    pub association: u32,
    /// What it wants.
    pub wants: Wants,
    /// The addresses and prefixes that it is about.
    pub about: Vec<Given>,
}

impl Request {
    /// The message as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (kind, server) = match &self.question {
            Question::Solicit => (1, None),
            Question::Request(server) => (3, Some(server)),
            Question::Renew(server) => (5, Some(server)),
            Question::Rebind => (6, None),
            Question::Decline(server) => (9, Some(server)),
            Question::Inform => (11, None),
        };
        let [_, a, b, c] = self.xid.to_be_bytes();
        let mut bytes = vec![kind, a, b, c];
        write(&mut bytes, code::CLIENT, self.client.bytes());
        if let Some(server) = server {
            write(&mut bytes, code::SERVER, server.bytes());
        }
        write(&mut bytes, code::ELAPSED, &self.elapsed.to_be_bytes());
        let declines = matches!(self.question, Question::Decline(_));
        if !declines {
            let mut wanted = vec![code::DNS_SERVERS, code::DOMAINS, code::NTP];
            if self.question == Question::Inform {
                wanted.push(code::REFRESH);
            }
            let wanted: Vec<u8> = wanted.into_iter().flat_map(u16::to_be_bytes).collect();
            write(&mut bytes, code::REQUESTED, &wanted);
        }
        match self.question {
            Question::Solicit => write(&mut bytes, code::RAPID_COMMIT, &[]),
            Question::Inform => return bytes,
            Question::Request(_) | Question::Renew(_) | Question::Rebind | Question::Decline(_) => {
            }
        }
        if self.wants.address {
            let addresses = self.about.iter().filter(|given| given.prefix == 128);
            let list: Vec<u8> = addresses.flat_map(Given::address_option).collect();
            write(&mut bytes, code::IA_NA, &self.association(&list));
        }
        if let Some(length) = self.wants.prefix.filter(|_| !declines) {
            let prefixes = self.about.iter().filter(|given| given.prefix < 128);
            let mut list: Vec<u8> = prefixes.flat_map(Given::prefix_option).collect();
            if list.is_empty() {
                let hint = Given { prefix: length, ..Given::NOTHING };
                list = hint.prefix_option();
            }
            write(&mut bytes, code::IA_PD, &self.association(&list));
        }
        bytes
    }

    /// Times are the server's to choose.
    fn association(&self, list: &[u8]) -> Vec<u8> {
        [&self.association.to_be_bytes()[..], &[0; 8], list].concat()
    }
}

impl Given {
    const NOTHING: Given =
        Given { address: Ipv6Addr::UNSPECIFIED, prefix: 0, preferred: 0, seconds: 0 };

    fn address_option(&self) -> Vec<u8> {
        let mut list = Vec::new();
        write(&mut list, code::IA_ADDRESS, &[&self.address.octets()[..], &[0; 8]].concat());
        list
    }

    fn prefix_option(&self) -> Vec<u8> {
        let mut list = Vec::new();
        let value = [&[0; 8][..], &[self.prefix], &self.address.octets()].concat();
        write(&mut list, code::IA_PREFIX, &value);
        list
    }

    /// Whether it may be used.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.seconds >= SHORTEST_LEASE
    }

    /// Whether it is the same, whatever the times.
    #[must_use]
    pub fn is(&self, other: &Given) -> bool {
        (self.address, self.prefix) == (other.address, other.prefix)
    }
}

/// What a server gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// Addresses and prefixes, also such that may not be used any more.
    pub given: Vec<Given>,
    /// Name servers.
    pub dns_servers: Vec<Ipv6Addr>,
    /// Domains in which names without a dot are looked for.
    pub domains: Vec<String>,
    /// Time servers.
    pub ntp_servers: Vec<Ipv6Addr>,
    /// When it should be renewed, in seconds from the start.
    pub renewal: Option<u32>,
    /// When any server may renew it, in seconds from the start.
    pub rebinding: Option<u32>,
    /// When one without addresses should be asked for again, in seconds from the start.
    pub refresh: Option<u32>,
    /// Why something that was asked for is not among what is given, as the server says; may be empty.
    pub refusal: Option<String>,
}

/// A message of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The number of the exchange.
    pub xid: u32,
    /// The server.
    pub server: Duid,
    /// Whether it only says what it could give.
    pub offer: bool,
    /// Whether it answers a first question at once.
    pub rapid: bool,
    /// What it gives.
    pub terms: Terms,
    /// Why it does nothing at all, as the server says; may be empty.
    pub failure: Option<String>,
}

/// Reads a message of a server to a client, if it is one that a client can use.
#[must_use]
pub fn parse(bytes: &[u8], client: &Duid, association: u32) -> Option<Reply> {
    let ([kind, a, b, c], list) = bytes.split_first_chunk()?;
    let offer = match kind {
        2 => true,
        7 => false,
        _ => return None,
    };
    let options = Options::read(list)?;
    if options.first(code::CLIENT) != Some(client.bytes()) {
        return None;
    }
    let server = Duid::read(options.first(code::SERVER)?)?;
    let ntp = options.first(code::NTP).and_then(Options::read);
    let ntp = ntp.iter().flat_map(|list| list.all(code::NTP_ADDRESS));
    let mut terms = Terms {
        dns_servers: options.addresses(code::DNS_SERVERS, MOST),
        domains: options.names(code::DOMAINS, MOST),
        ntp_servers: ntp.filter_map(address).take(MOST).collect(),
        refresh: options.long(code::REFRESH),
        ..Terms::default()
    };
    for (kind, entry) in [(code::IA_NA, address_given as Entry), (code::IA_PD, prefix_given)] {
        let mut taken = Vec::new();
        for value in options.all(kind) {
            terms.associate(value, association, entry, &mut taken);
        }
        taken.truncate(MOST_GIVEN);
        terms.given.extend(taken);
    }
    Some(Reply {
        xid: u32::from_be_bytes([0, *a, *b, *c]),
        server,
        offer,
        rapid: options.first(code::RAPID_COMMIT).is_some(),
        terms,
        failure: failure(&options),
    })
}

/// Reads an entry of an association, and where it is among its options.
type Entry = fn(&Options<'_>) -> Vec<Given>;

impl Terms {
    /// Takes what an association holds, if it is the client's and makes sense.
    fn associate(&mut self, value: &[u8], ours: u32, entry: Entry, taken: &mut Vec<Given>) {
        let Some((head, list)) = value.split_first_chunk::<12>() else { return };
        let ([association, renewal, rebinding], _) = head.as_chunks::<4>() else { return };
        let [association, renewal, rebinding] =
            [association, renewal, rebinding].map(|word| u32::from_be_bytes(*word));
        let ordered = rebinding == 0 || renewal <= rebinding;
        let Some(options) = Options::read(list).filter(|_| association == ours && ordered) else {
            return;
        };
        if let Some(reason) = failure(&options) {
            self.refusal = Some(reason);
            return;
        }
        taken.extend(entry(&options));
        // What is to be renewed first says when.
        let sooner = |old: Option<u32>, new: u32| match old {
            Some(old) => Some(old.min(new)),
            None => Some(new),
        };
        if renewal > 0 {
            self.renewal = sooner(self.renewal, renewal);
        }
        if rebinding > 0 {
            self.rebinding = sooner(self.rebinding, rebinding);
        }
    }
}

/// What a status says that is none of success (section 21.13). Without one all is well.
fn failure(options: &Options<'_>) -> Option<String> {
    let (code, text) = options.first(code::STATUS)?.split_first_chunk()?;
    let printable = |byte: &&u8| matches!(byte, b' '..=b'~');
    let text = text.iter().filter(printable).take(LONGEST_TEXT).copied().map(char::from);
    (u16::from_be_bytes(*code) != SUCCESS).then(|| text.collect())
}

fn address_given(options: &Options<'_>) -> Vec<Given> {
    let read = |value: &[u8]| {
        let (address, rest) = value.split_first_chunk::<16>()?;
        let ([preferred, seconds], list) = times(rest)?;
        let given = Given { address: Ipv6Addr::from(*address), prefix: 128, preferred, seconds };
        (failure(&Options::read(list)?).is_none() && usable(&given)).then_some(given)
    };
    options.all(code::IA_ADDRESS).filter_map(read).collect()
}

fn prefix_given(options: &Options<'_>) -> Vec<Given> {
    let read = |value: &[u8]| {
        let ([preferred, seconds], rest) = times(value)?;
        let (prefix, rest) = rest.split_first()?;
        let (address, list) = rest.split_first_chunk::<16>()?;
        let prefix = Some(*prefix).filter(|prefix| (1..=64).contains(prefix))?;
        let mask = u128::MAX.checked_shl(u32::from(128_u8.saturating_sub(prefix)))?;
        let address = Ipv6Addr::from_bits(u128::from_be_bytes(*address) & mask);
        let given = Given { address, prefix, preferred, seconds };
        (failure(&Options::read(list)?).is_none() && usable(&given)).then_some(given)
    };
    options.all(code::IA_PREFIX).filter_map(read).collect()
}

fn times(bytes: &[u8]) -> Option<([u32; 2], &[u8])> {
    let (times, rest) = bytes.split_first_chunk::<8>()?;
    let ([preferred, seconds], _) = times.as_chunks::<4>() else { return None };
    Some(([*preferred, *seconds].map(u32::from_be_bytes), rest))
}

/// One that a machine can have, with times in order (section 21.6).
fn usable(given: &Given) -> bool {
    let address = given.address;
    let near = address.is_loopback() || address.is_unicast_link_local();
    !near
        && !address.is_multicast()
        && !address.is_unspecified()
        && given.preferred <= given.seconds
}

fn address(value: &[u8]) -> Option<Ipv6Addr> {
    value.try_into().ok().map(|octets: [u8; 16]| Ipv6Addr::from(octets))
}

#[cfg(test)]
mod tests;
