// SPDX-License-Identifier: Apache-2.0
//! How the project is developed: machines in QEMU, and what is done with them.
//!
//! In reading order:
//!
//! * [`artefacts`]: the files that `image build` wrote, by name; [`build`] makes them.
//! * [`accelerator`]: whether QEMU may use the processor itself.
//! * [`machine`]: what a virtual machine is made of, as data, and as QEMU's arguments.
//! * [`console`]: its serial console, as a file that can be waited on.
//! * [`qmp`]: its monitor; [`debugger`]: its debugger.
//! * [`writes`], [`replay`]: what was written to a drive, and the drive at any moment of that.
//! * [`esp`], [`cuts`]: what must hold at each of these moments.
//! * [`vm`]: a machine that runs, reboots, loses power and comes back.
//! * [`ctl`]: the client, run as a user runs it; [`json`]: what it prints.
//! * [`api`]: the API, called without `ctl`.
//! * [`disk`]: the disk of one that is off.
//! * [`node`]: a machine with an operator.
//! * [`scratch`]: folders for what is thrown away.
//! * [`suite`]: scenarios of checks that share boots.
//! * [`variants`], [`broken`]: images for tests; [`tools`]: programs that they are tried against.
//! * [`up`], [`check`], [`reproducible`], [`bench`], [`fuzz`]: the commands.
//!
//! Machines listen on loopback only, end with the process that started them, and leave nothing on disk.

#![forbid(unsafe_code)]

pub mod accelerator;
pub mod api;
pub mod artefacts;
#[cfg(feature = "bench")]
pub mod bench;
pub mod broken;
pub mod build;
pub mod check;
pub mod console;
pub mod ctl;
pub mod cuts;
pub mod debugger;
pub mod disk;
pub mod esp;
pub mod fuzz;
pub mod json;
pub mod machine;
pub mod node;
pub mod qmp;
pub mod replay;
pub mod reproducible;
pub mod scratch;
pub mod suite;
pub mod tools;
pub mod up;
pub mod variants;
pub mod vm;
pub mod writes;
