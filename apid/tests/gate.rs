// SPDX-License-Identifier: Apache-2.0
//! apid from outside, with real TLS, before a small PID 1.

mod support;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use prost::Message as _;
use rcgen::ExtendedKeyUsagePurpose;
use std::{sync::atomic::Ordering, time::Duration};
use stele_proto::method::Method;
use support::{Ask, Client, House, Operator, authority, eventually, issue, tls, write_identity};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const VERSION: &str = Method::MachineVersion.path();
const STREAM: &str = Method::LogStream.path();
const PUSH: &str = Method::UpgradePush.path();
const APPLY: &str = Method::ConfigApply.path();

async fn house() -> (Operator, House) {
    let operator = Operator::new();
    let house = House::new(&operator.json(&["127.0.0.1"])).await;
    (operator, house)
}

async fn admin(operator: &Operator, house: &House) -> Client {
    Client::connect(house.address, Some(&operator.client("os:admin"))).await.unwrap()
}

/// The next good call works, whatever came before.
async fn assert_good(operator: &Operator, house: &House) {
    let answer = admin(operator, house).await.call(VERSION, b"hello").await.unwrap();
    assert_eq!((answer.code, &answer.messages[0][..]), (0, &b"hello"[..]));
}

#[tokio::test]
async fn calls_pass_both_ways() {
    let (operator, mut house) = house().await;
    let client = admin(&operator, &house).await;
    let answer = client.call(VERSION, b"").await.unwrap();
    assert_eq!((answer.code, &answer.messages[..]), (0, &[Bytes::new()][..]));
    let line = house.audited(&[VERSION]).await;
    assert_eq!(line["subject"], "ada");
    assert_eq!(line["role"], "os:admin");
    assert_eq!(line["result"], "OK");
    assert!(line["source"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    assert!(
        line["serial"].as_str().unwrap().len() > 10
            && line["duration_us"].is_u64()
            && line["request"].is_string()
    );

    for (count, size) in [(3, 10), (1000, 200), (40, 100_000), (3, 1 << 20)] {
        let answer = client.call(STREAM, format!("{count} {size}").as_bytes()).await.unwrap();
        assert_eq!((answer.code, answer.messages.len()), (0, count));
        assert!(
            answer
                .messages
                .iter()
                .enumerate()
                .all(|(number, message)| *message == vec![number as u8; size])
        );
    }

    let answer = client.upload(PUSH, vec![Bytes::from(vec![7; 1 << 20]); 20]).await.unwrap();
    assert_eq!((answer.code, &answer.messages[0][..]), (0, (20 << 20).to_string().as_bytes()));
    assert!(
        house.seen.connections.load(Ordering::SeqCst) <= 2,
        "connections to PID 1 are used again"
    );
    assert_eq!(house.seen.cancelled.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn many_calls_at_once() {
    let (operator, house) = house().await;
    let client = admin(&operator, &house).await;
    let calls = (0..100).map(|number: u32| {
        let client = client.clone();
        tokio::spawn(async move { client.call(VERSION, &number.to_be_bytes()).await.unwrap() })
    });
    for (number, call) in (0_u32..).zip(calls.collect::<Vec<_>>()) {
        assert_eq!(call.await.unwrap().messages[0][..], number.to_be_bytes());
    }
}

#[tokio::test]
async fn an_error_keeps_its_words_and_details() {
    let (operator, mut house) = house().await;
    let answer = admin(&operator, &house).await.call(APPLY, b"x").await.unwrap();
    assert_eq!((answer.code, answer.message.as_str()), (3, "for ada as os:admin"));
    assert!(answer.headers.contains_key("grpc-status-details-bin"));
    house.audited(&[APPLY, "INVALID_ARGUMENT"]).await;
}

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

#[tokio::test]
async fn an_upload_that_is_refused_early_is_told_why() {
    let (operator, mut house) = house().await;
    let client = admin(&operator, &house).await;
    let mut messages = vec![Bytes::from_static(b"refuse")];
    messages.extend(vec![Bytes::from(vec![7; 1 << 20]); 64]);
    let answer = client.upload(PUSH, messages).await.unwrap();
    assert_eq!((answer.code, answer.message.as_str()), (3, "not an image"));
    house.audited(&[PUSH, "INVALID_ARGUMENT"]).await;
    assert_eq!(client.call(VERSION, b"").await.unwrap().code, 0);
}

#[tokio::test]
async fn an_upload_that_breaks_off_is_heard_of_by_pid_1() {
    let (operator, mut house) = house().await;
    let client = admin(&operator, &house).await;
    let endless = client.endless(PUSH, Bytes::from(vec![7; 1 << 20]));
    let seen = house.seen.clone();
    eventually("the upload has begun", || seen.uploaded.load(Ordering::SeqCst) > 0).await;
    client.vanish();
    endless.abort();
    let seen = house.seen.clone();
    eventually("PID 1 hears of it", || seen.cancelled.load(Ordering::SeqCst) == 1).await;
    house.audited(&[PUSH, "CANCELLED"]).await;
}

#[tokio::test]
async fn an_upload_that_is_cancelled_does_not_pass_for_whole() {
    let (operator, mut house) = house().await;
    let client = admin(&operator, &house).await;
    // Two whole messages, and then RST_STREAM instead of the end.
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let upload = tokio::spawn({
        let client = client.clone();
        async move { client.send(PUSH, receiver).await.map(drop) }
    });
    for _ in 0..2 {
        sender.send(Ok(Bytes::from_static(b"\0\0\0\0\x04four"))).await.unwrap();
    }
    let seen = house.seen.clone();
    eventually("the upload has begun", || seen.uploaded.load(Ordering::SeqCst) == 8).await;
    sender.send(Err("changed my mind")).await.unwrap();
    house.audited(&[PUSH, "CANCELLED"]).await;
    eventually("PID 1 hears of it", || seen.cancelled.load(Ordering::SeqCst) == 1).await;
    upload.abort();
}

#[tokio::test]
async fn a_cancelled_call_closes_its_connection_to_pid_1() {
    let (operator, mut house) = house().await;
    let client = admin(&operator, &house).await;
    let mut response =
        client.open(STREAM, vec![Bytes::from_static(b"1 10 hang")], &[]).await.unwrap();
    assert!(response.body_mut().frame().await.unwrap().unwrap().is_data());
    drop(response);
    let seen = house.seen.clone();
    eventually("PID 1 hears of it", || seen.cancelled.load(Ordering::SeqCst) == 1).await;
    house.audited(&[STREAM, "CANCELLED"]).await;
    assert_eq!(client.call(VERSION, b"").await.unwrap().code, 0);
}

#[tokio::test]
async fn the_callers_deadline_holds() {
    let (operator, mut house) = house().await;
    let client = admin(&operator, &house).await;
    let mut response = client
        .open(STREAM, vec![Bytes::from_static(b"0 0 hang")], &[("grpc-timeout", "50m")])
        .await
        .unwrap();
    let trailers = response.body_mut().frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "4");
    house.audited(&["DEADLINE_EXCEEDED"]).await;
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_pid_1_back() {
    let (operator, house) = house().await;
    let client = admin(&operator, &house).await;
    let response =
        client.open(STREAM, vec![Bytes::from_static(b"1000 100000")], &[]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    // 100 MB were asked for: the call is still in PID 1's hands, and another one works.
    assert_eq!(client.call(VERSION, b"").await.unwrap().code, 0);
    drop(response);
    let seen = house.seen.clone();
    eventually("PID 1 was still sending", || seen.cancelled.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn a_new_identity_changes_the_certificate() {
    let (operator, mut house) = house().await;
    let report = house.reports.recv().await.unwrap();
    assert_eq!(report.names, ["n1", "127.0.0.1"]);
    let old = admin(&operator, &house).await;
    assert_eq!(apid::certificate::fingerprint(&old.chain[0]), report.fingerprint);
    assert_eq!(old.chain.len(), 2);

    write_identity(&house.identity(), &operator.json(&["127.0.0.1", "10.1.2.3"]));
    house.control.reload.notify_one();
    let next = house.reports.recv().await.unwrap();
    assert_eq!(next.names, ["n1", "127.0.0.1", "10.1.2.3"]);
    let new = admin(&operator, &house).await;
    assert_eq!(apid::certificate::fingerprint(&new.chain[0]), next.fingerprint);
    assert_eq!(old.call(VERSION, b"").await.unwrap().code, 0, "older connections go on");

    // A broken file changes nothing.
    write_identity(&house.identity(), "{");
    house.control.reload.notify_one();
    assert_good(&operator, &house).await;

    // Another CA ends what the old one has opened.
    let other = Operator::new();
    write_identity(&house.identity(), &other.json(&[]));
    house.control.reload.notify_one();
    house.reports.recv().await.unwrap();
    assert_good(&other, &house).await;
    let mut refused = false;
    for _ in 0..100 {
        refused |= new.call(VERSION, b"").await.is_err();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(refused, "the old connection is closed");
    assert!(
        Client::connect(house.address, Some(&operator.client("os:admin")))
            .await
            .unwrap()
            .call(VERSION, b"")
            .await
            .is_err()
    );
}

#[tokio::test]
async fn maintenance_takes_a_configuration_from_anyone() {
    let mut house = House::new(r#"{"mode":"maintenance","hostname":"stele","addresses":[]}"#).await;
    let report = house.reports.recv().await.unwrap();
    let client = Client::connect(house.address, None).await.unwrap();
    assert_eq!(apid::certificate::fingerprint(&client.chain[0]), report.fingerprint);
    let answer = client.call(APPLY, b"x").await.unwrap();
    assert_eq!((answer.code, answer.message.as_str()), (3, "for maintenance as os:admin"));
    let answer = client.call(VERSION, b"").await.unwrap();
    assert_eq!(answer.code, 7);
    house.audited(&[VERSION, "maintenance", "PERMISSION_DENIED"]).await;
    // New addresses leave the fingerprint as it is on the console.
    write_identity(
        &house.identity(),
        r#"{"mode":"maintenance","hostname":"stele","addresses":["10.0.0.9"]}"#,
    );
    house.control.reload.notify_one();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let again = Client::connect(house.address, None).await.unwrap();
    assert_eq!(again.chain, client.chain);
    // A configuration ends maintenance.
    let operator = Operator::new();
    write_identity(&house.identity(), &operator.json(&[]));
    house.control.reload.notify_one();
    house.reports.recv().await.unwrap();
    assert_good(&operator, &house).await;
}

#[tokio::test]
async fn health_and_reflection_answer() {
    use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
    let (operator, mut house) = house().await;
    let reader = Client::connect(house.address, Some(&operator.client("os:reader"))).await.unwrap();
    let check = Method::HealthCheck.path();
    for (service, code) in [("", 0), ("stele.v1.LogService", 0), ("nothing", 5)] {
        let answer = reader
            .call(check, &HealthCheckRequest { service: service.into() }.encode_to_vec())
            .await
            .unwrap();
        assert_eq!(answer.code, code, "{service}");
        if code == 0 {
            assert_eq!(HealthCheckResponse::decode(answer.messages[0].clone()).unwrap().status, 1);
        }
    }
    house.audited(&[check, "\"OK\""]).await;
    house.audited(&[check, "NOT_FOUND"]).await;

    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, ServerReflectionResponse,
        server_reflection_request::MessageRequest,
    };
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answer = reader.call(Method::Reflection.path(), &request.encode_to_vec()).await.unwrap();
    let text =
        format!("{:?}", ServerReflectionResponse::decode(answer.messages[0].clone()).unwrap());
    for name in ["stele.v1.MachineService", "stele.v1.LogService", "grpc.health.v1.Health"] {
        assert!(text.contains(name), "{text}");
    }
    assert!(!text.contains("internal"), "{text}");
    let nobody = Client::connect(house.address, Some(&operator.client(""))).await.unwrap();
    assert_eq!(nobody.call(check, b"").await.unwrap().code, 7);
}

#[tokio::test]
async fn without_pid_1_calls_fail_and_say_so() {
    let (operator, mut house) = house().await;
    house.reports.recv().await.unwrap();
    std::fs::remove_file(house.init()).unwrap();
    let client = admin(&operator, &house).await;
    // The one idle connection is still good; a second call at the same time is not.
    let response = client.open(STREAM, vec![Bytes::from_static(b"1 1 hang")], &[]).await.unwrap();
    let answer = client.call(VERSION, b"").await.unwrap();
    assert_eq!(answer.code, 14);
    assert!(answer.message.starts_with("Connecting to PID 1"), "{}", answer.message);
    let answer = client.call(Method::HealthCheck.path(), b"").await.unwrap();
    assert_eq!(
        tonic_health::pb::HealthCheckResponse::decode(answer.messages[0].clone()).unwrap().status,
        2
    );
    drop(response);
}

#[tokio::test]
async fn it_ends_in_order() {
    let (operator, mut house) = house().await;
    let client = admin(&operator, &house).await;
    assert_eq!(client.call(VERSION, b"").await.unwrap().code, 0);
    let _response = client.open(STREAM, vec![Bytes::from_static(b"1 1 hang")], &[]).await.unwrap();
    house.control.stop.notify_one();
    tokio::time::timeout(Duration::from_secs(4), &mut house.apid)
        .await
        .expect("it ends in time")
        .unwrap();
    house.audited(&[VERSION]).await;
    assert!(TcpStream::connect(house.address).await.is_err());
}
