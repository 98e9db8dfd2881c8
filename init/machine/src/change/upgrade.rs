// SPDX-License-Identifier: Apache-2.0
//! What changes of which images the machine takes.

use super::Change;
use stele_config::{MachineConfig, UpgradePolicy};

pub(super) fn policy(old: Option<&MachineConfig>, new: &MachineConfig) -> Vec<Change> {
    let before = old.and_then(MachineConfig::upgrade_policy);
    let after = new.upgrade_policy();
    let mut changes = Vec::new();
    if before.map(UpgradePolicy::deadline) != after.map(UpgradePolicy::deadline) {
        changes.push(match after {
            Some(policy) => format!(
                "a new image has {} s to show that it is healthy",
                policy.deadline().as_secs()
            ),
            None => "a new image has the default time to show that it is healthy".to_owned(),
        });
    }
    let oldest = after.and_then(UpgradePolicy::oldest);
    if before.and_then(UpgradePolicy::oldest) != oldest {
        changes.push(match oldest {
            Some(oldest) => format!("images down to {oldest} are taken"),
            None => "no image is taken that is older than one that was healthy".to_owned(),
        });
    }
    if keys(before) != keys(after) {
        let (signers, replace) = keys(after);
        let count = signers.len();
        let keys = if count == 1 { "key" } else { "keys" };
        changes.push(match (count, replace) {
            (0, _) => "images are trusted by the keys of the running one alone".to_owned(),
            (_, false) => format!("{count} {keys} trusted besides those of the image"),
            (_, true) => format!("{count} {keys} trusted in place of those of the image"),
        });
    }
    changes.into_iter().map(|what| Change::live("UpgradePolicy", what)).collect()
}

/// The keys, and whether they take the place of those of the image.
fn keys(policy: Option<&UpgradePolicy>) -> (Vec<&str>, bool) {
    let keys = policy.iter().flat_map(|policy| policy.keys()).collect();
    (keys, policy.is_some_and(UpgradePolicy::replace_keys))
}
