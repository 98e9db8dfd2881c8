// SPDX-License-Identifier: Apache-2.0
//! Calls that `ctl` would never make.

use crate::world::Kept;
use anyhow::{Context as _, Result};
use hack::api::{self, Credentials};
use std::{future::Future, time::Duration};
use stele_proto::v1::{
    ApplyRequest, ApplyResponse, VersionRequest, config_service_client::ConfigServiceClient,
    machine_service_client::MachineServiceClient,
};
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
        let request = ApplyRequest { documents, dry_run: false };
        Ok(config.apply(request).await.map(tonic::Response::into_inner))
    })?
}
