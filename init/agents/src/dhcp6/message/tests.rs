// SPDX-License-Identifier: Apache-2.0
//! Messages against another codec, and against anything at all.

use super::*;
use crate::dhcp::Mac;
use dhcproto::{
    Decodable as _, Decoder, Encodable as _,
    v6::{self, DhcpOption, IAAddr, IANA, IAPD, IAPrefix, MessageType, NtpSuboption, StatusCode},
};
use proptest::prelude::*;

const MAC: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const OURS: u32 = 7;
const ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x50);
const NETWORK: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 0);

fn us() -> Duid {
    Duid::of(MAC)
}

fn server() -> Duid {
    Duid::read(&[0, 3, 0, 1, 2, 0, 0, 0, 0, 1]).expect("a good one")
}

fn address_given(seconds: u32) -> Given {
    Given { address: ADDRESS, prefix: 128, preferred: seconds / 2, seconds }
}

fn prefix_given(seconds: u32) -> Given {
    Given { address: NETWORK, prefix: 56, preferred: seconds / 2, seconds }
}

/// A message of a server as the other codec writes it.
fn reply(options: Vec<DhcpOption>) -> Vec<u8> {
    let mut message = v6::Message::new_with_id(MessageType::Reply, [0, 0, 9]);
    message.opts_mut().insert(DhcpOption::ClientId(us().bytes().to_vec()));
    message.opts_mut().insert(DhcpOption::ServerId(server().bytes().to_vec()));
    for option in options {
        message.opts_mut().insert(option);
    }
    message.to_vec().expect("the other codec can write it")
}

fn address_option(given: Given, inside: Vec<DhcpOption>) -> DhcpOption {
    DhcpOption::IAAddr(IAAddr {
        addr: given.address,
        preferred_life: given.preferred,
        valid_life: given.seconds,
        opts: inside.into_iter().collect(),
    })
}

fn association(id: u32, t1: u32, t2: u32, inside: Vec<DhcpOption>) -> DhcpOption {
    DhcpOption::IANA(IANA { id, t1, t2, opts: inside.into_iter().collect() })
}

fn delegation(given: Given) -> DhcpOption {
    let prefix = DhcpOption::IAPrefix(IAPrefix {
        preferred_lifetime: given.preferred,
        valid_lifetime: given.seconds,
        prefix_len: given.prefix,
        prefix_ip: given.address,
        opts: [].into_iter().collect(),
    });
    DhcpOption::IAPD(IAPD { id: OURS, t1: 0, t2: 0, opts: [prefix].into_iter().collect() })
}

fn status(code: v6::Status) -> DhcpOption {
    DhcpOption::StatusCode(StatusCode { status: code, msg: "no\u{1b}[2J more".to_owned() })
}

fn parsed(options: Vec<DhcpOption>) -> Reply {
    parse(&reply(options), &us(), OURS).expect("a reply")
}

#[test]
fn another_codec_reads_what_we_write() {
    let questions = [
        (Question::Solicit, MessageType::Solicit),
        (Question::Request(server()), MessageType::Request),
        (Question::Renew(server()), MessageType::Renew),
        (Question::Rebind, MessageType::Rebind),
        (Question::Decline(server()), MessageType::Decline),
        (Question::Inform, MessageType::InformationRequest),
    ];
    for (question, kind) in questions {
        let request = Request {
            question: question.clone(),
            xid: 0x01_0203,
            elapsed: 7,
            client: us(),
            association: OURS,
            wants: Wants { address: true, prefix: Some(56) },
            about: vec![address_given(60), prefix_given(60)],
        };
        let written = request.encode();
        let read = v6::Message::decode(&mut Decoder::new(&written)).expect("a message");
        assert_eq!((read.msg_type(), read.xid()), (kind, [1, 2, 3]));
        let options: Vec<&DhcpOption> = read.opts().iter().collect();
        let has = |found: fn(&DhcpOption) -> bool| options.iter().any(|one| found(one));
        assert!(has(|one| matches!(one, DhcpOption::ClientId(id) if *id == us().bytes())));
        let names =
            matches!(question, Question::Request(_) | Question::Renew(_) | Question::Decline(_));
        assert_eq!(has(|one| matches!(one, DhcpOption::ServerId(_))), names, "{question:?}");
        let rapid = has(|one| matches!(one, DhcpOption::RapidCommit));
        assert_eq!(rapid, question == Question::Solicit);
        let informs = question == Question::Inform;
        let address = has(|one| {
            let DhcpOption::IANA(IANA { id: OURS, opts, .. }) = one else { return false };
            opts.iter().any(|one| matches!(one, DhcpOption::IAAddr(IAAddr { addr: ADDRESS, .. })))
        });
        assert_eq!(address, !informs);
        let prefix = has(|one| {
            let DhcpOption::IAPD(IAPD { id: OURS, opts, .. }) = one else { return false };
            let ours = |one: &DhcpOption| {
                let DhcpOption::IAPrefix(prefix) = one else { return false };
                (prefix.prefix_ip, prefix.prefix_len) == (NETWORK, 56)
            };
            opts.iter().any(ours)
        });
        assert_eq!(prefix, !informs && !matches!(question, Question::Decline(_)));
    }
}

