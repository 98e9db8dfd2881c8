// SPDX-License-Identifier: Apache-2.0
//! What is captured, as a program for the kernel: classic BPF.
//!
//! It loads from the network header on and asks the kernel for the protocol, so that it is the same for every type of link. See the kernel's
//! Documentation/networking/filter.rst, and `linux/filter.h` for the `SKF_` constants.

use super::DiagnoseError;
use std::net::{IpAddr, Ipv6Addr};
use stele_kernel::capture::Instruction;
use stele_proto::v1::CaptureFilter;

// linux/bpf_common.h.
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF_INDEXED: u16 = 0x48;
/// The length of a header of IPv4, into the index.
const LOAD_INDEX: u16 = 0xb1;
const EQUALS: u16 = 0x15;
const HAS_ANY: u16 = 0x45;
const END: u16 = 0x06;

/// Offsets from here on are from the network header on.
const NETWORK: u32 = 0xfff0_0000;
/// `SKF_AD_OFF + SKF_AD_PROTOCOL` and `SKF_AD_OFF + SKF_AD_PKTTYPE`.
const PROTOCOL: u32 = 0xffff_f000;
const PACKET_TYPE: u32 = 0xffff_f004;
/// `PACKET_OUTGOING` of linux/if_packet.h.
const OUTGOING: u32 = 4;

const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86dd;
const ARP: u32 = 0x0806;
const TCP: u32 = 6;
const UDP: u32 = 17;

/// A place in the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The next instruction.
    Next,
    Take,
    Drop,
    Ipv4,
    Ipv4Ports,
    Ipv4Host,
    Ipv6,
    Ipv6Ports,
    Ipv6Host,
    /// Where the other one of two addresses is looked at.
    Ipv6Other,
}

#[derive(Clone, Copy, Debug)]
enum Line {
    Load(u16, u32),
    Test {
        code: u16,
        value: u32,
        yes: Place,
        no: Place,
    },
    /// The end; what is taken is kept whole.
    End(Place),
    /// No instruction: what the next one is called.
    Is(Place),
}

/// What is wanted of packets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Filter {
    host: Option<IpAddr>,
    port: Option<u16>,
    wanted: Wanted,
    /// Packets of TCP from and to this port are not.
    without: Option<u16>,
    /// What a link sends to itself passes twice.
    once: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wanted {
    #[default]
    All,
    Arp,
    /// IPv4 or IPv6 or both, and a protocol above it if it matters.
    Ip {
        v4: bool,
        v6: bool,
        above: Option<u32>,
    },
}

