// SPDX-License-Identifier: Apache-2.0
//! The kernel as the configuration wants it: first its modules, then its settings, which modules may bring along.
//!
//! What fails is tried again, and settings are looked at every now and then: what something else changed is set again.

use crate::{
    configuration::Active, convergence::Part, kernel_modules::Modules, node::Node, store::Kind,
    sysctls::Settings,
};
use std::{
    rc::Rc,
    time::{Duration, Instant},
};

/// How long a setting may take to appear with its link or module, after a configuration has come into force…
const PATIENCE: Duration = Duration::from_secs(3);
/// …and how often it is tried until then.
const SOON: Duration = Duration::from_millis(200);
/// How long until what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How long until all settings are looked at again.
const LOOK: Duration = Duration::from_secs(30);

/// Keeps the kernel so for as long as the machine runs.
pub(crate) async fn keep(node: Rc<Node>) {
    let mut configuration = node.configuration.subscribe();
    let mut kernel = Kernel { node, modules: Modules::default(), settings: Settings::default() };
    let (mut new, mut since) = (true, Instant::now());
    loop {
        let active = configuration.borrow_and_update().clone();
        let patient = since.elapsed() < PATIENCE;
        let wait = match active {
            Some(active) if new => active.cause().carry(kernel.pass(&active, patient)).await,
            Some(active) => kernel.pass(&active, patient).await,
            None => LOOK,
        };
        tokio::select! {
            changed = configuration.changed() => {
                if changed.is_err() {
                    return;
                }
                (new, since) = (true, Instant::now());
            }
            () = tokio::time::sleep(wait) => new = false,
        }
    }
}

/// What of the kernel is held.
#[derive(Debug)]
struct Kernel {
    node: Rc<Node>,
    modules: Modules,
    settings: Settings,
}

impl Kernel {
    /// Makes it what the configuration says; returns when to look again. With patience, a setting may still be missing.
    async fn pass(&mut self, active: &Active, patient: bool) -> Duration {
        let Active { config, stored, .. } = active;
        let Kernel { node, modules, settings } = self;
        let mut outcome = Ok(());
        if let Some(devices) = node.devices.get() {
            let statuses = modules.pass(devices, config.kernel_modules()).await;
            outcome = failure("KernelModule", statuses.iter().map(|(name, s)| (name, s.failure())));
            node.store.replace(Kind::KernelModule, &statuses);
        }
        let wait = if outcome.is_ok() { LOOK } else { RETRY };
        node.convergence.report(Part::KernelModules, stored.number, outcome);
        let (mut kept, documents) = (std::mem::take(settings), config.sysctls().to_vec());
        let work = tokio::task::spawn_blocking(move || {
            let statuses = kept.pass(&documents);
            (kept, statuses)
        });
        // It fails only by panicking, which ends the machine.
        let Ok((kept, statuses)) = work.await else { return wait };
        *settings = kept;
        let outcome = failure("Sysctl", statuses.iter().map(|(name, s)| (name, s.failure())));
        let missing = statuses.values().any(|status| status.missing);
        node.store.replace(Kind::Sysctl, &statuses);
        if missing && patient {
            return SOON;
        }
        let wait = if outcome.is_ok() { wait } else { RETRY };
        node.convergence.report(Part::Sysctls, stored.number, outcome);
        wait
    }
}

/// The first document that is not in force, and why.
fn failure<'a>(
    kind: &str,
    mut statuses: impl Iterator<Item = (&'a String, Option<&'a str>)>,
) -> Result<(), String> {
    let failed = statuses.find_map(|(name, failure)| Some(format!("{kind} {name}: {}", failure?)));
    failed.map_or(Ok(()), Err)
}
