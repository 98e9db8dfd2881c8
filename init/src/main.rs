// SPDX-License-Identifier: Apache-2.0
//! PID 1; see the library.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    stele_init::run()
}
