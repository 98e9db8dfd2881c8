// SPDX-License-Identifier: Apache-2.0
//! How the project is developed: machines in QEMU, and what is done with them.
//!
//! In reading order:
//!
//! * [`artefacts`]: the files that `image build` wrote, by name.
//! * [`accelerator`]: whether QEMU may use the processor itself.
//! * [`machine`]: what a virtual machine is made of, as data, and as QEMU's arguments.
//! * [`console`]: its serial console, as a file that can be waited on.
//! * [`qmp`]: its monitor.
//! * [`vm`]: a machine that runs, reboots, loses power and comes back.
//! * [`ctl`]: the client, run as a user runs it.
//! * [`api`]: the API, called without `ctl`.
//! * [`suite`]: scenarios of checks that share boots.
//!
//! Machines listen on loopback only, end with the process that started them, and leave nothing on disk.

#![forbid(unsafe_code)]

pub mod accelerator;
pub mod api;
pub mod artefacts;
pub mod console;
pub mod ctl;
pub mod machine;
pub mod qmp;
pub mod suite;
pub mod vm;
