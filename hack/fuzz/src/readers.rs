// SPDX-License-Identifier: Apache-2.0
//! What networks, disks, registries and the firmware say. The first byte picks the reader of the rest.

use crate::Target;
use hickory_proto::op::Message;
use std::{cmp::Ordering, io::Cursor, sync::LazyLock, time::Duration};
use stele_agents::{
    about::Form,
    dhcp::{Mac, client, event, frame, message},
    dhcp6::{
        self, Duid,
        client::Client,
        event::{Effect, Event},
        message::{Reply, Wants},
    },
    disk::{ext4, table::Table},
    dns::message::{self as dns_message, Received, Way},
    fetch::{self, reference::Reference},
    guestinfo::{self, rpc::Rpc},
    kvp,
    metadata::wireserver,
    network,
    routers::option,
    stage::{anatomy, judge},
    user_data,
};
use stele_kernel::{backdoor::Step, efivars, kmsg};
use stele_layout::{
    slot::{SlotFile, SlotId},
    version::Version,
};
use stele_signature::{
    PublicKey, SigningKey,
    cosign::{self, Document},
};

/// Readers of strangers' bytes.
pub const TARGET: Target = Target { name: "readers", run, seeds };

const READERS: [fn(&[u8]); 19] = [
    dhcp,
    packet,
    kernel_message,
    variable,
    image,
    registry,
    manifest,
    statement,
    file_names,
    partitions,
    superblock,
    places,
    keys,
    drive,
    dhcp6,
    advertisement,
    guestinfo,
    kvp,
    dns,
];

/// The forms in which platforms describe the network.
const NETWORKS: [&str; 11] = [
    "nocloud",
    "openstack",
    "opennebula",
    "azure",
    "digitalocean",
    "equinix",
    "gcp",
    "oracle",
    "ovf",
    "scaleway",
    "vultr",
];

const US: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

fn run(bytes: &[u8]) {
    let Some((which, bytes)) = bytes.split_first() else { return };
    READERS[usize::from(*which) % READERS.len()](bytes);
}

/// Messages of DHCP, and what a client does with them: said again and again, to every question.
fn dhcp(bytes: &[u8]) {
    let Some(reply) = message::parse(bytes, US) else { return };
    let mut client = client::Client::new(US, client::Names::default(), 7);
    let (mut now, mut xid) = (Duration::from_secs(1), 0);
    let says = |xid| {
        let reply = Box::new(message::Reply { xid, ..reply.clone() });
        event::Event::Reply { reply, from: Mac([2; 6]) }
    };
    let mut effects = client.step(event::Event::CarrierGained, now);
    for _ in 0..6 {
        for _ in 0..3 {
            if client.deadline().is_some_and(|due| due <= now) {
                effects.extend(client.step(event::Event::Time, now));
            }
        }
        assert!(client.deadline().is_none_or(|due| due > now), "it does not end what is due");
        for effect in std::mem::take(&mut effects) {
            if let event::Effect::Send { request, .. } = effect {
                xid = request.xid;
                assert!(request.encode().len() <= 576, "a server need not take it (RFC 2131, 2)");
            }
        }
        effects = client.step(says(xid), now);
        now = client.deadline().unwrap_or(now).min(now + Duration::from_secs(100_000));
    }
}

/// Messages of DHCPv6, and what a client does with them.
fn dhcp6(bytes: &[u8]) {
    let Some(reply) = dhcp6::message::parse(bytes, &Duid::of(US), 7) else { return };
    let wants = Wants { address: true, prefix: Some(56) };
    let mut client = Client::new(Duid::of(US), 7, wants, 7);
    let mut now = Duration::from_secs(1);
    let mut xid = 0;
    for event in [Event::LinkGained, Event::Reply(reply.clone()), Event::Reply(reply), Event::Time]
    {
        let event = match event {
            Event::Reply(reply) => Event::Reply(Reply { xid, ..reply }),
            event => event,
        };
        let mut effects = client.step(event, now);
        // A reply may come when what it gives has ended, or is to be renewed, and then to be bound again.
        let is_due = |client: &Client| client.deadline().is_some_and(|due| due <= now);
        for _ in 0..3 {
            if is_due(&client) {
                effects.extend(client.step(Event::Time, now));
            }
        }
        assert!(!is_due(&client), "it does not end what is due");
        for effect in effects {
            if let Effect::Send(request) = effect {
                xid = request.xid;
                assert!(request.encode().len() < 1280, "it does not fit into a packet");
            }
        }
        let next = client.deadline().unwrap_or(now);
        now = next.min(now + Duration::from_secs(100));
    }
}

