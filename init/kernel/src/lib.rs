// SPDX-License-Identifier: Apache-2.0
//! Every system call of PID 1, as safe functions that know nothing of Stele's own types.
//!
//! * [`mount`]: mounting, moving and leaving file systems.
//! * [`loopdev`]: a file as a block device.
//! * [`block`]: partitions that come while the machine runs.
//! * [`efivars`]: the boot loader's variables in the firmware.
//! * [`modules`]: loading a kernel module.
//! * [`uevent`]: what the kernel says of devices that come and go.
//! * [`process`]: reaping and signalling.
//! * [`signals`]: signals as something to read.
//! * [`sandbox`]: what a process gives up before it becomes a service.
//! * [`kmsg`]: the kernel's log, read and written.
//! * [`clock`], [`random`], [`power`]: the machine's time, entropy and switch.
//! * [`phc`]: the clock of the hypervisor.
//! * [`net`]: links, addresses and routes over rtnetlink.
//! * [`packet`]: whole Ethernet frames of one kind.
//! * [`capture`]: copies of what passes a link.
//! * [`inherited`]: descriptors that a program was started with.
//! * [`watchdog`]: what restarts a machine that hangs.
//! * [`hypervisor`]: what a hypervisor calls itself.
//! * [`backdoor`]: words with VMware's.
//!
//! This is the only crate that may hold `unsafe`; each site says why it is sound.

pub mod backdoor;
pub mod block;
pub mod capture;
pub mod clock;
pub mod efivars;
pub mod hypervisor;
pub mod inherited;
pub mod kmsg;
pub mod loopdev;
pub mod modules;
pub mod mount;
pub mod net;
pub mod packet;
pub mod phc;
pub mod power;
pub mod process;
pub mod random;
pub mod sandbox;
pub mod signals;
pub mod uevent;
pub mod watchdog;
