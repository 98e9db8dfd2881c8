// SPDX-License-Identifier: Apache-2.0
//! What changes of the kernel.

use super::{Change, Fate, named};
use stele_config::{KernelModule, MachineConfig, ModuleParameter, Sysctl};

pub(super) fn modules(old: Option<&MachineConfig>, new: &MachineConfig) -> Vec<Change> {
    let before = old.map(MachineConfig::kernel_modules).unwrap_or_default();
    named(before, new.kernel_modules(), KernelModule::name)
        .into_iter()
        .map(|fate| {
            let (module, what) = match fate {
                Fate::Added(module) => (module, format!("loaded{}", parameters(module))),
                Fate::Changed(module) => (
                    module,
                    format!("unloaded, if nothing uses it, and loaded{}", parameters(module)),
                ),
                Fate::Gone(module) => (
                    module,
                    "unloaded, if nothing uses it; otherwise it stays until the next boot"
                        .to_owned(),
                ),
            };
            Change::live(format!("KernelModule {}", module.name()), what)
        })
        .collect()
}

fn parameters(module: &KernelModule) -> String {
    let words: Vec<&str> = module.parameters().iter().map(ModuleParameter::as_str).collect();
    if words.is_empty() { String::new() } else { format!(" with {}", words.join(" ")) }
}

pub(super) fn sysctls(old: Option<&MachineConfig>, new: &MachineConfig) -> Vec<Change> {
    let before = old.map(MachineConfig::sysctls).unwrap_or_default();
    named(before, new.sysctls(), Sysctl::name)
        .into_iter()
        .map(|fate| {
            let (sysctl, what) = match fate {
                Fate::Added(sysctl) | Fate::Changed(sysctl) => {
                    (sysctl, format!("becomes {}", sysctl.value()))
                }
                Fate::Gone(sysctl) => (sysctl, "set back to what it was".to_owned()),
            };
            Change::live(format!("Sysctl {}", sysctl.name()), what)
        })
        .collect()
}
