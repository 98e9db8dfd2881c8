// SPDX-License-Identifier: Apache-2.0
//! The end of the machine, in order:
//!
//! ```text
//! the next start's arguments ─► services: SIGTERM, each its deadline, SIGKILL ─► everyone else: SIGKILL ─► logs and seed to disk ─► unmount ─► sync ─► reboot(2)
//! ```
//!
//! Every step has a deadline; a disk that no longer answers does not keep the machine up.

use crate::{arguments, node::Node, report, state, time};
use std::{path::Path, rc::Rc, time::Duration};
use stele_kernel::{
    mount::{self, Forbid},
    power::{self, End},
    process,
};

/// For the record of why the machine ends.
const RECORD: Duration = Duration::from_secs(3);
/// For all services together; each has its own, shorter one.
const SERVICES: Duration = Duration::from_secs(15);
const FLUSH: Duration = Duration::from_secs(3);
const DISKS: Duration = Duration::from_secs(10);

/// Ends the machine.
pub(crate) async fn run(node: &Rc<Node>, how: End) {
    let reason = node.reason.borrow().clone();
    if tokio::time::timeout(RECORD, node.boots.ended(node, how, reason)).await.is_err() {
        tracing::warn!("recording why the machine ends takes too long; going on without");
    }
    if how == End::Restart {
        arguments::look_ahead(node).await;
    }
    tracing::info!(target: report::CONSOLE, "stopping services");
    if tokio::time::timeout(SERVICES, node.supervisor.stop_all()).await.is_err() {
        tracing::warn!("not every service has ended; going on without");
    }
    process::signal_all(rustix::process::Signal::KILL);
    if node.state.get().is_some_and(|state| state.persistent) {
        let record = node.clock.record();
        within(FLUSH, "saving the random seed and the time", move || {
            if let Err(error) = state::save_seed() {
                tracing::warn!(error = %error, "saving the random seed failed");
            }
            if let Some(Err(error)) = record.as_ref().map(time::write_down) {
                tracing::warn!(error = report::chain(&error), "writing the time down failed");
            }
        })
        .await;
    }
    match how {
        End::Restart => tracing::info!(target: report::CONSOLE, "unmounting and restarting"),
        End::PowerOff => tracing::info!(target: report::CONSOLE, "unmounting and powering off"),
    }
    // Lets the last words above reach the log files.
    tokio::time::sleep(Duration::from_millis(50)).await;
    node.logs.files().flush(FLUSH);
    within(DISKS, "unmounting", unmount).await;
    report::complain(&format!("the kernel refused to end: {}", power::end(how)));
}

fn unmount() {
    for target in ["/boot", "/var", "/state"] {
        let target = Path::new(target);
        if mount::unmount(target, false).is_ok() {
            continue;
        }
        // Still in use, or not mounted: read-only is as good as gone for what is on it.
        let _not_mounted = mount::remount(target, Forbid::READ_ONLY);
    }
    mount::sync();
}

/// Does something that may block, on a thread, for at most this long.
async fn within(deadline: Duration, what: &'static str, work: impl FnOnce() + Send + 'static) {
    if tokio::time::timeout(deadline, tokio::task::spawn_blocking(work)).await.is_err() {
        tracing::warn!("{what} takes too long; going on without");
    }
}
