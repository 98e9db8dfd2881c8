// SPDX-License-Identifier: Apache-2.0
//! What changes of whom the machine believes, and of where it looks for images.

use super::{Change, Fate, named};
use stele_config::{MachineConfig, RegistryAuth, RegistryMirror, TrustedRoots, Url};

pub(super) fn roots(old: Option<&MachineConfig>, new: &MachineConfig) -> Vec<Change> {
    let before = old.map(MachineConfig::trusted_roots).unwrap_or_default();
    named(before, new.trusted_roots(), TrustedRoots::name)
        .into_iter()
        .map(|fate| {
            let (roots, what) = match fate {
                Fate::Added(roots) => (roots, format!("{} believed", count(roots))),
                Fate::Changed(roots) => (roots, format!("changes, {} believed", count(roots))),
                Fate::Gone(roots) => (roots, format!("{} no longer believed", count(roots))),
            };
            Change::live(format!("TrustedRoots {}", roots.name()), what)
        })
        .collect()
}

fn count(roots: &TrustedRoots) -> String {
    match roots.certificates().matches("-----BEGIN").count() {
        1 => "1 authority is".to_owned(),
        count => format!("{count} authorities are"),
    }
}

pub(super) fn mirrors(old: Option<&MachineConfig>, new: &MachineConfig) -> Vec<Change> {
    let before = old.map(MachineConfig::registry_mirrors).unwrap_or_default();
    named(before, new.registry_mirrors(), RegistryMirror::name)
        .into_iter()
        .map(|fate| {
            let (mirror, what) = match fate {
                Fate::Added(mirror) | Fate::Changed(mirror) => {
                    let places: Vec<&str> = mirror.endpoints().iter().map(Url::as_str).collect();
                    (mirror, format!("asked at {} first", places.join(", ")))
                }
                Fate::Gone(mirror) => (mirror, "asked itself alone".to_owned()),
            };
            Change::live(format!("RegistryMirror {}", mirror.name()), what)
        })
        .collect()
}

pub(super) fn auths(old: Option<&MachineConfig>, new: &MachineConfig) -> Vec<Change> {
    let before = old.map(MachineConfig::registry_auths).unwrap_or_default();
    named(before, new.registry_auths(), RegistryAuth::name)
        .into_iter()
        .map(|fate| {
            let (auth, what) = match fate {
                Fate::Added(auth) => (auth, format!("asked as {}", auth.username())),
                Fate::Changed(auth) => (
                    auth,
                    format!("asked as {}, with a password that may be another", auth.username()),
                ),
                Fate::Gone(auth) => (auth, "asked without a password".to_owned()),
            };
            Change::live(format!("RegistryAuth {}", auth.name()), what)
        })
        .collect()
}
