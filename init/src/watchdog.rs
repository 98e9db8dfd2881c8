// SPDX-License-Identifier: Apache-2.0
//! The watchdogs: what restarts the machine when PID 1 stops to work.
//!
//! The kernel's own runs on every machine: its timer panics, and a panic leaves its log behind. Where there is hardware it
//! runs too, with more time, for a kernel that does not even panic. They are fed by a task on PID 1's one thread, so a
//! PID 1 that is stuck feeds nobody; and it does not feed them while a boot is overdue: one that should be up by now, or
//! whose health gate should have ended.

use crate::{node::Node, store::Kind};
use serde::Serialize;
use std::{collections::BTreeMap, rc::Rc, time::Duration};
use stele_kernel::watchdog::{self, Watchdog};

/// How long PID 1 may be silent, where the configuration does not say.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How much longer hardware waits, so that the kernel's own can leave its log behind.
const HARDWARE_WAITS: Duration = Duration::from_secs(15);
/// How often they are fed; a quarter of the shortest timeout that can be configured.
const FEED_EVERY: Duration = Duration::from_millis(2500);
/// The kernel's own: it panics, where its default is to restart without a word.
const SOFTWARE: (&str, &str) = ("softdog", "soft_panic=1");

/// What its driver calls it.
const KERNELS_OWN: &str = "Software Watchdog";

/// What `ctl get watchdog` shows.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    state: &'a str,
    identity: &'a str,
    /// Seconds.
    timeout: u64,
    /// The longest timeout that a configuration can give it, where its driver says so, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    longest: Option<u64>,
    /// Whether it restarted the machine before this boot.
    restarted: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
}

/// A watchdog, and the timeout it has.
#[derive(Debug)]
struct Running {
    watchdog: Watchdog,
    identity: String,
    /// Whether it restarted the machine before this boot.
    restarted: bool,
    /// What was asked for.
    wanted: Duration,
    /// What it took.
    timeout: Duration,
    reason: String,
}

/// Starts every watchdog there is and feeds them for as long as the machine runs well.
pub(crate) async fn keep(node: Rc<Node>) {
    let mut running = BTreeMap::new();
    if let Some(devices) = node.devices.get() {
        devices.load(SOFTWARE.0, SOFTWARE.1).await;
    }
    let mut tick = tokio::time::interval(FEED_EVERY);
    let mut told = false;
    loop {
        tick.tick().await;
        start_new(&mut running);
        let configured = node.configuration.active();
        let configured = configured
            .as_ref()
            .and_then(|active| active.config.watchdog())
            .map(|kind| kind.timeout());
        let overdue = node.health.overdue();
        if let Some(what) = overdue.as_ref().filter(|_| !told) {
            tracing::error!("{what}; the watchdog is not fed any more");
            told = true;
        }
        for (name, one) in &mut running {
            one.set_timeout(configured.unwrap_or(TIMEOUT));
            if overdue.is_none()
                && let Err(error) = one.watchdog.feed()
            {
                tracing::warn!(watchdog.name = name, error = %error, "feeding a watchdog failed");
            }
            one.publish(&node, name, overdue.is_some());
        }
    }
}

/// Starts those that have appeared. Opening one starts it; a broken one is tried again.
fn start_new(running: &mut BTreeMap<String, Running>) {
    let names = watchdog::names().unwrap_or_else(|error| {
        tracing::warn!(error = %error, "looking for watchdogs failed");
        Vec::new()
    });
    for name in names {
        if running.contains_key(&name) {
            continue;
        }
        match Watchdog::start(&name) {
            Ok(watchdog) => {
                let (identity, restarted) = (watchdog.identity(), watchdog.has_reset());
                let (wanted, timeout, reason) = (Duration::ZERO, Duration::ZERO, String::new());
                let one = Running { watchdog, identity, restarted, wanted, timeout, reason };
                running.insert(name, one);
            }
            Err(error) => {
                tracing::debug!(watchdog.name = name, error = %error, "starting a watchdog failed");
            }
        }
    }
}

impl Running {
    /// How much longer it waits than PID 1 may be silent.
    fn extra(&self) -> Duration {
        if self.identity == KERNELS_OWN { Duration::ZERO } else { HARDWARE_WAITS }
    }

    /// How long PID 1 may be silent at most, where its driver says so.
    fn longest(&self) -> Option<Duration> {
        Some(self.watchdog.longest()?.saturating_sub(self.extra()))
    }

    fn set_timeout(&mut self, wanted: Duration) {
        let wanted = wanted.saturating_add(self.extra());
        if self.wanted == wanted {
            return;
        }
        self.wanted = wanted;
        // Hardware has a longest timeout: as far as it goes.
        let longest = self.watchdog.longest().unwrap_or(wanted);
        match self.watchdog.set_timeout(wanted.min(longest)) {
            Ok(timeout) => {
                self.timeout = timeout;
                self.reason.clear();
            }
            Err(error) => {
                self.reason = format!(
                    "it keeps its own timeout: setting {} s failed: {error}",
                    wanted.as_secs()
                );
                tracing::warn!(watchdog = self.identity, reason = self.reason, "a watchdog");
            }
        }
    }

    fn publish(&self, node: &Node, name: &str, starving: bool) {
        node.store.put(
            Kind::Watchdog,
            name,
            &Status {
                state: if starving { "starving" } else { "fed" },
                identity: &self.identity,
                timeout: self.timeout.as_secs(),
                longest: self.longest().map(|longest| longest.as_secs()),
                restarted: self.restarted,
                reason: &self.reason,
            },
        );
    }
}