/// A question of a program, and behind it what a server answers.
fn dns(bytes: &[u8]) {
    let Some((length, bytes)) = bytes.split_first() else { return };
    let (question, answer) = bytes.split_at(bytes.len().min((*length).into()));
    let Received::Asked(request) = dns_message::read(question) else { return };
    let _failure = request.failure();
    if let Ok(asked) = request.question.encode(7, true) {
        assert!(asked.len() <= 512, "it does not fit into a packet");
    }
    let Ok(mut answer) = Message::from_vec(answer) else { return };
    let _fits = request.question.is_answered_by(&answer);
    if let Some(lifetime) = dns_message::lifetime(&answer) {
        assert!(!lifetime.is_zero() && lifetime <= Duration::from_secs(86_400));
    }
    dns_message::age(&mut answer, Duration::from_secs(7));
    if let Some(response) = request.response(&answer, Way::Datagram) {
        assert!(response.len() <= 4096, "it does not fit into a datagram");
    }
    let _stream = request.response(&answer, Way::Stream);
}

/// What the kernel passes on of a router's words: the first option of it.
fn advertisement(bytes: &[u8]) {
    let mut message = [[0; 4].as_slice(), &68_u16.to_ne_bytes(), &[0; 10], &[10, 0]].concat();
    message.extend(u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_ne_bytes());
    message.extend(7_u32.to_ne_bytes());
    message.extend([134, 0, 0, 0, 0, 0, 0, 0]);
    message.extend(bytes);
    if let Some(advertised) = option::parse(&message) {
        assert!(advertised.servers.len() <= 16 && advertised.domains.len() <= 16);
    }
    let _raw = option::parse(bytes);
}

fn packet(bytes: &[u8]) {
    if let Some(received) = frame::parse(bytes, US) {
        dhcp(received.payload);
    }
    let _arp = frame::parse_arp(bytes);
}

fn kernel_message(bytes: &[u8]) {
    let record = kmsg::parse(&String::from_utf8_lossy(bytes));
    assert!(record.is_none_or(|record| record.severity < 8 && !record.message.contains('\n')));
}

fn variable(bytes: &[u8]) {
    if let Some(text) = efivars::decode(bytes) {
        assert_eq!(efivars::decode(&efivars::encode(&text)), Some(text));
    }
}

fn image(bytes: &[u8]) {
    if let Ok(anatomy) = anatomy::examine(&bytes) {
        let end = anatomy.rootfs.offset + anatomy.rootfs.length;
        assert!(end <= bytes.len() as u64, "the root file system ends behind the image");
    }
}

/// A key whose signatures are believed here.
static KEY: LazyLock<(SigningKey, String)> = LazyLock::new(|| {
    const PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgmb2+J/Pw1AzYqonf\n\
HkaNp+WZ2O3pHogbuHwUsNLTzVyhRANCAATCiJBbmgfpYff2gevkbfDihcNY+R/H\n\
1nAlZmkTnnw6TEIfaNkrv0Pi3JQiMcyTwWhU1udO35gIEGertgnrr6Ns\n\
-----END PRIVATE KEY-----";
    let key = SigningKey::from_pem(PEM).expect("a key");
    let public = key.public().to_pem().expect("its public half");
    (key, public)
});

fn signed(bytes: &[u8]) -> String {
    let signature = KEY.0.sign(&sha256(bytes)).expect("a signature");
    stele_signature::write(&signature).trim().to_owned()
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    sha2::Digest::finalize(sha2::Digest::chain_update(sha2::Sha256::default(), bytes)).into()
}

/// What a registry has, whole.
fn registry(bytes: &[u8]) {
    assert!(
        judge::judge(std::slice::from_ref(&KEY.1), bytes).is_err(),
        "nobody has signed this, and it is believed"
    );
}

/// A manifest that somebody trusted has signed.
fn manifest(bytes: &[u8]) {
    let documents = judge::Documents {
        manifest: stele_signature::write(bytes).trim().to_owned(),
        signatures: vec![Document::Bundle(
            cosign::bundle(&KEY.0, &sha256(bytes)).expect("a bundle"),
        )],
    };
    let documents = serde_json::to_vec(&documents).expect("JSON");
    if let Ok(vouched) = judge::judge(std::slice::from_ref(&KEY.1), &documents) {
        assert!(vouched.size > 0, "an image of no bytes is vouched for");
    }
}

/// A statement that somebody trusted has signed.
fn statement(bytes: &[u8]) {
    let payload = String::from_utf8_lossy(bytes).into_owned();
    let signature = signed(payload.as_bytes());
    let keys = [KEY.0.public()];
    if let Ok(vouched) = cosign::verify(&Document::Simple { payload, signature }, &keys) {
        assert_eq!(vouched.manifest.len(), 64);
    }
}

