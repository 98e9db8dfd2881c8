// SPDX-License-Identifier: Apache-2.0
//! Good calls, and what becomes of them.

use crate::{
    APPLY, PUSH, STREAM, VERSION, admin, house,
    support::{Client, eventually},
};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use prost::Message as _;
use std::{sync::atomic::Ordering, time::Duration};
use stele_proto::method::Method;

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
async fn health_lists_every_service() {
    let (operator, mut house) = house().await;
    let answer = admin(&operator, &house).await.call(Method::HealthList.path(), b"").await.unwrap();
    assert_eq!((answer.code, answer.messages.len()), (0, 1));
    let text = String::from_utf8_lossy(&answer.messages[0]).into_owned();
    assert!(text.contains("stele.v1.UpgradeService") && !text.contains("internal"), "{text}");
    house.audited(&[Method::HealthList.path(), "\"OK\""]).await;
}
