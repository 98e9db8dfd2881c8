// SPDX-License-Identifier: Apache-2.0
//! What changes of the kernel.

use super::{Change, Effect, Fate, named};
use stele_config::{KernelArg, KernelModule, MachineConfig, ModuleParameter, Sysctl};

pub(super) fn args(old: Option<&MachineConfig>, new: &MachineConfig) -> Option<Change> {
    let before = old.map(MachineConfig::kernel_args).unwrap_or_default();
    let after = new.kernel_args();
    if before == after {
        return None;
    }
    let words: Vec<&str> = after.iter().map(KernelArg::as_str).collect();
    let what = match words.as_slice() {
        [] => "the kernel starts without arguments besides the image's own".to_owned(),
        words => format!("the kernel starts with {}", words.join(" ")),
    };
    Some(Change { document: "KernelArgs".to_owned(), what, effect: Effect::Reboot })
}

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
