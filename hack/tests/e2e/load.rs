// SPDX-License-Identifier: Apache-2.0
//! Many who watch, while much changes.

use crate::{
    collectors::{FIGURES, late, with_figures},
    raw,
    world::{World, with_more},
};
use anyhow::{Context as _, Result, ensure};
use hack::{
    api::{connect, tls},
    machine::Machine,
    node::BOOT,
    suite::Checks,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use stele_proto::v1::{
    ProcessesRequest, VersionRequest, WatchRequest, diagnose_service_client::DiagnoseServiceClient,
    machine_service_client::MachineServiceClient, resource_service_client::ResourceServiceClient,
};
use tokio::{task::JoinSet, time::timeout};
use tonic::{Code, transport::Channel};

const CONNECTIONS: usize = 5;
const WATCHES: usize = 200;
/// Those of the last connection take nothing of what they are sent.
const STUCK: usize = WATCHES / CONNECTIONS;
const SECONDS: u64 = 30;
/// What PID 1 may need more for all of them.
const GROWTH: u64 = 24 << 20;

/// What clients have seen, all together.
#[derive(Debug, Default)]
struct Seen {
    changes: AtomicU64,
    told: AtomicU64,
    other: AtomicU64,
}

/// Watches, and again when it was told that it fell behind.
async fn watch(channel: Channel, reads: bool, seen: Arc<Seen>) -> Result<()> {
    let mut client = ResourceServiceClient::new(channel);
    loop {
        let request = WatchRequest { kind: "source".to_owned(), name: "churn".to_owned() };
        let mut changes = client.watch(request).await?.into_inner();
        if !reads {
            std::future::pending::<()>().await;
        }
        loop {
            match changes.message().await {
                Ok(Some(_)) => seen.changes.fetch_add(1, Relaxed),
                Ok(None) => break,
                Err(status) if status.code() == Code::ResourceExhausted => {
                    seen.told.fetch_add(1, Relaxed);
                    break;
                }
                Err(_) => {
                    seen.other.fetch_add(1, Relaxed);
                    break;
                }
            };
        }
    }
}

/// Bytes of memory that PID 1 has.
async fn look(channel: Channel) -> Result<u64> {
    let mut client = DiagnoseServiceClient::new(channel);
    let answer = client.processes(ProcessesRequest::default()).await?.into_inner();
    let init = answer.processes.iter().find(|process| process.pid == 1);
    Ok(init.context("PID 1 is not among the processes")?.memory_bytes)
}

pub(crate) fn watches(world: &World, checks: &Checks) -> Result<()> {
    let machine = Machine::live(&world.variants.churning())?.append("stele.fault=churn");
    let (node, port) = with_figures(world, "popular", machine)?;
    let metrics =
        format!("---\napiVersion: stele/v1\nkind: Metrics\naddress: \"0.0.0.0:{FIGURES}\"\n");
    let file = with_more(&node, &metrics)?;
    node.ctl.run(["apply-config", "-f", &file.to_string_lossy()])?;
    let credentials = node.credentials()?;
    let seen = Arc::new(Seen::default());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let memory =
        || runtime.block_on(async { look(raw::channel(&node, Some(&credentials)).await?).await });
    let (before, late_before) = (memory()?, late(port, "0.05")?);
    let slowest = runtime.block_on(async {
        let mut watches = JoinSet::new();
        for connection in 0..CONNECTIONS {
            let tls = tls(&credentials.ca, Some(&credentials))?;
            let channel = connect(&node.target()?, tls, BOOT).await?;
            for _ in 0..WATCHES / CONNECTIONS {
                let reads = connection + 1 < CONNECTIONS;
                watches.spawn(watch(channel.clone(), reads, Arc::clone(&seen)));
            }
        }
        // Somebody else meanwhile gets their answers.
        let mut other = MachineServiceClient::new(raw::channel(&node, Some(&credentials)).await?);
        let mut slowest = Duration::ZERO;
        let end = tokio::time::Instant::now() + Duration::from_secs(SECONDS);
        while tokio::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let asked = tokio::time::Instant::now();
            timeout(BOOT, other.version(VersionRequest {})).await??;
            slowest = slowest.max(asked.elapsed());
        }
        while let Some(ended) = watches.try_join_next() {
            ended??;
        }
        anyhow::Ok(slowest)
    })?;
    let (after, late_after) = (memory()?, late(port, "0.05")?);
    let (changes, told) = (seen.changes.load(Relaxed), seen.told.load(Relaxed));
    world.figure(format!(
        "{WATCHES} watches of 1,000 changes a second for {SECONDS} s, {STUCK} of them stuck: {changes} changes seen, {told} times told, \
         PID 1 {} KiB more, late by 50 ms {} times, slowest other call {} ms",
        after.saturating_sub(before) / 1024,
        late_after - late_before,
        slowest.as_millis()
    ));
    checks.check("all who read see changes, and nobody is cut off without a word", || {
        ensure!(changes > 1000, "{changes} changes were seen");
        ensure!(seen.other.load(Relaxed) == 0, "{seen:?}");
        Ok(())
    });
    checks.check("who does not read costs PID 1 a bounded amount of memory", || {
        let grown = after.saturating_sub(before);
        ensure!(grown < GROWTH, "{grown} bytes more than {before}");
        Ok(())
    });
    runtime.shutdown_background();
    checks.check("and when they have gone, it is as it was", || {
        node.ctl.run(["version"])?;
        ensure!(node.vm.launches() == 1);
        Ok(())
    });
    Ok(())
}
