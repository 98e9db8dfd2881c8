// SPDX-License-Identifier: Apache-2.0
//! The kernel as the configuration wants it: first its modules, then its settings, which modules may bring along.
//!
//! What fails is tried again, and settings are looked at every now and then: what something else changed is set again.

use crate::{
    configuration::Active, kernel_modules::Modules, node::Node, store::Kind, sysctls::Settings,
};
use std::{rc::Rc, time::Duration};
use stele_config::MachineConfig;

/// How long until what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How long until all settings are looked at again.
const LOOK: Duration = Duration::from_secs(30);

/// Keeps the kernel so for as long as the machine runs.
pub(crate) async fn keep(node: Rc<Node>) {
    let mut configuration = node.configuration.subscribe();
    let mut modules = Modules::default();
    let mut settings = Settings::default();
    loop {
        let active = configuration.borrow_and_update().clone();
        let config = active.as_deref().map(|Active { config, .. }| config);
        let mut wait = LOOK;
        if let Some(devices) = node.devices.get() {
            let documents = config.map(MachineConfig::kernel_modules).unwrap_or_default();
            let statuses = modules.pass(devices, documents).await;
            if statuses.values().any(|status| !status.reason.is_empty()) {
                wait = RETRY;
            }
            node.store.replace(Kind::KernelModule, &statuses);
        }
        let documents = config.map(MachineConfig::sysctls).unwrap_or_default().to_vec();
        let work = tokio::task::spawn_blocking(move || {
            let statuses = settings.pass(&documents);
            (settings, statuses)
        });
        let Ok((kept, statuses)) = work.await else { return };
        settings = kept;
        if statuses.values().any(|status| !status.reason.is_empty()) {
            wait = RETRY;
        }
        node.store.replace(Kind::Sysctl, &statuses);
        tokio::select! {
            changed = configuration.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(wait) => {}
        }
    }
}
