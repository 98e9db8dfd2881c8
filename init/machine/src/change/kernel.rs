// SPDX-License-Identifier: Apache-2.0
//! What changes of the kernel.

use super::{Change, Fate, named};
use stele_config::{MachineConfig, Sysctl};

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
