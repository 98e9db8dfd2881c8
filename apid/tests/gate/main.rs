// SPDX-License-Identifier: Apache-2.0
//! apid from outside, with real TLS, before a small PID 1.

mod access;
mod calls;
mod figures;
mod life;
mod strangers;
mod support;
mod uploads;

use stele_proto::method::Method;
use support::{Client, House, Operator};

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
