// SPDX-License-Identifier: Apache-2.0
//! Messages against another codec, and against anything at all.

use super::*;
use dhcproto::{
    Decodable as _, Decoder, Encodable as _,
    v4::{self, DhcpOption, MessageType, Opcode, OptionCode},
};
use proptest::prelude::*;

pub(in crate::dhcp) const US: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

fn request(question: Question) -> Request {
    let hostname = Some("node-1".to_owned());
    Request { question, xid: 0x0102_0304, seconds: 7, mac: US, id: None, hostname }
}

/// A message of a server as the other codec writes it.
fn other(options: Vec<DhcpOption>) -> v4::Message {
    let unspecified = Ipv4Addr::UNSPECIFIED;
    let mut message =
        v4::Message::new_with_id(9, unspecified, ADDRESS, unspecified, unspecified, &US.0);
    message.set_opcode(Opcode::BootReply);
    for option in options {
        message.opts_mut().insert(option);
    }
    message
}

fn bytes(message: &v4::Message) -> Vec<u8> {
    message.to_vec().expect("the other codec can write it")
}

fn ack() -> Vec<DhcpOption> {
    vec![
        DhcpOption::MessageType(MessageType::Ack),
        DhcpOption::ServerIdentifier(SERVER),
        DhcpOption::AddressLeaseTime(3600),
        DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)),
    ]
}

#[test]
fn another_codec_reads_what_we_write() {
    let questions = [
        (Question::Discover, MessageType::Discover),
        (Question::Request { address: ADDRESS, server: SERVER }, MessageType::Request),
        (Question::Reboot { address: ADDRESS }, MessageType::Request),
        (Question::Renew { address: ADDRESS }, MessageType::Request),
        (Question::Decline { address: ADDRESS, server: SERVER }, MessageType::Decline),
    ];
    for (question, kind) in questions {
        let written = request(question).encode();
        let read = v4::Message::decode(&mut Decoder::new(&written)).expect("a message");
        assert_eq!((read.xid(), read.secs(), read.chaddr()), (0x0102_0304, 7, &US.0[..]));
        assert_eq!(read.opts().msg_type(), Some(kind));
        let requested = matches!(
            read.opts().get(OptionCode::RequestedIpAddress),
            Some(DhcpOption::RequestedIpAddress(ADDRESS))
        );
        let server = matches!(
            read.opts().get(OptionCode::ServerIdentifier),
            Some(DhcpOption::ServerIdentifier(SERVER))
        );
        let current = read.ciaddr() == ADDRESS;
        let expected = match question {
            Question::Discover => (false, false, false),
            Question::Request { .. } | Question::Decline { .. } => (true, true, false),
            Question::Reboot { .. } => (true, false, false),
            Question::Renew { .. } => (false, false, true),
        };
        assert_eq!((requested, server, current), expected, "{question:?}");
        assert_eq!(
            read.opts().get(OptionCode::RapidCommit).is_some(),
            question == Question::Discover
        );
        assert!(written.len() >= SHORTEST);
    }
}

