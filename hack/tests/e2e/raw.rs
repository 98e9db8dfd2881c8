// SPDX-License-Identifier: Apache-2.0
//! Calls that `ctl` would never make.

use crate::world::Kept;
use anyhow::{Context as _, Result};
use hack::api::{self, Credentials};
use std::{fs, future::Future, path::Path, time::Duration};
use stele_proto::v1::{
    ApplyRequest, ApplyResponse, PushHeader, PushRequest, VersionRequest,
    config_service_client::ConfigServiceClient, machine_service_client::MachineServiceClient,
    push_request::Part, upgrade_service_client::UpgradeServiceClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, transport::Channel};

/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a call to its end.
pub(crate) fn block_on<T>(body: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime
        .block_on(async { tokio::time::timeout(PATIENCE, body).await })
        .context("The call does not end")
}

/// A channel to a node, with this client certificate or with none.
pub(crate) async fn channel(node: &Kept, client: Option<&Credentials>) -> Result<Channel> {
    let ca = node.credentials()?.ca;
    api::connect(&node.target()?, api::tls(&ca, client)?, PATIENCE).await
}

/// Asks for the version; a refusal, wherever it comes from, is an error.
pub(crate) async fn version(node: &Kept, client: Option<&Credentials>) -> Result<String> {
    let mut machine = MachineServiceClient::new(channel(node, client).await?);
    Ok(machine.version(VersionRequest {}).await?.into_inner().version)
}

/// Hands over a configuration, whatever it is.
pub(crate) fn apply(node: &Kept, documents: Vec<u8>) -> Result<Result<ApplyResponse, Status>> {
    let credentials = node.credentials()?;
    block_on(async {
        let mut config = ConfigServiceClient::new(channel(node, Some(&credentials)).await?);
        let request = ApplyRequest { documents, ..ApplyRequest::default() };
        Ok(config.apply(request).await.map(tonic::Response::into_inner))
    })?
}

/// Sends the header, and half of what is still missing, and goes away. Returns where the node wanted it to begin.
pub(crate) fn push_half(node: &Kept, path: &Path, image: &[u8]) -> Result<u64> {
    let credentials = node.credentials()?;
    let signature = fs::read_to_string(image::keys::beside(path))?;
    let signature = stele_signature::read(&signature)?;
    let sha256 = image::tree::digest(image).to_vec();
    block_on(async {
        let channel = channel(node, Some(&credentials)).await?;
        let (sender, receiver) = mpsc::channel(4);
        let header = PushHeader { size: image.len() as u64, sha256, signature };
        sender.send(PushRequest { part: Some(Part::Header(header)) }).await?;
        let mut upgrade = UpgradeServiceClient::new(channel);
        let mut progress = upgrade.push(ReceiverStream::new(receiver)).await?.into_inner();
        let first = progress.message().await?.context("There was no progress")?;
        let begun = first.done;
        let from = usize::try_from(begun)?;
        let half = from + (image.len() - from) / 2;
        for chunk in image.get(from..half).unwrap_or_default().chunks(1 << 20) {
            sender.send(PushRequest { part: Some(Part::Chunk(chunk.to_vec().into())) }).await?;
        }
        // What is on its way shall arrive.
        tokio::time::sleep(Duration::from_secs(1)).await;
        anyhow::Ok(begun)
    })?
}
