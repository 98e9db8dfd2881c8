// SPDX-License-Identifier: Apache-2.0
//! `agent guestinfo`: what VMware's hypervisor holds for the machine, in the form of `agent metadata`; `agent guestinfo --forget`
//! has it forget the user-data.
//!
//! Exit 0 when it is done; otherwise 1, and one line on standard error says what was tried and why it failed. Where there is no
//! such hypervisor, it ends by SIGSEGV.

use std::{io, process::ExitCode};
use stele_agents::guestinfo::{self, GuestinfoError, LONGEST, rpc::Rpc};
use stele_kernel::backdoor;

pub(crate) fn run(arguments: &[&str]) -> ExitCode {
    let mut rpc = Rpc::new(backdoor::step, LONGEST);
    crate::ended(match arguments {
        [] => guestinfo::read(&mut rpc)
            .and_then(|said| said.write(&mut io::stdout().lock()).map_err(GuestinfoError::Output)),
        ["--forget"] => guestinfo::forget(&mut rpc),
        _ => return crate::misused("agent guestinfo [--forget]"),
    })
}
