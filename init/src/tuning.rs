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
use stele_config::MachineConfig;

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
    let mut modules = Modules::default();
    let mut settings = Settings::default();
    let (mut generation, mut since) = (0, Instant::now());
    loop {
        let active = configuration.borrow_and_update().clone();
        let config = active.as_deref().map(|Active { config, .. }| config);
        let number = active.as_ref().map_or(0, |active| active.stored.number);
        if number != generation {
            (generation, since) = (number, Instant::now());
        }
        let mut outcome = Ok(());
        if let Some(devices) = node.devices.get() {
            let documents = config.map(MachineConfig::kernel_modules).unwrap_or_default();
            let statuses = modules.pass(devices, documents).await;
            outcome = failure("KernelModule", statuses.iter().map(|(name, s)| (name, s.failure())));
            node.store.replace(Kind::KernelModule, &statuses);
        }
        let mut wait = if outcome.is_ok() { LOOK } else { RETRY };
        node.convergence.report(Part::KernelModules, generation, outcome);
        let documents = config.map(MachineConfig::sysctls).unwrap_or_default().to_vec();
        let work = tokio::task::spawn_blocking(move || {
            let statuses = settings.pass(&documents);
            (settings, statuses)
        });
        let Ok((kept, statuses)) = work.await else { return };
        settings = kept;
        let outcome = failure("Sysctl", statuses.iter().map(|(name, s)| (name, s.failure())));
        let missing = statuses.values().any(|status| status.missing);
        node.store.replace(Kind::Sysctl, &statuses);
        if missing && since.elapsed() < PATIENCE {
            wait = SOON;
        } else {
            wait = if outcome.is_ok() { wait } else { RETRY };
            node.convergence.report(Part::Sysctls, generation, outcome);
        }
        tokio::select! {
            changed = configuration.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(wait) => {}
        }
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
