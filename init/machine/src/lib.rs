// SPDX-License-Identifier: Apache-2.0
//! Every decision of PID 1, without a single effect: no file, no clock, no socket.
//!
//! * [`access`]: whether whoever brings a configuration shuts himself out with it.
//! * [`admission`]: whether the machine may move to an image of this version.
//! * [`arguments`]: when the machine starts once more with kernel arguments, and when it gives them up.
//! * [`change`]: what a new configuration will do, and what it takes.
//! * [`boots`]: why this boot is what it is: ordinary, on trial, fallen back, safe.
//! * [`figures`]: figures as text.
//! * [`health`]: what each check saw, and whether a boot on trial has proved itself.
//! * [`instance`]: whether the machine is still the one that its platform took it for.
//! * [`look`]: whether the machine can do what a configuration asks for.
//! * [`modules`]: which kernel modules a device needs.
//! * [`probation`]: a configuration that waits for a start, or to be confirmed.
//! * [`probe`]: whether what is watched over the network can be reached.
//! * [`ring`]: a log in memory.
//! * [`service`]: when a service starts, is ready, waits, and is given up.
//! * [`network`]: from configuration and leases to addresses, routes and the resolver.
//! * [`slots`]: which image the next boot tries, and when it is known to be good.
//! * [`sysctl`]: which settings of the kernel are written, and which are set back.
//! * [`time`]: what the clock can't be, and whom to ask for the time.

#![forbid(unsafe_code)]

pub mod access;
pub mod admission;
pub mod arguments;
pub mod boots;
pub mod change;
pub mod figures;
pub mod health;
pub mod instance;
pub mod look;
pub mod modules;
pub mod network;
pub mod probation;
pub mod probe;
pub mod ring;
pub mod service;
pub mod slots;
pub mod sysctl;
pub mod time;
