// SPDX-License-Identifier: Apache-2.0
//! Calls of PID 1: every method that it answers, with any bytes as the messages; and any bytes at all on its socket.
//!
//! [`TARGET`] reads its input as calls: a byte for the method, one for the role, one for how many bytes the message has (in
//! the unit of 1 or 16), the message. Every call is answered with frames, of which the last says how it went.

use crate::Target;
use prost::Message as _;
use stele_init::rig::{Rig, whole_entries};
use stele_proto::{
    internal::{CertificateReport, FiguresRequest, Frame, HalfClose, Open, SinkRequest, frame},
    method::{FIGURES, Method, REPORT_CERTIFICATE, Role, SINK},
    v1,
};

/// Calls.
pub const TARGET: Target = Target { name: "calls", run, seeds };
/// The socket itself.
pub const SOCKET: Target = Target { name: "socket", run: socket, seeds: socket_seeds };

/// The most calls of one input.
const MOST: usize = 16;
/// The message has sixteen times as many bytes, and the call has another one.
const LONG: u8 = 0x10;
const MORE: u8 = 0x20;

/// What is called: the methods of the API, those of the agents, and one that there is not.
fn paths() -> Vec<&'static str> {
    let methods = Method::ALL.iter().map(|method| method.path());
    methods.chain([REPORT_CERTIFICATE, FIGURES, SINK, "/stele.v1.MachineService/Fly"]).collect()
}

fn run(bytes: &[u8]) {
    let (paths, mut rest) = (paths(), bytes);
    let rig = Rig::new().expect("an event loop");
    for _ in 0..MOST {
        let [which, who, count, more @ ..] = rest else { break };
        let open = Open {
            method: paths[usize::from(*which) % paths.len()].to_owned(),
            subject: "ada".to_owned(),
            role: Role::ALL[usize::from(*who) % Role::ALL.len()].as_str().to_owned(),
            serial: "0a".to_owned(),
            request: "a-1".to_owned(),
            connection_age_us: u64::from(*who),
            own_roles: Vec::new(),
            source: "192.0.2.7".to_owned(),
            reached: "192.0.2.1".to_owned(),
        };
        let mut call = framed(frame::Frame::Open(open));
        let unit = if who & LONG == 0 { 1 } else { 16 };
        let (message, mut left) = more.split_at((usize::from(*count) * unit).min(more.len()));
        call.extend(framed(frame::Frame::Message(message.to_vec().into())));
        if who & MORE != 0 {
            let (message, after) = left.split_at(left.len() / 2);
            call.extend(framed(frame::Frame::Message(message.to_vec().into())));
            left = after;
        }
        call.extend(framed(frame::Frame::HalfClose(HalfClose {})));
        answered(&rig.converse(&call));
        rest = left;
    }
}

/// The answer is frames: messages, and in the end how it went. A call that streams has no end, as its caller has hung up.
fn answered(mut bytes: &[u8]) {
    let mut closed = false;
    while let Some((length, body)) = bytes.split_first_chunk::<4>() {
        let (body, more) = body.split_at(u32::from_be_bytes(*length) as usize);
        match Frame::decode(body).expect("a frame").frame {
            Some(frame::Frame::Message(_)) => assert!(!closed, "more is said after the end"),
            Some(frame::Frame::Close(close)) => {
                assert!((0..=16).contains(&close.code), "{close:?}");
                assert!(close.code == 0 || !close.message.is_empty(), "refused without a reason");
                closed = true;
            }
            other => panic!("PID 1 says {other:?}"),
        }
        bytes = more;
    }
    assert!(bytes.is_empty(), "half a frame is said");
}

fn socket(bytes: &[u8]) {
    Rig::new().expect("an event loop").converse(bytes);
    assert!(whole_entries(bytes) <= bytes.len());
}

fn framed(frame: frame::Frame) -> Vec<u8> {
    let body = Frame { frame: Some(frame) }.encode_to_vec();
    let length = u32::try_from(body.len()).expect("a short frame");
    [&length.to_be_bytes()[..], &body].concat()
}