impl Filter {
    /// Reads what a request asks for.
    pub(super) fn parse(
        filter: &CaptureFilter,
        without: Option<u16>,
        once: bool,
    ) -> Result<Filter, DiagnoseError> {
        let impossible = |text: String| DiagnoseError::Impossible(text);
        let host = match filter.host.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| impossible(format!("{text} is no address")))?),
        };
        let port = match filter.port {
            0 => None,
            port => {
                Some(u16::try_from(port).map_err(|_| impossible(format!("{port} is no port")))?)
            }
        };
        let ip = |v4, v6, above| Wanted::Ip { v4, v6, above };
        let wanted = match filter.protocol.as_str() {
            "" => Wanted::All,
            "arp" => Wanted::Arp,
            "ip" => ip(true, false, None),
            "ip6" => ip(false, true, None),
            "tcp" => ip(true, true, Some(TCP)),
            "udp" => ip(true, true, Some(UDP)),
            "icmp" => ip(true, false, Some(1)),
            "icmp6" => ip(false, true, Some(58)),
            text => return Err(impossible(format!("{text} is no protocol that can be captured"))),
        };
        if wanted == Wanted::Arp && (host.is_some() || port.is_some()) {
            return Err(impossible("arp has no hosts and no ports to choose from".to_owned()));
        }
        if port.is_some() && matches!(wanted, Wanted::Ip { above: Some(1 | 58), .. }) {
            return Err(impossible(format!("{} has no ports", filter.protocol)));
        }
        // Who asks for the port wants it.
        let without = without.filter(|without| port != Some(*without));
        Ok(Filter { host, port, wanted, without, once })
    }

    /// The program.
    pub(super) fn program(&self) -> Result<Vec<Instruction>, DiagnoseError> {
        let mut lines = Vec::new();
        if self.once {
            lines.push(Line::Load(LOAD_WORD, PACKET_TYPE));
            lines.push(equals(OUTGOING, Place::Drop, Place::Next));
        }
        lines.push(Line::Load(LOAD_HALF, PROTOCOL));
        if self.wanted == Wanted::Arp {
            lines.push(equals(ARP, Place::Take, Place::Drop));
        } else {
            self.over_ip(&mut lines);
        }
        lines.extend([Line::Is(Place::Take), Line::End(Place::Take)]);
        lines.extend([Line::Is(Place::Drop), Line::End(Place::Drop)]);
        assemble(&lines)
    }

    fn over_ip(&self, lines: &mut Vec<Line>) {
        let (v4, v6) = match self.wanted {
            Wanted::Ip { v4, v6, .. } => (v4, v6),
            Wanted::All | Wanted::Arp => (true, true),
        };
        let v4 = v4 && !matches!(self.host, Some(IpAddr::V6(_)));
        let v6 = v6 && !matches!(self.host, Some(IpAddr::V4(_)));
        let any = self.wanted == Wanted::All && self.host.is_none() && self.port.is_none();
        let rest = if any { Place::Take } else { Place::Drop };
        lines.push(equals(IPV4, if v4 { Place::Ipv4 } else { Place::Drop }, Place::Next));
        lines.push(equals(IPV6, if v6 { Place::Ipv6 } else { Place::Drop }, rest));
        if v4 {
            self.over_ipv4(lines);
        }
        if v6 {
            self.over_ipv6(lines);
        }
    }

    fn over_ipv4(&self, lines: &mut Vec<Line>) {
        lines.push(Line::Is(Place::Ipv4));
        self.above(9, lines);
        if let Some(IpAddr::V4(host)) = self.host {
            lines.push(Line::Load(LOAD_WORD, NETWORK + 12));
            lines.push(equals(host.into(), Place::Ipv4Host, Place::Next));
            lines.push(Line::Load(LOAD_WORD, NETWORK + 16));
            lines.push(equals(host.into(), Place::Ipv4Host, Place::Drop));
        }
        lines.push(Line::Is(Place::Ipv4Host));
        if self.looks_at_ports(9, Place::Ipv4Ports, lines) {
            // Only the first fragment has ports.
            let (value, yes) = (0x1fff, self.without_ports());
            lines.push(Line::Load(LOAD_HALF, NETWORK + 6));
            lines.push(Line::Test { code: HAS_ANY, value, yes, no: Place::Next });
            lines.push(Line::Load(LOAD_INDEX, NETWORK));
            self.ports(LOAD_HALF_INDEXED, NETWORK, lines);
        }
    }

    fn over_ipv6(&self, lines: &mut Vec<Line>) {
        lines.push(Line::Is(Place::Ipv6));
        self.above(6, lines);
        if let Some(IpAddr::V6(host)) = self.host {
            address(8, host, Place::Ipv6Other, lines);
            lines.push(Line::Is(Place::Ipv6Other));
            address(24, host, Place::Drop, lines);
        }
        lines.push(Line::Is(Place::Ipv6Host));
        if self.looks_at_ports(6, Place::Ipv6Ports, lines) {
            self.ports(LOAD_HALF, NETWORK + 40, lines);
        }
    }

    /// Tests the protocol above IP, whose number is at this place.
    fn above(&self, at: u32, lines: &mut Vec<Line>) {
        if let Wanted::Ip { above: Some(above), .. } = self.wanted {
            lines.push(Line::Load(LOAD_BYTE, NETWORK + at));
            lines.push(equals(above, Place::Next, Place::Drop));
        }
    }

    /// Goes on to the ports of what has some. False if they do not matter.
    fn looks_at_ports(&self, at: u32, ports: Place, lines: &mut Vec<Line>) -> bool {
        if self.port.or(self.without).is_none() {
            lines.push(Line::End(Place::Take));
            return false;
        }
        let rest = self.without_ports();
        let udp = if self.port.is_some() { ports } else { rest };
        lines.push(Line::Load(LOAD_BYTE, NETWORK + at));
        lines.push(equals(TCP, ports, Place::Next));
        lines.push(equals(UDP, udp, rest));
        lines.push(Line::Is(ports));
        true
    }

    /// What becomes of a packet that has no ports.
    fn without_ports(&self) -> Place {
        if self.port.is_some() { Place::Drop } else { Place::Take }
    }

    /// Compares both ports.
    fn ports(&self, load: u16, at: u32, lines: &mut Vec<Line>) {
        let (port, fits, fits_not) = match (self.port, self.without) {
            (Some(port), _) => (port, Place::Take, Place::Drop),
            (None, port) => (port.unwrap_or_default(), Place::Drop, Place::Take),
        };
        lines.push(Line::Load(load, at));
        lines.push(equals(port.into(), fits, Place::Next));
        lines.push(Line::Load(load, at + 2));
        lines.push(equals(port.into(), fits, fits_not));
    }
}

