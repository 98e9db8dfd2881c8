// SPDX-License-Identifier: Apache-2.0
//! Identity, maintenance, and the end.

use crate::{
    APPLY, STREAM, VERSION, admin, assert_good, house,
    support::{Client, House, Operator, write_identity},
};
use bytes::Bytes;
use std::time::Duration;
use tokio::net::TcpStream;

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
