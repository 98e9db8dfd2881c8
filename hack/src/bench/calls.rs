// SPDX-License-Identifier: Apache-2.0
//! Calls and log bytes a second, against a bare server in the same guest.

use super::{
    Figure,
    guest::{ECHO_PORT, Guest, LINES},
};
use crate::{
    api::{self, Credentials, Target},
    machine::{Forward, free_port},
    node::BOOT,
};
use anyhow::{Context as _, Result, ensure};
use prost::Message as _;
use std::time::{Duration, Instant};
use stele_proto::v1::{
    LogRequest, VersionRequest, log_service_client::LogServiceClient,
    machine_service_client::MachineServiceClient,
};
use tokio::{task::JoinSet, time::timeout};
use tonic::transport::Channel;

/// How long calls are counted.
const WINDOW: Duration = Duration::from_secs(4);
/// How often the log is read for one measurement.
const READS: u32 = 10;

pub(super) fn measure(guest: &Guest, runs: usize) -> Result<Vec<Figure>> {
    let port = free_port()?;
    let node = guest.live(&guest.with_echo, "bench-echo", |machine| {
        machine
            .networks
            .iter_mut()
            .take(1)
            .for_each(|forwards| forwards.push(Forward { host: port, guest: ECHO_PORT }));
    })?;
    let ours = node.target()?;
    let bare = Target { address: format!("127.0.0.1:{port}"), name: ours.name.clone() };
    let credentials = node.credentials()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut figures = Vec::new();
        for connections in [1, 64] {
            let (mut of_ours, mut of_bare) = (Vec::new(), Vec::new());
            for _ in 0..runs {
                of_bare.push(
                    calls(&bare, &credentials, connections)
                        .await
                        .context("Calling the bare server")?,
                );
                of_ours.push(
                    calls(&ours, &credentials, connections).await.context("Calling the API")?,
                );
            }
            let name = format!(
                "API, Version over {connections} connection{}",
                if connections == 1 { "" } else { "s" }
            );
            figures.push(Figure::new(
                name,
                "calls/s",
                (of_ours, of_bare),
                "≥ 0.7 ×",
                |ours, floor| ours >= 0.7 * floor,
            ));
        }
        let (mut of_ours, mut of_bare) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            of_bare
                .push(logs(&bare, &credentials).await.context("Reading lines of the bare server")?);
            of_ours.push(logs(&ours, &credentials).await.context("Reading a log")?);
        }
        let measured = (of_ours, of_bare);
        figures.push(Figure::new(
            "logs, followed",
            "MiB/s",
            measured,
            "≥ 0.7 ×",
            |ours, floor| ours >= 0.7 * floor,
        ));
        Ok(figures)
    })
}

async fn connect(target: &Target, credentials: &Credentials) -> Result<Channel> {
    api::connect(target, api::tls(&credentials.ca, Some(credentials))?, BOOT).await
}

/// Calls a second, one at a time on each of so many connections.
async fn calls(target: &Target, credentials: &Credentials, connections: usize) -> Result<f64> {
    let mut clients = Vec::new();
    for _ in 0..connections {
        let mut client = MachineServiceClient::new(connect(target, credentials).await?);
        client.version(VersionRequest {}).await?;
        clients.push(client);
    }
    let started = Instant::now();
    let mut counts = JoinSet::new();
    for mut client in clients {
        counts.spawn(async move {
            let mut count = 0_u32;
            while started.elapsed() < WINDOW {
                client.version(VersionRequest {}).await?;
                count += 1;
            }
            anyhow::Ok(count)
        });
    }
    let mut total = 0;
    while let Some(count) = counts.join_next().await {
        total += count??;
    }
    Ok(f64::from(total) / started.elapsed().as_secs_f64())
}

/// MiB of log a second: the same lines are read again and again, each time as a log that is followed.
async fn logs(target: &Target, credentials: &Credentials) -> Result<f64> {
    let mut client = LogServiceClient::new(connect(target, credentials).await?)
        .max_decoding_message_size(8 << 20);
    let started = Instant::now();
    let mut bytes = 0;
    for _ in 0..READS {
        let request =
            LogRequest { name: "flood".into(), follow: true, tail: LINES, ..Default::default() };
        let mut stream = client.stream(request).await?.into_inner();
        let mut lines = 0;
        while lines < LINES as usize {
            let chunk = timeout(BOOT, stream.message()).await??;
            let chunk = chunk.context("The log ended early")?;
            ensure!(chunk.entries.iter().all(|entry| entry.lost == 0), "lines were lost");
            bytes += chunk.encoded_len();
            lines += chunk.entries.len();
        }
    }
    Ok(bytes as f64 / 1048576.0 / started.elapsed().as_secs_f64())
}