/// Compares an address of IPv6, four bytes after the other.
fn address(at: u32, host: Ipv6Addr, fits_not: Place, lines: &mut Vec<Line>) {
    let host = u128::from(host);
    for (shift, at) in [96, 64, 32, 0].into_iter().zip((at..).step_by(4)) {
        let word = u32::try_from((host >> shift) & 0xffff_ffff).unwrap_or_default();
        let fits = if shift == 0 { Place::Ipv6Host } else { Place::Next };
        lines.push(Line::Load(LOAD_WORD, NETWORK + at));
        lines.push(equals(word, fits, fits_not));
    }
}

fn equals(value: u32, yes: Place, no: Place) -> Line {
    Line::Test { code: EQUALS, value, yes, no }
}

/// Replaces places by distances.
fn assemble(lines: &[Line]) -> Result<Vec<Instruction>, DiagnoseError> {
    let mut places = Vec::new();
    let mut count = 0_usize;
    for line in lines {
        match line {
            Line::Is(place) => places.push((*place, count)),
            Line::Load(..) | Line::Test { .. } | Line::End(_) => count = count.saturating_add(1),
        }
    }
    let distance = |from: usize, place: Place| {
        let next = from.saturating_add(1);
        let (_, to) =
            places.iter().find(|(known, _)| *known == place).copied().unwrap_or((place, next));
        to.checked_sub(next).and_then(|distance| u8::try_from(distance).ok())
    };
    let instructions = lines.iter().filter(|line| !matches!(line, Line::Is(_)));
    let program: Option<Vec<Instruction>> = instructions
        .enumerate()
        .map(|(index, line)| {
            let (code, value, yes, no) = match *line {
                Line::Load(code, value) => (code, value, 0, 0),
                Line::End(place) => (END, if place == Place::Take { u32::MAX } else { 0 }, 0, 0),
                Line::Test { code, value, yes, no } => {
                    (code, value, distance(index, yes)?, distance(index, no)?)
                }
                Line::Is(_) => return None,
            };
            Some(Instruction { code, value, yes, no })
        })
        .collect();
    program.ok_or_else(|| DiagnoseError::Impossible("the filter is too long".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(host: &str, port: u32, protocol: &str) -> Result<Filter, DiagnoseError> {
        let filter = CaptureFilter { host: host.into(), port, protocol: protocol.into() };
        Filter::parse(&filter, Some(50000), true)
    }

    #[test]
    fn every_test_has_a_place_to_go_to() {
        for host in ["", "10.0.0.1", "fd00::1"] {
            for port in [0, 80, 50000] {
                for protocol in ["", "ip", "ip6", "tcp", "udp"] {
                    let program = filter(host, port, protocol).unwrap().program().unwrap();
                    for (index, step) in program.iter().enumerate() {
                        let jump = usize::from(step.yes.max(step.no));
                        assert!(index + jump < program.len() - 1 || step.code == END);
                    }
                    assert_eq!(program.last().map(|step| (step.code, step.value)), Some((END, 0)));
                }
            }
        }
    }

    #[test]
    fn what_can_not_be_captured() {
        for (host, port, protocol) in [
            ("web.example", 0, ""),
            ("", 65536, ""),
            ("", 0, "sctp"),
            ("", 80, "icmp"),
            ("10.0.0.1", 0, "arp"),
        ] {
            let error = filter(host, port, protocol).unwrap_err();
            assert!(error.is_of_the_request(), "{host} {port} {protocol}");
        }
    }
}
