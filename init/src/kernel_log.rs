// SPDX-License-Identifier: Apache-2.0
//! The kernel's log as the log `kernel`; what PID 1 itself says, which goes the same way, as the log `init` as well.

use crate::{
    logs::{self, Logs},
    node::Node,
    readiness,
};
use std::{rc::Rc, time::Duration};
use stele_kernel::{clock, kmsg};
use tokio::io::unix::AsyncFd;

/// Follows the kernel's log for as long as the machine runs.
pub(crate) async fn follow(node: Rc<Node>) {
    let reader = match kmsg::Reader::open().and_then(readiness::watch) {
        Ok(reader) => reader,
        Err(error) => {
            tracing::error!(error = %error, "reading the kernel's log failed; it is not kept");
            return;
        }
    };
    if let Err(error) = pump(&node.logs, reader).await {
        tracing::error!(error = %error, "reading the kernel's log failed; it is not kept any more");
    }
}

async fn pump(logs: &Logs, mut reader: AsyncFd<kmsg::Reader>) -> std::io::Result<()> {
    let kernel = logs.log("kernel");
    let init = logs.log("init");
    loop {
        let mut ready = reader.readable_mut().await?;
        // A flood of records takes turns with everything else.
        let mut budget = 256_u32;
        loop {
            let Some(record) = ready.get_inner_mut().read()? else {
                ready.clear_ready();
                break;
            };
            let time = real_time(record.time_us);
            let line = record.message.as_bytes();
            logs.append_at(&kernel, time, record.severity, std::iter::once(line));
            if let Some(ours) =
                record.message.strip_prefix("stele: ").filter(|_| record.facility != 0)
            {
                logs.append_at(&init, time, record.severity, std::iter::once(ours.as_bytes()));
            }
            budget = budget.saturating_sub(1);
            if budget == 0 {
                break;
            }
        }
        tokio::task::yield_now().await;
    }
}

/// When a record was written, by the clock as it is now: records from before the clock was set come out right as well.
fn real_time(since_boot_us: u64) -> u64 {
    let uptime = clock::since_boot().unwrap_or(Duration::ZERO).as_micros();
    let age = u64::try_from(uptime).unwrap_or(u64::MAX).saturating_sub(since_boot_us);
    logs::now_us().saturating_sub(age)
}
