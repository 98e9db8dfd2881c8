// SPDX-License-Identifier: Apache-2.0
//! What messages of ICMP and of ICMPv6 are about.

use crate::choice::choice;

choice! {
    /// A type of ICMP and of ICMPv6, as far as each has it.
    pub enum IcmpType {
        /// A question of ping.
        EchoRequest = "echo-request",
        /// The answer.
        EchoReply = "echo-reply",
        /// A packet could not be delivered; with IPv4 also that it is too large.
        DestinationUnreachable = "destination-unreachable",
        /// A packet is too large, with IPv6.
        PacketTooBig = "packet-too-big",
        /// A packet has passed too many routers.
        TimeExceeded = "time-exceeded",
        /// A packet is wrong.
        ParameterProblem = "parameter-problem",
        /// There is a better router.
        Redirect = "redirect",
        /// Who are the routers?
        RouterSolicitation = "router-solicitation",
        /// A router speaks.
        RouterAdvertisement = "router-advertisement",
        /// Who has this address? With IPv6.
        NeighborSolicitation = "neighbor-solicitation",
        /// The answer.
        NeighborAdvertisement = "neighbor-advertisement",
        /// Who wants multicast? With IPv6, and so are the next three.
        ListenerQuery = "listener-query",
        /// I do.
        ListenerReport = "listener-report",
        /// I did.
        ListenerDone = "listener-done",
        /// I do, in the second version.
        ListenerReportV2 = "listener-report-v2",
        /// What time is it? With IPv4.
        TimestampRequest = "timestamp-request",
        /// The answer.
        TimestampReply = "timestamp-reply",
    }
}

impl IcmpType {
    /// Its number in one of the two, if that has it: the registries "ICMP Type Numbers" and "ICMPv6 type Numbers" of IANA.
    #[must_use]
    pub fn number(self, ipv6: bool) -> Option<u8> {
        let (four, six) = match self {
            IcmpType::EchoRequest => (Some(8), Some(128)),
            IcmpType::EchoReply => (Some(0), Some(129)),
            IcmpType::DestinationUnreachable => (Some(3), Some(1)),
            IcmpType::PacketTooBig => (None, Some(2)),
            IcmpType::TimeExceeded => (Some(11), Some(3)),
            IcmpType::ParameterProblem => (Some(12), Some(4)),
            IcmpType::Redirect => (Some(5), Some(137)),
            IcmpType::RouterSolicitation => (Some(10), Some(133)),
            IcmpType::RouterAdvertisement => (Some(9), Some(134)),
            IcmpType::NeighborSolicitation => (None, Some(135)),
            IcmpType::NeighborAdvertisement => (None, Some(136)),
            IcmpType::ListenerQuery => (None, Some(130)),
            IcmpType::ListenerReport => (None, Some(131)),
            IcmpType::ListenerDone => (None, Some(132)),
            IcmpType::ListenerReportV2 => (None, Some(143)),
            IcmpType::TimestampRequest => (Some(13), None),
            IcmpType::TimestampReply => (Some(14), None),
        };
        if ipv6 { six } else { four }
    }
}
