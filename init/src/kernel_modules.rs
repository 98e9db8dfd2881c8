// SPDX-License-Identifier: Apache-2.0
//! The modules that documents of the kind KernelModule ask for: loads them, and unloads them when their document goes.

use crate::{
    devices::{Devices, Present},
    report,
};
use serde::Serialize;
use std::collections::BTreeMap;
use stele_config::{KernelModule, ModuleParameter};

/// What `ctl get kernelmodule` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Status {
    state: &'static str,
    parameters: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

impl Status {
    /// Why the document is not in force, if it is not. A module that stays for a while has none any more.
    pub(crate) fn failure(&self) -> Option<&str> {
        (self.state == "failed").then_some(self.reason.as_str())
    }
}

/// The modules that are held.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    held: BTreeMap<String, (KernelModule, Present)>,
}

impl Modules {
    /// Makes them those of the documents; returns how they are, by name. A module that is in use is tried again.
    pub(crate) async fn pass(
        &mut self,
        devices: &Devices,
        documents: &[KernelModule],
    ) -> BTreeMap<String, Status> {
        let mut statuses = BTreeMap::new();
        let held = std::mem::take(&mut self.held);
        for (name, (document, present)) in held {
            if documents.contains(&document) {
                self.held.insert(name, (document, present));
                continue;
            }
            if let Err(error) = devices.release(present.clone()).await {
                let reason = format!("it stays until the next boot: {}", report::chain(&error));
                statuses.insert(name.clone(), status("staying", &document, reason));
                self.held.insert(name, (document, present));
            }
        }
        for document in documents {
            let name = document.name().to_string();
            let state = match self.held.get(&name) {
                Some((held, _)) if held == document => status("loaded", document, String::new()),
                // It has other parameters and can't be unloaded.
                Some(_) => match statuses.remove(&name) {
                    Some(staying) => status("failed", document, staying.reason),
                    None => continue,
                },
                None => match devices.hold(document).await {
                    Ok(present) => {
                        self.held.insert(name.clone(), (document.clone(), present));
                        status("loaded", document, String::new())
                    }
                    Err(error) => status("failed", document, report::chain(&error)),
                },
            };
            statuses.insert(name, state);
        }
        statuses
    }
}

fn status(state: &'static str, document: &KernelModule, reason: String) -> Status {
    let parameters = document.parameters().iter().map(ModuleParameter::to_string).collect();
    Status { state, parameters, reason }
}