fn file_names(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Some(file) = SlotFile::parse(&text) {
        assert_eq!(SlotFile::parse(&file.to_string()).as_ref(), Some(&file));
    }
    if let Some(id) = SlotId::parse(&text) {
        assert_eq!(id.as_str(), text);
    }
    let Some((left, right)) = text.split_once('\n') else { return };
    if let (Ok(left), Ok(right)) = (Version::parse(left), Version::parse(right)) {
        assert_eq!(left.compare(&right), right.compare(&left).reverse());
        assert_eq!(left.compare(&left), Ordering::Equal);
    }
}

/// A disk of 32 MiB that begins so, with the table's checksums right.
fn partitions(bytes: &[u8]) {
    const SECTOR: usize = 512;
    const SIZE: usize = 256 << 10;
    let mut disk = vec![0; SIZE];
    let (begin, count) = (SECTOR, bytes.len().min(SIZE / 2 - SECTOR));
    disk[begin..begin + count].copy_from_slice(&bytes[..count]);
    let entries = crc32(&disk[2 * SECTOR..2 * SECTOR + 128 * 128]);
    disk[SECTOR + 88..SECTOR + 92].copy_from_slice(&entries.to_le_bytes());
    disk[SECTOR + 16..SECTOR + 20].fill(0);
    let header = crc32(&disk[SECTOR..SECTOR + 92]);
    disk[SECTOR + 16..SECTOR + 20].copy_from_slice(&header.to_le_bytes());
    let size = 256 << 20;
    let mut disk = Cursor::new(disk);
    if let Ok(table) = Table::read(&mut disk, size, SECTOR as u64)
        && let Ok(complete) = table.complete([[1; 16], [2; 16]])
    {
        for write in complete.writes(&mut disk).unwrap_or_default() {
            assert!(write.offset + write.bytes.len() as u64 <= size, "it writes behind the disk");
        }
    }
}

/// The checksum of GPT tables.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 0 { crc >> 1 } else { (crc >> 1) ^ 0xedb8_8320 }
        })
    })
}

fn superblock(bytes: &[u8]) {
    if let Some((block, _)) = bytes.split_first_chunk() {
        let _treatment = ext4::treat("STATE", false, &ext4::parse(block));
    }
}

fn places(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(url) = fetch::parse(&text) {
        let _shown = fetch::shown(&fetch::signature_of(&url));
    }
    let _reference = Reference::parse(&text);
}

fn keys(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(der) = stele_signature::read(&text) {
        assert_eq!(stele_signature::read(&stele_signature::write(&der)), Ok(der));
    }
    if let Ok(key) = PublicKey::from_pem(&text) {
        assert_eq!(key.to_pem().and_then(|pem| PublicKey::from_pem(&pem)).as_ref(), Ok(&key));
    }
}

/// What a platform's drive says, in each form; the user-data beside it.
fn drive(bytes: &[u8]) {
    for form in ["nocloud", "openstack", "opennebula", "ovf"] {
        let form = Form::named(form).expect("a form");
        for value in form.attributes(bytes).unwrap_or_default().values() {
            assert!(!value.is_empty() && !value.contains(char::is_control));
        }
    }
    let _documents = user_data::unwrap(bytes, false);
    for form in NETWORKS {
        let form = network::Form::named(form).expect("a form");
        if let Ok(description) = form.documents(bytes) {
            let bytes = serde_json::to_vec(&description.documents).expect("JSON");
            let read = stele_config::canonical::read_network(&bytes);
            assert!(read.is_ok(), "{read:?}");
        }
    }
    let _goal = wireserver::read(&String::from_utf8_lossy(bytes));
}

/// What VMware's hypervisor answers, step by step; when it has nothing more to say, it fails.
fn guestinfo(bytes: &[u8]) {
    let mut answers = bytes.chunks(5);
    let mut steps = 0_u32;
    let step = |step: Step| {
        steps += 1;
        let Some([status, said @ ..]) = answers.next() else { return Step { kind: 0, ..step } };
        let value = said.first_chunk().copied().map_or(0, u32::from_le_bytes);
        Step { kind: (*status).into(), value, ..step }
    };
    let _said = guestinfo::read(&mut Rpc::new(step, 1024));
    // Five keys, three times each.
    assert!(steps < 5 * 3 * 300, "a hypervisor keeps it from ending");
}

/// What Hyper-V's host sets: messages without their empty ends.
fn kvp(bytes: &[u8]) {
    let mut values = kvp::Values::default();
    for sent in bytes.split(|byte| *byte == 0xff) {
        let mut message = [0; kvp::SIZE];
        message.iter_mut().zip(sent).for_each(|(place, byte)| *place = *byte);
        let _code = values.hear(&message);
    }
    let _said = values.said();
}

