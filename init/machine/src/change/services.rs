// SPDX-License-Identifier: Apache-2.0
//! What changes of what services find around them.

use super::{Change, Effect, Fate, named};
use stele_config::{Environment, Files, MachineConfig, Variable};

pub(super) fn environments(old: Option<&MachineConfig>, new: &MachineConfig) -> Vec<Change> {
    let before = old.map(MachineConfig::environments).unwrap_or_default();
    named(before, new.environments(), Environment::name)
        .into_iter()
        .map(|fate| {
            let (environment, what) = match fate {
                Fate::Added(environment) => (environment, format!("sets {}", names(environment))),
                Fate::Changed(environment) => {
                    (environment, format!("changes, and sets {}", names(environment)))
                }
                Fate::Gone(environment) => {
                    (environment, format!("no longer sets {}", names(environment)))
                }
            };
            // Those that it named before lose their variables.
            let earlier = before.iter().filter(|earlier| earlier.name() == environment.name());
            let services = earlier.flat_map(Environment::services).chain(environment.services());
            let mut services: Vec<String> = services.map(ToString::to_string).collect();
            services.sort();
            services.dedup();
            Change {
                document: format!("Environment {}", environment.name()),
                what,
                effect: Effect::Restart(services),
            }
        })
        .collect()
}

/// Their values may be secrets.
fn names(environment: &Environment) -> String {
    environment.variables().iter().map(Variable::name).collect::<Vec<_>>().join(", ")
}

pub(super) fn files(old: Option<&MachineConfig>, new: &MachineConfig) -> Vec<Change> {
    let before = old.map(MachineConfig::files).unwrap_or_default();
    named(before, new.files(), Files::name)
        .into_iter()
        .map(|fate| {
            let (files, what) = match fate {
                Fate::Added(files) | Fate::Changed(files) => {
                    (files, format!("writes {}", paths(files)))
                }
                Fate::Gone(files) => (files, format!("removes {}", paths(files))),
            };
            Change::live(format!("Files {}", files.name()), what)
        })
        .collect()
}

fn paths(files: &Files) -> String {
    files.files().iter().map(|file| file.path().as_str()).collect::<Vec<_>>().join(", ")
}
