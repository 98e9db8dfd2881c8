// SPDX-License-Identifier: Apache-2.0
//! Faults on request, for images that are made to fail: `stele.fault=panic` on the kernel command line. A release has none
//! of this: it is built without the feature `faults`.

use crate::{node::Node, store::Kind};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{rc::Rc, time::Duration};
use stele_kernel::clock;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// PID 1 panics.
    Panic,
    /// PID 1 ends.
    Exit,
    /// PID 1 hangs before there is an API.
    Hang,
    /// PID 1 hangs once the API is up.
    Stuck,
    /// No configuration can be read.
    Configuration,
    /// A resource changes a thousand times a second.
    Churn,
    /// Each service but the API's is killed once.
    Kills,
}

/// Whether this fault was asked for.
#[cfg(not(feature = "faults"))]
pub(crate) const fn is(_fault: Fault) -> bool {
    false
}

/// Whether this fault was asked for.
#[cfg(feature = "faults")]
pub(crate) fn is(fault: Fault) -> bool {
    let wanted = match fault {
        Fault::Panic => "stele.fault=panic",
        Fault::Exit => "stele.fault=exit",
        Fault::Hang => "stele.fault=hang",
        Fault::Stuck => "stele.fault=stuck",
        Fault::Configuration => "stele.fault=configuration",
        Fault::Churn => "stele.fault=churn",
        Fault::Kills => "stele.fault=kills",
    };
    std::fs::read_to_string("/proc/cmdline")
        .is_ok_and(|line| line.split_whitespace().any(|word| word == wanted))
}

/// Commits this fault, if it was asked for.
pub(crate) fn commit(fault: Fault) {
    if !is(fault) {
        return;
    }
    match fault {
        #[expect(clippy::panic, reason = "it was asked for")]
        Fault::Panic => panic!("a fault was asked for"),
        Fault::Exit => std::process::exit(0),
        Fault::Hang | Fault::Stuck => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        Fault::Configuration | Fault::Churn | Fault::Kills => {}
    }
}

/// Kills each service but the API's that was never started again, when it has run for a while, if that was asked for.
pub(crate) async fn kill_services(node: Rc<Node>) {
    const AGE: f64 = 3.0;
    if !is(Fault::Kills) {
        return;
    }
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = clock::since_boot().unwrap_or_default().as_secs_f64();
        let names = node.store.names(Kind::Service);
        for name in names.into_iter().filter(|name| name != "apid") {
            let Some(status) = node.store.status(Kind::Service, &name) else { continue };
            let old = status.get("since").and_then(Value::as_f64).is_some_and(|it| now - it > AGE);
            let whole = status.get("restarts").and_then(Value::as_u64) == Some(0);
            let pid = status.get("pid").and_then(Value::as_i64).filter(|_| old && whole);
            let pid = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
            if let Some(pid) = pid {
                let _gone = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// Changes the source `churn` a thousand times a second, if that was asked for.
pub(crate) async fn churn(node: Rc<Node>) {
    if !is(Fault::Churn) {
        return;
    }
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    let mut number: u64 = 0;
    loop {
        tick.tick().await;
        node.turns.wait().await;
        number = number.saturating_add(1);
        let status = serde_json::json!({"state": "found", "number": number});
        node.store.put(Kind::Source, "churn", &status);
    }
}
