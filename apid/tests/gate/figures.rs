// SPDX-License-Identifier: Apache-2.0
//! The machine's figures, over the port of the API.

use crate::{
    house,
    support::{Client, House, write_identity},
};
use serde_json::json;

const METRICS: &str = "/metrics";

#[tokio::test]
async fn readers_get_them_and_others_are_told_why_not() {
    let (operator, mut house) = house().await;
    let reader = Client::connect(house.address, Some(&operator.client("os:reader"))).await.unwrap();
    let (status, form, text) = reader.get(METRICS, "*/*").await;
    assert_eq!((status, text.as_str()), (200, "open_metrics false\n"));
    assert_eq!(form, "text/plain; version=0.0.4; charset=utf-8");
    let line = house.audited(&[METRICS]).await;
    assert_eq!((&line["result"], &line["role"]), (&json!("OK"), &json!("os:reader")));
    let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2";
    let (status, form, text) = reader.get(METRICS, accept).await;
    assert_eq!((status, text.as_str()), (200, "open_metrics true\n"));
    assert!(form.starts_with("application/openmetrics-text; version=1.0.0"), "{form}");
    assert_eq!(reader.call(METRICS, b"").await.unwrap().code, 12, "it is no gRPC");

    let nobody = Client::connect(house.address, Some(&operator.client("scraper"))).await.unwrap();
    let (status, _, text) = nobody.get(METRICS, "*/*").await;
    assert_eq!(status, 403, "{text}");
    assert!(text.contains("os:reader") && text.contains("scraper"), "{text}");
    house.audited(&[METRICS, "scraper", "PERMISSION_DENIED"]).await;
    let access = json!({"roles": {"scraper": [METRICS]}});
    write_identity(&house.identity(), &operator.json_with(&[], &access));
    house.control.reload.notify_one();
    while nobody.get(METRICS, "*/*").await.0 != 200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn without_pid_1_there_are_none() {
    let (operator, mut house) = house().await;
    house.reports.recv().await.unwrap();
    let reader = Client::connect(house.address, Some(&operator.client("os:reader"))).await.unwrap();
    assert_eq!(reader.get(METRICS, "*/*").await.0, 200);
    std::fs::remove_file(house.init()).unwrap();
    // The connection that the first call has left is in use.
    let _busy = reader.open(crate::STREAM, vec![bytes::Bytes::from_static(b"1 1 hang")], &[]).await;
    let (status, _, text) = reader.get(METRICS, "*/*").await;
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("PID 1"), "{text}");
}

#[tokio::test]
async fn strangers_get_none() {
    let house = House::new(r#"{"mode":"maintenance","hostname":"stele","addresses":[]}"#).await;
    let stranger = Client::connect(house.address, None).await.unwrap();
    assert_eq!(stranger.get(METRICS, "*/*").await.0, 403);
}