fn seeds() -> Vec<Vec<u8>> {
    let mut reply = vec![2, 1, 6, 0, 0, 0, 0, 9];
    reply.resize(16, 0);
    reply.extend([10, 0, 2, 15]);
    reply.resize(28, 0);
    reply.extend(US.0);
    reply.resize(236, 0);
    reply.extend([99, 130, 83, 99, 53, 1, 5, 54, 4, 10, 0, 2, 2, 51, 4, 0, 0, 14, 16]);
    reply.extend([1, 4, 255, 255, 255, 0, 121, 5, 0, 10, 0, 2, 2, 119, 2, 1, b'a', 255]);
    let digest = "0".repeat(64);
    let layer = format!(r#"{{"layers":[{{"digest":"sha256:{digest}","size":7}}]}}"#);
    let documents = judge::Documents { manifest: "e30=".to_owned(), signatures: Vec::new() };
    let about = format!(
        r#"{{"critical":{{"image":{{"docker-manifest-digest":"sha256:{digest}"}},"type":"cosign container image signature"}}}}"#
    );
    let mut head = b"EFI PART\0\0\x01\0\x5c\0\0\0".to_vec();
    head.resize(24, 0);
    for place in [1, 524_287, 34, 524_254] {
        head.extend(u64::to_le_bytes(place));
    }
    head.extend([7; 16]);
    head.extend(2_u64.to_le_bytes());
    head.extend([128, 0, 0, 0, 128, 0, 0, 0]);
    let association = [&[0, 3, 0, 40, 0, 0, 0, 7][..], &[0; 8], &[0, 5, 0, 24], &[0x20; 16]];
    let times = [0, 0, 0, 60, 0, 0, 0, 90];
    let mut six = vec![7, 0, 0, 9, 0, 1, 0, 10];
    six.extend(Duid::of(US).bytes());
    six.extend([0, 2, 0, 4, 0, 3, 0, 1, 0, 14, 0, 0]);
    six.extend([association.concat().as_slice(), &times].concat());
    six.extend([0, 24, 0, 3, 1, b'a', 0, 0, 13, 0, 2, 0, 0]);
    // A channel, the seven words of a question, and "1 v".
    let mut steps = [[1, 0, 0, 0, 0]; 9].concat();
    steps.extend([3, 3, 0, 0, 0, 1, b'1', b' ', b'v', 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    let mut set = vec![1, 0, 0, 0, 1, 0, 0, 0, 13, 0, 0, 0, 2, 0, 0, 0];
    set.extend(b"stele.config\0");
    set.resize(528, 0);
    set.push(b'x');
    let asked = [b"\x07example\x03com\0", [0, 1, 0, 1].as_slice()].concat();
    let name = [
        &[29, 0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        asked.as_slice(),
        &[0, 7, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0],
        &asked,
        &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7],
    ];
    let seeds: [&[u8]; 19] = [
        &reply,
        &[0xff; 64],
        b"6,339,5140900,-;NET: Registered protocol family 10\n SUBSYSTEM=net\n",
        &efivars::encode("stele_1.1.0+2-1.efi"),
        include_bytes!("../seeds/uki"),
        &serde_json::to_vec(&documents).expect("JSON"),
        layer.as_bytes(),
        about.as_bytes(),
        b"stele_1.1.0+2-1.efi\n1.0~rc1",
        &head,
        &[0; 1024],
        b"https://user:pass@example.com:8443/a/b?c=d#e",
        KEY.1.as_bytes(),
        b"# Context variables generated by OpenNebula\nVMID='7'\nUSER_DATA=\"a\"\n",
        &six,
        &[[31, 2, 0, 0, 0, 0, 2, 88].as_slice(), b"\x01a\x01b\0\0\0\0"].concat(),
        &steps,
        &set,
        &name.concat(),
    ];
    (0..).zip(seeds).map(|(which, seed)| [&[which], seed].concat()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_good_gets_through() {
        let found = seeds();
        let seed = |which: usize| found[which].get(1..).unwrap();
        assert!(message::parse(seed(0), US).is_some());
        let six = dhcp6::message::parse(seed(14), &Duid::of(US), 7).expect("a reply");
        assert_eq!((six.terms.given.len(), six.terms.domains.len()), (1, 1));
        assert!(anatomy::examine(&seed(4)).is_ok());
        let (question, answer) = seed(18)[1..].split_at(29);
        let Received::Asked(request) = dns_message::read(question) else { panic!("no question") };
        let answer = Message::from_vec(answer).expect("an answer");
        assert!(request.question.is_answered_by(&answer));
        let mut values = kvp::Values::default();
        let mut message = [0; kvp::SIZE];
        message[..seed(17).len()].copy_from_slice(seed(17));
        assert_eq!(values.hear(&message), 0);
        assert_eq!(values.said().expect("a value").user_data.as_deref(), Some(&b"x"[..]));
    }
}
