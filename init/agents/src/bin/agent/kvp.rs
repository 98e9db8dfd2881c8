// SPDX-License-Identifier: Apache-2.0
//! `agent kvp DEVICE`: what Hyper-V's host sets for the machine, in the form of `agent metadata`.
//!
//! Exit 0 when it is done; otherwise 1, and one line on standard error says what was tried and why it failed.

use std::{fs::File, io, process::ExitCode};
use stele_agents::kvp::{self, KvpError, PATIENCE};

pub(crate) fn run(arguments: &[&str]) -> ExitCode {
    let [device] = arguments else { return crate::misused("agent kvp DEVICE") };
    crate::ended(converse(device))
}

fn converse(device: &str) -> Result<(), KvpError> {
    let opened = File::options().read(true).write(true).open(device);
    let mut device =
        opened.map_err(|source| KvpError::Open { device: device.to_owned(), source })?;
    let said = kvp::collect(&mut device, PATIENCE)?.said()?;
    said.write(&mut io::stdout().lock()).map_err(KvpError::Output)
}
