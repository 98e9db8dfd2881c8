// SPDX-License-Identifier: Apache-2.0
//! What is fuzzed: every reader of bytes that somebody else wrote, as production calls it.
//!
//! Each [`Target`] is a function of bytes that panics if something does not hold, and the inputs to begin with. The tests
//! try them with these; `hack fuzz` searches for more.
//!
//! * [`config`]: what people write.
//! * [`patch`]: what they want changed in it.
//! * [`calls`]: what clients ask of PID 1, through the same dispatch as in production.
//! * [`apply`]: what it makes of a configuration.
//! * [`frames`]: apid's side of the socket to PID 1.
//! * [`readers`]: what networks, disks, registries and the firmware say.

#![forbid(unsafe_code)]

pub mod apply;
pub mod calls;
pub mod config;
pub mod frames;
pub mod patch;
pub mod readers;

/// Something to fuzz.
#[derive(Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Tries an input.
    pub run: fn(&[u8]),
    /// What to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: [Target; 7] = [
    config::TARGET,
    patch::TARGET,
    calls::TARGET,
    calls::SOCKET,
    apply::TARGET,
    frames::TARGET,
    readers::TARGET,
];

/// The target of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    static ALL: &[Target] = &TARGETS;
    ALL.iter().find(|target| target.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_hold() {
        for target in &TARGETS {
            let seeds = (target.seeds)();
            assert!(!seeds.is_empty(), "{} has nothing to begin with", target.name);
            for seed in seeds {
                (target.run)(&seed);
                // Nor does half of one end anything.
                (target.run)(&seed[..seed.len() / 2]);
            }
        }
    }
}
