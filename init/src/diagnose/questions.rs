// SPDX-License-Identifier: Apache-2.0
//! What may be asked, and how much of it: proto/stele/v1/diagnose.proto says the limits to callers.

use super::answers::Texts;
use crate::node::Node;
use prost::Message;
use std::{ops::RangeInclusive, time::Duration};
use stele_proto::v1::{
    self, CaptureRequest, PingRequest, ProbeRequest, ResolveRequest, SocketsResponse,
    TracerouteRequest, probe_request::Target,
};

/// The longest name of a host, as in RFC 1035, and the longest URL.
const LONGEST_NAME: usize = 255;
const LONGEST_URL: usize = 2048;
/// How long looking a name up may take.
const LOOKUP: Duration = Duration::from_secs(10);
/// How long looking at the machine may take, and the longest list.
const LOOK: Duration = Duration::from_secs(10);
const LONGEST_LIST: u64 = 1024 * 1024 + 1024;
/// Room for one message that is no list.
const MESSAGE: u64 = 16 * 1024;
const MIB: u64 = 1024 * 1024;

/// A question to an agent.
pub(crate) trait Question: Message + Default {
    /// What the agent answers with, once or often.
    type Answer: Message + Default + Texts;
    /// The agent's unit: what it may do.
    const UNIT: &'static str;
    /// Its argument: what it is to do.
    const ACTION: &'static str;

    /// With all that was left out, or why it is too much.
    fn bounded(self) -> Result<Self, String>;

    /// How long it takes at most.
    fn takes(&self) -> Duration;

    /// How many bytes all answers have at most.
    fn most_bytes(&self) -> u64;

    /// Adds what only PID 1 knows.
    fn complete(_answer: &mut Self::Answer, _node: &Node) {}
}

/// A number within its limits; 0 is what it is by default.
fn within<T: Copy + Default + PartialOrd + std::fmt::Display>(
    what: &str,
    given: T,
    default: T,
    limits: RangeInclusive<T>,
) -> Result<T, String> {
    if given == T::default() {
        return Ok(default);
    }
    if limits.contains(&given) {
        return Ok(given);
    }
    Err(format!("{what} is {given}, and may be {} to {}", limits.start(), limits.end()))
}

/// A text that is there, is not too long, and holds nothing but text.
fn word(what: &str, text: &str, longest: usize) -> Result<(), String> {
    if text.is_empty() {
        return Err(format!("{what} is missing"));
    }
    if text.len() > longest {
        return Err(format!("{what} is longer than {longest} bytes"));
    }
    if text.contains(char::is_control) {
        return Err(format!("{what} has characters that are no text"));
    }
    Ok(())
}

fn millis(millis: u32) -> Duration {
    Duration::from_millis(millis.into())
}

impl Question for PingRequest {
    type Answer = v1::PingReply;
    const UNIT: &'static str = "ping";
    const ACTION: &'static str = "ping";

    fn bounded(self) -> Result<Self, String> {
        word("the host", &self.host, LONGEST_NAME)?;
        Ok(PingRequest {
            count: within("count", self.count, 4, 1..=100)?,
            interval_ms: within("interval_ms", self.interval_ms, 1000, 200..=10_000)?,
            timeout_ms: within("timeout_ms", self.timeout_ms, 1000, 1..=10_000)?,
            size: within("size", self.size, 56, 16..=8192)?,
            ..self
        })
    }

    fn takes(&self) -> Duration {
        let each = millis(self.interval_ms.max(self.timeout_ms));
        LOOKUP.saturating_add(each.saturating_mul(self.count))
    }

    fn most_bytes(&self) -> u64 {
        MESSAGE.saturating_mul(self.count.into())
    }
}

impl Question for TracerouteRequest {
    type Answer = v1::TracerouteHop;
    const UNIT: &'static str = "ping";
    const ACTION: &'static str = "traceroute";

    fn bounded(self) -> Result<Self, String> {
        word("the host", &self.host, LONGEST_NAME)?;
        Ok(TracerouteRequest {
            max_hops: within("max_hops", self.max_hops, 30, 1..=64)?,
            tries: within("tries", self.tries, 3, 1..=5)?,
            timeout_ms: within("timeout_ms", self.timeout_ms, 1000, 1..=5000)?,
            ..self
        })
    }

    fn takes(&self) -> Duration {
        LOOKUP.saturating_add(millis(self.timeout_ms).saturating_mul(self.max_hops))
    }

    fn most_bytes(&self) -> u64 {
        MESSAGE.saturating_mul(self.max_hops.into())
    }
}

impl Question for ResolveRequest {
    type Answer = v1::ResolveResponse;
    const UNIT: &'static str = "diagnose";
    const ACTION: &'static str = "resolve";

    fn bounded(self) -> Result<Self, String> {
        word("the name", &self.name, LONGEST_NAME)?;
        if !self.server.is_empty() {
            word("the server", &self.server, LONGEST_NAME)?;
        }
        let timeout_ms = within("timeout_ms", self.timeout_ms, 2000, 1..=10_000)?;
        Ok(ResolveRequest { timeout_ms, ..self })
    }

    fn takes(&self) -> Duration {
        // As many servers as resolv.conf(5) has room for, and one more.
        millis(self.timeout_ms).saturating_mul(4)
    }

    fn most_bytes(&self) -> u64 {
        LONGEST_LIST
    }
}

impl Question for ProbeRequest {
    type Answer = v1::ProbeResponse;
    const UNIT: &'static str = "diagnose";
    const ACTION: &'static str = "probe";

