// SPDX-License-Identifier: Apache-2.0
//! The client of Stele; see the library.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ctl::run()
}
