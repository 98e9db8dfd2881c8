// SPDX-License-Identifier: Apache-2.0
//! The acd agent against the kernel of another machine.

use crate::lab::{Lab, Reports};
use prost::Message as _;
use std::{
    fs,
    net::Ipv4Addr,
    time::{Duration, Instant},
};
use stele_kernel::packet::{PacketSocket, Traffic};
use stele_proto::internal::{AcdAddress, AcdFinding, AcdTask, acd_address::Mode};

const FREE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);
const TAKEN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// A link as sysfs has it.
fn number(lab: &Lab, side: &str, link: &str) -> u32 {
    let text = lab.says(side, &format!("-o link show {link}"));
    text.split(':').next().and_then(|text| text.parse().ok()).expect("a number")
}

fn mac(lab: &Lab, side: &str, link: &str) -> Vec<u8> {
    let text = lab.says(side, &format!("-o link show {link}"));
    let mac = text.split("link/ether ").nth(1).and_then(|rest| rest.get(..17)).expect("a mac");
    mac.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("a byte")).collect()
}

/// Gives the agent its task.
fn give(lab: &Lab, addresses: &[(Ipv4Addr, Mode)]) {
    let (link, own) = (number(lab, "client", "client"), mac(lab, "client", "client"));
    let address = |(address, mode): &(Ipv4Addr, Mode)| AcdAddress {
        link,
        mac: own.clone(),
        address: address.octets().to_vec(),
        mode: (*mode).into(),
    };
    let addresses = addresses.iter().map(address).collect();
    let task = AcdTask { own: vec![own.clone()], addresses };
    fs::write(lab.file("task"), task.encode_to_vec()).expect("a file");
}

fn start(lab: &mut Lab) -> Reports<(Ipv4Addr, Vec<u8>)> {
    let task = lab.file("task");
    let finding = |AcdFinding { address, by, .. }: AcdFinding| {
        (Ipv4Addr::from(<[u8; 4]>::try_from(address).expect("an address")), by)
    };
    lab.reporter(&["acd", task.to_str().expect("a name")], "net_raw", finding)
}

#[test]
fn an_address_of_another_machine_is_found_and_a_free_one_is_announced() {
    let mut lab = Lab::new("acd");
    lab.link("server", &format!("address add {TAKEN}/24 dev lan"));
    give(&lab, &[(TAKEN, Mode::Ask)]);
    let reports = start(&mut lab);
    assert_eq!(reports.next(), (TAKEN, mac(&lab, "server", "lan")));
    // Another task while it runs. What the kernel of the server has learned is what it was announced.
    give(&lab, &[(TAKEN, Mode::Ask), (FREE, Mode::Ask)]);
    lab.reload();
    let begun = Instant::now();
    let (address, by) = loop {
        match reports.next() {
            (TAKEN, by) => assert_eq!(by, mac(&lab, "server", "lan"), "it is asked again"),
            free => break free,
        }
    };
    let free = begun.elapsed();
    assert_eq!((address, by), (FREE, vec![]));
    assert!((400..900).contains(&free.as_millis()), "{free:?}");
    // The other machine leaves.
    lab.link("server", &format!("address del {TAKEN}/24 dev lan"));
    loop {
        let (address, by) = reports.next();
        assert_eq!(address, TAKEN);
        if by.is_empty() {
            break;
        }
    }
}

#[test]
fn an_address_that_is_taken_later_is_told_and_defended() {
    let mut lab = Lab::new("acdheld");
    lab.link("client", &format!("address add {FREE}/24 dev client"));
    give(&lab, &[(FREE, Mode::Hold)]);
    let reports = start(&mut lab);
    assert!(reports.is_silent(Duration::from_millis(900)), "nobody is asked");
    let index = number(&lab, "server", "lan");
    let heard = lab.on("server", || PacketSocket::open(index, Traffic::ArpAbout { address: FREE }));
    let heard = heard.expect("a socket");
    lab.link("server", &format!("address add {FREE}/24 dev lan"));
    // It asks for somebody, and so says who it is.
    for host in 50..53 {
        lab.within("server", &format!("ping -c 1 -W 1 10.77.0.{host} >/dev/null || true"));
    }
    assert_eq!(reports.next(), (FREE, mac(&lab, "server", "lan")));
    let (own, mut announced, mut buffer) = (mac(&lab, "client", "client"), 0, [0; 64]);
    while let Some(frame) = heard.receive(&mut buffer).expect("a frame") {
        let ours = frame[22..28] == own[..];
        announced += usize::from(ours && frame[28..32] == frame[38..42]);
    }
    assert_eq!(announced, 1, "once in ten seconds");
    assert!(reports.is_silent(Duration::from_millis(100)), "it is told once");
}
