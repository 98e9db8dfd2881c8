// SPDX-License-Identifier: Apache-2.0
//! Every decision of PID 1, without a single effect: no file, no clock, no socket.
//!
//! * [`service`]: when a service starts, is ready, waits, and is given up.
//! * [`network`]: from configuration and leases to addresses, routes and the resolver.
//! * [`slots`]: which image the next boot tries, and when it is known to be good.

#![forbid(unsafe_code)]

pub mod network;
pub mod service;
pub mod slots;
