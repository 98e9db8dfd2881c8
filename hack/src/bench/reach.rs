// SPDX-License-Identifier: Apache-2.0
//! When something can be reached: the kernel of a machine at an address, or its API.

use crate::{
    api::{self, Target},
    node::BOOT,
};
use anyhow::{Result, bail};
use rustls::ClientConfig;
use std::{sync::Arc, time::Duration};
use stele_proto::v1::{VersionRequest, machine_service_client::MachineServiceClient};
use tokio::{io::AsyncReadExt as _, net::TcpStream, task::JoinSet, time};

/// A port of the guest where nobody listens.
pub(super) const CLOSED: u16 = 9;

/// How many attempts are under way at a time: those at an address that is not there yet wait in vain, those at an API that has
/// only just come up would keep it from answering any.
pub(super) const AT_ADDRESS: usize = 100;
pub(super) const AT_API: usize = 2;

/// Between two attempts, and for one.
const EVERY: Duration = Duration::from_millis(10);
const ATTEMPT: Duration = Duration::from_secs(1);

/// Returns when an attempt has succeeded.
///
/// A connection that was made before the guest has its address is lost until TCP sends again, seconds later. So a new
/// attempt begins every few milliseconds, whatever has become of the ones before, as long as there are not too many of them.
pub(super) async fn first<F>(most: usize, attempt: impl Fn() -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut attempts = JoinSet::new();
    let mut tick = time::interval(EVERY);
    let deadline = time::Instant::now() + BOOT;
    while time::Instant::now() < deadline {
        tokio::select! {
            _ = tick.tick() => {
                if attempts.len() < most {
                    attempts.spawn(time::timeout(ATTEMPT, attempt()));
                }
            }
            Some(Ok(Ok(Ok(())))) = attempts.join_next() => return Ok(()),
        }
    }
    bail!("No answer within {BOOT:?}")
}

/// Asks the API for its version.
pub(super) async fn api(target: Target, tls: Arc<ClientConfig>) -> Result<()> {
    let channel = api::connect(&target, tls, ATTEMPT).await?;
    MachineServiceClient::new(channel).version(VersionRequest {}).await?;
    Ok(())
}

/// Connects to a port of this host that leads to [`CLOSED`] in the guest. Its kernel refuses the connection as soon as it has the
/// address, which ends the one that was made here.
pub(super) async fn address(port: u16) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    // Either is the end.
    let _ended = stream.read(&mut [0]).await;
    Ok(())
}
