// SPDX-License-Identifier: Apache-2.0
//! The fuzzer: mutates inputs of the target that the variable `FUZZ_TARGET` names. `hack fuzz` builds and runs it.

#![no_main]
#![forbid(unsafe_code)]

use libfuzzer_sys::fuzz_target;
use std::{env, path::PathBuf, sync::OnceLock};
use stele_fuzz::Target;

static TARGET: OnceLock<&Target> = OnceLock::new();

/// The target that is asked for; its seeds go to the folder that `FUZZ_SEEDS` names.
fn target() -> &'static Target {
    let name = env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    let target = stele_fuzz::find(&name).expect("FUZZ_TARGET names one that there is");
    if let Some(folder) = env::var_os("FUZZ_SEEDS").map(PathBuf::from) {
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number}")), seed).expect("writing a seed");
        }
    }
    target
}

fuzz_target!(init: TARGET.get_or_init(target), |bytes: &[u8]| (TARGET.get_or_init(target).run)(bytes));
