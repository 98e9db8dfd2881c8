// SPDX-License-Identifier: Apache-2.0
//! `ctl completion`.

use crate::{app::Outcome, cli, output};
use anyhow::Result;

/// Arguments of `ctl completion`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// For which shell
    shell: clap_complete::Shell,
}

/// Prints the script.
pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut cli::command(), "ctl", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Outcome::Done)
}