#[test]
fn a_server_knows_the_client_by_its_hardware_address_or_what_else_it_says() {
    let known = |id: Option<&[u8]>| {
        let request = Request { id: id.map(<[u8]>::to_vec), ..request(Question::Discover) };
        let message = v4::Message::decode(&mut Decoder::new(&request.encode())).expect("a message");
        match message.opts().get(OptionCode::ClientIdentifier) {
            Some(DhcpOption::ClientIdentifier(id)) => id.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(known(None), [&[1][..], &US.0].concat());
    assert_eq!(known(Some(b"\0node")), b"\0node");
}

#[test]
fn we_read_what_another_codec_writes() {
    let mut options = ack();
    options.extend([
        DhcpOption::Router(vec![SERVER]),
        DhcpOption::DomainNameServer(vec![SERVER, ADDRESS]),
        DhcpOption::DomainName("a.example".to_owned()),
        DhcpOption::Unknown(v4::UnknownOption::new(
            code::SEARCH.into(),
            b"\x03lab\x07example\x00\x04deep\xc0\x00".to_vec(),
        )),
        DhcpOption::Hostname("rack-7".to_owned()),
        DhcpOption::InterfaceMtu(1400),
        DhcpOption::Renewal(60),
        DhcpOption::ClasslessStaticRoute(vec![(
            "192.0.2.0/25".parse().expect("a network"),
            SERVER,
        )]),
        DhcpOption::RapidCommit,
    ]);
    let Some(Reply { xid: 9, server: SERVER, answer: Answer::Ack { terms, rapid: true } }) =
        parse(&bytes(&other(options)), US)
    else {
        panic!("a reply");
    };
    let expected = Terms {
        address: ADDRESS,
        prefix: 24,
        routers: vec![SERVER],
        dns_servers: vec![SERVER, ADDRESS],
        ntp_servers: vec![],
        routes: vec![(Ipv4Addr::new(192, 0, 2, 0), 25, SERVER)],
        domain: "a.example".to_owned(),
        search: vec!["lab.example".to_owned(), "deep.lab.example".to_owned()],
        hostname: "rack-7".to_owned(),
        mtu: Some(1400),
        seconds: 3600,
        renewal: Some(60),
        rebinding: None,
    };
    assert_eq!(terms, expected);
}

#[test]
fn what_is_for_another_or_makes_no_sense_is_not_taken() {
    let good = bytes(&other(ack()));
    assert!(parse(&good, US).is_some());
    assert_eq!(parse(&good, Mac([2; 6])), None);
    for (at, value) in [(0, 1), (1, 6), (2, 7), (236, 0), (16, 127), (16, 0), (16, 224)] {
        let mut bad = good.clone();
        bad[at] = value;
        assert_eq!(parse(&bad, US), None, "byte {at}");
    }
    for odd in [
        DhcpOption::AddressLeaseTime(SHORTEST_LEASE - 1),
        DhcpOption::SubnetMask(Ipv4Addr::new(255, 0, 255, 0)),
        DhcpOption::SubnetMask(Ipv4Addr::UNSPECIFIED),
        DhcpOption::ServerIdentifier(Ipv4Addr::UNSPECIFIED),
        DhcpOption::MessageType(MessageType::Discover),
    ] {
        let mut options = ack();
        options.push(odd.clone());
        assert_eq!(parse(&bytes(&other(options)), US), None, "{odd:?}");
    }
}

#[test]
fn options_in_the_old_name_fields_count() {
    let mut bytes = bytes(&other(vec![
        DhcpOption::MessageType(MessageType::Ack),
        DhcpOption::ServerIdentifier(SERVER),
    ]));
    bytes.truncate(bytes.len() - 1);
    write(&mut bytes, code::OVERLOAD, &[3]);
    bytes.push(code::END);
    bytes[108..114].copy_from_slice(&[code::LEASE_SECONDS, 4, 0, 0, 14, 16]);
    bytes[44..50].copy_from_slice(&[code::SUBNET_MASK, 4, 255, 255, 0, 0]);
    let Some(Reply { answer: Answer::Ack { terms, .. }, .. }) = parse(&bytes, US) else {
        panic!("a reply")
    };
    assert_eq!((terms.seconds, terms.prefix), (3600, 16));
}

#[test]
fn an_address_without_a_mask_has_that_of_its_class() {
    let class = |first| classful(Ipv4Addr::new(first, 1, 2, 3));
    assert_eq!([10, 127, 128, 191, 192, 223].map(class), [8, 8, 16, 16, 24, 24]);
}

#[test]
fn routes_that_run_over_their_end_are_none() {
    assert_eq!(routes(&[]), Some(vec![]));
    assert_eq!(routes(&[0, 10, 0, 2, 2]), Some(vec![(Ipv4Addr::UNSPECIFIED, 0, SERVER)]));
    for bad in [
        &[24, 192, 0][..],
        &[0, 10, 0, 2],
        &[33, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        &[255, 0, 0, 0, 0, 0, 0, 0, 0],
    ] {
        assert_eq!(routes(bad), None, "{bad:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = parse(&bytes, US);
    }

    #[test]
    fn no_options_break_it(list in prop::collection::vec(any::<u8>(), 0..300), overload in 0..4_u8) {
        let mut message = bytes(&other(vec![]));
        message.truncate(FIXED);
        write(&mut message, code::OVERLOAD, &[overload]);
        message.extend(list);
        let _ = parse(&message, US);
    }

    #[test]
    fn what_is_taken_is_bounded(
        codes in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..255)), 0..6),
    ) {
        let mut message = bytes(&other(ack()));
        message.truncate(message.len() - 1);
        for (code, value) in codes {
            write(&mut message, code, &value);
        }
        if let Some(Reply { answer: Answer::Ack { terms, .. }, .. }) = parse(&message, US) {
            prop_assert!((1..=32).contains(&terms.prefix));
            prop_assert!(terms.routers.len() <= MOST && terms.routes.len() <= MOST);
            prop_assert!(terms.domain.len() <= LONGEST_TEXT && terms.seconds >= SHORTEST_LEASE);
            prop_assert!(terms.routes.iter().all(|(_, prefix, _)| *prefix <= 32));
        }
    }
}