/// A good request for a method, where an empty one is not.
fn request(path: &str) -> Vec<u8> {
    let time = prost_types::Timestamp { seconds: 1, nanos: 2 };
    match Method::parse(path) {
        Some(Method::ConfigApply) => v1::ApplyRequest {
            documents: crate::config::IDENTITY.into(),
            confirm_within: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            mode: v1::ApplyMode::Staged.into(),
            base: 1,
            ..v1::ApplyRequest::default()
        }
        .encode_to_vec(),
        Some(Method::ConfigConfirm) => v1::ConfirmRequest { generation: 1 }.encode_to_vec(),
        Some(Method::ConfigGet) => v1::GetRequest { generation: 1 }.encode_to_vec(),
        Some(Method::ConfigRestore) => {
            v1::RestoreRequest { generation: 1, ..v1::RestoreRequest::default() }.encode_to_vec()
        }
        Some(Method::UpgradePush) => v1::PushRequest {
            part: Some(v1::push_request::Part::Header(v1::PushHeader {
                size: 4608,
                sha256: vec![7; 32],
                signature: vec![1; 64],
            })),
        }
        .encode_to_vec(),
        Some(Method::UpgradeUpgrade) => v1::UpgradeRequest {
            source: Some(v1::upgrade_request::Source::Url("https://example.com/a".to_owned())),
            when: Some(v1::upgrade_request::When::At(time)),
            rate_limit: 9,
        }
        .encode_to_vec(),
        Some(Method::EventStream) => v1::EventsRequest {
            follow: true,
            since: Some(time),
            request: "a-1".to_owned(),
            tail: 7,
        }
        .encode_to_vec(),
        Some(Method::LogStream) => v1::LogRequest {
            name: "init".to_owned(),
            boot: -1,
            follow: true,
            tail: 7,
            since: Some(time),
        }
        .encode_to_vec(),
        Some(Method::ResourceList) => {
            v1::ListRequest { kind: "link".to_owned(), name: "eth0".to_owned() }.encode_to_vec()
        }
        Some(Method::ResourceWatch) => {
            v1::WatchRequest { kind: "memory".to_owned(), name: String::new() }.encode_to_vec()
        }
        Some(Method::DiagnosePing) => v1::PingRequest {
            host: "192.0.2.1".to_owned(),
            count: 3,
            interval_ms: 100,
            ..v1::PingRequest::default()
        }
        .encode_to_vec(),
        Some(Method::DiagnoseCapture) => {
            v1::CaptureRequest { link: "eth0".to_owned(), ..v1::CaptureRequest::default() }
                .encode_to_vec()
        }
        _ if path == REPORT_CERTIFICATE => CertificateReport {
            fingerprint: "a".repeat(64),
            not_before: 1,
            not_after: 2,
            names: vec!["node-1".to_owned()],
            ..CertificateReport::default()
        }
        .encode_to_vec(),
        _ if path == FIGURES => FiguresRequest { open_metrics: true }.encode_to_vec(),
        _ if path == SINK => SinkRequest { name: "central".to_owned() }.encode_to_vec(),
        _ => Vec::new(),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let each = (0..).zip(paths()).map(|(which, path)| {
        let message = request(path);
        let long = message.len() > usize::from(u8::MAX);
        let count = if long { message.len().div_ceil(16) } else { message.len() };
        let who = if long { 2 | LONG } else { 2 };
        [&[which, who, u8::try_from(count).unwrap_or(u8::MAX)][..], &message].concat()
    });
    let each: Vec<Vec<u8>> = each.collect();
    let short = each.iter().filter(|seed| seed.len() < 100).cloned().collect::<Vec<_>>();
    each.into_iter().chain(short.chunks(8).map(<[_]>::concat)).collect()
}

fn socket_seeds() -> Vec<Vec<u8>> {
    let open = |path: &str| {
        let role = Role::Admin.as_str().to_owned();
        Open { method: path.to_owned(), role, ..Open::default() }
    };
    let call = |path| {
        [
            framed(frame::Frame::Open(open(path))),
            framed(frame::Frame::Message(request(path).into())),
            framed(frame::Frame::HalfClose(HalfClose {})),
        ]
        .concat()
    };
    let (version, watch) = (Method::MachineVersion.path(), Method::ResourceWatch.path());
    vec![call(version), [call(version), call(watch)].concat(), call(Method::LogStream.path())]
}
