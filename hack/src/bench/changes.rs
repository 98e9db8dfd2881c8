// SPDX-License-Identifier: Apache-2.0
//! How long a change takes: one that is applied, until the machine is what it says; of an address, until it can be reached; and one
//! of a resource, until it has arrived at who watches.

use super::{
    Figure,
    guest::{Guest, scratch},
    median, reach,
};
use crate::{
    api,
    machine::{Machine, free_port},
    node::{BOOT, Node},
};
use anyhow::{Context as _, Result};
use serde_json::json;
use std::{
    fs,
    time::{Duration, Instant},
};
use stele_proto::v1::{
    ApplyRequest, Change, ListRequest, VersionRequest, WatchRequest,
    config_service_client::ConfigServiceClient, machine_service_client::MachineServiceClient,
    resource_service_client::ResourceServiceClient,
};
use tokio::time::timeout;
use tonic::transport::Channel;

/// Changes for each of the runs that are asked for.
const TIMES: usize = 8;
/// PID 1 looks no more often at what has no events of its own, and other things change it too.
const PAUSE: Duration = Duration::from_millis(250);
/// Between two configurations: the agent that reads the next one is started a second after the one before.
const REST: Duration = Duration::from_secs(2);
/// A change that takes longer was none.
const PATIENCE: Duration = Duration::from_millis(400);

pub(super) fn measure(guest: &Guest, runs: usize) -> Result<Vec<Figure>> {
    let scratch = scratch()?;
    let machine = Machine::installed(&guest.image, scratch.path(), 4)?;
    let node = Node::start_configured(&guest.operator, "bench-changes", machine, scratch)?;
    node.wait_until_it_answers()?;
    let credentials = node.credentials()?;
    let documents = fs::read_to_string(&node.files.machine)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let tls = api::tls(&credentials.ca, Some(&credentials))?;
        let channel = api::connect(&node.target()?, tls, BOOT).await?;
        let mut figures = applied(&channel, &documents, runs * TIMES).await?;
        figures.push(reachable(&node, &channel, &documents, runs).await?);
        figures.push(watched(&channel, runs * TIMES).await?);
        Ok(figures)
    })
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

/// One round trip that changes nothing.
async fn round_trip(channel: &Channel) -> Result<f64> {
    let started = Instant::now();
    MachineServiceClient::new(channel.clone()).version(VersionRequest {}).await?;
    Ok(milliseconds(started))
}

/// The same of a machine that has rested, for that takes longer for anything; it rests before what is measured against it as well.
async fn rested_trip(channel: &Channel) -> Result<f64> {
    tokio::time::sleep(REST).await;
    let trip = round_trip(channel).await?;
    tokio::time::sleep(REST).await;
    Ok(trip)
}

async fn applied(channel: &Channel, documents: &str, times: usize) -> Result<Vec<Figure>> {
    let mut config = ConfigServiceClient::new(channel.clone());
    let (mut trips, mut dry, mut live) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..=times {
        let sysctl = "apiVersion: stele/v1\nkind: Sysctl\nname: vm.swappiness";
        let documents = format!("{documents}---\n{sysctl}\nvalue: {}\n", 10 + number % 50);
        let request = ApplyRequest { documents: documents.into(), ..ApplyRequest::default() };
        trips.push(rested_trip(channel).await?);
        let started = Instant::now();
        config.apply(ApplyRequest { dry_run: true, ..request.clone() }).await?;
        dry.push(milliseconds(started));
        tokio::time::sleep(REST).await;
        let started = Instant::now();
        config.apply(request).await.context("Applying")?;
        live.push(milliseconds(started));
    }
    // The first one brings the document; the others change a key.
    for measured in [&mut trips, &mut dry, &mut live] {
        measured.remove(0);
    }
    let figure = |name: &str, floor: Vec<f64>| {
        let met = |ours: f64, floor: f64| ours <= 3.0 * floor;
        Figure::new(name, "ms", (live.clone(), floor), "≤ 3 ×", met)
    };
    Ok(vec![
        figure("one key applied, in force; against Version", trips),
        figure("one key applied, in force; against a dry run", dry),
    ])
}

/// Another address for a link: from the call that brings it to the kernel's answer at it.
async fn reachable(
    node: &Node,
    channel: &Channel,
    documents: &str,
    times: usize,
) -> Result<Figure> {
    let (mut trips, mut there) = (Vec::new(), Vec::new());
    for number in 0..=times {
        let address = format!("10.0.2.{}", 60 + number % 50);
        let port = free_port()?;
        let forward = format!("hostfwd_add net0 tcp:127.0.0.1:{port}-{address}:{}", reach::CLOSED);
        node.vm.qmp("human-monitor-command", json!({ "command-line": forward }))?;
        let link = "apiVersion: stele/v2\nkind: Link\nname: eth0\ndhcp4: {}";
        let documents = format!("{documents}---\n{link}\naddresses: [{address}/24]\n");
        let request = ApplyRequest { documents: documents.into(), ..ApplyRequest::default() };
        trips.push(rested_trip(channel).await?);
        let started = Instant::now();
        let mut config = ConfigServiceClient::new(channel.clone());
        let arrived = async {
            reach::first(reach::AT_ADDRESS, || reach::address(port)).await?;
            anyhow::Ok(milliseconds(started))
        };
        let (arrived, applied) = tokio::join!(arrived, config.apply(request));
        applied.context("Applying")?;
        there.push(arrived?);
    }
    // The first one brings the document; the others change the address.
    trips.remove(0);
    there.remove(0);
    let name = "one address changed, reachable; against Version";
    Ok(Figure::new(name, "ms", (there, trips), "no goal", |_, _| true))
}

/// A call makes PID 1 look at the machine's memory, which has changed, and somebody watches it. From the call to the arrival is
/// half a round trip more than from the change to the arrival.
async fn watched(channel: &Channel, times: usize) -> Result<Figure> {
    let mut resources = ResourceServiceClient::new(channel.clone());
    let request = || (String::from("memory"), String::new());
    let (kind, name) = request();
    let mut changes = resources.watch(WatchRequest { kind, name }).await?.into_inner();
    while changes.message().await?.context("The watch has ended")?.change() != Change::Synced {}
    let (mut trips, mut arrivals) = (Vec::new(), Vec::new());
    for _ in 0..times {
        trips.push(round_trip(channel).await?);
        // What came by itself is not what is waited for.
        while timeout(PAUSE, changes.message()).await.is_ok() {}
        let (kind, name) = request();
        let started = Instant::now();
        let mut asking = resources.clone();
        let asked = asking.list(ListRequest { kind, name });
        let arrived = async {
            timeout(PATIENCE, changes.message()).await.is_ok().then(|| milliseconds(started))
        };
        let (arrived, listed) = tokio::join!(arrived, asked);
        listed?;
        arrivals.extend(arrived);
    }
    let half = median(trips.clone()) / 2.0;
    let latencies = arrivals.iter().map(|arrival| arrival - half).collect();
    Ok(Figure::new(
        "change to arrival at a watch; against Version",
        "ms",
        (latencies, trips),
        "< 5 ms",
        |ours, _| ours < 5.0,
    ))
}
