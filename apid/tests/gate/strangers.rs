// SPDX-License-Identifier: Apache-2.0
//! Who is refused, and that the next good call works all the same.

use crate::{
    APPLY, STREAM, VERSION, admin, assert_good, house,
    support::{Ask, Client, authority, issue, tls},
};
use bytes::Bytes;
use rcgen::ExtendedKeyUsagePurpose;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

#[tokio::test]
async fn roles_are_enforced() {
    let (operator, mut house) = house().await;
    let reader = Client::connect(house.address, Some(&operator.client("os:reader"))).await.unwrap();
    assert_eq!(reader.call(VERSION, b"").await.unwrap().code, 0);
    let answer = reader.call(APPLY, b"").await.unwrap();
    assert_eq!(answer.code, 7);
    assert_eq!(
        answer.message,
        "/stele.v1.ConfigService/Apply needs the role os:admin, this client certificate has os:reader"
    );
    let line = house.audited(&[APPLY]).await;
    assert_eq!(
        (line["result"].as_str(), line["role"].as_str()),
        (Some("PERMISSION_DENIED"), Some("os:reader"))
    );
    let nobody =
        Client::connect(house.address, Some(&operator.client("accounting"))).await.unwrap();
    assert_eq!(nobody.call(VERSION, b"").await.unwrap().code, 7);
    for path in ["/stele.v1.MachineService/Nothing", stele_proto::method::REPORT_CERTIFICATE] {
        assert_eq!(reader.call(path, b"").await.unwrap().code, 12);
    }
}

#[tokio::test]
async fn strangers_are_refused() {
    let (operator, mut house) = house().await;
    let expired = Ask { life: (-7200, -3600), ..Ask::default() };
    let future = Ask { life: (3600, 7200), ..Ask::default() };
    let server = Ask { usage: Some(ExtendedKeyUsagePurpose::ServerAuth), ..Ask::default() };
    let any = Ask { usage: None, ..Ask::default() };
    // What a stolen node can make: a client under its own intermediate, with the chain to the operator.
    let mut minted = issue(&operator.node, "eve", &Ask::default());
    minted.certificate.push_str(&operator.node.certificate);
    // The same, should an operator have made the intermediate without limits.
    let unlimited = issue(&operator.ca, "node", &Ask { usage: None, ca: true, ..Ask::default() });
    let mut chained = issue(&unlimited, "eve", &Ask::default());
    chained.certificate.push_str(&unlimited.certificate);
    let cases = [
        (None, "no client certificate"),
        (
            Some(issue(&authority("other"), "eve", &Ask::default())),
            "was not issued by this node's CA",
        ),
        (Some(issue(&operator.ca, "ada", &expired)), "has expired"),
        (Some(issue(&operator.ca, "ada", &future)), "is not valid yet"),
        (Some(issue(&operator.ca, "ada", &server)), "not made for client authentication"),
        (Some(issue(&operator.ca, "ada", &any)), "not made for client authentication"),
        (Some(minted), "was not issued by this node's CA"),
        (Some(chained), "was not issued by this node's CA"),
        (Some(operator.node.clone()), ""),
    ];
    for (identity, reason) in cases {
        let call = async {
            Client::connect(house.address, identity.as_ref()).await?.call(VERSION, b"").await
        };
        assert!(call.await.is_err(), "{reason}");
        let line = house.audited(&["handshake", reason]).await;
        assert_eq!(line["result"], "UNAUTHENTICATED");
    }
    assert_good(&operator, &house).await;
}

#[tokio::test]
async fn the_machine_s_own_probe_is_not_refused() {
    let (operator, mut house) = house().await;
    // It comes, and leaves when it has seen enough.
    for _ in 0..3 {
        drop(TcpStream::connect(house.address).await.unwrap());
    }
    assert!(Client::connect(house.address, None).await.unwrap().call(VERSION, b"").await.is_err());
    let line = house.audited(&["handshake"]).await;
    assert_eq!(line["reason"], "no client certificate", "the only one that was refused");
    assert_good(&operator, &house).await;
}

#[tokio::test]
async fn what_is_not_tls_1_3_is_refused() {
    let (operator, mut house) = house().await;
    let old = tls(Some(&operator.client("os:admin")), &rustls::version::TLS12);
    assert!(Client::connect_with(house.address, old).await.is_err());
    house.audited(&["handshake", "does not speak TLS 1.3"]).await;
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: n1\r\n\r\n"[..],
        &[0xff; 1000],
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
    ] {
        let mut stream = TcpStream::connect(house.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer).await);
        assert!(answer.len() < 32, "an alert at most");
        house.audited(&["handshake", "does not speak TLS"]).await;
    }
    // Garbage after a good handshake.
    let stream = TcpStream::connect(house.address).await.unwrap();
    let config = tls(Some(&operator.client("os:admin")), &rustls::version::TLS13);
    let name = rustls_pki_types::ServerName::try_from("n1").unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n           ").await.unwrap();
    house.audited(&["handshake", "does not speak HTTP/2"]).await;
    assert_good(&operator, &house).await;
}

#[tokio::test]
async fn a_message_too_large_is_refused_and_the_connection_goes_on() {
    let (operator, mut house) = house().await;
    let client = admin(&operator, &house).await;
    let answer = client.call(VERSION, &vec![0; 64 << 20]).await.unwrap();
    assert_eq!(answer.code, 8);
    assert!(answer.message.contains("67108864"), "{}", answer.message);
    house.audited(&["RESOURCE_EXHAUSTED"]).await;
    assert_eq!(client.call(VERSION, b"").await.unwrap().code, 0);
}

#[tokio::test]
async fn a_thousand_idle_connections_keep_nobody_out() {
    let (operator, mut house) = house().await;
    let busy = admin(&operator, &house).await;
    let response = busy.open(STREAM, vec![Bytes::from_static(b"1 1 hang")], &[]).await.unwrap();
    let mut idle = Vec::new();
    for _ in 0..1000 {
        idle.push(TcpStream::connect(house.address).await.unwrap());
    }
    assert_good(&operator, &house).await;
    house.audited(&["made room"]).await;
    // A connection with a call was not asked to make room.
    assert_eq!(busy.call(VERSION, b"").await.unwrap().code, 0);
    drop((response, idle));
}