    fn bounded(self) -> Result<Self, String> {
        match &self.target {
            Some(Target::Tcp(tcp)) => word("the address", &tcp.address, LONGEST_NAME)?,
            Some(Target::Tls(tls)) => {
                word("the address", &tls.address, LONGEST_NAME)?;
                for protocol in &tls.alpn {
                    word("a protocol", protocol, LONGEST_NAME)?;
                }
                if tls.alpn.len() > 10 {
                    return Err("more than 10 protocols".to_owned());
                }
            }
            Some(Target::Http(http)) => word("the URL", &http.url, LONGEST_URL)?,
            None => return Err("there is nothing to probe: tcp, tls or http".to_owned()),
        }
        let timeout_ms = within("timeout_ms", self.timeout_ms, 5000, 1..=30_000)?;
        Ok(ProbeRequest { timeout_ms, ..self })
    }

    fn takes(&self) -> Duration {
        millis(self.timeout_ms)
    }

    fn most_bytes(&self) -> u64 {
        LONGEST_LIST
    }
}

impl Question for CaptureRequest {
    type Answer = v1::CaptureChunk;
    const UNIT: &'static str = "capture";
    const ACTION: &'static str = "capture";

    fn bounded(self) -> Result<Self, String> {
        word("the link", &self.link, 15)?;
        Ok(CaptureRequest {
            count: within("count", self.count, 1000, 1..=1_000_000)?,
            duration_ms: within("duration_ms", self.duration_ms, 10_000, 1..=600_000)?,
            bytes: within("bytes", self.bytes, 16 * MIB, 1024..=256 * MIB)?,
            snap_length: within("snap_length", self.snap_length, 65_535, 1..=65_535)?,
            ..self
        })
    }

    fn takes(&self) -> Duration {
        millis(self.duration_ms)
    }

    fn most_bytes(&self) -> u64 {
        // What is around each chunk: there are at most ten in a second, and one for each 32 KiB.
        self.bytes.saturating_add(MIB)
    }
}

/// Questions about the machine, which have no limits to choose.
macro_rules! looks {
    ($($question:ident, $answer:ident, $action:literal $(, $complete:ident)?;)*) => {
        $(impl Question for v1::$question {
            type Answer = v1::$answer;
            const UNIT: &'static str = "observe";
            const ACTION: &'static str = $action;

            fn bounded(self) -> Result<Self, String> {
                Ok(self)
            }

            fn takes(&self) -> Duration {
                LOOK
            }

            fn most_bytes(&self) -> u64 {
                LONGEST_LIST
            }

            $(fn complete(answer: &mut Self::Answer, node: &Node) {
                $complete(answer, node);
            })?
        })*
    };
}

looks! {
    ProcessesRequest, ProcessesResponse, "processes";
    SocketsRequest, SocketsResponse, "sockets", name_services;
    MountsRequest, MountsResponse, "mounts";
    MemoryRequest, MemoryResponse, "memory";
    CgroupsRequest, CgroupsResponse, "cgroups";
    PressureRequest, PressureResponse, "pressure";
    DisksRequest, DisksResponse, "disks";
}

/// The service that has a user id to itself is whose sockets they are.
fn name_services(answer: &mut SocketsResponse, node: &Node) {
    for socket in &mut answer.sockets {
        let mut services =
            node.units.iter().filter(|(_, unit)| socket.uid != 0 && unit.sandbox.uid == socket.uid);
        socket.service = match (services.next(), services.next()) {
            (Some((name, _)), None) => name.clone(),
            (Some(_) | None, _) => String::new(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_a_default() {
        let ping = PingRequest { host: "web".into(), ..PingRequest::default() }.bounded().unwrap();
        assert_eq!((ping.count, ping.interval_ms, ping.timeout_ms, ping.size), (4, 1000, 1000, 56));
        assert_eq!(ping.takes(), Duration::from_secs(14));
        let link = "eth0".to_owned();
        let capture = CaptureRequest { link, ..CaptureRequest::default() }.bounded().unwrap();
        assert_eq!((capture.count, capture.bytes, capture.snap_length), (1000, 16 * MIB, 65_535));
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let host = || "web".to_owned();
        let ping = |ping: PingRequest| ping.bounded().unwrap_err();
        assert_eq!(ping(PingRequest::default()), "the host is missing");
        assert_eq!(
            ping(PingRequest { host: host(), count: 101, ..PingRequest::default() }),
            "count is 101, and may be 1 to 100"
        );
        assert_eq!(
            ping(PingRequest { host: "a\nb".into(), ..PingRequest::default() }),
            "the host has characters that are no text"
        );
        let long = PingRequest { host: "a".repeat(256), ..PingRequest::default() };
        assert_eq!(ping(long), "the host is longer than 255 bytes");
        let most = CaptureRequest { link: host(), bytes: 257 * MIB, ..CaptureRequest::default() };
        assert!(most.bounded().is_err());
        assert!(ProbeRequest::default().bounded().is_err());
    }

    #[test]
    fn the_longest_questions_take_an_end() {
        let ping = PingRequest {
            host: "web".into(),
            count: 100,
            interval_ms: 10_000,
            timeout_ms: 10_000,
            ..PingRequest::default()
        };
        assert!(ping.bounded().unwrap().takes() < Duration::from_secs(1100));
    }

    #[test]
    fn every_unit_is_in_the_image() {
        for (unit, action) in [
            (PingRequest::UNIT, PingRequest::ACTION),
            (ResolveRequest::UNIT, ResolveRequest::ACTION),
            (CaptureRequest::UNIT, CaptureRequest::ACTION),
            (v1::DisksRequest::UNIT, v1::DisksRequest::ACTION),
        ] {
            let file = format!("{}/units/{unit}.json", env!("CARGO_MANIFEST_DIR"));
            assert!(std::path::Path::new(&file).exists(), "{action}: {file}");
        }
    }
}