#[test]
fn we_read_what_another_codec_writes() {
    // Of two it would write one by reference to the other, which RFC 8415 forbids.
    let names = ["lab.example."].map(|name| name.parse().expect("a name"));
    let Reply { xid, server: by, offer, rapid, terms, failure } = parsed(vec![
        association(OURS, 100, 160, vec![address_option(address_given(3600), vec![])]),
        delegation(prefix_given(7200)),
        DhcpOption::DomainNameServers(vec![ADDRESS]),
        DhcpOption::DomainSearchList(names.to_vec()),
        DhcpOption::NtpServer(vec![NtpSuboption::ServerAddress(ADDRESS)]),
        DhcpOption::InformationRefreshTime(900),
        DhcpOption::RapidCommit,
    ]);
    assert_eq!((xid, by, offer, rapid, failure), (9, server(), false, true, None));
    let expected = Terms {
        given: vec![address_given(3600), prefix_given(7200)],
        dns_servers: vec![ADDRESS],
        domains: vec!["lab.example".to_owned()],
        ntp_servers: vec![ADDRESS],
        renewal: Some(100),
        rebinding: Some(160),
        refresh: Some(900),
        refusal: None,
    };
    assert_eq!(terms, expected);
}

#[test]
fn what_is_for_another_or_makes_no_sense_is_not_taken() {
    let good = reply(vec![]);
    assert!(parse(&good, &us(), OURS).is_some());
    assert_eq!(parse(&good, &Duid::of(Mac([2; 6])), OURS), None);
    let mut other = good.clone();
    other[0] = 1;
    assert_eq!(parse(&other, &us(), OURS), None);
    assert_eq!(parse(&good[..good.len() - 1], &us(), OURS), None);
    let entry = || vec![address_option(address_given(3600), vec![])];
    for odd in [
        association(OURS + 1, 0, 0, entry()),
        association(OURS, 9, 8, entry()),
        association(
            OURS,
            0,
            0,
            vec![address_option(Given { preferred: 99, seconds: 98, ..address_given(9) }, vec![])],
        ),
        association(
            OURS,
            0,
            0,
            vec![address_option(address_given(99), vec![status(v6::Status::NotOnLink)])],
        ),
        association(
            OURS,
            0,
            0,
            vec![address_option(
                Given { address: Ipv6Addr::LOCALHOST, ..address_given(99) },
                vec![],
            )],
        ),
        delegation(Given { prefix: 65, ..prefix_given(99) }),
        delegation(Given { prefix: 0, ..prefix_given(99) }),
    ] {
        assert_eq!(parsed(vec![odd.clone()]).terms.given, [], "{odd:?}");
    }
}

#[test]
fn a_refusal_is_quoted_without_what_a_terminal_would_obey() {
    let inside = association(OURS, 0, 0, vec![status(v6::Status::NoAddrsAvail)]);
    assert_eq!(parsed(vec![inside]).terms.refusal.as_deref(), Some("no[2J more"));
    assert_eq!(parsed(vec![status(v6::Status::UnspecFail)]).failure.as_deref(), Some("no[2J more"));
    assert_eq!(parsed(vec![status(v6::Status::Success)]).failure, None);
}

/// A message with one more option, whose length is right.
fn with(code: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = reply(vec![]);
    write(&mut bytes, code, value);
    bytes
}

proptest! {
    #[test]
    fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = parse(&bytes, &us(), OURS);
    }

    #[test]
    fn an_option_of_any_length_costs_itself_alone(
        code in prop::sample::select(vec![3_u16, 13, 23, 24, 25, 32, 56]),
        length in 0..70_usize,
    ) {
        let mut value = vec![0; length];
        if let Some(id) = value.get_mut(..4) {
            id.copy_from_slice(&OURS.to_be_bytes());
        }
        let mut bytes = with(code, &value);
        bytes.extend(reply(vec![delegation(prefix_given(99))]).split_off(4));
        let read = parse(&bytes, &us(), OURS);
        prop_assert!(read.is_some_and(|read| read.terms.given.contains(&prefix_given(99))));
    }

    #[test]
    fn what_is_taken_is_bounded(
        options in prop::collection::vec((0..60_u16, prop::collection::vec(any::<u8>(), 0..300)), 0..8),
        entries in 0..40_usize,
    ) {
        let entry = address_option(address_given(99), vec![]);
        let mut bytes = reply(vec![association(OURS, 0, 0, vec![entry; entries])]);
        for (code, value) in options {
            write(&mut bytes, code, &value);
        }
        if let Some(Reply { terms, failure, .. }) = parse(&bytes, &us(), OURS) {
            prop_assert!(terms.given.len() <= 2 * MOST_GIVEN && terms.dns_servers.len() <= MOST);
            prop_assert!(terms.domains.len() <= MOST && terms.ntp_servers.len() <= MOST);
            prop_assert!(failure.is_none_or(|text| text.len() <= LONGEST_TEXT));
            prop_assert!(terms.given.iter().all(|given| given.preferred <= given.seconds));
        }
    }
}
