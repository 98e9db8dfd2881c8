// SPDX-License-Identifier: Apache-2.0
//! Uploads that end before their end.

use crate::{PUSH, VERSION, admin, house, support::eventually};
use bytes::Bytes;
use std::sync::atomic::Ordering;

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
