// SPDX-License-Identifier: Apache-2.0
//! Roles of the operator's own, and revoked certificates, also for who is connected already.

use crate::{
    STREAM, VERSION, admin, house,
    support::{Client, House, Operator, eventually, write_identity},
};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use std::{sync::atomic::Ordering, time::Duration};

const HANG: Bytes = Bytes::from_static(b"1 10 hang");

fn say(operator: &Operator, house: &House, access: &Value) {
    write_identity(&house.identity(), &operator.json_with(&["127.0.0.1"], access));
    house.control.reload.notify_one();
}

/// Waits until a call on this connection is refused with this code, or not refused any more.
async fn until(client: &Client, path: &str, code: i32) -> String {
    let wait = async {
        loop {
            let answer = client.call(path, b"1 1").await.unwrap();
            if answer.code == code {
                return answer.message;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), wait).await.expect("it comes to that")
}

#[tokio::test]
async fn a_role_of_the_operators_own_opens_its_methods_on_open_connections_too() {
    let (operator, mut house) = house().await;
    let report = house.reports.recv().await.unwrap();
    let auditor = Client::connect(house.address, Some(&operator.client("auditor"))).await.unwrap();
    let answer = auditor.call(STREAM, b"1 1").await.unwrap();
    assert_eq!(answer.code, 7);
    assert!(answer.message.contains("has auditor"), "{}", answer.message);
    house.audited(&[STREAM, "\"auditor\"", "PERMISSION_DENIED"]).await;

    say(&operator, &house, &json!({"roles": {"auditor": [STREAM]}}));
    until(&auditor, STREAM, 0).await;
    let again = house.reports.recv().await.unwrap();
    assert_eq!(again, report, "PID 1 is told each time that what it says is in force");
    assert_eq!((again.generation, again.failed.as_str()), (7, ""));
    assert_eq!(auditor.call(VERSION, b"").await.unwrap().code, 7, "nothing else");

    write_identity(&house.identity(), "{}");
    house.control.reload.notify_one();
    let failed = house.reports.recv().await.unwrap().failed;
    assert!(failed.contains("identity.json: missing field"), "{failed}");
    let again = Client::connect(house.address, Some(&operator.client("auditor"))).await.unwrap();
    let fingerprint = apid::certificate::fingerprint(&again.chain[0]);
    assert_eq!(fingerprint, report.fingerprint, "no new certificate for that");
}

#[tokio::test]
async fn a_role_that_is_taken_away_ends_the_calls_that_it_opened() {
    let (operator, house) = house().await;
    say(&operator, &house, &json!({"roles": {"auditor": [STREAM]}}));
    let auditor = Client::connect(house.address, Some(&operator.client("auditor"))).await.unwrap();
    until(&auditor, STREAM, 0).await;
    let mut followed = auditor.open(STREAM, vec![HANG], &[]).await.unwrap();
    assert!(followed.body_mut().frame().await.unwrap().unwrap().is_data());
    let admin = admin(&operator, &house).await;
    let mut other = admin.open(STREAM, vec![HANG], &[]).await.unwrap();
    assert!(other.body_mut().frame().await.unwrap().unwrap().is_data());

    say(&operator, &house, &json!({"roles": {}}));
    let seen = house.seen.clone();
    eventually("PID 1 hears of the end", || seen.cancelled.load(Ordering::SeqCst) == 1).await;
    assert!(followed.body_mut().frame().await.is_none_or(|frame| frame.is_err()));
    assert_eq!(admin.call(VERSION, b"").await.unwrap().code, 0, "others notice nothing");
    assert_eq!(seen.cancelled.load(Ordering::SeqCst), 1);
    drop(other);
}

#[tokio::test]
async fn a_revoked_certificate_opens_nothing_any_more() {
    let (operator, mut house) = house().await;
    let identity = operator.client("os:admin");
    let lost = Client::connect(house.address, Some(&identity)).await.unwrap();
    assert_eq!(lost.call(VERSION, b"").await.unwrap().code, 0);
    let line = house.audited(&[VERSION]).await;
    let serial = line["serial"].as_str().unwrap().trim_start_matches('0').to_owned();
    let mut followed = lost.open(STREAM, vec![HANG], &[]).await.unwrap();
    assert!(followed.body_mut().frame().await.unwrap().unwrap().is_data());

    say(&operator, &house, &json!({"revoked": [serial]}));
    let seen = house.seen.clone();
    eventually("PID 1 hears of the end", || seen.cancelled.load(Ordering::SeqCst) == 1).await;
    let again = Client::connect(house.address, Some(&identity)).await.unwrap();
    let message = until(&again, VERSION, 16).await;
    assert!(message.contains("revoked"), "{message}");
    house.audited(&[VERSION, &serial, "UNAUTHENTICATED"]).await;
    assert_eq!(admin(&operator, &house).await.call(VERSION, b"").await.unwrap().code, 0);

    say(&operator, &house, &json!({}));
    until(&again, VERSION, 0).await;
}
